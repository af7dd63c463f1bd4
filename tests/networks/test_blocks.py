"""Every block kind, in random networks: cost in closed form equal to what is counted on the built model."""

import math
import random
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn

from nas.models.counting import count, leaves, torchstat
from nas.models.torch_model import assembled, build
from nas.networks.architecture import Arch, Head, Stage, Stem, arch_id, cost, cost_or_unbuildable, graph, walk
from nas.networks.blocks import BLOCKS, HL, Block, Bottleneck, Conv, Ghost, Partial, Separable, ShuffleV2, Split
from nas.networks.graph import Wiring, cost_of
from nas.networks.profile import MODULES, totals
from nas.networks.published_blocks import (
    Basic,
    BasicBiased,
    Fire,
    Fork,
    Mixed,
    Pool,
    PoolStep,
    PortedV3,
    SeparableBiased,
    ShuffleV1,
    Step,
    Xception,
)
from nas.networks.space import fitted, sample
from nas.serialization import from_json, to_json
from search_spaces import ANCHORS, SPACES

ACTS: tuple[Literal["relu", "relu6", "hswish"], ...] = ("relu", "relu6", "hswish")
EXPANDS = (0.5, 1.0, 1.3, 3.0)


def of_bottleneck(rng: random.Random) -> Bottleneck:
    kernels: tuple[tuple[int, ...] | Literal["filled"], ...] = ((1,), (3,), (7,), (3, 5), (3, 5, 7), "filled")
    return Bottleneck(
        rng.choice(EXPANDS),
        rng.choice(kernels),
        rng.choice((0.0, 0.25, 1.0)),
        rng.choice((*ACTS, "linear")),
        rng.choice(ACTS),
        rng.choice(("output", "input")),
        rng.choice(("identity", "project", "none")),
        rng.random() < 0.5,
    )


