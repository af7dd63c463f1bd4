"""Spaces: one walk that samples, encodes and decodes; cost in closed form equal to what is built."""

import math
import random
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.models.counting import count
from nas.models.torch_model import build
from nas.networks.architecture import Arch, Head, Stage, Stem, arch_id, cost
from nas.networks.architecture import cost_or_unbuildable as priced
from nas.networks.blocks import Bottleneck, ShuffleV2
from nas.networks.descent import least, wander
from nas.networks.graph import UNBUILDABLE
from nas.networks.space import Choices, Space, decode, draw, encode, fitted, of, one_of, sample, size
from nas.networks.space_summary import summary_of
from nas.records.budget import Budget
from nas.serialization import from_json, to_json
from search_spaces import ANCHORS, SPACES

Kernel = tuple[int, ...] | Literal["filled"]
Shortcut = Literal["none", "identity", "project"]

TINY = Space(
    "tiny",
    of(
        Arch,
        stem=Stem(8),
        stages=(
            of(
                Stage,
                block=of(Bottleneck, expand=one_of(1.0, 2.0), act=one_of("relu", "hswish", name="act")),
                width=one_of(8, 16),
                depth=1,
            ),
            of(
                Stage,
                block=of(Bottleneck, expand=1.0, act=one_of("relu", "hswish", name="act")),
                width=8,
                depth=one_of(1, 2, 3),
                stride=2,
            ),
        ),
        head=Head(16),
    ),
)


@given(st.data(), st.sampled_from(list(SPACES)))
@settings(max_examples=300)
def test_encode_and_decode_are_inverses(data: st.DataObject, name: str) -> None:
    space = SPACES[name]
    choices: Choices = {}

    def pick(axis: str, labels: tuple[object, ...]) -> object:
        choices[axis] = data.draw(st.sampled_from(labels), axis)  # type: ignore[assignment]
        return choices[axis]

    arch = draw(space, pick)  # type: ignore[arg-type]
    assert encode(space, arch) == choices
    assert decode(space, choices) == arch
    assert from_json(Arch, to_json(arch)) == arch


@pytest.mark.parametrize("name", SPACES)
def test_round_trips(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    for _ in range(300):
        arch = sample(space, rng)
        assert decode(space, encode(space, arch)) == arch
        assert from_json(Arch, to_json(arch)) == arch


@pytest.mark.parametrize("kernel", [(7,), (3, 7), (3, 5, 7), "filled"], ids=str)
@pytest.mark.parametrize("shortcut", ["none", "identity", "project"])
@pytest.mark.parametrize("stride", [1, 2])
def test_cost_of_knobs_that_no_space_turns(kernel: Kernel, shortcut: Shortcut, stride: int) -> None:
    block = Bottleneck(1.5, kernel=kernel, se=0.5, shortcut=shortcut, expand_from="input")
    arch = Arch(Stem(12, stride=2), (Stage(block, 20, 3, stride, concat=True),), Head(24), resolution=37, classes=7)
    with torch.device("meta"):
        assert count(build(arch), 37) == cost(arch)


def test_two_networks_of_one_id_count_alike_and_spelling_does_not_matter() -> None:
    plain = Arch(Stem(8), (Stage(Bottleneck(2.0), 16, 1),), Head(16))
    filled = Arch(Stem(8), (Stage(Bottleneck(2.0, kernel="filled"), 16, 1),), Head(16))
    assert plain != filled and arch_id(plain) == arch_id(filled)  # nothing keeps its shape: a plain 3x3 is built
    assert arch_id(plain) != arch_id(Arch(Stem(8), (Stage(Bottleneck(2.0, act="relu"), 16, 1),), Head(16)))
    split = Arch(Stem(8), (Stage(Bottleneck(2.0), 8, 1), Stage(Bottleneck(2.0), 8, 1)), Head(16))
    joined = Arch(Stem(8), (Stage(Bottleneck(2.0), 8, 2),), Head(16))
    assert arch_id(split) == arch_id(joined) and cost(split) == cost(joined)


def test_size_counts_every_combination_once() -> None:
    seen = set()

    def walk(prefix: list[object]) -> None:
        asked: list[tuple[object, ...]] = []

        def pick(name: str, labels: tuple[object, ...]) -> object:
            asked.append(labels)
            return prefix[len(asked) - 1] if len(asked) <= len(prefix) else labels[0]

        arch = draw(TINY, pick)  # type: ignore[arg-type]
        seen.add(to_json(arch))
        for place in range(len(prefix), len(asked)):
            answers = [*prefix, *(labels[0] for labels in asked[len(prefix) : place])]
            for label in asked[place][1:]:
                walk([*answers, label])

    walk([])
    assert size(TINY) == len(seen) == 2 * 2 * 2 * 3


def test_size_of_a_space_with_alternatives() -> None:
    inner = one_of(of(Stem, width=one_of(8, 16)), of(Head, width=one_of(1, 2, 3)))
    assert size(Space("odd", of(dict, a=inner, b=one_of(1, 2)))) == (2 + 3) * 2


@pytest.mark.parametrize(
    "measure",
    [lambda a: priced(a).macs, lambda a: priced(a).params, lambda a: (priced(a).peak, priced(a).macs)],
    ids=["macs", "params", "peak"],
)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * bool(s.anchors)) for n, s in SPACES.items()]
)
def test_nothing_is_smaller_than_the_least(name: str, measure: Callable[[Arch], int]) -> None:
    space, rng = SPACES[name], random.Random(2)
    smallest = measure(least(space, measure, rng))
    assert smallest == measure(least(space, measure, rng))
    assert smallest <= min(measure(sample(space, rng)) for _ in range(500))


