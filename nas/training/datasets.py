"""Datasets in memory: `load` gives train and validation, `load_test` the test images.

Images are uint8 tensors (N, H, W, 3), so a batch permuted to (N, 3, H, W) is channels_last without a copy. They
are ordered so that the first n of each part are as balanced over the classes as the part itself: a share of a
dataset is a prefix of it. Validation is a stratified 20 % of the training images, the same in every run.
"""

import hashlib
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import Error
from nas.records.plan import DATASETS

VALIDATION = 0.2
SPLIT_SEED = 0  # of the split only: every search of a dataset validates on the same images
RESOLUTION = 32
_CIFAR_FOLDER = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


@dataclass(frozen=True, slots=True)
class Images:
    """`pixels` (N, H, W, 3) uint8 and `labels` (N,) int64."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> "Images":
        """The first `n` images, or all where there are fewer."""
        return Images(self.pixels[:n], self.labels[:n])


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

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return int(self.train.pixels.shape[1])

    @property
    def digest(self) -> str:
        """Of all images, labels and classes, in order: another one where any differs."""
        seen = hashlib.sha256("\0".join(self.classes).encode())
        for part in (self.train, self.val):
            seen.update(part.pixels.contiguous().numpy().data)
            seen.update(part.labels.numpy().data)
        return seen.hexdigest()[:16]


@lru_cache(maxsize=4)
def shrunk(data: Data, resolution: int) -> Data:
    """`data` with images of `resolution` x `resolution`, each pixel the mean of those it stands for; as it is if equal.

    Raises Error where `resolution` does not divide the images' own.
    """
    if resolution == data.resolution:
        return data
    if data.resolution % resolution:
        raise Error(f"resolution must divide {data.resolution}, got {resolution}")
    by = data.resolution // resolution

    def smaller(images: Images) -> Images:
        n = len(images)
        windows = images.pixels.view(n, resolution, by, resolution, by, 3).float()
        return Images(windows.mean((2, 4)).round().to(torch.uint8), images.labels)

    return replace(data, train=smaller(data.train), val=smaller(data.val))


def load(name: str, folder: str | None = None) -> Data:
    """Training and validation images of dataset `name`; see DATASETS. Test images are not read.

    `folder`: where the dataset lies; None: ~/.cache/nas, filled by a download where need be. Raises Error,
    with the ways out, on an unknown name and on data that is missing, truncated or tampered with.
    """
    pixels, labels, classes = _read(name, folder, "train")
    if len(classes) < 2:
        raise Error(f"dataset {name} has one class, {classes[0]!r}; a classifier needs two or more")
    from sklearn.model_selection import train_test_split

    try:
        train, val = train_test_split(
            torch.arange(len(labels)).numpy(), test_size=VALIDATION, stratify=labels.numpy(), random_state=SPLIT_SEED
        )
    except ValueError as error:
        raise Error(f"dataset {name}: no validation split can be made: {error}") from None
    parts = []
    for index in (train, val):
        chosen = torch.from_numpy(index)
        chosen = chosen[_interleaved(labels[chosen])]
        parts.append(Images(pixels[chosen], labels[chosen]))
    mean, std = _mean_and_std(parts[0].pixels)
    return Data(name, parts[0], parts[1], classes, mean, std, flip=name != "digits")


def load_test(name: str, folder: str | None = None) -> Images:
    """Test images of dataset `name`, for the one look at the end. Raises as `load` does."""
    pixels, labels, _ = _read(name, folder, "test")
    return Images(pixels, labels)


def _read(name: str, folder: str | None, part: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    if folder and (name == "digits" or name.startswith("folder:")):
        raise Error(f"dataset {name} takes no --data; leave it out, or give an image folder as folder:PATH")
    if name == "digits":
        return _digits(part)
    if name in _CIFAR_FOLDER:
        return _cifar(name, folder, part)
    if name.startswith("folder:"):
        return _folder(Path(name.removeprefix("folder:")).expanduser(), part)
    raise Error(f"dataset {name!r} is unknown; one of {', '.join(DATASETS)}")


def _interleaved(labels: Tensor) -> Tensor:
    """An order of the labels in which every prefix holds the classes in equal shares, as far as they last."""
    turn = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique():
        turn[labels == label] = torch.arange(int((labels == label).sum()))
    return torch.argsort(turn * (int(labels.max()) + 1) + labels)


def _mean_and_std(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A channel, of pixels in [0, 1]; exact, from the 256 counts, without a copy of the images as floats."""
    levels = torch.arange(256).double() / 255
    means, stds = [], []
    for channel in range(3):
        share = torch.bincount(pixels[..., channel].flatten(), minlength=256).double() / pixels[..., channel].numel()
        means.append(float((share * levels).sum()))
        stds.append(max(1e-3, float((share * (levels - means[-1]) ** 2).sum().sqrt())))
    return tuple(means), tuple(stds)


