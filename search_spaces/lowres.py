"""Low-res MobileNet and the steps that led to it (paper 000), and the space they span.

Yuan et al., "Low-res MobileNet: An efficient lightweight network for low-resolution image classification in
resource-constrained scenarios", 2022. Tables 1 and 2; 32x32x3 images, 10 classes. Where the paper is silent
the reading is the one that reproduces its counts: the hidden width is a multiple of the block's *output*
width, the first bottleneck has its expand convolution, stem and last convolution have no batch norm.
"""

from typing import Literal

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import Bottleneck
from nas.networks.graph import Activation
from nas.networks.space import Space, of, one_of
from search_spaces.papers import compared


def lowres(
    expands: tuple[float, ...] = (1, 6, 6, 6, 6),
    kernel: tuple[int, ...] | Literal["filled"] = (3,),
    expand_act: Activation = "relu6",
    concat: bool = False,
) -> Arch:
    """Tailored MobileNetV2 (Table 1), or one of its improvements; the arguments are the paper's four knobs."""
    #         width  depth  stride
    table = [
        (16, 1, 1),  # B1
        (24, 2, 2),  # B2
        (32, 3, 2),  # B3
        (64, 4, 2),  # B4
        (96, 3, 1),  # B5
    ]
    stages = tuple(
        Stage(
            block=Bottleneck(expand=float(expand), kernel=kernel, expand_act=expand_act),
            width=width,
            depth=depth,
            stride=stride,
            concat=concat and i < len(table) - 1,  # only between stages
        )
        for i, (expand, (width, depth, stride)) in enumerate(zip(expands, table, strict=True))
    )
    return Arch(stem=Stem(32, norm=False), stages=stages, head=Head(160, norm=False))


DECREASING = (1, 6, 5, 3, 1)  # improvement 4
TABLE_2 = "CIFAR-10 validation (Adam, batch 64, 200 epochs)"
MODULES = ("MaxPool2d",)


def _row(name: str, arch: Arch, params: str, flops: str, top1: str) -> Anchor:
    """A row of Table 2 with its columns as printed."""
    return Anchor(name, arch, "paper 000, Table 2", Published(params, flops, "", "torchstat", MODULES, top1))


ANCHORS = {
    anchor.name: anchor
    for anchor in (
        _row("tailored-mobilenetv2", lowres(), "0.62M", "21.38M", f"86.97 % {TABLE_2}"),
        _row("tailored-mobilenetv2-imp1", lowres(kernel="filled"), "0.86M", "28.30M", f"87.58 % {TABLE_2}"),
        _row("tailored-mobilenetv2-imp2", lowres(expand_act="linear"), "0.62M", "21.38M", f"87.70 % {TABLE_2}"),
        _row("tailored-mobilenetv2-imp3", lowres(concat=True), "0.76M", "30.62M", f"87.74 % {TABLE_2}"),
        _row("tailored-mobilenetv2-imp4", lowres(expands=DECREASING), "0.23M", "14.34M", f"87.22 % {TABLE_2}"),
        Anchor(
            "lowres-mobilenet",
            lowres(DECREASING, "filled", "linear", concat=True),
            "paper 000, Tables 2 to 4",
            compared("lowres-mobilenet", MODULES),
            note="Table 2, which has the other rows, prints 88.81 % of it (Adam, batch 64, 200 epochs)",
        ),
    )
}


def _stage(width: tuple[int, ...], depth: tuple[int, ...], stride: int, last: bool = False) -> object:
    block = of(
        Bottleneck,
        expand=one_of(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        kernel=one_of((3,), "filled"),
        expand_act=one_of("linear", "relu6", name="expand_act"),
    )
    return of(
        Stage,
        block=block,
        width=one_of(*width),
        depth=one_of(*depth),
        stride=stride,
        concat=False if last else one_of(False, True),
    )


LOWRES = Space(
    "lowres",
    of(
        Arch,
        stem=Stem(32, norm=False),
        stages=(
            _stage((8, 16, 24), (1, 2), 1),
            _stage((16, 24, 32), (1, 2, 3), 2),
            _stage((24, 32, 40, 48), (1, 2, 3, 4), 2),
            _stage((48, 64, 80), (1, 2, 3, 4), 2),
            _stage((64, 96, 128), (1, 2, 3), 1, last=True),
        ),
        head=Head(160, norm=False),
    ),
    about="paper 000's four knobs around its Table 1: expansion schedule, filled kernels, linear expansion, concat",
)
