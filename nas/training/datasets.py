"""Datasets: `load` gives train and validation, `load_test` the test images.

Validation is a stratified 20 % of the training images, the same in every run, where a dataset does not say itself which
images are for it. Built-in datasets lie in memory; the pictures of a folder in a file that is mapped into it.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nas.errors import Error
from nas.networks.architecture import COLOUR
from nas.networks.sizes import SMALL
from nas.records.datasets import BUILT_IN, DATASETS
from nas.records.plan import READING, Reading
from nas.training import arrays, built_in, folder_data, folders, picture_cache
from nas.training.folder_data import VALIDATION, check_classes
from nas.training.folders import SPLIT_SEED
from nas.training.images import PADDED, Data, Images, interleaved, mean_and_std, resized, smaller
from nas.training.picture_cache import Tell
from nas.training.pictures import with_channels


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
        return folder_data.load(_root(name, folder), side, replace(reading, channels=channels))
    images, classes = _read(name, folder, "train", side, channels)
    check_classes(name, classes)
    train, val = (images.chosen(index[interleaved(images.labels[index])]) for index in _two_parts(name, images.labels))
    mean, std = mean_and_std(train)
    data = Data(name, train, val, classes, mean, std, name not in BUILT_IN or BUILT_IN[name].flip, train.side)
    return resized(data, side)


def load_test(
    name: str, folder: str | None = None, resolution: int | None = None, reading: Reading = READING
) -> Images:
    """Test images of dataset `name`, for the one look at the end. Raises as `load` does."""
    side, channels, _ = natural_form(name, resolution or 0, reading.channels)
    if name.startswith("folder:"):
        return folder_data.load_test(_root(name, folder), side, replace(reading, channels=channels))
    images, _ = _read(name, folder, "test", side, channels)
    return smaller(images, 1.0, side) if side < images.side and side <= PADDED else images


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
        folder_data.decode(_root(name, None), resolution, reading, tell)


def state_of(name: str) -> str:
    """Another text where a folder's files have changed; nothing for other datasets."""
    if not name.startswith("folder:"):
        return ""
    listing = folders.listed(_root(name, None))
    return picture_cache.state_of(listing.root, listing.files)


def _root(name: str, folder: str | None) -> Path:
    _check_no_folder(name, folder)
    return Path(name.removeprefix("folder:")).expanduser()


def _check_no_folder(name: str, folder: str | None) -> None:
    if folder:
        raise Error(f"dataset {name} takes no --data; leave it out, or give an image folder as folder:PATH")


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
