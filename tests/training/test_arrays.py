"""Datasets in arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nas
from nas.errors import Error
from nas.training.datasets import load, load_test

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (60, 24, 24, 3), np.uint8), np.arange(60) % 3


def test_arrays_with_a_test() -> None:
    name = nas.images(X, Y, x_test=X[:9], y_test=Y[:9], classes=["a", "b", "c"])
    data, test = load(name), load_test(name)
    assert name.startswith("npz:") and nas.images(X, Y, x_test=X[:9], y_test=Y[:9], classes=["a", "b", "c"]) == name
    assert data.classes == ("a", "b", "c") and data.resolution == 24 and (len(data.train), len(data.val)) == (48, 12)
    assert torch.equal(test.all(), torch.from_numpy(X[:9])) and test.labels.tolist() == Y[:9].tolist()
    pairs = {image.tobytes(): int(label) for image, label in zip(X, Y, strict=True)}
    for part in (data.train, data.val):
        assert all(
            pairs[image.numpy().tobytes()] == label for image, label in zip(part.all(), part.labels, strict=True)
        )


@pytest.mark.parametrize(
    "x",
    [X.transpose(0, 3, 1, 2), torch.from_numpy(X), torch.from_numpy(X).permute(0, 3, 1, 2)],
    ids=["NCHW", "tensor", "NCHW tensor"],
)
def test_layouts_are_found_out(x: Any) -> None:
    assert nas.images(x, Y) == nas.images(X, Y)


def test_gray_and_wide_images() -> None:
    gray, wide = RNG.integers(0, 256, (60, 20, 20), np.uint8), RNG.integers(0, 256, (60, 10, 30, 3), np.uint8)
    found = load(nas.images(gray, Y)).train.all()
    assert found.shape[1:] == (20, 20, 3) and (found == found[..., :1]).all()
    middles = {image.tobytes() for image in wide[:, :, 10:20]}
    assert {image.numpy().tobytes() for image in load(nas.images(wide, Y)).train.all()} <= middles


def test_without_a_test_a_share_of_each_class_is_it() -> None:
    name = nas.images(X, [["cat", "dog", "eel"][i] for i in Y])
    data, test = load(name), load_test(name)
    assert data.classes == ("cat", "dog", "eel") and torch.bincount(test.labels).tolist() == [3, 3, 3]
    parts = [{image.numpy().tobytes() for image in part.all()} for part in (data.train, data.val, test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60


class Pairs:
    """A dataset of torchvision's kind."""

    classes = ("dark", "bright")

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i >= self.number:
            raise IndexError
        return Image.new("RGB", (50 + i, 40), (200 * (i % 2), i, 0)), i % 2


def test_datasets_of_pairs() -> None:
    name = nas.images(Pairs(40), x_test=Pairs(10))
    data = load(name)
    assert data.classes == ("dark", "bright") and data.train.side == 32 and len(load_test(name)) == 10
    assert all(
        (image[0, 0, 0] > 100) == bool(label) for image, label in zip(data.train.all(), data.train.labels, strict=True)
    )


def test_any_file_of_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=X, y_train=Y)
    assert load(f"npz:{tmp_path}/mine.npz").classes == ("0", "1", "2")
    np.savez(tmp_path / "half.npz", x_train=X, y_train=Y, x_test=X)
    with pytest.raises(Error, match="holds no y_test"):
        load(f"npz:{tmp_path}/half.npz")
    (tmp_path / "broken.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:500])
    for name in ("broken", "none"):
        with pytest.raises(Error, match=rf"npz:.*{name}.npz cannot be read"):
            load(f"npz:{tmp_path}/{name}.npz")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"x_train": X / 255.0, "y_train": Y}, r"x_train must be uint8 pixels.*it is float64 .*255 \* x"),
        ({"x_train": X, "y_train": Y[:5]}, "x_train has 60 images, y_train 5 labels"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "x_test and y_test belong together"),
        ({"x_train": X, "y_train": Y, "classes": ["a"]}, "y_train goes from 0 to 2, there are 1 classes"),
        ({"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": [7, 7]}, "y_test goes from 7 to 7"),
        ({"x_train": X}, r"item 0 of x_train is no \(picture, label\); with arrays give y_train too"),
    ],
)
def test_what_is_no_dataset(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(Error, match=said):
        nas.images(**arguments)


def test_searched_and_trained(here: Path) -> None:
    name = nas.images(X, Y)
    trained = nas.train("tailored-mobilenetv2", name, epochs=1, workers=1, run=here / "a")
    assert trained.training_plan.dataset == name and trained.training_plan.arch.resolution == 24
    assert trained.outcome.test_images == 9
