"""Datasets: `load` gives train and validation, `load_test` the test images.

Images are uint8 (N, S, S, C), C being 3, or 1 where they are gray: a batch permuted to (N, C, S, S) is channels_last
without a copy. They are ordered so that the first n of each part are as balanced over the classes as the part allows: a
share of a dataset is a prefix of it. Validation is a stratified 20 % of the training images, the same in every run,
where a dataset does not say itself which images are for it. Built-in datasets lie in memory; the pictures of a folder
in a file that is mapped into it.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.errors import Error, Notice
from nas.networks.architecture import COLOUR
from nas.networks.sizes import SMALL
from nas.records.datasets import BUILT_IN, DATASETS
from nas.records.plan import READING, Reading
from nas.training import arrays, built_in, folders, picture_cache
from nas.training.folders import SPLIT_SEED, Listing
from nas.training.picture_cache import Stored, Tell, check, squares
from nas.training.pictures import with_channels

VALIDATION = 0.2
PADDED = 32  # pixels a side: images that are no larger are cropped from zeros around them
SEEN = 7 / 8  # of a larger picture's side, in evaluation
COUNTED = 20_000  # images that the mean and deviation of pixels are taken over, at the most
CHUNK = 256  # images that are worked on at once: a gigabyte a worker is enough
Pixels = TypeVar("Pixels", Tensor, NDArray[np.uint8])


@dataclass(frozen=True, slots=True)
class Images:
    """`pixels` (N, S, S, C) uint8 and `labels` (N,) int64."""

    pixels: Tensor | Stored
    """In memory; or in a file, of which `rows` are meant."""
    labels: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """S."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """C."""
        return int(self.pixels.shape[3])

    def first(self, n: int) -> "Images":
        """The first `n` images, or all where there are fewer; their pixels are not copied."""
        if isinstance(self.pixels, Stored):
            return self.chosen(torch.arange(min(n, len(self))))
        return Images(self.pixels[:n], self.labels[:n])

    def chosen(self, index: Tensor) -> "Images":
        """Images `index` (B,) as images."""
        if isinstance(self.pixels, Stored):
            assert self.rows is not None
            return Images(self.pixels, self.labels[index], self.rows[index])
        return Images(self.pixels[index], self.labels[index])

    def take(self, index: Tensor) -> Tensor:
        """The pixels of images `index` (B,) -> (B, S, S, C)."""
        if isinstance(self.pixels, Stored):
            assert self.rows is not None
            return self.pixels.take(self.rows[index])
        return self.pixels[index]

    def all(self) -> Tensor:
        """All pixels (N, S, S, C), in memory."""
        return self.take(torch.arange(len(self))) if isinstance(self.pixels, Stored) else self.pixels


@dataclass(frozen=True, slots=True)
class Data:
    """What a search may see of a dataset."""

    name: str
    train: Images
    val: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """A channel, over the training part, of pixels in [0, 1]."""
    std: tuple[float, ...]
    flip: bool
    """Whether a mirrored image keeps its class."""
    resolution: int
    """Side of the images as networks see them."""
    share: float = 1.0
    """Of a stored image's side that is seen in evaluation."""
    contents: tuple[str, ...] = ()
    """Digests of the files of the training and validation images, in order; where the split is ours, of all files, with
    their parts; none where pixels lie in memory."""
    split: tuple[tuple[str, str], ...] = ()
    """Every file with its part, where the split is ours."""
    balance: bool = False
    """Whether each class counts alike in the loss."""

    @property
    def channels(self) -> int:
        """Of an image: 3, or 1 where they are gray."""
        return self.train.channels

    def class_weights(self, images: Images, where: torch.device) -> Tensor | None:
        """What an image of each class counts in the loss (classes,), 1 in the mean over `images`, which are trained on;
        None where all count alike."""
        if not self.balance:
            return None
        counts = torch.bincount(images.labels, minlength=len(self.classes))
        shares = len(images) / int((counts > 0).sum()) / counts.clamp(min=1)
        return torch.where(counts > 0, shares, 0.0).to(where)

    @property
    def stored_side(self) -> int:
        """Side of the images that parts of `resolution` are taken from."""
        return round(self.resolution / self.share)

    @property
    def digest(self) -> str:
        """Of all images, labels and classes, in order: another one where any differs."""
        seen = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        if self.contents:
            gray = "gray " * (self.channels == 1)
            seen.update(f"{self.resolution} {gray}{' '.join(self.contents)}".encode())
        for part in (self.train, self.val):
            if not self.contents:
                seen.update(part.all().contiguous().numpy().data)
            seen.update(part.labels.numpy().data)
        return seen.hexdigest()[:16]


@lru_cache(maxsize=4)
def resized(data: Data, resolution: int) -> Data:
    """`data` as networks see it that take images of `resolution` x `resolution`; as it is if equal.

    Small images, up to PADDED a side, are made: each pixel the mean of those it stands for. Larger ones are resized
    as they are read.
    """
    if resolution == data.resolution:
        return data
    if resolution > PADDED or data.train.side < resolution:
        return replace(data, resolution=resolution)
    train, val = (_small(part, data.share, resolution) for part in (data.train, data.val))
    return replace(data, train=train, val=val, resolution=resolution, share=1.0)


