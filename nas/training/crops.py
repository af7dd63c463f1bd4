"""The part of an image that a network sees: in training another one each time, in evaluation the middle.

Images up to PADDED a side are cropped from zeros around them, as those of CIFAR are in all papers. Larger ones are
stored a little larger than they are seen, and in training are parts of random area and aspect, brought to size.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nas.training.devices import on_card
from nas.training.images import CHUNK, PADDED, Data, Images, middle

AREA, ASPECT = (0.35, 1.0), (3 / 4, 4 / 3)  # of random parts; a smaller area than this leaves small networks nothing


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """Images ready for training: `drawn(index, rng)` gives a batch of them, each another part at every draw.

    All draws come from `rng`, which is on the device too.
    """

    images: Images
    data: Data
    pad: int
    """Zeros around small images; 0: all are seen as in evaluation, and none is mirrored."""
    labels: Tensor
    """(N,), on the device."""
    padded: Tensor | None
    """Small images with their zeros (N, P, P, C), on the device; None: larger ones, read as they are drawn."""

    def drawn(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Images `index` (B,) -> (B, R, R, C) uint8, on the device."""
        if self.padded is not None:
            if not self.pad:
                return self.padded[index]
            return augmented(self.padded, index, self.data.resolution, self.data.flip, rng)
        pixels = self.images.take(index.cpu())
        if not self.pad:
            return seen(pixels, self.data).to(self.labels.device)
        return resized_crops(pixels.to(self.labels.device), self.data, rng)

    def batches(self, batch: int) -> int:
        """How many there are in an epoch, of at most `batch` images each."""
        return -(-len(self.images) // batch)

    def epoch(self, batch: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches: images (B, R, R, C) uint8 and labels (B,), on the device.

        Their sizes differ by one at the most: of a last one with a single image no batch norm could learn.
        """
        if on_card(self.labels.device):
            yield from self.even_epoch(batch, rng)
            return
        for index in torch.randperm(len(self.images), generator=rng).tensor_split(self.batches(batch)):
            yield self.drawn(index, rng), self.labels[index]

    def even_epoch(self, batch: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for cards: all batches are of one size, as a captured step needs, so a few images come twice, fewer
        than there are batches. Small images are all drawn at once: an epoch of them is three kernels."""
        number = self.batches(batch)
        size = -(-len(self.images) // number)
        order = torch.randperm(len(self.images), generator=rng, device=rng.device)
        order = torch.cat([order, order[: number * size - len(order)]])
        labels = self.labels[order].split(size)
        if self.padded is not None:
            yield from zip(self.drawn(order, rng).split(size), labels, strict=True)
            return
        for index, answers in zip(order.cpu().split(size), labels, strict=True):
            yield self.drawn(index, rng), answers


def training_images(images: Images, data: Data, pad: int, where: torch.device) -> TrainingImages:
    """`images` of `data`, on the device `where` as far as they are small."""
    padded = None
    if (pad or on_card(where)) and data.resolution <= PADDED and images.side == data.resolution:
        padded = functional.pad(images.all().to(where), [0, 0, pad, pad, pad, pad])
    return TrainingImages(images, data, pad, images.labels.to(where), padded)


def augmented(padded: Tensor, index: Tensor, size: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Random `size` x `size` crops of images `index` of `padded` (N, P, P, C), half of them mirrored if `flip`.

    One gather for the whole batch: (B, size, size, C).
    """
    batch, slack, where = len(index), padded.shape[1] - size, rng.device
    corner = torch.randint(slack + 1, (2, batch, 1), generator=rng, device=where)
    side = torch.arange(size, device=where)
    rows, columns = corner[0] + side, corner[1] + side
    if flip:
        mirrored = torch.rand(batch, 1, generator=rng, device=where) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def resized_crops(pixels: Tensor, data: Data, rng: torch.Generator) -> Tensor:
    """(B, S, S, C) uint8 -> (B, R, R, C) uint8: of each image a part of random area and aspect, half of them mirrored.

    As torchvision's RandomResizedCrop, for the whole batch at once.
    """
    batch, where, side = len(pixels), rng.device, data.stored_side
    area, aspect, across, down, mirrored = torch.rand(5, batch, generator=rng, device=where)
    area = AREA[0] + (AREA[1] - AREA[0]) * area
    aspect = torch.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    turned = torch.where(mirrored < 0.5, -width, width) if data.flip else width
    place = torch.zeros(batch, 2, 3, device=where)
    place[:, 0, 0], place[:, 0, 2] = turned, (1 - width) * (2 * across - 1)
    place[:, 1, 1], place[:, 1, 2] = height, (1 - height) * (2 * down - 1)
    x = _floats(pixels)
    if side < x.shape[2]:  # a network that sees smaller images than others of its space
        x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
    size = [batch, x.shape[1], data.resolution, data.resolution]
    grid = functional.affine_grid(place, size, align_corners=False)
    return _bytes(functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False))


def seen(pixels: Tensor, data: Data) -> Tensor:
    """(B, S, S, C) uint8 -> (B, R, R, C) uint8: the middle of each image, as it is evaluated."""
    part, wanted = round(pixels.shape[1] * data.share), data.resolution
    shown = middle(pixels, part)
    if part == wanted:
        return shown
    return _bytes(functional.interpolate(_floats(shown), (wanted, wanted), mode="bilinear", antialias=part > wanted))


def evaluated(images: Images, data: Data) -> Images:
    """`images` as they are evaluated, in memory."""
    parts = [seen(images.take(index), data) for index in torch.arange(len(images)).split(CHUNK)]
    return Images(torch.cat(parts), images.labels)


def _floats(pixels: Tensor) -> Tensor:
    """(B, H, W, C) uint8 -> (B, C, H, W)."""
    return pixels.permute(0, 3, 1, 2).float()


def _bytes(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C) uint8."""
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
