"""Networks made for small images, for larger ones: the rule is ours, no paper has it.

A network for 32x32 sees its first block at 32x32. So it does for larger images, as nearly as can be: the stem, and then
the first stages that keep the resolution, halve it until it is at most SEEN. The last map is then 4x4 to 7x7 for
Low-res MobileNet, from 32 to 224 pixels.
"""

from dataclasses import replace
from typing import Any

from nas.networks.architecture import COLOUR, Arch

SMALL = 32  # pixels a side: images that networks are made for where nothing else is said
SEEN = 56  # pixels a side that blocks see at the most


def halvings(resolution: int) -> int:
    """How many times images of `resolution` x `resolution` are halved before they are at most SEEN a side."""
    times = 0
    while resolution > SEEN << times:
        times += 1
    return times


def for_images(arch: Arch, resolution: int, classes: int, channels: int = COLOUR) -> Arch:
    """`arch` for images of `resolution` x `resolution`, of `channels`, in `classes` classes: made for SMALL images it
    halves larger ones first; made for others it stays as it is."""
    if arch.resolution == SMALL and (left := halvings(resolution)):
        strides = strided(left, arch.stem.stride, [stage.stride for stage in arch.stages])
        stem = replace(arch.stem, stride=strides[0])
        stages = tuple(replace(stage, stride=s) for stage, s in zip(arch.stages, strides[1:], strict=True))
        arch = replace(arch, stem=stem, stages=stages)
    return replace(arch, resolution=resolution, classes=classes, channels=channels)


def said(resolution: int) -> str:
    """What becomes of larger images, in a sentence; nothing for small ones."""
    times = halvings(resolution)
    often = {1: "once", 2: "twice"}.get(times, f"{times} times")
    return (
        f"Networks made for {SMALL}x{SMALL} halve images of {resolution}x{resolution} {often} more, first in the stem: "
        "that rule is ours, no paper's."
        if times
        else ""
    )


def strided(left: int, stem: Any, stages: list[Any]) -> list[Any]:
    """The strides of stem and stages, the first `left` of those that are 1 made 2. An axis of strides stays one."""
    strides = [stem, *stages]
    for i, stride in enumerate(strides):
        if left and stride == 1:
            strides[i], left = 2, left - 1
    return strides
