"""Networks made for small images on larger ones."""

import random

import pytest

import nas
from nas.errors import Error
from nas.networks.architecture import Arch, cost, walk
from nas.networks.sizes import SEEN, for_images, halvings, said
from nas.networks.space import decode, encode, fitted, sample, sides
from search_spaces import ANCHORS, SPACES

LOWRES = ANCHORS["lowres-mobilenet"].arch


def last_map(arch: Arch) -> int:
    """Side of the map that the head reads."""
    return list(walk(arch))[-1].place.size


@pytest.mark.parametrize(
    ("resolution", "times", "side", "macs"),
    [
        (32, 0, 4, 24_084_544),
        (48, 0, 6, None),
        (64, 1, 4, None),
        (96, 1, 6, 54_188_224),
        (112, 1, 7, None),
        (128, 2, 4, None),
        (160, 2, 5, None),
        (192, 2, 6, None),
        (224, 2, 7, None),
    ],
)
def test_lowres_mobilenet_ends_in_maps_of_4_to_7(resolution: int, times: int, side: int, macs: int | None) -> None:
    arch = for_images(LOWRES, resolution, 10)
    assert (halvings(resolution), last_map(arch), arch.resolution) == (times, side, resolution)
    if times < 2:  # the stem alone has another stride
        assert cost(arch).params == cost(LOWRES).params
    if macs:
        assert cost(arch).macs == macs


def test_small_images_change_nothing_else() -> None:
    assert for_images(LOWRES, 32, 10) == LOWRES
    assert said(SEEN) == "" and "64x64 once more" in said(64) and "224x224 twice more" in said(224)


def test_what_was_made_for_224_stays_as_it_is() -> None:
    published = ANCHORS["mobilenetv2"].arch
    at_96 = for_images(published, 96, 1000)
    assert at_96.stem == published.stem and at_96.stages == published.stages and last_map(at_96) == 3
    assert cost(at_96).params == cost(published).params


@pytest.mark.parametrize("resolution", [64, 96, 160, 224])
def test_all_anchors_for_larger_images_can_be_drawn(resolution: int) -> None:
    found = nas.anchors(resolution)
    assert len(found) > 25 and found[0].arch.resolution == resolution
    names = {anchor.name for anchor in found}
    assert {"lowres-mobilenet", "mobilenetv2", "dp-net"} <= names and "mobilenetv2-32" not in names
    assert all(cost(anchor.arch).macs > 0 for anchor in found)


def test_anchors_for_small_images() -> None:
    names = {anchor.name for anchor in nas.anchors(32)}
    assert {"lowres-mobilenet", "mobilenetv2-32"} <= names and "mobilenetv2" not in names


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("resolution", [64, 128, 224])
def test_a_space_and_its_anchors_change_alike(name: str, resolution: int) -> None:
    """A family's anchors are points of it, at any size."""
    where = fitted(SPACES[name], resolution, 10)
    assert sides(where) == (resolution,)
    for anchor in SPACES[name].anchors or ("lowres-mobilenet",):
        arch = for_images(ANCHORS[anchor].arch, resolution, 10)
        assert decode(where, encode(where, arch)) == arch
    rng = random.Random(0)
    drawn = [sample(where, rng) for _ in range(20)]
    assert {arch.resolution for arch in drawn} == {resolution}


def test_budgets_by_name_follow_the_size() -> None:
    space = nas.space("lowres", "lowres-mobilenet", resolution=96)
    assert space.budget is not None and space.budget.macs == 54_188_224
    with pytest.raises(Error, match=r"'mobilenetv2' is a network for 224x224, not 32; did you mean mobilenetv2-32\?"):
        nas.space("lowres", "mobilenetv2")