def test_wander_keeps_what_it_must() -> None:
    space, rng = SPACES["lightweight"], random.Random(3)
    start = least(space, lambda a: cost(a).macs, rng)
    limit = 2 * cost(start).macs
    ends = {arch_id(wander(space, start, lambda a: cost(a).macs <= limit, 30, rng)) for _ in range(10)}
    assert len(ends) > 5


def test_refusals_name_the_place() -> None:
    space = SPACES["lowres"]
    choices = encode(space, ANCHORS["lowres-mobilenet"].arch)
    with pytest.raises(ValueError, match=r"stages\.0\.width=17 is not one of \(8, 16, 24\) in space lowres"):
        decode(space, choices | {"stages.0.width": 17})
    with pytest.raises(ValueError, match=r"stages\.1\.concat=1 is not one of"):
        decode(space, choices | {"stages.1.concat": 1})  # 1 == True, but is not the choice
    with pytest.raises(ValueError, match=r"stages\.0\.witdh is no axis"):
        decode(space, choices | {"stages.0.witdh": 16})
    with pytest.raises(ValueError, match=r"stages\.4\.depth is missing"):
        decode(space, {name: choice for name, choice in choices.items() if name != "stages.4.depth"})
    arch = ANCHORS["lowres-mobilenet"].arch
    outside = Arch(arch.stem, arch.stages, Head(161, norm=False))
    with pytest.raises(ValueError, match=r"head\.width is 160 in space lowres, the architecture has 161"):
        encode(space, outside)
    with pytest.raises(ValueError, match=r"no such place"):
        encode(space, Arch(arch.stem, arch.stages[:2], arch.head))
    with pytest.raises(ValueError, match=r"different choices"):
        one_of(1, 1)


def test_a_digest_follows_the_choices() -> None:
    changed = Space("tiny", of(Arch, **(dict(TINY.template.fields) | {"head": Head(24)})))
    assert changed.digest != TINY.digest
    assert fitted(TINY, 64, 10).digest != fitted(TINY, 32, 10).digest


def test_networks_that_cannot_be_built_are_refused_on_paper() -> None:
    space, rng = SPACES["shufflenetv1"], random.Random(0)  # where a stage is no wider than the one before
    prices = [priced(sample(space, rng)) for _ in range(200)]
    assert 50 < sum(price == UNBUILDABLE for price in prices) < 150
    for budget in (Budget(), Budget(macs=10**18), Budget(latency_ms=1.0)):
        assert not budget.keeps(UNBUILDABLE) and budget.use(UNBUILDABLE) == math.inf
    summary = summary_of(space)
    assert summary.unbuildable > 500 and summary.largest.macs < 200e6
    found = nas.search("shufflenetv1", "25MFLOPs", lambda arch, _: cost(arch).macs, trials=12)
    assert len(found.trials) == 12 and found.best and found.best.cost.macs > 24e6
    odd = of(Stage, block=ShuffleV2(), width=one_of(9, 11), depth=1)
    none = Space("none", of(Arch, stem=Stem(8), stages=(odd,), head=Head()))
    with pytest.raises(nas.Error, match="none of 2000 networks drawn from space none can be built"):
        nas.space(none)
    with pytest.raises(nas.Error, match="no network of space none keeps the budget"):
        nas.search(none, "25MFLOPs", lambda arch, _: 1.0)
