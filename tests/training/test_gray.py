"""Images of one channel, from files, arrays and torchvision's datasets, and classes that count alike."""

import errno
import random
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.api.loading import search_run
from nas.errors import Error
from nas.models.counting import count
from nas.models.torch_model import build
from nas.networks.architecture import cost
from nas.networks.sizes import for_images
from nas.networks.space import Of, decode, encode, fitted, one_of, sample
from nas.records.plan import Reading
from nas.records.search_files import digest_of
from nas.training.arrays import kept
from nas.training.datasets import load, load_test, natural_form
from nas.training.pictures import square, with_channels
from nas.training.step import loss_of
from search_spaces import ANCHORS, LOWRES

GRAY = Reading(channels=1)
RUNS = Path(__file__).parents[2] / "runs"


def saved(root: Path, mode: str, number: int = 10, side: int = 12) -> Path:
    """Pictures of two classes, all different, in PIL's `mode`."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(number):
            gray = rng.integers(0, 256, (side, side), np.uint8)
            if mode == "I;16":
                Image.fromarray(gray.astype(np.uint16) * 257).save(root / name / f"{i}.png")
            else:
                Image.fromarray(gray).convert(mode).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGB", "I;16"])
def test_gray_pictures_are_found_out(tmp_path: Path, mode: str) -> None:
    """Gray is what shows no colour, whichever way it is stored."""
    name = f"folder:{saved(tmp_path, mode)}"
    assert natural_form(name)[1] == 1
    data, test = load(name, reading=Reading(channels=0)), load_test(name, reading=Reading(channels=0))
    assert data.channels == test.channels == 1 and len(data.mean) == len(data.std) == 1
    assert load(name).channels == 3  # what a run of before says
    assert load(name).digest != data.digest


def test_one_picture_with_colour_makes_three_channels(tmp_path: Path) -> None:
    saved(tmp_path, "L")
    Image.new("RGB", (12, 12), (9, 8, 7)).save(tmp_path / "a" / "colour.png")
    assert natural_form(f"folder:{tmp_path}")[1] == 3
    assert natural_form(f"folder:{tmp_path}", channels=1)[:2] == (32, 1)


def test_gray_is_what_pil_makes_of_colours(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    wanted = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])[..., None]
    assert (with_channels(pixels, 1) == wanted).all()
    Image.fromarray(pixels[0]).save(tmp_path / "1.png")
    assert (square((tmp_path / "1.png").read_bytes(), 40, 1) == wanted[0]).all()
    assert (with_channels(wanted, 3) == wanted).all() and with_channels(wanted, 3).shape == (2, 40, 40, 3)


def test_arrays_stay_gray() -> None:
    rng = np.random.default_rng(0)
    file = kept(rng.integers(0, 256, (40, 28, 28), np.uint8), np.arange(40) % 2, None, None, None)
    name = f"npz:{file}"
    assert natural_form(name)[:2] == (28, 1)
    gray, colour = load(name, reading=GRAY), load(name)
    assert (gray.channels, colour.channels) == (1, 3)
    assert (gray.train.all() == colour.train.all()[..., :1]).all()


def test_digits_can_be_gray() -> None:
    gray, colour = load("digits", reading=GRAY), load("digits")
    assert (gray.train.all() == colour.train.all()[..., :1]).all() and colour.channels == 3


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(Error, match=r"channels must be 1 \(gray\) or 3 \(colour\), got 2; or leave it out"):
        Reading(channels=2)


@pytest.mark.parametrize("name", sorted(name for name, one in ANCHORS.items() if one.arch.resolution == 32))
def test_networks_for_gray_images_cost_what_their_stem_saves(name: str) -> None:
    """In closed form, and on the model that is built: of the stem a third is left."""
    arch = ANCHORS[name].arch
    gray = replace(arch, channels=1)
    taps = arch.stem.kernel**2 * arch.stem.width
    assert cost(arch).params - cost(gray).params == 2 * taps
    assert count(build(gray), gray.resolution, 1) == cost(gray)


def test_a_space_for_gray_images_holds_what_the_other_holds() -> None:
    gray, colour = fitted(LOWRES, 32, 10, 1), fitted(LOWRES, 32, 10)
    low = for_images(ANCHORS["lowres-mobilenet"].arch, 32, 10, 1)
    assert decode(gray, encode(gray, low)) == low and low.channels == 1
    assert gray.digest != colour.digest == "f86ca049c122"  # of 0.21: plans hold it


def idx(file: Path, array: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    """A file of MNIST's kind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(head + array.tobytes())


