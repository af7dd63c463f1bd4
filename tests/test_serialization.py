"""JSON of frozen values: strict, with paths in the messages."""

import json

import pytest

from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import Bottleneck
from nas.serialization import from_data, from_json, to_data, to_json
from search_spaces import ANCHORS

ARCH = ANCHORS["lowres-mobilenet"].arch


def changed(path: str, value: object) -> object:
    data = to_data(ARCH)
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return data


def test_round_trip_and_types() -> None:
    assert from_json(Arch, to_json(ARCH, indent=1)) == ARCH
    assert isinstance(from_json(Arch, to_json(ARCH)).stages, tuple)
    assert json.loads(to_json(ARCH))["stages"][1]["block"]["kind"] == "bottleneck"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.2.width", "32", r"arch\.json\.stages\.2\.width must be of type int, got '32'"),
        ("stages.2.width", 0, r"stages\.2\.width must be a whole number of at least 1, got 0"),
        ("stages.1.stride", 3, r"stages\.1\.stride must be 1 or 2, got 3"),
        ("stages.1.depth", True, r"stages\.1\.depth must be of type int, got True"),
        ("stages.0.block.expand", -1, r"stages\.0\.block\.expand must be above 0 and finite, got -1"),
        ("stages.0.block.kernel", [4], r"stages\.0\.block\.kernel must hold different sizes of \(1, 3, 5, 7\)"),
        ("stages.0.block.kernel", "full", r"stages\.0\.block\.kernel must be a list.* or .*'filled'"),
        ("stages.0.block.act", "gelu", r"stages\.0\.block\.act must be one of .*hswish.*, got 'gelu'"),
        ("stages.0.block.se", 2, r"stages\.0\.block\.se must be between 0"),
        ("stages.0.block.kind", "mbconv", r"stages\.0\.block\.kind must be one of .*'bottleneck', .*, got 'mbconv'"),
        ("stages.0.witdh", 8, r"stages\.0\.witdh is unknown; Stage has block, width"),
        ("head", KeyError, r"arch\.json\.head is missing"),
        ("stages", [], r"stages must hold at least one stage"),
        ("stem", 3, r"arch\.json\.stem must be an object, got 3"),
    ],
)
def test_messages_start_with_the_path(path: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_data(Arch, changed(path, value), "arch.json")


def test_no_json() -> None:
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        from_json(Arch, "{", "a.json")


def test_values_are_checked_where_they_are_made() -> None:
    with pytest.raises(ValueError, match=r"classes must be a whole number of at least 1, got 0"):
        Arch(Stem(8), (Stage(Bottleneck(1.0), 8, 1),), Head(8), classes=0)
    with pytest.raises(ValueError, match=r"kernel must be a tuple"):
        Bottleneck(1.0, kernel=())