def _small(images: Images, share: float, resolution: int) -> Images:
    made = []
    for index in torch.arange(len(images)).split(CHUNK):
        x = middle(images.take(index), round(images.side * share)).permute(0, 3, 1, 2).float()
        made.append(functional.interpolate(x, (resolution, resolution), mode="area").round().to(torch.uint8))
    return Images(torch.cat(made).permute(0, 2, 3, 1).contiguous(), images.labels)


def middle(pixels: Pixels, side: int) -> Pixels:
    """(B, S, S, C) -> (B, side, side, C): the middle of images, tensors or arrays."""
    begin = (pixels.shape[1] - side) // 2
    return pixels[:, begin : begin + side, begin : begin + side]


def load(
    name: str,
    folder: str | None = None,
    resolution: int | None = None,
    reading: Reading = READING,
) -> Data:
    """Training and validation images of dataset `name`; see DATASETS. Test images are not looked at.

    `folder`: where the dataset lies; None: the user's cache, filled by a download where need be. `resolution`: side of
    the images; None: see `natural_form`. Raises Error, with the ways out, on an unknown name and on data that is
    missing, truncated or tampered with.
    """
    side, channels, _ = natural_form(name, resolution or 0, reading.channels)
    if name.startswith("folder:"):
        return _folder(_root(name, folder), side, replace(reading, channels=channels))
    images, classes = _read(name, folder, "train", side, channels)
    _check_classes(name, classes)
    train, val = (images.chosen(index[_interleaved(images.labels[index])]) for index in _two_parts(name, images.labels))
    mean, std = _mean_and_std(train)
    data = Data(name, train, val, classes, mean, std, name not in BUILT_IN or BUILT_IN[name].flip, train.side)
    return resized(data, side)


def load_test(
    name: str, folder: str | None = None, resolution: int | None = None, reading: Reading = READING
) -> Images:
    """Test images of dataset `name`, for the one look at the end. Raises as `load` does."""
    side, channels, _ = natural_form(name, resolution or 0, reading.channels)
    if name.startswith("folder:"):
        return _folder_test(_root(name, folder), side, replace(reading, channels=channels))
    images, _ = _read(name, folder, "test", side, channels)
    return _small(images, 1.0, side) if side < images.side and side <= PADDED else images


def natural_form(name: str, resolution: int = 0, channels: int = 0) -> tuple[int, int, str]:
    """The side and the channels that images are taken at, what is not given as they are themselves; and, where that was
    found by looking at pictures, what was found, in a line."""
    if resolution and channels:
        return resolution, channels, ""
    if name.startswith("npz:"):
        side, found = arrays.form_of(Path(name.removeprefix("npz:")).expanduser())
    elif name.startswith("folder:"):
        listing = folders.listed(_root(name, None))
        side, found, short = folders.natural_form(listing)
        side, gray = resolution or side, found != COLOUR
        about = f"{len(listing.files):,} {'gray ' * gray}pictures of about {short} pixels are taken at {side}x{side}"
        ways = ["--resolution takes another size"] * (not resolution)
        ways += [f"--channels {COLOUR} makes {COLOUR} channels of their one"] * (gray and not channels)
        return side, channels or found, "; ".join([about, *ways]) if ways else ""
    elif name in BUILT_IN:
        side, found = BUILT_IN[name].side, BUILT_IN[name].channels
    else:
        side, found = SMALL, COLOUR
    return resolution or side, channels or found, ""


def decode(name: str, resolution: int, reading: Reading, tell: Tell) -> None:
    """Decodes a folder's pictures for training where that has not been done; `tell` hears of progress."""
    if name.startswith("folder:"):
        listing = folders.listed(root := _root(name, None))
        _check_classes(name, listing.classes)
        if reading.groups:
            folders.groups_of(listing, reading.groups)
        files = [listing.files[i] for i in _wanted(listing, "train")]
        squares(root, files, _stored_side(resolution), tell, reading.channels)


def state_of(name: str) -> str:
    """Another text where a folder's files have changed; nothing for other datasets."""
    if not name.startswith("folder:"):
        return ""
    listing = folders.listed(_root(name, None))
    return picture_cache.state_of(listing.root, listing.files)


def _stored_side(resolution: int) -> int:
    return resolution if resolution <= PADDED else round(resolution / SEEN)


def _wanted(listing: Listing, part: str) -> list[int]:
    """The pictures that are stored together: those of "test", or the others; all, where the split is ours to make."""
    return [i for i, one in enumerate(listing.parts) if not one or (one == "test") == (part == "test")]


def _root(name: str, folder: str | None) -> Path:
    _check_no_folder(name, folder)
    return Path(name.removeprefix("folder:")).expanduser()


def _check_no_folder(name: str, folder: str | None) -> None:
    if folder:
        raise Error(f"dataset {name} takes no --data; leave it out, or give an image folder as folder:PATH")


