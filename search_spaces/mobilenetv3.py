"""MobileNetV3-Large, and paper 001's networks on its early port: D-, P-MobileNetV3 and DP-Net.

Howard et al., arXiv:1905.02244, Table 1. Paper 001 (Zhao and Wang, "A new lightweight network based on MobileNetV3",
2022) builds on a port of that paper's first version, whose rows 13 to 15 differ. Its Table 1 prints no kernels: they
are MobileNetV3's and matter to P-MobileNetV3 alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import Block, Bottleneck, Partial, Split
from nas.networks.graph import Activation
from nas.networks.published_blocks import PortedV3
from nas.networks.rounding import rounded
from nas.networks.space import Space, of, one_of
from search_spaces.mobilenet import at_224

Row: TypeAlias = tuple[int, int, int, bool, Activation, int]
MakeBlock: TypeAlias = Callable[[float, int, bool, Activation], Block]

TABLE_1: list[Row] = [  # kernel, hidden width, width, SE, activation, stride
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hswish", 2),
    (3, 200, 80, False, "hswish", 1),
    (3, 184, 80, False, "hswish", 1),
    (3, 184, 80, False, "hswish", 1),
    (3, 480, 112, True, "hswish", 1),
    (3, 672, 112, True, "hswish", 1),
    (5, 672, 160, True, "hswish", 2),
    (5, 960, 160, True, "hswish", 1),
    (5, 960, 160, True, "hswish", 1),
]
FIRST_VERSION: list[Row] = [
    *TABLE_1[:12],
    (5, 672, 160, True, "hswish", 1),
    (5, 672, 160, True, "hswish", 2),
    (5, 960, 160, True, "hswish", 1),
]
WITH_672: list[Row] = [*TABLE_1[:13], (5, 672, 160, True, "hswish", 1), TABLE_1[14]]


def rows(table: Sequence[Row], block: MakeBlock) -> tuple[Stage, ...]:
    """One stage a row: the hidden width is printed, and becomes a multiple of the input's."""
    stages, cin = [], 16
    for kernel, hidden, width, se, act, stride in table:
        stages.append(Stage(block(hidden / cin, kernel, se, act), width, 1, stride))
        cin = width
    return tuple(stages)


def mobilenetv3_large() -> Arch:
    """MobileNetV3-Large at 32x32, the stem without stride."""

    def block(expand: float, kernel: int, se: bool, act: Activation) -> Block:
        return Bottleneck(expand, (kernel,), 0.25 * se, act, act, "input", expand_always=False)

    return Arch(Stem(16, act="hswish"), rows(TABLE_1, block), Head(960, act="hswish", hidden=1280, dropout=0.2))


def ported(table: Sequence[Row], block: MakeBlock, transition: bool = True) -> Arch:
    """A network of paper 001 at 32x32, the stem without stride; transitions are biased 1x1 convolutions."""
    stages = tuple(
        replace(stage, transition="block" if transition else "none", transition_bias=True)
        for stage in rows(table, block)
    )
    head = Head(960, act="hswish", bias=True, hidden=1280, hidden_layer="conv", dropout=0.2, classifier="conv")
    return Arch(Stem(16, act="hswish", bias=True), stages, head)


def _plain(expand: float, kernel: int, se: bool, act: Activation) -> Block:
    return PortedV3(expand, kernel, se, act)


def _partial(expand: float, kernel: int, se: bool, act: Activation) -> Block:
    return Partial(PortedV3(expand, kernel, se, act, shortcut=False))


def _dual(expand: float, _kernel: int, se: bool, act: Activation) -> Block:
    return Split(tuple(PortedV3(expand, kernel, se, act, shortcut=False) for kernel in (3, 5)), shortcut=True)


def _dual_partial(expand: float, _kernel: int, se: bool, act: Activation) -> Block:
    return Split(tuple(Partial(PortedV3(expand, kernel, se, act, shortcut=False)) for kernel in (3, 5)))


MODULES = ("ReLU",)
SOURCE = "paper 001, Tables 1, 4, 5 and 6"
DP_NOTE = "params are missed: no reading of Table 1 gives 3.41M exactly"


