"""Folders of pictures: which files they hold, of which class, and in which part.

Four layouts: train/CLASS/* with test/CLASS/*, with val/CLASS/*, or with both; or CLASS/* without a split; or a
labels.csv. Where no part is given for the test, 15 % of the pictures are it, and 15 % validate; the rest of what is for
training, 20 % of it where only that is missing. The split is stratified and the same in every run; files that are equal
to the byte, and those of one group, are never on two sides.
"""

import csv
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from nas.errors import Error
from nas.networks.architecture import COLOUR
from nas.training.pictures import is_hidden, is_picture, size_and_colour

PARTS = ("train", "val", "test")
CALLED = {  # folders that are parts and no classes
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
VALIDATION, TEST = 0.15, 0.15  # of pictures without a split
SPLIT_SEED = 0  # of the split only: every search of a dataset validates on the same images
LOOKED_AT = 200  # pictures whose sizes and colours are looked at
SIDES = (224, 160, 128, 96, 64, 48, 32)  # that a folder's pictures are taken at where nothing is said
LARGEST = 96  # of them: more takes hours on a CPU
LABELS = "labels.csv"


@dataclass(frozen=True, slots=True)
class Listing:
    """The pictures of a folder: `files` below `root`, the class of each as a number, and its part."""

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...]
    """Of PARTS; "" where the split is ours to make."""
    classes: tuple[str, ...]


def listed(root: Path) -> Listing:
    """What folder `root` holds. Raises Error where it is none of the layouts."""
    if (root / LABELS).is_file():
        return _by_table(root)
    if not root.is_dir():
        raise Error(f"dataset folder:{root} is no folder; give one that holds pictures in folders of their classes")
    given = _parts_in(root)
    if given:
        if len(given) == 1:
            raise Error(
                f"dataset folder:{root} has train/ and neither test/ nor val/; it needs train/CLASS/* and "
                "test/CLASS/*, or CLASS/* without a split"
            )
        found = {part: _by_class(root, place) for part, place in given.items()}
        _same_classes(root, found)
        if "test" not in found:  # what is called so is looked at last
            found["test"] = found.pop("val")
    else:
        found = {"": _by_class(root, "")}
    names = sorted(next(iter(found.values())))
    rows = [
        (file, number, part) for part, of in found.items() for number, name in enumerate(names) for file in of[name]
    ]
    return _listing(root, rows, names)


def _parts_in(root: Path) -> dict[str, str]:
    """The folder of each part; none where there is no split. Raises Error where one is called otherwise."""
    found: dict[str, str] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        part = CALLED.get(entry.name.lower())
        if entry.is_dir() and part:
            if entry.name not in (part, "valid", "validation") or part in found:
                raise Error(
                    f"dataset folder:{root} has {entry.name}/, which is no class and no part as nas knows them: call "
                    f"parts train/, val/ and test/, each once"
                )
            found[part] = entry.name
    if found and "train" not in found:
        raise Error(f"dataset folder:{root} has {min(found.values())}/ and no train/; it needs train/CLASS/*")
    return {part: found[part] for part in PARTS if part in found}


def _listing(root: Path, rows: Sequence[tuple[str, int, str]], names: Sequence[str]) -> Listing:
    if not rows:
        raise Error(
            f"dataset folder:{root} has no pictures in folders of their classes; it needs train/CLASS/* and "
            f"test/CLASS/*, or CLASS/* without a split, or {LABELS} (file,label)"
        )
    files, labels, parts = zip(*rows, strict=True)
    return Listing(root, files, labels, parts, tuple(names))


def _by_class(root: Path, part: str) -> dict[str, list[str]]:
    """The pictures of each folder in root/part, those in folders within it too."""
    found: dict[str, list[str]] = {}
    for entry in sorted(os.scandir(root / part), key=lambda entry: entry.name):
        if entry.is_dir() and not is_hidden(entry.name):
            found[entry.name] = list(_pictures(root, entry.path))
    empty = [name for name, files in found.items() if not files]
    if empty and len(empty) < len(found):
        raise Error(f"dataset folder:{root} has no picture in {os.path.join(part, empty[0])}/; a class needs some")
    return {name: files for name, files in found.items() if files}


def _pictures(root: Path, folder: str) -> Iterator[str]:
    """The pictures in `folder` and in folders within it, as paths below `root`."""
    visited: set[str] = set()
    for place, within, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in visited:  # links may lead round in a circle
            within.clear()
            continue
        visited.add(real)
        within[:] = sorted(name for name in within if not is_hidden(name))
        yield from (os.path.relpath(os.path.join(place, name), root) for name in sorted(names) if is_picture(name))


def _same_classes(root: Path, found: dict[str, dict[str, list[str]]]) -> None:
    """Raises Error where the parts do not hold the same classes, which would shift labels in silence."""
    train = set(found["train"])
    for part, of in found.items():
        if train != set(of):
            name = min(train ^ set(of))
            has, lacks = ("train", part) if name in train else (part, "train")
            raise Error(
                f"dataset folder:{root} has class {name!r} in {has}/ and not in {lacks}/; both need all classes"
            )