def _check_classes(name: str, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise Error(f"dataset {name} has one class, {classes[0]!r}; a classifier needs two or more")


def _two_parts(name: str, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What is trained on, and what validates: places among `labels`."""
    from sklearn.model_selection import train_test_split

    if name in BUILT_IN and BUILT_IN[name].track:
        tracks = [str(i // BUILT_IN[name].track) for i in range(len(labels))]
        taken = folders.split(labels, [str(i) for i in range(len(labels))], tracks, VALIDATION)
        return (~taken).nonzero()[:, 0], taken.nonzero()[:, 0]
    try:
        train, val = train_test_split(
            torch.arange(len(labels)).numpy(), test_size=VALIDATION, stratify=labels.numpy(), random_state=SPLIT_SEED
        )
    except ValueError as error:
        raise Error(f"dataset {name}: no validation split can be made: {error}") from None
    return torch.from_numpy(train), torch.from_numpy(val)


def _read(name: str, folder: str | None, part: str, side: int, channels: int) -> tuple[Images, tuple[str, ...]]:
    """The images of a part, those of several sizes at `side`, and the classes."""
    if name.startswith("npz:"):
        _check_no_folder(name, folder)
        pixels, labels, classes = arrays.read(Path(name.removeprefix("npz:")).expanduser(), part)
    elif name in BUILT_IN:
        if not BUILT_IN[name].folder:
            _check_no_folder(name, folder)
        pixels, labels, classes = built_in.read(name, folder, part, side)
    else:
        raise Error(f"dataset {name!r} is unknown; one of {', '.join(DATASETS)}")
    return Images(torch.from_numpy(with_channels(pixels.numpy(), channels)), labels), classes


def _interleaved(labels: Tensor) -> Tensor:
    """An order of the labels in which every prefix holds the classes in equal shares, as far as they last."""
    turn = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique():
        turn[labels == label] = torch.arange(int((labels == label).sum()))
    return torch.argsort(turn * (int(labels.max()) + 1) + labels)


def _mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A channel, of pixels in [0, 1]; exact, from the 256 counts, without a copy of the images as floats.

    Of more than COUNTED images in a file it is those of the first, in which the classes are as balanced as in all.
    """
    some = images.first(COUNTED) if isinstance(images.pixels, Stored) else images
    counts = torch.zeros(images.channels, 256, dtype=torch.int64)
    for index in torch.arange(len(some)).split(CHUNK):
        pixels = some.take(index)
        for channel in range(images.channels):
            counts[channel] += torch.bincount(pixels[..., channel].flatten(), minlength=256)
    levels = torch.arange(256).double() / 255
    means, stds = [], []
    for share in counts.double() / counts[0].sum():
        means.append(float((share * levels).sum()))
        stds.append(max(1e-3, float((share * (levels - means[-1]) ** 2).sum().sqrt())))
    return tuple(means), tuple(stds)


def _folder(root: Path, resolution: int, reading: Reading) -> Data:
    held = _held(root, resolution, reading, "train")
    _check_parts(root, held, ("train", "val"))
    train, val = (_part(held, part) for part in ("train", "val"))
    whole = Images(held.stored, held.labels, torch.arange(len(held.labels)))
    mean, std = _mean_and_std(whole.chosen(train))
    if held.split:  # ours to make: a file more would make another one, of which the test may have been trained on
        contents = tuple(f"{content} {part}" for content, part in zip(held.contents, held.parts, strict=True))
    else:
        contents = tuple(held.contents[int(i)] for i in torch.cat([train, val]))
    share = resolution / held.stored.shape[1]
    return Data(
        f"folder:{root}", whole.chosen(train), whole.chosen(val), held.classes, mean, std, True, resolution, share,
        contents, held.split,
    )  # fmt: skip


def _folder_test(root: Path, resolution: int, reading: Reading) -> Images:
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
    resolution: int
    split: tuple[tuple[str, str], ...]


def _part(held: _Held, part: str) -> Tensor:
    """The places of a part's pictures, in an order in which every prefix holds the classes in equal shares."""
    index = torch.tensor([i for i, one in enumerate(held.parts) if one == part], dtype=torch.int64)
    return index[_interleaved(held.labels[index])] if len(index) else index


def _held(root: Path, resolution: int, reading: Reading, part: str) -> _Held:
    """What is stored of the pictures of `part`, "train" (with those that validate) or "test".

    Where the split is ours to make all of them are stored together.
    """
    name = f"folder:{root}"
    listing = folders.listed(root)
    _check_classes(name, listing.classes)
    wanted = _wanted(listing, part)
    files = [listing.files[i] for i in wanted]
    found = squares(root, files, _stored_side(resolution), channels=reading.channels)
    if not reading.skip_bad:
        check(found.broken, f" in {root}")
    labels = torch.tensor([listing.labels[i] for i in wanted])
    whole = torch.tensor([name not in found.broken for name in files])
    parts = _parts(listing, wanted, labels, found.contents, whole, reading, name)
    split = tuple(zip(files, parts, strict=True)) if "" in listing.parts else ()
    return _Held(found.stored, labels, found.contents, parts, listing.classes, resolution, split)


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
