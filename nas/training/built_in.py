"""The datasets that nas knows by name, as arrays: torchvision gets them, scikit-learn has the digits."""

import hashlib
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nas.errors import Error
from nas.networks.sizes import SMALL
from nas.records.datasets import BUILT_IN
from nas.training import arrays
from nas.training.folders import SPLIT_SEED
from nas.training.picture_cache import cache_folder, state_of
from nas.training.pictures import squared


def read(name: str, folder: str | None, part: str, side: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The images (N, S, S, C) of `part`, "train" or "test", their labels (N,), and the classes.

    `side`: that pictures of several sizes are brought to, and smaller images where it is at most SMALL. Raises Error,
    with the ways out, where they are missing, truncated or changed.
    """
    if name == "digits":
        return _digits(part, side)
    root = Path(folder).expanduser() if folder else cache_folder()
    row = BUILT_IN[name]
    ways_out = f"give --data DIR, the folder that holds {row.folder}, or take --dataset digits"
    from PIL import Image

    try:
        # torchvision checks files by MD5 where it knows it, and downloads only where that fails.
        with redirect_stdout(sys.stderr):  # older versions speak there, which is for results
            found = {one: _opened(name, root, one, folder is None) for one in _splits(name, part)}
            parts = [_as_arrays(f"{name} {one}", each, root, side) for one, each in found.items()]
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        if isinstance(error, Error):
            raise
        what = "is missing, truncated or changed (MD5)" if folder else f"cannot be downloaded ({error})"
        raise Error(f"dataset {name} {what} in {root}; {ways_out}") from None
    pixels, labels = zip(*parts, strict=True)
    classes = tuple(getattr(found[min(found)], "classes", None) or (str(i) for i in range(row.classes)))
    images = np.concatenate(pixels)
    if images.shape[1] < side <= SMALL:  # as a picture would be that is shown to the network later
        images = np.stack([squared(Image.fromarray(one.squeeze(-1)), side, one.shape[-1]) for one in images])
    return (
        torch.from_numpy(images),
        torch.from_numpy(np.concatenate(labels)),
        classes[-row.classes :],
    )  # EMNIST's first is "N/A"


def is_here(name: str, folder: str | None) -> bool:
    """Whether a dataset can be read without a download."""
    row = BUILT_IN.get(name)
    root = Path(folder).expanduser() if folder else cache_folder()
    return row is None or not row.folder or (root / row.folder).exists()


def _splits(name: str, part: str) -> tuple[str, ...]:
    return ("train", "val") if (name, part) == ("flowers102", "train") else (part,)


def _opened(name: str, root: Path, part: str, download: bool) -> Any:
    from torchvision import datasets

    train = part == "train"
    match name:
        case "cifar10":
            return datasets.CIFAR10(root, train, download=download)
        case "cifar100":
            return datasets.CIFAR100(root, train, download=download)
        case "mnist":
            return datasets.MNIST(root, train, download=download)
        case "fashion-mnist":
            return datasets.FashionMNIST(root, train, download=download)
        case "emnist-letters":
            return datasets.EMNIST(root, "letters", train=train, download=download)
        case "svhn":
            return datasets.SVHN(root, part, download=download)
        case "stl10":
            return datasets.STL10(root, part, download=download)
        case "gtsrb":
            return datasets.GTSRB(root, part, download=download)
        case "flowers102":
            return datasets.Flowers102(root, part, download=download)
    raise Error(f"dataset {name!r} is unknown; one of {', '.join(BUILT_IN)}")


def _as_arrays(name: str, found: Any, root: Path, side: int) -> tuple[Any, Any]:
    """Pixels and labels of a dataset of torchvision's, called `name`."""
    if not hasattr(found, "data"):  # picture files
        folder = root / BUILT_IN[name.split()[0]].folder
        files = sorted(os.path.relpath(file, folder) for file in folder.rglob("*") if file.is_file())
        return _decoded(f"{name} {side} {state_of(folder, files)}", found, side)
    pixels = np.asarray(found.data)
    labels = np.asarray(found.targets if hasattr(found, "targets") else found.labels, np.int64)
    if name.startswith("emnist-letters"):  # lies on its side, and counts from 1
        pixels, labels = pixels.transpose(0, 2, 1), labels - 1
    return arrays.pixels_of(pixels, name), labels


def _decoded(what: str, pairs: Any, side: int) -> tuple[Any, Any]:
    """A dataset of picture files, decoded once: kept in the cache under the name of `what` it is."""
    file = arrays.place(hashlib.sha256(what.encode()).hexdigest())
    if not file.exists():
        pixels, labels, _ = arrays.of_pairs(pairs, what.split()[0], side)
        arrays.put(file, {"pixels": pixels, "labels": labels})
    with np.load(file, allow_pickle=False) as kept:
        return kept["pixels"], kept["labels"]


def _digits(part: str, side: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    train, test = train_test_split(
        torch.arange(len(digits.target)).numpy(), test_size=0.2, stratify=digits.target, random_state=SPLIT_SEED
    )
    index = torch.from_numpy(train if part == "train" else test)
    levels = torch.from_numpy(digits.images).float()[index, None] / 16 * 255  # (N, 1, 8, 8)
    large = functional.interpolate(levels, size=side, mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()[index]
    return large.permute(0, 2, 3, 1), labels, tuple(str(i) for i in range(10))
