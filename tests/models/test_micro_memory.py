"""Arena and flash on paper, against TensorFlow Lite Micro's own count and the files that are written."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from nas.errors import Error
from nas.exports.verification import arena
from nas.models.litert_file import file_of, litert_bytes
from nas.models.litert_int8 import int8_model
from nas.models.micro_memory import NO_FILE, Buffer, _memory, buffers, cost_on_device, layout
from nas.networks.architecture import Arch, cost
from nas.records.budget import Budget, parse_budget
from nas.search_strategy.candidates import cheapest
from search_spaces import ANCHORS, SPACES
from tests.conftest import buildable
from tests.models.test_litert_graph import answered_by_micro
from tests.models.test_onnx_graph import lived_in

pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
pytest.importorskip("ai_edge_quantizer")


def exported(arch: Arch, seed: int = 0) -> bytes:
    """The int8 file of a network whose weights are like trained ones: none is 0."""
    weights = {name: tensor.numpy() for name, tensor in lived_in(arch).state_dict().items()}
    images = np.random.default_rng(seed).standard_normal((2, arch.channels, arch.resolution, arch.resolution))
    return int8_model(litert_bytes(arch, weights), [images.astype(np.float32)])


def check(arch: Arch, tmp_path: object) -> None:
    """Both figures are never below what is so, nor far above it."""
    content, spent = exported(arch), cost_on_device(arch)
    file = tmp_path / "model.tflite"  # type: ignore[operator]
    file.write_bytes(content)
    found = arena(file)
    assert found <= spent.arena <= 1.15 * found
    assert len(content) <= spent.flash <= 1.15 * len(content)
    assert replace(spent, arena=None, flash=None) == cost(arch)


@pytest.mark.parametrize("name", ["lowres-mobilenet", "shufflenetv2-x0.5-32", "mobilenetv3-large-32", "resnet18-32"])
def test_arena_and_flash_of_anchors(name: str, tmp_path: object) -> None:
    check(ANCHORS[name].arch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SPACES)
def test_and_of_networks_of_every_space(name: str, seed: int, tmp_path: object) -> None:
    check(buildable(SPACES[name], seed + 20), tmp_path)


def test_figures_that_stay() -> None:
    """Whole numbers that follow from the network alone."""
    found = {name: cost_on_device(ANCHORS[name].arch) for name in ("lowres-mobilenet", "shufflenetv2-x0.5-32")}
    assert {name: (spent.arena, spent.flash) for name, spent in found.items()} == {
        "lowres-mobilenet": (304_024, 487_277),
        "shufflenetv2-x0.5-32": (121_864, 442_062),
    }


def test_maps_lie_where_they_fit() -> None:
    """Two that are needed at different times share a place; TensorFlow Lite Micro's own order may need more."""
    assert layout({0: Buffer(32, 0, 1), 1: Buffer(16, 1, 2), 2: Buffer(32, 2, 3)}) == (48, {})
    rng = random.Random(0)
    gained = 0
    for _ in range(200):
        maps = {}
        for at in range(12):
            first = rng.randrange(12)
            maps[at] = Buffer(16 * rng.randint(1, 20), first, first + rng.randint(0, 4))
        height, places = layout(maps)
        needed = max(sum(one.bytes for one in maps.values() if one.first <= t <= one.last) for t in range(16))
        assert height >= needed
        gained += bool(places)
        for a in places:
            for b in range(a):
                apart = maps[a].first > maps[b].last or maps[b].first > maps[a].last
                assert apart or places[a] >= places[b] + maps[b].bytes or places[b] >= places[a] + maps[a].bytes
        assert not places or max(places[at] + maps[at].bytes for at in maps) == height
    assert gained > 20


def test_a_map_is_needed_until_it_is_read_for_the_last_time() -> None:
    steps = [((0, 9), 1), ((1,), 2), ((1, 2), 3)]  # 9: a constant
    assert buffers(steps, {0: 10, 1: 20, 2: 30, 3: 40}, 0, 3) == {
        0: Buffer(16, 0, 1), 1: Buffer(32, 1, 3), 2: Buffer(32, 2, 3), 3: Buffer(48, 3, 3)
    }  # fmt: skip


def test_a_layout_of_ours_answers_the_same_in_less(tmp_path: object) -> None:
    """ResNet-18: three quarters of the maps' memory and less, by where the file says they lie."""
    import ai_edge_litert.schema_py_generated as schema

    content = exported(ANCHORS["resnet18-32"].arch)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    assert [entry.name for entry in model.metadata] == [b"OfflineMemoryAllocation"]
    model.metadata = []
    sizes, answers = [], []
    image = np.random.default_rng(1).integers(-128, 128, (1, 32, 32, 3)).astype(np.int8)
    for one in (content, file_of(model)):
        file = tmp_path / "model.tflite"  # type: ignore[operator]
        file.write_bytes(one)
        sizes.append(arena(file))
        answers.append(answered_by_micro(one, image))
    assert (answers[0] == answers[1]).all() and len(set(answers[0].ravel().tolist())) > 1
    assert sizes[1] - sizes[0] == 69_696


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("128KBarena", Budget(arena=131_072)),
        ("128KBarena,256KBflash", Budget(arena=131_072, flash=262_144)),
        ("25MFLOPs,1MBflash", Budget(macs=25_000_000, flash=1_048_576)),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert parse_budget([text], {}) == budget and parse_budget([str(budget)], {}) == budget
    assert budget.on_device and not Budget(peak=1).on_device


def test_a_share_of_the_limit() -> None:
    spent = cost_on_device(ANCHORS["shufflenetv2-x0.5-32"].arch)
    limit = Budget(arena=2 * spent.arena, flash=4 * spent.flash)
    assert limit.keeps(spent) and math.isclose(limit.use(spent), 0.5)
    assert not Budget(arena=spent.arena - 1).keeps(spent)


def test_what_cannot_be_an_int8_file_keeps_no_such_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other costs are what they are, so that its trial can be read again; a space of such networks is told why."""
    arch = ANCHORS["shufflenetv1-32"].arch

    def refuses(_: object) -> None:
        raise Error("shuffle: LiteRT has nothing like it")

    monkeypatch.setattr("nas.models.micro_memory.layers", refuses)
    _memory.cache_clear()
    spent = cost_on_device(arch)
    assert replace(spent, arena=None, flash=None) == cost(arch) and spent.arena == spent.flash == NO_FILE
    assert not Budget(arena=10**9).keeps(spent)
    with pytest.raises(Error, match=r"keeps the budget .*arena: LiteRT has no layers like theirs"):
        cheapest(SPACES["lowres"], Budget(arena=10**9), random.Random(0), cost_on_device)
    _memory.cache_clear()
