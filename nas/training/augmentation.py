"""Batches of images made harder, by torchvision's transforms v2. All draws come from torch's own generator."""

from typing import Any

import torch
from torch import Tensor

from nas.records.recipes import TrainingRecipe

GROUP = 8  # images of a batch that get the same operation: one each would take longer than the training step


def augmented_by_policy(pixels: Tensor, training: TrainingRecipe) -> Tensor:
    """(N, H, W, C) uint8 images, with colours and shapes changed by the policy that `training` names."""
    if training.augment == "none":
        return pixels
    from torchvision.transforms import v2

    policy = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10) if training.augment == "autoaugment" else v2.RandAugment()
    parts = [policy(part) for part in pixels.permute(0, 3, 1, 2).split(GROUP)]
    return torch.cat(parts).permute(0, 2, 3, 1)


def mixed(images: Tensor, labels: Tensor, classes: int, training: TrainingRecipe) -> tuple[Tensor, Tensor]:
    """Normalised images (N, C, H, W), mixed with each other as `training` says, and (N, classes) shares of each class.

    Labels stay (N,) where nothing is mixed.
    """
    if training.mix == "none":
        return images, labels
    from torchvision.transforms import v2

    kind = training.mix
    if kind == "both":
        kind = "mixup" if torch.rand(()) < 0.5 else "cutmix"
    mix: Any = v2.MixUp(alpha=0.2, num_classes=classes) if kind == "mixup" else v2.CutMix(num_classes=classes)
    images, shares = mix(images, labels)
    return images, shares
