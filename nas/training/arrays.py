"""Datasets in arrays: an .npz file with x_train, y_train and, where there is a test, x_test, y_test, and classes.

Pixels are uint8, (N, height, width), (N, height, width, channels) or (N, channels, height, width); of pictures that are
no squares the middle is taken. Labels are whole numbers from 0, or names.
"""

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.errors import Error, shown
from nas.networks.architecture import COLOUR
from nas.networks.sizes import SMALL
from nas.training.folders import TEST, side_for, split
from nas.training.picture_cache import cache_folder
from nas.training.pictures import is_gray, squared, with_channels

CHANNELS = 1, COLOUR
WANTED = "uint8 pixels (N, height, width, channels) or (N, channels, height, width)"


def read(file: Path, part: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The images (N, S, S, C) of `part`, "train" or "test", their labels (N,), and the classes.

    Where the file holds no test, a share of each class is it. Raises Error where it cannot be read.
    """
    held = _held(file)
    pixels, labels, classes = _part(held, "train", file)
    if "x_test" in held:
        tested, answers, same = _part(held, "test", file)
        if same != classes:
            raise Error(f"{file}: the test has other classes than the training part")
        return (pixels, labels, classes) if part == "train" else (tested, answers, classes)
    contents = [hashlib.sha256(image.numpy().data).hexdigest() for image in pixels]
    taken = split(labels, contents, None, TEST)
    chosen = taken if part == "test" else ~taken
    return pixels[chosen], labels[chosen], classes


def form_of(file: Path) -> tuple[int, int]:
    """The side and the channels of the images in a file. Raises Error where it cannot be read."""
    first = pixels_of(_held(file)["x_train"][:1], "x_train")
    return first.shape[1], first.shape[3]


def _held(file: Path) -> Mapping[str, NDArray[Any]]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            held = {name: content[name] for name in content}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise Error(f"dataset npz:{file} cannot be read ({error}); it is what numpy.savez writes") from None
    test = {"x_test", "y_test"}
    lacks = {"x_train", "y_train"} - set(held) or (test - set(held) if test & set(held) else set())
    if lacks:
        raise Error(f"dataset npz:{file} holds no {min(lacks)}; it needs x_train and y_train, x_test with y_test")
    return held


def _part(held: Mapping[str, NDArray[Any]], part: str, file: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    pixels = pixels_of(held[f"x_{part}"], f"x_{part} of {file}")
    names = [str(name) for name in held["classes"]] if "classes" in held else None
    all_labels = held["y_train"]
    labels, classes = numbered(held[f"y_{part}"], all_labels, names, f"y_{part} of {file}")
    _check_as_many(pixels, labels, part)
    return torch.from_numpy(pixels), torch.from_numpy(labels), classes


def pixels_of(x: Any, name: str) -> NDArray[np.uint8]:
    """Images in an array as squares (N, S, S, C). Raises Error where they are none."""
    x = np.asarray(x)
    if x.dtype != np.uint8:
        raise Error(
            f"{name} must be {WANTED}, it is {x.dtype} {x.shape}; floats in 0 to 1: (255 * x).round().astype('uint8')"
        )
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4 and x.shape[-1] not in CHANNELS and x.shape[1] in CHANNELS:
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[-1] not in CHANNELS or 0 in x.shape:
        raise Error(f"{name} must be {WANTED}, with 1 or 3 channels, it is {x.shape}")
    height, width = x.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, top : top + side, left : left + side]
    return np.ascontiguousarray(x)


def numbered(
    labels: Any, of_training: Any, names: Sequence[str] | None, name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers, and the classes: `names`, or those that the training part has. Raises Error where one fits no
    class."""
    labels, of_training = np.asarray(labels), np.asarray(of_training)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels, of_training = labels[:, 0], of_training.reshape(-1)
    if labels.ndim != 1 or labels.dtype.kind not in "iuUS":
        raise Error(f"{name} must be whole numbers or names (N,), it is {labels.dtype} {labels.shape}")
    if labels.dtype.kind in "US":
        classes = list(names or np.unique(of_training).astype(str))
        place = {one: i for i, one in enumerate(classes)}
        unknown = [one for one in labels.astype(str) if one not in place]
        if unknown:
            raise Error(f"{name} has {unknown[0]!r}, which is none of the classes {', '.join(classes[:20])}")
        return np.array([place[one] for one in labels.astype(str)], np.int64), tuple(classes)
    number = len(names) if names else int(of_training.max(initial=0)) + 1
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < number:
        raise Error(f"{name} goes from {labels.min()} to {labels.max()}, there are {number} classes, from 0")
    return labels.astype(np.int64), tuple(names or (str(i) for i in range(number)))


def kept(x_train: Any, y_train: Any, x_test: Any, y_test: Any, classes: Sequence[str] | None) -> Path:
    """A file in the cache that holds a dataset, named after what it holds. Arguments and errors: see `nas.images`."""
    found: dict[str, NDArray[Any]] = {}
    if y_train is None:
        if y_test is not None:
            raise Error("y_test belongs to y_train: give both, or datasets of (picture, label) as x_train and x_test")
        classes = classes or getattr(x_train, "classes", None)
        found["x_train"], found["y_train"], side = of_pairs(x_train, "x_train", None)
        if x_test is not None:
            found["x_test"], found["y_test"], _ = of_pairs(x_test, "x_test", side)
    else:
        if (x_test is None) != (y_test is None):
            raise Error("x_test and y_test belong together; give both, or none")
        for part, (x, y) in {"train": (x_train, y_train), "test": (x_test, y_test)}.items():
            if part == "train" or x is not None:
                found[f"x_{part}"], found[f"y_{part}"] = pixels_of(x, f"x_{part}"), np.asarray(y)
    names = None if classes is None else [str(name) for name in classes]
    for part in [name[2:] for name in found if name.startswith("x_")]:
        labels, called = numbered(found[f"y_{part}"], found["y_train"], names, f"y_{part}")
        names = list(called)
        _check_as_many(found[f"x_{part}"], labels, part)
    return _written(found | {"classes": np.array(names)})


def _check_as_many(pixels: Any, labels: Any, part: str) -> None:
    if len(labels) != len(pixels):
        raise Error(f"x_{part} has {len(pixels):,} images, y_{part} {len(labels):,} labels")


def _written(arrays: Mapping[str, NDArray[Any]]) -> Path:
    seen = hashlib.sha256()
    for name, array in arrays.items():
        seen.update(f"{name} {array.dtype} {array.shape}".encode())
        seen.update(np.ascontiguousarray(array).view(np.uint8).data)
    file = place(seen.hexdigest())
    if not file.exists():
        put(file, arrays)
    return file


def place(digest: str) -> Path:
    """The file in the cache of arrays that are known by that digest."""
    return cache_folder() / "arrays" / f"{digest[:24]}.npz"


def put(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays to a file of the cache, whole or not at all. Raises Error where that cannot be done."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_name(f".{os.getpid()}.npz")
        np.savez(whole, **arrays)  # type: ignore[arg-type]
        whole.replace(file)
    except OSError as error:
        raise Error(
            f"the images cannot be kept in {file.parent} ({error.strerror or error}); make room there"
        ) from None


def of_pairs(pairs: Any, name: str, side: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Pictures and labels of a dataset of torchvision's kind, as arrays, and the pictures' side; gray where all are.

    Raises Error where it holds no such pairs.
    """
    from PIL import Image

    if not hasattr(pairs, "__len__") or not hasattr(pairs, "__getitem__") or isinstance(pairs, str | bytes | dict):
        raise Error(
            f"{name} must be an array with y_train beside it, or a dataset of (picture, label), got {shown(pairs)}"
        )
    pictures, labels = [], []
    for i in range(len(pairs)):
        try:
            picture, label = pairs[i]
            labels.append(int(label))
        except (TypeError, ValueError, IndexError, KeyError):
            raise Error(f"item {i} of {name} is no (picture, label); with arrays give y_train too") from None
        if not isinstance(picture, Image.Image):
            pixels = with_channels(pixels_of(np.asarray(picture)[None], f"picture {i} of {name}"), COLOUR)
            picture = Image.fromarray(pixels[0])
        side = side or side_for(min(picture.size))
        pictures.append(squared(picture, side))
    if not pictures:
        raise Error(f"{name} is empty")
    stacked = np.stack(pictures)
    return stacked[..., :1] if is_gray(stacked) else stacked, np.array(labels, np.int64), side or SMALL