def _digits(part: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    train, test = train_test_split(
        torch.arange(len(digits.target)).numpy(), test_size=0.2, stratify=digits.target, random_state=SPLIT_SEED
    )
    index = torch.from_numpy(train if part == "train" else test)
    levels = torch.from_numpy(digits.images).float()[index, None] / 16 * 255  # (N, 1, 8, 8)
    large = torch.nn.functional.interpolate(levels, size=RESOLUTION, mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()[index]
    return large.permute(0, 2, 3, 1).repeat(1, 1, 1, 3), labels, tuple(str(i) for i in range(10))


def _cifar(name: str, folder: str | None, part: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    from torchvision.datasets import CIFAR10, CIFAR100

    root = Path(folder).expanduser() if folder else Path.home() / ".cache" / "nas"
    ways_out = f"give --data DIR, the folder that holds {_CIFAR_FOLDER[name]}/, or take --dataset digits"
    try:
        # torchvision checks every file's MD5, and downloads only where that fails.
        with redirect_stdout(sys.stderr):  # older versions speak there, which is for results
            kind = CIFAR10 if name == "cifar10" else CIFAR100
            dataset = kind(root, train=part == "train", download=folder is None)
    except (RuntimeError, OSError, EOFError) as error:
        what = "is missing, truncated or changed (MD5)" if folder else f"cannot be downloaded ({error})"
        raise Error(f"dataset {name} {what} in {root}; {ways_out}") from None
    return torch.from_numpy(dataset.data), torch.tensor(dataset.targets), tuple(dataset.classes)


def _same_classes(root: Path) -> None:
    """Raises Error where train/ and test/ do not hold the same classes, which would shift labels in silence."""
    train, test = ({path.name for path in (root / part).iterdir() if path.is_dir()} for part in ("train", "test"))
    if train != test:
        name = min(train ^ test)
        has, lacks = ("train", "test") if name in train else ("test", "train")
        raise Error(f"dataset folder:{root} has class {name!r} in {has}/ and not in {lacks}/; both need all classes")


def _opened(path: str) -> Any:
    """The image in a file, in RGB. Raises Error where its levels may not fit into 8 bits: PIL cuts them off."""
    from PIL import Image

    with Image.open(path) as image:
        if image.mode[0] in "IF":
            raise Error(f"it has more than 8 bits a level (PIL's mode {image.mode}); make it an 8-bit image")
        return image.convert("RGB")


def _folder(root: Path, part: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    from PIL import Image
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    for needed in ("train", "test"):
        if not (root / needed).is_dir():
            raise Error(f"dataset folder:{root} has no {needed}/; it needs train/CLASS/* and test/CLASS/*")
    _same_classes(root)
    resize = v2.Compose([v2.PILToTensor(), v2.Resize((RESOLUTION, RESOLUTION), antialias=True)])
    images, path = [], str(root / part)
    try:
        dataset = ImageFolder(path)
        for path, _ in dataset.samples:
            images.append(resize(_opened(path)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL makes of a broken file
        raise Error(f"{path} cannot be read: {error}; mend or remove it, or take --dataset digits") from None
    pixels = torch.stack(images).permute(0, 2, 3, 1).contiguous()
    return pixels, torch.tensor(dataset.targets), tuple(dataset.classes)
