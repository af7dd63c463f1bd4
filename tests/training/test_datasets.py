"""Datasets in memory, from embedded, made and (where it lies on disk) real data."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from nas.errors import Notice
from nas.records.plan import Reading
from nas.training.datasets import load, load_test, natural_form
from nas.training.images import Images, resized

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
                Image.new("RGB", (40 + i, 36), (level, i, 9 * (part == "test"))).save(root / part / name / f"{i}.png")


def test_folder(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = load(f"folder:{tmp_path}")
    assert data.resolution == 32 and data.train.side == 32 and data.train.all().shape == (16, 32, 32, 3)
    assert len(data.val) == 4 and data.classes == ("cat", "dog") and data.split == ()
    assert set(data.train.all()[data.train.labels == 1][..., 0].flatten().tolist()) == {200}
    assert len(load_test(f"folder:{tmp_path}")) == 6
    assert torch.equal(data.train.first(4).all(), data.train.take(torch.arange(4)))
    digits = load("digits").train
    assert digits.first(9).all().data_ptr() == digits.all().data_ptr()  # a rung's images are not copied


def test_broken_pictures_are_all_named_at_once(tmp_path: Path) -> None:
    make_folder(tmp_path)
    whole = (tmp_path / "train" / "dog" / "3.png").read_bytes()
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no picture")
    (tmp_path / "train" / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"2 of the pictures in .* cannot be read.*--skip-bad") as said:
        load(f"folder:{tmp_path}")
    assert "train/cat/0.png: cannot identify image file" in str(said.value) and "train/dog/3.png: " in str(said.value)
    data = load(f"folder:{tmp_path}", reading=Reading(skip_bad=True))
    assert len(data.train) + len(data.val) == 18 and len(data.contents) == 18


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
    other = replace(data, contents=("another file", *data.contents[1:]))
    labels = replace(data, val=replace(data.val, labels=data.val.labels.flip(0)))
    assert len({one.digest for one in (data, other, labels, replace(data, classes=("cat", "eel")))}) == 4
    assert load(f"folder:{tmp_path}", resolution=24).digest != data.digest
    digits = load("digits")
    pixels = digits.train.all().clone()
    pixels[-1, -1, -1, -1] += 1
    assert replace(digits, train=Images(pixels, digits.train.labels)).digest != digits.digest


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
    with pytest.raises(ValueError, match=r"'imagenet' is unknown; one of digits, cifar10, cifar100, mnist,"):
        load("imagenet")


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


def colours(root: Path, places: list[str], number: int, side: int = 12, blue: int = 7) -> None:
    """`number` different pictures in each of `places`."""
    for c, place in enumerate(places):
        (root / place).mkdir(parents=True)
        for i in range(number):
            Image.new("RGB", (side, side), (i * 5, 40 * c, blue)).save(root / place / f"{i}.png")


def test_a_folder_without_a_split(tmp_path: Path) -> None:
    """70 %, 15 %, 15 % of each class, the same each time; hidden folders are no classes."""
    colours(tmp_path, ["a", "b"], 40)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / ".ipynb_checkpoints" / "1.png")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"")
    data, test = load(f"folder:{tmp_path}"), load_test(f"folder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert [torch.bincount(part.labels).tolist() for part in (data.train, data.val, test)] == [
        [28] * 2,
        [6] * 2,
        [6] * 2,
    ]
    assert len(data.split) == 80 and dict(data.split) == dict(load(f"folder:{tmp_path}").split)
    parts = [{picture.numpy().tobytes() for picture in part.all()} for part in (data.train, data.val, test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 80


def test_equal_files_are_on_one_side(tmp_path: Path) -> None:
    colours(tmp_path, ["a", "b"], 20)
    for place in ("a", "b"):
        for i in range(20):
            for copy in range(3):
                shutil.copy(tmp_path / place / f"{i}.png", tmp_path / place / f"{i}-{copy}.png")
    data, test = load(f"folder:{tmp_path}"), load_test(f"folder:{tmp_path}")
    parts = [{picture.numpy().tobytes() for picture in part.all()} for part in (data.train, data.val, test)]
    assert sum(map(len, parts)) == 40 and len(data.train) + len(data.val) + len(test) == 160


def test_groups_are_on_one_side(tmp_path: Path) -> None:
    """Of 30 people, each in both classes."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for i in range(120):
            Image.new("RGB", (8, 8), (i, 200 * (place == "b"), 0)).save(tmp_path / place / f"person{i % 30}_{i}.png")
    name, reading = f"folder:{tmp_path}", Reading(groups=r"person(\d+)_")
    data, test = load(name, reading=reading), load_test(name, reading=reading)
    people: dict[str, set[str]] = {}
    for file, part in data.split:
        people.setdefault(part, set()).add(file.split("_")[0].split("person")[1])
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 30
    assert len(people["train"]) >= 20 and len(test) == 8 * len(people["test"]) >= 24
    with pytest.raises(ValueError, match=r"groups '\(x.*' finds nothing in a/person0_0.png"):
        load(name, reading=Reading(groups=r"(x\d)"))
    with pytest.raises(ValueError, match="must capture one thing"):
        load(name, reading=Reading(groups="person"))
    with pytest.raises(ValueError, match="is no regular expression"):
        load(name, reading=Reading(groups="(person"))


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "val"), ("train", "test")])
def test_layouts_with_parts(tmp_path: Path, parts: tuple[str, ...]) -> None:
    """val/ validates where there is a test/, and is the test where there is none."""
    for n, part in enumerate(parts):
        colours(tmp_path / part, ["a", "b"], 10 * (3 - n), blue=n)
    data, test = load(f"folder:{tmp_path}"), load_test(f"folder:{tmp_path}")
    sizes = (len(data.train), len(data.val), len(test))
    assert sizes == ((60, 40, 20) if len(parts) == 3 else (48, 12, 40)) and data.split == ()