def _rows(name: str, arch: Arch, params: str, flops: str, top1: str, note: str) -> tuple[Anchor, Anchor]:
    printed = Published(params, flops, "", "torchstat", MODULES, top1)
    small = "stem without stride; its CIFAR tables print the params of 224x224"
    return (
        Anchor(name, at_224(arch), SOURCE, printed, note),
        Anchor(f"{name}-32", arch, SOURCE, Published(modules=MODULES), small),
    )


ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor(
            "mobilenetv3-large",
            at_224(mobilenetv3_large()),
            "MobileNetV3 (2019), Tables 1 and 3",
            Published("5.4M", "219M", top1="75.2 % ImageNet"),
            note="no public code gives the printed figures; this one's outputs are torchvision's",
        ),
        Anchor("mobilenetv3-large-32", mobilenetv3_large(), "MobileNetV3 (2019), Table 1", note="stem without stride"),
        *_rows(
            "mobilenetv3-port",
            ported(FIRST_VERSION, _plain, transition=False),
            "5.15M",
            "263M",
            "91.92 % CIFAR-10, 70.15 % CIFAR-100, 71.32 % ImageNet",
            "the paper's MobileNetV3 baseline: not the published one, but a port of its first version",
        ),
        *_rows(
            "d-mobilenetv3",
            ported(FIRST_VERSION, _dual),
            "4.10M",
            "",
            "68.92 % CIFAR-100",
            "fits only rows with one 672 in place of a 960",
        ),
        *_rows(
            "p-mobilenetv3",
            ported(TABLE_1, _partial),
            "4.05M",
            "",
            "66.58 % CIFAR-100",
            "fits only the rows of Table 1",
        ),
        *_rows(
            "dp-net",
            ported(TABLE_1, _dual_partial),
            "3.41M",
            "118M",
            "90.97 % CIFAR-10, 68.63 % CIFAR-100, 70.01 % ImageNet",
            f"Table 1 to the letter; {DP_NOTE}",
        ),
        *_rows(
            "dp-net-672",
            ported(WITH_672, _dual_partial),
            "3.41M",
            "118M",
            "90.97 % CIFAR-10, 68.63 % CIFAR-100, 70.01 % ImageNet",
            f"variant: row 14 with 672 instead of 960, the best joint fit; {DP_NOTE}",
        ),
    )
}


EXPANDS = (1.0, 2.0, 2.3, 2.5, 3.0, 4.0, 4.2, 6.0)  # those of the tables are among them


def _ported(kernel: object, act: Activation, shortcut: bool = False) -> object:
    return of(PortedV3, expand=one_of(*EXPANDS), kernel=kernel, se=one_of(False, True), act=act, shortcut=shortcut)


def _row(row: Row, stride: object) -> object:
    _, _, width, _, act, _ = row

    def path(kernel: int) -> object:
        return one_of(_ported(kernel, act), of(Partial, block=_ported(kernel, act)))

    return of(
        Stage,
        block=one_of(
            _ported(one_of(3, 5), act, shortcut=True),
            of(Partial, block=_ported(one_of(3, 5), act)),
            of(Split, paths=(path(3), path(5)), shortcut=one_of(False, True)),
        ),
        width=one_of(*sorted({rounded(share * width, 4) for share in (0.25, 0.5, 0.75, 1, 1.5)})),
        depth=1,
        stride=stride,
        transition=one_of("none", "block"),
        transition_bias=True,
    )


DP_NET = Space(
    "dp-net",
    of(
        Arch,
        stem=of(Stem, width=one_of(8, 16, 24, 32), act="hswish", bias=True),
        stages=tuple(_row(row, one_of(1, 2) if i in (12, 13) else row[5]) for i, row in enumerate(TABLE_1)),
        head=of(
            Head,
            width=one_of(240, 480, 960),
            act="hswish",
            bias=True,
            hidden=one_of(320, 640, 1280),
            hidden_layer="conv",
            dropout=0.2,
            classifier="conv",
        ),
    ),
    about="MobileNetV3's rows: whole, partial, dual or dual partial, transitions, expansion, SE, kernels, widths",
    anchors=("dp-net-32", "dp-net-672-32", "d-mobilenetv3-32", "p-mobilenetv3-32", "mobilenetv3-port-32"),
)