@pytest.mark.parametrize(
    ("name", "prefix", "labels", "classes"),
    [
        ("mnist", "MNIST/raw/{}-{}-idx{}-ubyte", (0, 10), "0 - zero"),
        ("fashion-mnist", "FashionMNIST/raw/{}-{}-idx{}-ubyte", (0, 10), "T-shirt/top"),
        ("emnist-letters", "EMNIST/raw/emnist-letters-{}-{}-idx{}-ubyte", (1, 27), "a"),
    ],
)
def test_gray_sets_of_torchvision(
    tmp_path: Path, name: str, prefix: str, labels: tuple[int, int], classes: str
) -> None:
    """As they lie on disk, 28x28, brought to 32x32 as a picture file is; letters as one reads them."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (520, 28, 28), np.uint8)
    answers = np.resize(np.arange(*labels), 520).astype(np.uint8)
    for part in ("train", "test" if name == "emnist-letters" else "t10k"):
        idx(tmp_path / prefix.format(part, "images", 3), pixels)
        idx(tmp_path / prefix.format(part, "labels", 1), answers)
    data, test = load(name, str(tmp_path), None, GRAY), load_test(name, str(tmp_path), None, GRAY)
    assert (data.channels, data.resolution, len(data.classes)) == (1, 32, labels[1] - labels[0])
    assert data.classes[0] == classes and data.flip == (name == "fashion-mnist")
    upright = pixels.transpose(0, 2, 1) if name == "emnist-letters" else pixels
    Image.fromarray(upright[7]).save(tmp_path / "7.png")
    assert (test.all()[7].numpy() == square((tmp_path / "7.png").read_bytes(), 32, 1)).all()
    assert test.labels.tolist() == (answers.astype(int) - labels[0]).tolist()
    assert (load_test(name, str(tmp_path), 28, GRAY).all()[..., 0].numpy() == upright).all()


def test_traffic_signs_of_one_track_are_on_one_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty pictures of one sign, one after the other: GTSRB as it lies on disk."""
    for label in range(43):
        folder = tmp_path / "gtsrb" / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for track in range(5):
            for i in range(30):
                Image.new("RGB", (15, 15), (track * 40, label, i)).save(folder / f"{track:05d}_{i:05d}.ppm")
    data = load("gtsrb", str(tmp_path))
    sides = [
        set(zip(part.labels.tolist(), part.all()[:, 0, 0, 0].tolist(), strict=True)) for part in (data.train, data.val)
    ]
    assert not sides[0] & sides[1] and len(data.train) + len(data.val) == 43 * 5 * 30
    assert len(data.val) == pytest.approx(43 * 30, abs=43 * 6) and not data.flip
    with monkeypatch.context() as full:  # what is at fault is said, not that the set were missing
        full.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        full.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(Error, match=r"the images cannot be kept in .*No space left.*make room there"):
            load("gtsrb", str(tmp_path))
    again = load("gtsrb", str(tmp_path))  # from the cache: no picture is decoded twice
    assert again.digest == data.digest
    Image.new("RGB", (15, 15), "white").save(folder / f"{0:05d}_{0:05d}.ppm")
    assert load("gtsrb", str(tmp_path)).digest != data.digest  # but for those that have changed


def test_a_set_that_is_not_there_is_said(tmp_path: Path) -> None:
    for name in ("svhn", "stl10", "flowers102", "mnist"):
        with pytest.raises(Error, match=rf"dataset {name} is missing, truncated or changed \(MD5\).*give --data DIR"):
            load(name, str(tmp_path))


def test_classes_count_alike(tmp_path: Path) -> None:
    """A class of a tenth of the images weighs as much in the loss as the other, in a rung that takes some of them too,
    whatever else is in the batch."""
    rng = np.random.default_rng(0)
    labels = (np.arange(400) % 10 == 0).astype(int)
    file = kept(rng.integers(0, 256, (400, 8, 8), np.uint8), labels, None, None, None)
    data = replace(load(f"npz:{file}"), balance=True)
    here = torch.device("cpu")
    assert replace(data, balance=False).class_weights(data.train, here) is None
    for images in (data.train, data.train.first(100)):  # of the first hundred a third is of the rare class
        weights = data.class_weights(images, here)
        assert weights is not None
        counted = torch.bincount(images.labels) * weights
        assert counted[0] == pytest.approx(float(counted[1])) and float(counted.sum()) == pytest.approx(len(images))
    logits = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    whole = loss_of(logits, images.labels, weights)
    parts = [loss_of(logits[i : i + 4], images.labels[i : i + 4], weights) for i in range(0, 100, 4)]
    assert torch.stack(parts).mean() == pytest.approx(float(whole), abs=1e-5)
    shares = torch.nn.functional.one_hot(images.labels, 2).float()
    assert loss_of(logits, shares, weights) == pytest.approx(float(whole), abs=1e-5)


def test_a_class_without_images_counts_nothing() -> None:
    rng = np.random.default_rng(0)
    file = kept(rng.integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 2 * 2, None, None, None)
    data = replace(load(f"npz:{file}"), balance=True)
    weights = data.class_weights(data.train, torch.device("cpu"))
    assert len(data.classes) == 3 and weights is not None and weights.tolist() == [1, 0, 1]


def test_a_mix_of_gray_and_colour_is_not_taken_for_gray(tmp_path: Path) -> None:
    """One infrared frame and three in colour, by turns: looking at every fourth would see gray alone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for i in range(800):
        colour = "gray" if i % 4 == 0 else ("red", "green")[i % 2]
        Image.new("RGB", (8, 8), colour).save(tmp_path / "ab"[i % 2] / f"{i:04d}.png")
    assert natural_form(f"folder:{tmp_path}")[1] == 3


def test_a_space_that_says_its_channels_gets_those_of_the_images() -> None:
    named = replace(LOWRES, template=Of(LOWRES.template.cls, (*LOWRES.template.fields, ("channels", one_of(1, 3)))))
    assert {sample(fitted(named, 32, 10), random.Random(seed)).channels for seed in range(5)} == {3}
    assert sample(fitted(named, 32, 10, 1), random.Random(0)).channels == 1


def test_what_was_known_before_is_known_now() -> None:
    """Runs of 0.21 hold a digest of trials, and a best network, in which nothing says how many channels there are."""
    one = search_run(RUNS / "cifar10-seed-1")[0]
    assert digest_of(one.trials) == "74e9d633c075"
    assert one.best is not None and one.best.arch.channels == 3