def test_a_table_of_labels(tmp_path: Path) -> None:
    colours(tmp_path, ["pictures", "more"], 20)
    files = [f"{place}/{i}.png" for place in ("pictures", "more") for i in range(20)]
    rows = [f"{file},{'even' if i % 2 == 0 else 'odd'}" for i, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    data = load(f"folder:{tmp_path}")
    assert data.classes == ("even", "odd") and len(data.split) == 40
    parts = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    (tmp_path / "labels.csv").write_text(
        "\n".join(["file,label,part", *map(",".join, zip(rows, parts, strict=True))]) + "\n"
    )
    data = load(f"folder:{tmp_path}")
    assert (len(data.train), len(data.val), len(load_test(f"folder:{tmp_path}"))) == (20, 10, 10)
    for text, said in (
        ("name,label\na,b\n", "has no column 'file'"),
        ("file,label\nnone.png,b\n", "line 2: none.png does not exist"),
        (f"file,label,part\n{files[0]},a,train\n{files[1]},a,\n", "must say the part of every file"),
        (f"file,label,part\n{files[0]},a,exam\n", "line 2"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(ValueError, match=said):
            load(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["train/a", "train/b"], "has train/ and neither test/ nor val/"),
        ([], "has no pictures in folders of their classes"),
        (["a"], "has one class, 'a'"),
    ],
)
def test_folders_that_are_no_dataset(tmp_path: Path, places: list[str], said: str) -> None:
    colours(tmp_path, places, 3)
    with pytest.raises(ValueError, match=said):
        load(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match="is no folder"):
        load(f"folder:{tmp_path}/nowhere")


def test_too_few_pictures_for_a_split(tmp_path: Path) -> None:
    colours(tmp_path, ["a", "b"], 2)
    with pytest.raises(ValueError, match=r"no split can be made.*it has 4 pictures"):
        load(f"folder:{tmp_path}")


def test_a_size_that_fits_the_pictures(tmp_path: Path) -> None:
    for side, taken in ((20, 32), (50, 48), (100, 96), (700, 96)):
        colours(tmp_path / str(side), ["a", "b"], 12, side)
        assert natural_form(f"folder:{tmp_path / str(side)}")[0] == taken
    data = load(f"folder:{tmp_path / '100'}")
    assert (data.resolution, data.train.side, round(data.share, 3)) == (96, 110, 0.873)
    assert "pictures of about 100 pixels are taken at 96x96" in natural_form(f"folder:{tmp_path / '100'}")[2]


def test_other_sizes_of_a_built_in_dataset() -> None:
    for side in (16, 20, 48):
        data = load("digits", resolution=side)
        assert data.resolution == data.train.side == side and load_test("digits", resolution=side).side == side
    data = load("digits")
    assert resized(data, 64).resolution == 64 and resized(data, 64).train.side == 32
    assert resized(data, 12).train.all().shape[1:] == (12, 12, 3)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["Training/a", "Training/b", "Testing/a", "Testing/b"], "has Testing/, which is no class and no part"),
        (["val/a", "val/b", "test/a", "test/b"], "has test/ and no train/"),
        (["train/a", "train/b", "val/a", "val/b", "valid/a", "valid/b"], "has valid/, which is no class"),
    ],
)
def test_parts_that_are_called_otherwise(tmp_path: Path, places: list[str], said: str) -> None:
    colours(tmp_path, places, 3)
    with pytest.raises(ValueError, match=said):
        load(f"folder:{tmp_path}")


