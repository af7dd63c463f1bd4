"""MobileNetV1 and V2: as published, as paper 000 measured them at 32x32, and the ablation of paper 004.

Howard et al., arXiv:1704.04861, Table 1; Sandler et al., arXiv:1801.04381, Table 2. The networks at 32x32 are those of
the widely used CIFAR port (kuangliu/pytorch-cifar), whose counts Table 3 of paper 000 prints: the stem keeps the
resolution, V2's second stage too, and each of V2's blocks of stride 1 has a shortcut, by a 1x1 convolution if need be.
"""

from dataclasses import replace

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import Block, Bottleneck, Conv, Separable
from nas.networks.rounding import rounded
from nas.networks.space import Space, of, one_of
from search_spaces.papers import COMPARED, compared

SEPARABLE = Separable()
V1 = [  # width, depth, stride
    (64, 1, 1),
    (128, 2, 2),
    (256, 2, 2),
    (512, 6, 2),
    (1024, 2, 2),
]
V2 = [  # expand, width, depth, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
V2_WIDTHS = tuple(width for _, width, _, _ in V2)
V2_HALF = (8, 16, 16, 32, 48, 80, 160)  # of x0.5: halves, rounded to 8 as its authors do


def mobilenetv1(multiplier: float = 1.0, block: Block = SEPARABLE) -> Arch:
    """MobileNetV1 at 32x32; `block` may be a dense convolution (paper 004's ablation)."""
    stages = tuple(Stage(block, int(width * multiplier), depth, stride) for width, depth, stride in V1)
    return Arch(Stem(int(32 * multiplier), act="relu"), stages, Head())


def mobilenetv2() -> Arch:
    """MobileNetV2 at 224x224."""
    stages = tuple(
        Stage(Bottleneck(float(expand), expand_from="input", expand_always=False), width, depth, stride)
        for expand, width, depth, stride in V2
    )
    return at_224(Arch(Stem(32), stages, Head(1280, dropout=0.2)))


def mobilenetv2_32(stem: int = 32, widths: tuple[int, ...] = V2_WIDTHS) -> Arch:
    """MobileNetV2 as the CIFAR port has it; the last layer is as wide in narrower ones."""
    stages = tuple(
        Stage(
            Bottleneck(float(expand), expand_act="relu", act="relu", expand_from="input", shortcut="project"),
            width,
            depth,
            1 if full == 24 else stride,
        )
        for (expand, full, depth, stride), width in zip(V2, widths, strict=True)
    )
    return Arch(Stem(stem, act="relu"), stages, Head(1280, act="relu"))


def at_224(arch: Arch) -> Arch:
    """`arch` for ImageNet: 1000 classes at 224x224, the stem with stride 2."""
    return replace(arch, resolution=224, classes=1000, stem=replace(arch.stem, stride=2))


PAPER_002 = "paper 002; MobileNets (2017), Table 6"
PAPER_004 = "paper 004, MobileNet ablation"
CALTECH = "Caltech-101 (transfer, PC with GPU)"
CONV = "paper 004: each separable block is one dense 3x3 convolution; it does not say whether a 1x1 stays beside it"

ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor("mobilenetv1", at_224(mobilenetv1()), PAPER_002, Published("4.2M", "569M", top1=f"92.3 % {CALTECH}")),
        Anchor(
            "mobilenetv1-x0.75",
            at_224(mobilenetv1(0.75)),
            PAPER_002,
            Published("2.6M", "325M", top1=f"91.1 % {CALTECH}"),
        ),
        Anchor(
            "mobilenetv1-x0.5", at_224(mobilenetv1(0.5)), PAPER_002, Published("1.3M", "149M", top1=f"91.8 % {CALTECH}")
        ),
        Anchor(
            "mobilenetv1-32",
            mobilenetv1(),
            COMPARED,
            compared("mobilenetv1-32"),
        ),
        Anchor("mobilenetv1-x0.75-32", mobilenetv1(0.75), PAPER_002, note="paper 002's widths at 32x32"),
        Anchor("mobilenetv1-x0.5-32", mobilenetv1(0.5), PAPER_002, note="paper 002's widths at 32x32"),
        Anchor(
            "mobilenetv1-conv",
            at_224(mobilenetv1(block=Conv())),
            "MobileNets (2017), Table 4",
            Published("29.3M", "4866M"),
            note="each separable block is one dense 3x3 convolution; 4,867,293,184 MACs, printed as 4866M",
        ),
        Anchor(
            "mobilenetv1-conv-32",
            mobilenetv1(block=Conv()),
            PAPER_004,
            Published(top1="82.3 % CIFAR-10 (88.5 % with separable convolutions)"),
            note=CONV,
        ),
        Anchor(
            "mobilenetv2",
            mobilenetv2(),
            "paper 001, Tables 5 and 6",
            Published("3.50M", "320M", "", "torchstat", ("ReLU6",), "92.34 % CIFAR-10, 70.13 % ImageNet"),
        ),
        Anchor(
            "mobilenetv2-32",
            mobilenetv2_32(),
            COMPARED,
            compared("mobilenetv2-32"),
        ),
        Anchor(
            "mobilenetv2-x0.5-32",
            mobilenetv2_32(16, V2_HALF),
            "MobileNetV2 (2018), section 4",
            note="the paper's width on the CIFAR port",
            reference=True,
        ),
    )
}


def _stage_v1(width: int, depth: int, stride: int) -> object:
    return of(
        Stage,
        block=one_of(of(Separable, kernel=one_of(3, 5)), Conv()),
        width=one_of(*(int(share * width) for share in (0.125, 0.25, 0.5, 0.75, 1))),
        depth=one_of(*sorted({1, 2, 4, depth})) if depth > 1 else 1,
        stride=stride,
    )


def _stage_v2(expand: int, width: int, depth: int, stride: int) -> object:
    block = of(
        Bottleneck,
        expand=1.0 if expand == 1 else one_of(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        kernel=one_of((3,), (5,)),
        se=one_of(0.0, 0.25),
        expand_act="relu",
        act="relu",
        expand_from="input",
        shortcut="project",
    )
    widths = sorted({rounded(share * width) for share in (0.25, 0.5, 0.75, 1)})
    depths = sorted({1, 2, depth, depth + 1}) if depth > 1 else [1]
    return of(Stage, block=block, width=one_of(*widths), depth=one_of(*depths), stride=1 if width == 24 else stride)


MOBILENETV1 = Space(
    "mobilenetv1",
    of(
        Arch,
        stem=of(Stem, width=one_of(8, 16, 24, 32), act="relu"),
        stages=tuple(_stage_v1(*row) for row in V1),
        head=Head(),
    ),
    about="standard or depthwise-separable convolutions, a stage's own; kernels, widths, depths",
    anchors=("mobilenetv1-32", "mobilenetv1-x0.75-32", "mobilenetv1-x0.5-32", "mobilenetv1-conv-32"),
)
MOBILENETV2 = Space(
    "mobilenetv2",
    of(
        Arch,
        stem=of(Stem, width=one_of(8, 16, 24, 32), act="relu"),
        stages=tuple(_stage_v2(*row) for row in V2),
        head=of(Head, width=one_of(160, 320, 640, 1280), act="relu"),
    ),
    about="expansion, kernels, SE, widths, depths of its seven stages",
    anchors=("mobilenetv2-32", "mobilenetv2-x0.5-32"),
)