def of_mixed(width: int, rng: random.Random) -> Mixed:
    down = rng.random() < 0.5
    left = Step(width // 2, rng.choice(((3, 3), (1, 1), (5, 5))))
    forked = Fork((Step(width // 4, (1, 3)), Step(width - width // 2 - width // 4, (3, 1))))
    branches = ((Step(3), left), (PoolStep(rng.choice(("max", "avg"))), Step(5, separable=True), forked))
    return Mixed(branches, bias=down)


MAKE: dict[type[Block], Callable[[int, random.Random], Block]] = {
    Conv: lambda _, rng: Conv(rng.choice((1, 3, 5)), rng.choice(ACTS), rng.random() < 0.5),
    Separable: lambda _, rng: Separable(rng.choice((3, 5)), rng.choice(ACTS)),
    Bottleneck: lambda _, rng: of_bottleneck(rng),
    Ghost: lambda _, rng: Ghost(rng.choice(EXPANDS), rng.choice((3, 5)), rng.choice((0.0, 0.25))),
    ShuffleV2: lambda _, rng: ShuffleV2(rng.choice((3, 5))),
    HL: lambda _, rng: HL(),
    Partial: lambda w, rng: Partial(
        MAKE[rng.choice((Bottleneck, Separable, Ghost, HL, Basic, Conv))](w, rng),
        rng.choice((0.25, 0.5, 0.8, 1.0)),
        rng.random() < 0.5,
        rng.choice((*ACTS, "linear")),
    ),
    Split: lambda w, rng: Split(
        tuple(MAKE[rng.choice((Bottleneck, Separable, PortedV3, Partial))](w // 2, rng) for _ in range(2)),
        rng.random() < 0.5,
    ),
    Basic: lambda _, rng: Basic(rng.random() < 0.5),
    BasicBiased: lambda _, rng: BasicBiased(),
    SeparableBiased: lambda _, rng: SeparableBiased(),
    Fire: lambda _, rng: Fire(rng.choice((0.125, 0.5)), rng.random() < 0.5, rng.random() < 0.5),
    Mixed: of_mixed,
    Pool: lambda _, rng: Pool(rng.choice(("max", "avg")), 3, 1, rng.random() < 0.5, rng.random() < 0.5),
    PortedV3: lambda _, rng: PortedV3(
        rng.choice(EXPANDS), rng.choice((3, 5)), rng.random() < 0.5, rng.choice(ACTS), rng.random() < 0.5
    ),
    ShuffleV1: lambda _, rng: ShuffleV1(
        rng.choice((1, 2, 4)),
        rng.choice((0, 24)),
        rng.random() < 0.5,
        rng.choice(("linear", "relu")),
        rng.choice(("output", "path")),
    ),
    Xception: lambda _, rng: Xception(repeats := rng.choice((1, 2, 3)), rng.random() < 0.5, rng.randrange(repeats)),
}


def network(kind: type[Block], rng: random.Random) -> Arch:
    """A small random network of one kind of block, with every knob of stem, stage and head."""
    stages, width = [], 16 * rng.choice((1, 2))
    stem = Stem(
        width, rng.choice((1, 2)), rng.random() < 0.5, rng.choice(ACTS), rng.choice((1, 3, 5)), rng.random() < 0.5
    )
    concat = kind is not Pool and rng.random() < 0.3
    for _ in range(rng.choice((1, 2))):
        if kind is not Pool:
            width = width + 16 * rng.choice((1, 2)) if kind is ShuffleV1 else 16 * rng.choice((1, 2, 3))
        if concat and kind is ShuffleV1:
            concat = False
        stages.append(
            Stage(
                MAKE[kind](width, rng),
                width,
                rng.choice((1, 2, 3)),
                rng.choice((1, 2)),
                concat,
                rng.choice(("none", "block", "stage")),
                rng.choice(("linear", "relu")),
                rng.random() < 0.5,
            )
        )
    head = Head(
        rng.choice((0, 24)),
        rng.random() < 0.5,
        rng.choice(ACTS),
        rng.random() < 0.5,
        rng.choice((0, 20)),
        rng.choice(("linear", "conv")),
        rng.choice((0.0, 0.2)),
        rng.choice(("linear", "conv", "map")),
        rng.choice(("adaptive", "window")),
    )
    return Arch(stem, tuple(stages), head, rng.choice((15, 16, 21)), rng.choice((2, 10)))


def test_every_kind_is_made() -> None:
    assert set(MAKE) == set(BLOCKS.values())


@pytest.mark.parametrize("number", [40, pytest.param(310, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.kind)
def test_cost_equals_the_count_on_the_built_model(kind: type[Block], number: int) -> None:
    """5,000 networks over all kinds: these, and those of the spaces below."""
    rng = random.Random(kind.kind)
    for _ in range(number):
        arch = network(kind, rng)
        assert count(build(arch), arch.resolution) == cost(arch) == cost_of(graph(arch)), to_json(arch)
        assert from_json(Arch, to_json(arch)) == arch


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_cost_equals_the_count_in_the_spaces(name: str) -> None:
    rng = random.Random(1)
    checked = 0
    while checked < (40 if SPACES[name].anchors else 200):
        arch = sample(fitted(SPACES[name], rng.choice((28, 32, 33)), rng.choice((2, 10, 100))), rng)
        if cost_or_unbuildable(arch).macs < 60_000_000:
            assert count(build(arch), arch.resolution) == cost(arch) == cost_of(graph(arch)), to_json(arch)
            checked += 1


@pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.kind)
def test_torchstat_on_paper_equals_torchstat_on_the_built_model(kind: type[Block]) -> None:
    rng = random.Random(f"torchstat {kind.kind}")
    for _ in range(10):
        arch, modules = network(kind, rng), rng.sample(MODULES, rng.randrange(len(MODULES)))
        rows = leaves(build(arch), arch.resolution)
        on_paper = totals(graph(arch), modules)
        assert torchstat(rows, modules) == (on_paper.torchstat, on_paper.memory), to_json(arch)
        seen = [row for row in rows if row.params or row.kind in modules]
        assert sum(row.thop for row in seen) == on_paper.thop
        assert sum(row.params + row.buffers for row in rows) == on_paper.params_bn


@pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.kind)
def test_forward_shape_and_a_gradient_for_every_parameter(kind: type[Block]) -> None:
    rng = random.Random(f"gradient {kind.kind}")
    for seed in range(8):
        torch.manual_seed(seed)
        arch = network(kind, rng)
        model = build(arch)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # what is dropped has no gradient
        reached = {name: 0.0 for name, _ in model.named_parameters()}
        for _ in range(3):  # a ReLU may stay at zero for one batch
            model.zero_grad()
            logits = model(torch.randn(8, 3, arch.resolution, arch.resolution))
            assert logits.shape == (8, arch.classes)
            nn.functional.cross_entropy(logits, torch.arange(8) % arch.classes).backward()
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None, name
                reached[name] += float(parameter.grad.abs().sum())
        dead = [name for name, gradient in reached.items() if not gradient > 0]
        assert not dead, to_json(arch)


def test_in_place_activations_change_nothing() -> None:
    """The built model works in place where it may; the same model told not to gives the same outputs and gradients."""
    for name in ("p-resnet18a-32", "resnet18-32", "dp-net-32", "xception-32", "shufflenetv1-32", "hl-cnn-32"):
        torch.manual_seed(0)
        model = build(ANCHORS[name].arch).eval()
        x = torch.randn(2, 3, 32, 32)
        outputs, gradients = [], []
        for in_place in (None, False):
            for module in model.modules():
                if in_place is not None and hasattr(module, "inplace"):
                    module.inplace = in_place  # type: ignore[assignment]
            model.zero_grad()
            outputs.append(model(x))
            outputs[-1].square().sum().backward()
            gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        assert torch.equal(outputs[0], outputs[1])
        assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_small_peak_by_hand() -> None:
    g = Wiring(3, 8)
    x = g.conv("conv", g.input, 16, 3)  # 192 + 1024
    y = g.act("act", g.norm("norm", x), "relu")  # in place
    z = g.conv("wide", y, 48)  # 1024 + 3072
    z = g.conv("back", z, 16)  # 1024 waits for the addition, 3072 + 1024
    g.add("add", y, z)  # in place
    assert cost_of(g.graph).peak == 1024 + 3072 + 1024


def test_concatenated_maps_are_held_until_they_are_joined() -> None:
    apart = Arch(Stem(8, norm=False), (Stage(Conv(), 8, 3),), Head())
    joined = Arch(Stem(8, norm=False), (Stage(Conv(), 8, 3, concat=True),), Head())
    assert cost(apart).peak == 2 * 8 * 32 * 32
    assert cost(joined).peak == 2 * 4 * 8 * 32 * 32  # four maps, and the one they become


def test_a_block_that_does_not_fit_names_its_stage() -> None:
    for stage, message in [
        (Stage(ShuffleV2(), 117, 1), r"stages\.0: width must be even for a shuffle block, got 117"),
        (Stage(Pool(), 9, 1), r"stages\.0: width must be the input's 16 for a pool, got 9"),
        (Stage(Split((Separable(),) * 3), 30, 1), r"stages\.0: 3 paths must divide the channels, got 16 to 30"),
        (Stage(ShuffleV1(), 8, 1, 2), r"stages\.0: width must be above the input's 16"),
        (Stage(ShuffleV1(groups=5), 64, 1, 2), r"stages\.0: 5 groups must divide"),
        (Stage(Mixed(((Step(3),),)), 4, 1), r"stages\.0: width must be the sum of the branches, 3, got 4"),
        (Stage(Xception(pool=False), 24, 1), r"stages\.0: an xception block without pool keeps its shape"),
        (Stage(Partial(Conv(), project=True), 1, 1), r"stages\.0: a partial block needs at least 2 channels"),
        (Stage(Pool(kernel=40), 16, 1), r"stages\.0: main \(max pool 40, stride 1\) does not fit a map of 32x32"),
        (Stage(Mixed(((Step(16, (40, 40), pad=False),),)), 16, 1), r"does not fit a map of 32x32"),
    ]:
        with pytest.raises(ValueError, match=message):
            cost(Arch(Stem(16), (stage,), Head()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(kernel=4), "kernel must be one of"),
        (lambda: Ghost(0.0), "expand must be above 0"),
        (lambda: Ghost(1.0, se=2.0), "se must be between 0 and 1"),
        (lambda: Partial(Conv(), share=0.0), "share must be above 0"),
        (lambda: Partial(Conv(), share=1.5), "share must be between 0 and 1"),
        (lambda: Split(()), "paths must hold at least one block"),
        (lambda: Fire(squeeze=0.0), "squeeze must be above 0"),
        (lambda: ShuffleV1(groups=0), "groups must be above 0"),
        (lambda: Xception(grow=2), "grow must be one of the 2 repeats"),
        (lambda: Bottleneck(-1.0), "expand must be above 0"),
        (lambda: Bottleneck(math.inf), "expand must be above 0 and finite"),
        (lambda: Step(16, (3, 3, 3)), "kernel must be"),
    ],
)
def test_values_that_cannot_be(make: Callable[[], Block], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("stem", "stages", "head", "message"),
    [
        (Stem(16, kernel=0), (Stage(Conv(), 16, 1),), Head(), "stem: main.conv must have a width and a kernel of at"),
        (Stem(16), (Stage(Conv(), 16, 1),), Head(width=-5), "head: main.conv must have a width"),
        (Stem(16), (Stage(Conv(), 16, 1),), Head(hidden=-5), "head: hidden must have a width of at least 1"),
        (Stem(16), (Stage(Conv(), 16, 1),), Head(dropout=2.0), "head: dropout must be at least 0 and below 1"),
        (Stem(16), (Stage(Pool(kernel=0), 16, 1),), Head(), "stages.0: main must have a kernel of at least 1"),
        (Stem(16), (Stage(Pool(kernel=2, pad=2), 16, 1),), Head(), "stages.0: main must have a kernel of at least 1"),
        (Stem(16), (Stage(Fire(), 1, 1),), Head(), "stages.0: one.conv must have a width"),
        (Stem(3), (Stage(ShuffleV1(), 3, 1),), Head(), "stages.0: reduce.conv must have a width"),
        (Stem(16), (Stage(Mixed(()), 16, 1),), Head(), "stages.0: cat must join maps of one size, got none"),
        (
            Stem(16),
            (Stage(Mixed(((Step(8, (3, 3), pad=False),), (Step(8),))), 16, 1),),
            Head(),
            "stages.0: cat must join maps of one size, got 8x30x30, 8x32x32",
        ),
        (
            Stem(16),
            (Stage(Pool(kernel=2), 16, 1, 1, concat=True), Stage(Conv(), 16, 1)),
            Head(),
            "stages.1: the maps that it joins differ in size: 16x32x32, 16x31x31",
        ),
    ],
)
def test_networks_that_cannot_be(stem: Stem, stages: tuple[Stage, ...], head: Head, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cost(Arch(stem, stages, head))


def test_a_block_inside_a_block_of_its_kind_keeps_its_names() -> None:
    arch = Arch(Stem(16), (Stage(Partial(Partial(Conv(), act="hswish"), act="relu"), 16, 1),), Head())
    assert build(arch)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_two_spellings_of_one_network_have_one_id() -> None:
    plain = Arch(Stem(16), (Stage(Bottleneck(2.0), 16, 2),), Head())
    assert arch_id(plain) == arch_id(Arch(Stem(16), (Stage(Bottleneck(2.0, expand_from="input"), 16, 2),), Head()))
    whole = Arch(Stem(16), (Stage(Partial(Bottleneck(2.0), share=1.0), 16, 2),), Head())
    assert arch_id(plain) == arch_id(whole) and cost(plain) == cost(whole)
    assert len({arch_id(Arch(Stem(16), (Stage(block, 16, 2),), Head())) for block in (HL(), Basic(), Separable())}) == 3


def test_nodes_that_share_a_module_are_one_layer() -> None:
    """A module that is called twice does the same both times."""
    for name, anchor in ANCHORS.items():
        ops: dict[str, object] = {}
        for node in graph(anchor.arch):
            first = ops.setdefault(node.module, node.op)
            assert type(first) is type(node.op) and first == node.op, name


def test_assembled_runs_any_graph() -> None:
    g = Wiring(3, 8)
    g.mean("mean", g.gate("gate", g.input, 4, "sigmoid", "linear"))
    assert assembled(g.graph)(torch.zeros(2, 3, 8, 8)).shape == (2, 3)


def test_layers_say_where_they_are() -> None:
    arch = Arch(Stem(16), (Stage(Separable(), 16, 2, transition="stage"),), Head())
    assert [layer.name for layer in walk(arch)] == [
        "stem", "stage0.block0", "stage0.block1", "stage0.transition1", "head",
    ]  # fmt: skip