def test_validation_in_full(tmp_path: Path) -> None:
    for n, part in enumerate(("train", "validation", "test")):
        colours(tmp_path / part, ["a", "b"], 5, blue=n)
    assert len(load(f"folder:{tmp_path}").val) == 10


def test_links_that_lead_round(tmp_path: Path) -> None:
    colours(tmp_path, ["a", "b"], 20)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    data = load(f"folder:{tmp_path}", reading=Reading(skip_bad=True))
    assert len(data.split) == 41 and [file for file, part in data.split if not part] == ["b/dead.png"]
    with pytest.raises(ValueError, match=r"b/dead\.png: No such file"):
        load(f"folder:{tmp_path}")


def test_a_file_more_makes_another_split(tmp_path: Path) -> None:
    colours(tmp_path, ["a", "b"], 20)
    before = load(f"folder:{tmp_path}").digest
    Image.new("RGB", (9, 9), "white").save(tmp_path / "a" / "more.png")
    assert load(f"folder:{tmp_path}").digest != before


def test_a_part_with_nothing_to_read(tmp_path: Path) -> None:
    for n, part in enumerate(("train", "test")):
        colours(tmp_path / part, ["a", "b"], 10, blue=n)
    for file in (tmp_path / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="has no picture that can be read in part 'test'"):
        load_test(f"folder:{tmp_path}", reading=Reading(skip_bad=True))
    for file in (tmp_path / "train" / "b").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="has no picture of class 'b' in part 'train'"):
        load(f"folder:{tmp_path}", reading=Reading(skip_bad=True))


def test_leaks_of_given_parts_are_said(tmp_path: Path) -> None:
    for part in ("train", "test"):
        colours(tmp_path / part, ["a", "b"], 10)
    with pytest.warns(Notice, match="20 files of the test are in another part too"):
        load_test(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match=r"groups .*'0' is in train/ and in test/; give the folder without a split"):
        load(f"folder:{tmp_path}", reading=Reading(groups=r"(\d+)\.png"))


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    colours(tmp_path, ["a"], 3)
    for content, said in (
        ("file,label\na/0.png,caf\xe9\n".encode("latin-1"), "must be a table in UTF-8"),
        (b"file,label\na/0.png,x\na/0.png,y\n", "line 3: a/0.png is there twice"),
    ):
        (tmp_path / "labels.csv").write_bytes(content)
        with pytest.raises(ValueError, match=said):
            load(f"folder:{tmp_path}")


def test_few_groups(tmp_path: Path) -> None:
    """Of six people one is the test, and one validates."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for i in range(60):
            Image.new("RGB", (8, 8), (i, 200 * (place == "b"), 0)).save(tmp_path / place / f"p{i % 6}_{i}.png")
    reading = Reading(groups=r"p(\d)_")
    assert len(load_test(f"folder:{tmp_path}", reading=reading)) == 20
