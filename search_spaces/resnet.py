"""ResNet-18/34 and the partial residual networks of paper 001, at 224x224 and with the usual stem for 32x32.

He et al., arXiv:1512.03385, Table 1. P-ResNet: half of the channels goes through the block, half passes, and a 1x1
transition mixes them: after every block (A), or after the last of each stage (B).
"""

from dataclasses import replace
from typing import Literal

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import Block, Partial
from nas.networks.published_blocks import Basic, Pool
from nas.networks.space import Space, of, one_of

WIDTHS = (64, 128, 256, 512)
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def resnet(layers: int, partial: Literal["", "A", "B"] = "") -> Arch:
    """ResNet, or P-ResNet A or B, at 224x224."""
    block: Block = Partial(Basic(shortcut=False), project=True, act="relu") if partial else Basic()
    stages = tuple(
        Stage(
            block,
            width,
            depth,
            1 if width == 64 else 2,
            transition="block" if partial == "A" else "stage" if partial == "B" else "none",
            transition_act="relu",
        )
        for width, depth in zip(WIDTHS, DEPTHS[layers], strict=True)
    )
    pooled = Stage(Pool("max", kernel=3, pad=1), 64, 1, 2)
    return Arch(Stem(64, 2, act="relu", kernel=7), (pooled, *stages), Head(), 224, 1000)


def at_32(arch: Arch) -> Arch:
    """`arch` for CIFAR-10: a 3x3 stem that keeps the resolution, no pool."""
    return replace(arch, stem=Stem(64, act="relu"), stages=arch.stages[1:], resolution=32, classes=10)


MODULES = ("ReLU", "MaxPool2d", "AdaptiveAvgPool2d")
TABLE_3 = "paper 001, Table 3"


def _rows(name: str, arch: Arch, params: str, flops: str, top5: str) -> tuple[Anchor, Anchor]:
    printed = Published(params, flops, "", "torchstat", MODULES, f"top-5 {top5} % ImageNet")
    small = Anchor(f"{name}-32", at_32(arch), TABLE_3, Published(modules=MODULES), "CIFAR stem")
    return Anchor(name, arch, TABLE_3, printed), small


ANCHORS = {
    anchor.name: anchor
    for anchor in (
        *_rows("resnet18", resnet(18), "11.69M", "1.82G", "70.05"),
        *_rows("p-resnet18a", resnet(18, "A"), "4.02M", "0.65G", "66.87"),
        *_rows("p-resnet18b", resnet(18, "B"), "3.67M", "0.60G", "65.91"),
        *_rows("resnet34", resnet(34), "21.80M", "3.67G", "71.70"),
        *_rows("p-resnet34a", resnet(34, "A"), "7.11M", "1.22G", "68.44"),
        *_rows("p-resnet34b", resnet(34, "B"), "6.20M", "1.06G", "64.70"),
    )
}


def _stage(width: tuple[int, ...], depth: tuple[int, ...], stride: int) -> object:
    partial = of(Partial, block=Basic(shortcut=False), share=one_of(0.25, 0.5, 0.75), project=True, act="relu")
    return of(
        Stage,
        block=one_of(partial, Basic()),
        width=one_of(*width),
        depth=one_of(*depth),
        stride=stride,
        transition=one_of("none", "stage", "block"),
        transition_act="relu",
    )


P_RESNET = Space(
    "p-resnet",
    of(
        Arch,
        stem=of(Stem, width=one_of(8, 16, 24, 32, 48, 64), act="relu"),
        stages=(
            _stage((8, 16, 24, 32, 48, 64), (1, 2, 3), 1),
            _stage((16, 32, 48, 64, 96, 128), (1, 2, 3, 4), 2),
            _stage((32, 64, 96, 128, 192, 256), (1, 2, 3, 4, 6), 2),
            _stage((64, 128, 192, 256, 384, 512), (1, 2, 3), 2),
        ),
        head=Head(),
    ),
    about="a stage's blocks whole or for a share of the channels, where transitions stand, widths, depths",
    anchors=("resnet18-32", "resnet34-32", "p-resnet18a-32", "p-resnet18b-32", "p-resnet34a-32", "p-resnet34b-32"),
)
