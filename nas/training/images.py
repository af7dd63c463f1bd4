"""Images in memory or in a file, and what a search may see of a dataset.

Images are uint8 (N, S, S, C), C being 3, or 1 where they are gray: a batch permuted to (N, C, S, S) is channels_last
without a copy. They are ordered so that the first n of each part are as balanced over the classes as the part allows: a
share of a dataset is a prefix of it.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nas.training.picture_cache import Stored

PADDED = 32  # pixels a side: images that are no larger are cropped from zeros around them
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
    train, val = (smaller(part, data.share, resolution) for part in (data.train, data.val))
    return replace(data, train=train, val=val, resolution=resolution, share=1.0)


def smaller(images: Images, share: float, resolution: int) -> Images:
    """The middle of `images`, `share` of their side, at `resolution`: each pixel the mean of those it stands for."""
    made = []
    for index in torch.arange(len(images)).split(CHUNK):
        x = middle(images.take(index), round(images.side * share)).permute(0, 3, 1, 2).float()
        made.append(functional.interpolate(x, (resolution, resolution), mode="area").round().to(torch.uint8))
    return Images(torch.cat(made).permute(0, 2, 3, 1).contiguous(), images.labels)


def middle(pixels: Pixels, side: int) -> Pixels:
    """(B, S, S, C) -> (B, side, side, C): the middle of images, tensors or arrays."""
    begin = (pixels.shape[1] - side) // 2
    return pixels[:, begin : begin + side, begin : begin + side]


def interleaved(labels: Tensor) -> Tensor:
    """An order of the labels in which every prefix holds the classes in equal shares, as far as they last."""
    turn = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique():
        turn[labels == label] = torch.arange(int((labels == label).sum()))
    return torch.argsort(turn * (int(labels.max()) + 1) + labels)


def mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
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