def _by_table(root: Path) -> Listing:
    """labels.csv: file,label and, if given, part; files below `root`."""
    try:
        with (root / LABELS).open(newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Error(f"{root / LABELS} cannot be read ({error}); it must be a table in UTF-8") from None
    lacks = {"file", "label"} - set(table[0] if table else ())
    if lacks:
        raise Error(f"{root / LABELS} has no column {min(lacks)!r}; its first line is file,label[,part]")
    cells = [{name: (row.get(name) or "").strip() for name in ("file", "label", "part")} for row in table]
    rows = [(row["file"], row["label"], row["part"]) for row in cells]
    listed_before: set[str] = set()
    for number, (name, label, part) in enumerate(rows, 2):
        if not name or not label or part not in ("", *PARTS):
            raise Error(f"{root / LABELS}, line {number}: {name},{label},{part} is no file,label[,{'|'.join(PARTS)}]")
        if name in listed_before:
            raise Error(f"{root / LABELS}, line {number}: {name} is there twice")
        listed_before.add(name)
        if not os.path.isfile(root / name):
            raise Error(f"{root / LABELS}, line {number}: {name} does not exist below {root}")
    parts = {part for *_, part in rows}
    if ("" in parts and len(parts) > 1) or (parts and parts != {""} and not {"train", "test"} <= parts):
        raise Error(f"{root / LABELS} must say the part of every file, of train and test at least, or of none")
    numbers = {name: i for i, name in enumerate(sorted({label for _, label, _ in rows}))}
    return _listing(root, [(name, numbers[label], part) for name, label, part in rows], list(numbers))


def groups_of(listing: Listing, groups: str) -> list[str]:
    """What the one capture of the pattern `groups` finds in each file's path. Raises Error where it finds nothing."""
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise Error(f"groups {groups!r} is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise Error(f"groups {groups!r} must capture one thing, in one pair of brackets; it has {pattern.groups}")
    found = []
    for name in listing.files:
        match = pattern.search(name)
        if match is None or match[1] is None:
            raise Error(f"groups {groups!r} finds nothing in {name}; it must in each file's path")
        found.append(match[1])
    sides: dict[str, str] = {}
    for group, part in zip(found, listing.parts, strict=True):
        if part and sides.setdefault(group, part) != part:
            raise Error(
                f"groups {groups!r}: {group!r} is in {sides[group]}/ and in {part}/; give the folder without a split"
            )
    return found


def natural_form(listing: Listing) -> tuple[int, int, int]:
    """The side and the channels that pictures are taken at where nothing is said, and the median of their short sides:
    one channel where none of those that are looked at has a colour."""
    short, coloured = [], False
    for name in random.Random(SPLIT_SEED).sample(listing.files, min(LOOKED_AT, len(listing.files))):
        try:
            width, height, has_colour = size_and_colour((listing.root / name).read_bytes())
        except (Error, OSError):  # said when all are read
            continue
        short.append(min(width, height))
        coloured |= has_colour
    middle = int(median(short)) if short else SIDES[-1]
    return side_for(middle), COLOUR if coloured or not short else 1, middle


def side_for(short: int) -> int:
    """The side that pictures are taken at whose short side is `short` pixels."""
    return next((side for side in SIDES if side <= min(short, LARGEST)), SIDES[-1])


def split(labels: Tensor, contents: Sequence[str], groups: Sequence[str] | None, share: float) -> Tensor:
    """Which of the pictures (N,) are taken out, a share of about `share` of each class.

    Those with equal contents, or of one of `groups`, are taken together: a share of one in a whole number then. Raises
    Error where there are too few.
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    together = _together(contents, groups)
    try:
        if groups is None:
            first = np.unique(together, return_index=True)[1]
            _, taken = train_test_split(first, test_size=share, stratify=labels[first].numpy(), random_state=SPLIT_SEED)
            return torch.from_numpy(np.isin(together, together[taken]))
        number = min(round(1 / share), len(np.unique(together)))
        folds = StratifiedGroupKFold(number, shuffle=True, random_state=SPLIT_SEED)
        _, chosen = next(iter(folds.split(labels, labels, together)))
    except ValueError as error:
        raise Error(f"no split can be made: {error}") from None
    out = torch.zeros(len(labels), dtype=torch.bool)
    out[torch.from_numpy(chosen)] = True
    return out


def _together(contents: Sequence[str], groups: Sequence[str] | None) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """A number for each picture, equal for those that must be on one side."""
    leader: dict[str, str] = {}

    def found(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader.setdefault(leader[name], leader[name])
            name = leader[name]
        return name

    names = [f"content {content}" for content in contents]
    for i, group in enumerate(groups or ()):
        leader[found(names[i])] = found(f"group {group}")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(found(name), len(numbers)) for name in names])
