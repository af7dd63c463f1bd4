"""Datasets in memory, from embedded, made and (where it lies on disk) real data."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from nas.training.datasets import Images, load, load_test

CIFAR = Path(__file__).parents[2].parent / "shared" / "data"


def balanced(labels: torch.Tensor, classes: int, n: int) -> bool:
    counts = torch.bincount(labels[:n], minlength=classes)
    return int(counts.max() - counts.min()) <= 1


def test_digits() -> None:
    data = load("digits")
    assert data.train.pixels.shape == (1149, 32, 32, 3) and data.train.pixels.dtype == torch.uint8
    assert data.train.pixels.is_contiguous()
    assert (len(data.val), len(load_test("digits")), len(data.classes)) == (288, 360, 10)
    assert data.resolution == 32 and not data.flip  # a mirrored 2 is no 2
    assert balanced(data.train.labels, 10, 200) and balanced(data.val.labels, 10, 100)
    share = [torch.bincount(part.labels).double() / len(part) for part in (data.train, data.val)]
    assert torch.allclose(share[0], share[1], atol=0.01)
    again = load("digits")
    assert torch.equal(again.val.pixels, data.val.pixels)


def test_no_image_is_in_two_parts() -> None:
    data = load("digits")
    parts = (data.train, data.val, load_test("digits"))
    pictures = [{image.numpy().tobytes() for image in part.pixels} for part in parts]
    assert not pictures[0] & pictures[1] and not pictures[0] & pictures[2] and not pictures[1] & pictures[2]


def test_mean_and_std_are_of_the_training_part() -> None:
    data = load("digits")
    levels = data.train.pixels.double() / 255
    assert data.mean == pytest.approx(levels.mean((0, 1, 2)).tolist())
    assert data.std == pytest.approx(levels.std((0, 1, 2)).tolist(), rel=1e-5)


def make_folder(root: Path) -> None:
    for part, number in (("train", 10), ("test", 3)):
        for name, level in (("cat", 10), ("dog", 200)):
            (root / part / name).mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (40 + i, 36), (level, i, 0)).save(root / part / name / f"{i}.png")


def test_folder(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = load(f"folder:{tmp_path}")
    assert data.train.pixels.shape == (16, 32, 32, 3) and len(data.val) == 4
    assert data.classes == ("cat", "dog")
    assert set(data.train.pixels[data.train.labels == 1][..., 0].flatten().tolist()) == {200}
    assert len(load_test(f"folder:{tmp_path}")) == 6


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no train/"):
        load(f"folder:{tmp_path}")
    make_folder(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"train/cat/0\.png cannot be read.*--dataset digits"):
        load(f"folder:{tmp_path}")
    deep = torch.full((36, 40), 30_000, dtype=torch.int32).numpy().astype("uint16")
    Image.fromarray(deep).save(tmp_path / "train" / "cat" / "0.png")  # PIL would make all of it white
    with pytest.raises(ValueError, match=r"train/cat/0\.png cannot be read: it has more than 8 bits a level"):
        load(f"folder:{tmp_path}")
    make_folder(tmp_path / "b")
    whole = (tmp_path / "b" / "train" / "dog" / "3.png").read_bytes()
    (tmp_path / "b" / "train" / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"train/dog/3\.png cannot be read"):
        load(f"folder:{tmp_path}/b")


def test_one_class_is_none(tmp_path: Path) -> None:
    make_folder(tmp_path)
    for part in ("train", "test"):
        shutil.rmtree(tmp_path / part / "dog")
    with pytest.raises(ValueError, match="has one class, 'cat'"):
        load(f"folder:{tmp_path}")


def test_a_digest_is_of_images_labels_and_classes(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = load(f"folder:{tmp_path}")
    assert data.digest == load(f"folder:{tmp_path}").digest
    pixels = data.train.pixels.clone()
    pixels[-1, -1, -1, -1] += 1
    labels = data.val.labels.flip(0)
    others = (
        replace(data, train=Images(pixels, data.train.labels)),
        replace(data, val=Images(data.val.pixels, labels)),
        replace(data, classes=("cat", "eel")),
    )
    assert len({data.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"missing, truncated or changed.*--data DIR.*--dataset digits"):
        load(name, str(tmp_path))


def test_tampered_cifar(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for part in ["batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))]:
        (folder / part).write_bytes(pickle.dumps({"data": b"", "labels": []}))
    with pytest.raises(ValueError, match="missing, truncated or changed"):
        load("cifar10", str(tmp_path))


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"'mnist' is unknown; one of digits, cifar10, cifar100, folder:PATH"):
        load("mnist")


@pytest.mark.skipif(not (CIFAR / "cifar-10-batches-py").is_dir(), reason="CIFAR-10 is not on this disk")
def test_real_cifar10() -> None:
    data = load("cifar10", str(CIFAR))
    assert (len(data.train), len(data.val)) == (40_000, 10_000)
    assert torch.bincount(data.val.labels).tolist() == [1000] * 10
    assert balanced(data.train.labels, 10, 4_000)
    assert data.classes[3] == "cat"
    assert data.mean == pytest.approx((0.491, 0.482, 0.447), abs=2e-3)


def test_classes_that_differ_between_the_parts_are_refused(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "train/c", "test/a", "test/c"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    with pytest.raises(ValueError, match="has class 'b' in train/ and not in test/; both need all classes"):
        load(f"folder:{tmp_path}")
