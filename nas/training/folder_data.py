"""The pictures of a folder as a dataset: decoded once into a file, split where the folder is not."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas.errors import Error, Notice
from nas.records.plan import Reading
from nas.training import folders
from nas.training.folders import Listing
from nas.training.images import PADDED, Data, Images, interleaved, mean_and_std
from nas.training.picture_cache import Stored, Tell, check, squares

VALIDATION = 0.2  # of what is trained on, where nothing else validates
SEEN = 7 / 8  # of a larger picture's side, in evaluation


def check_classes(name: str, classes: Sequence[str]) -> None:
    """Raises Error where dataset `name` has fewer than two classes."""
    if len(classes) < 2:
        raise Error(f"dataset {name} has one class, {classes[0]!r}; a classifier needs two or more")


def decode(root: Path, resolution: int, reading: Reading, tell: Tell) -> None:
    """Decodes the pictures for training where that has not been done; `tell` hears of progress."""
    listing = folders.listed(root)
    check_classes(f"folder:{root}", listing.classes)
    if reading.groups:
        folders.groups_of(listing, reading.groups)
    files = [listing.files[i] for i in _wanted(listing, "train")]
    squares(root, files, _stored_side(resolution), tell, reading.channels)


def load(root: Path, resolution: int, reading: Reading) -> Data:
    """Training and validation pictures of the folder `root`, at `resolution`. Raises Error where it holds no such."""
    held = _held(root, resolution, reading, "train")
    _check_parts(root, held, ("train", "val"))
    train, val = (_part(held, part) for part in ("train", "val"))
    whole = Images(held.stored, held.labels, torch.arange(len(held.labels)))
    mean, std = mean_and_std(whole.chosen(train))
    if held.split:  # ours to make: a file more would make another one, of which the test may have been trained on
        contents = tuple(f"{content} {part}" for content, part in zip(held.contents, held.parts, strict=True))
    else:
        contents = tuple(held.contents[int(i)] for i in torch.cat([train, val]))
    share = resolution / held.stored.shape[1]
    return Data(
        f"folder:{root}", whole.chosen(train), whole.chosen(val), held.classes, mean, std, True, resolution, share,
        contents, held.split,
    )  # fmt: skip


def load_test(root: Path, resolution: int, reading: Reading) -> Images:
    """Its test pictures."""
    held = _held(root, resolution, reading, "test")
    index = _part(held, "test")
    _check_parts(root, held, ("test",))
    if not held.split:
        _say_leaks(root, held, _held(root, resolution, reading, "train"))
    return Images(held.stored, held.labels[index], index)


def _check_parts(root: Path, held: "_Held", parts: Sequence[str]) -> None:
    """Raises Error where a part is empty, or a class has nothing to train on; says where one is not looked at."""
    for part in parts:
        seen = set(held.labels[_part(held, part)].tolist())
        lacking = [name for i, name in enumerate(held.classes) if i not in seen]
        if not seen or (lacking and part == "train"):
            what = f"no picture of class {lacking[0]!r}" if seen else "no picture that can be read"
            raise Error(
                f"dataset folder:{root} has {what} in part {part!r}; a class needs some, leave it out or add some"
            )
        if lacking:
            warnings.warn(f"folder:{root}: no picture of class {lacking[0]!r} in part {part!r}", Notice, stacklevel=2)


def _say_leaks(root: Path, tested: "_Held", trained: "_Held") -> None:
    same = len(set(tested.contents) & set(trained.contents))
    if same:
        warnings.warn(f"folder:{root}: {same:,} files of the test are in another part too", Notice, stacklevel=2)


@dataclass(frozen=True, slots=True)
class _Held:
    """The pictures of a folder as they are stored, with what is known of each."""

    stored: Stored
    labels: Tensor
    """Of each that is stored, as are the next two."""
    contents: tuple[str, ...]
    parts: tuple[str, ...]
    """"" where one is broken, and left out."""
    classes: tuple[str, ...]
    split: tuple[tuple[str, str], ...]


def _part(held: _Held, part: str) -> Tensor:
    """The places of a part's pictures, in an order in which every prefix holds the classes in equal shares."""
    index = torch.tensor([i for i, one in enumerate(held.parts) if one == part], dtype=torch.int64)
    return index[interleaved(held.labels[index])] if len(index) else index


def _held(root: Path, resolution: int, reading: Reading, part: str) -> _Held:
    """What is stored of the pictures of `part`, "train" (with those that validate) or "test".

    Where the split is ours to make all of them are stored together.
    """
    name = f"folder:{root}"
    listing = folders.listed(root)
    check_classes(name, listing.classes)
    wanted = _wanted(listing, part)
    files = [listing.files[i] for i in wanted]
    found = squares(root, files, _stored_side(resolution), channels=reading.channels)
    if not reading.skip_bad:
        check(found.broken, f" in {root}")
    labels = torch.tensor([listing.labels[i] for i in wanted])
    whole = torch.tensor([name not in found.broken for name in files])
    parts = _parts(listing, wanted, labels, found.contents, whole, reading, name)
    split = tuple(zip(files, parts, strict=True)) if "" in listing.parts else ()
    return _Held(found.stored, labels, found.contents, parts, listing.classes, split)


def _parts(
    listing: Listing,
    wanted: Sequence[int],
    labels: Tensor,
    contents: Sequence[str],
    whole: Tensor,
    reading: Reading,
    name: str,
) -> tuple[str, ...]:
    """The part of each picture `wanted`; "" of broken ones."""
    groups = folders.groups_of(listing, reading.groups) if reading.groups else None
    parts = [listing.parts[i] if whole[at] else "broken" for at, i in enumerate(wanted)]

    def moved(source: str, to: str, share: float) -> None:
        """Moves a share of what is in part `source` to part `to`."""
        at = [i for i, one in enumerate(parts) if one == source]
        theirs = None if groups is None else [groups[wanted[i]] for i in at]
        try:
            taken = folders.split(labels[at], [contents[i] for i in at], theirs, share)
        except Error as error:
            raise Error(f"dataset {name}: {error}; it has {len(at)} pictures to be split") from None
        for i, out in zip(at, taken.tolist(), strict=True):
            parts[i] = to if out else "train"

    if "" in parts:
        moved("", "test", folders.TEST)
        moved("train", "val", folders.VALIDATION / (1 - folders.TEST))
    elif "train" in parts and "val" not in listing.parts:
        moved("train", "val", VALIDATION)
    return tuple("" if part == "broken" else part for part in parts)


def _stored_side(resolution: int) -> int:
    return resolution if resolution <= PADDED else round(resolution / SEEN)


def _wanted(listing: Listing, part: str) -> list[int]:
    """The pictures that are stored together: those of "test", or the others; all, where the split is ours to make."""
    return [i for i, one in enumerate(listing.parts) if not one or (one == "test") == (part == "test")]
