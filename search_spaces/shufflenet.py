"""ShuffleNet V1 and V2: as published, as paper 000 measured them at 32x32, and the ablation of paper 004.

Zhang et al., arXiv:1707.01083, Table 1 (g=3); Ma et al., arXiv:1807.11164, Table 5. The networks at 32x32 are those of
the CIFAR port (kuangliu/pytorch-cifar) that Table 3 of paper 000 measured, its width 224 for 244 among them.
"""

from dataclasses import replace

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import ShuffleV2
from nas.networks.published_blocks import Pool, ShuffleV1
from nas.networks.space import Space, of, one_of
from search_spaces.papers import COMPARED, compared

V1 = [  # width, depth
    (240, 4),
    (480, 8),
    (960, 4),
]
DEPTHS = (4, 8, 4)
STEM_POOL = Pool("max", kernel=3, pad=1)


def shufflenetv1(multiplier: int = 1) -> Arch:
    """ShuffleNetV1 g=3 at 224x224; the multiplier widens the stem too."""
    unit = ShuffleV1(ungrouped=24 * multiplier)
    stages = tuple(Stage(unit, width * multiplier, depth, 2) for width, depth in V1)
    pooled = Stage(STEM_POOL, 24 * multiplier, 1, 2)
    return Arch(Stem(24 * multiplier, 2, act="relu"), (pooled, *stages), Head(), 224, 1000)


def shufflenetv1_32(shuffle: bool = True) -> Arch:
    """ShuffleNetV1 g=3 of the CIFAR port."""
    unit = ShuffleV1(shuffle=shuffle, mid_act="relu", squeeze_from="path")
    return Arch(Stem(24, act="relu", kernel=1), tuple(Stage(unit, width, depth, 2) for width, depth in V1), Head())


def shufflenetv2(widths: tuple[int, ...]) -> Arch:
    """ShuffleNetV2 at 32x32: the stem keeps the resolution and has no pool."""
    stages = tuple(Stage(ShuffleV2(), width, depth, 2) for width, depth in zip(widths, DEPTHS, strict=True))
    return Arch(Stem(24, act="relu"), stages, Head(2048 if widths[-1] > 900 else 1024, act="relu"))


def shufflenetv2_224(widths: tuple[int, ...]) -> Arch:
    """ShuffleNetV2 at 224x224."""
    arch = shufflenetv2(widths)
    stages = (Stage(STEM_POOL, 24, 1, 2), *arch.stages)
    return replace(arch, stem=replace(arch.stem, stride=2), stages=stages, resolution=224, classes=1000)


V1_SOURCE = "ShuffleNet (2018), Table 5"
POOLS = ("MaxPool2d", "AvgPool2d")
PAPER_004 = "paper 004, ShuffleNet ablation"

ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor("shufflenetv1", shufflenetv1(), V1_SOURCE, Published(flops="137M", modules=POOLS)),
        Anchor(
            "shufflenetv1-x2",
            shufflenetv1(2),
            V1_SOURCE,
            Published(flops="524M", modules=POOLS),
            note="the stem is doubled too",
        ),
        Anchor(
            "shufflenetv1-32",
            shufflenetv1_32(),
            COMPARED,
            compared("shufflenetv1-32", ("AvgPool2d",)),
        ),
        Anchor(
            "shufflenetv1-noshuffle-32",
            shufflenetv1_32(shuffle=False),
            PAPER_004,
            Published(modules=("AvgPool2d",), top1="85.1 % CIFAR-10 (89.2 % with shuffle)"),
            note="the paper names no width and no groups; here those of shufflenetv1-32",
        ),
        Anchor(
            "shufflenetv2",
            shufflenetv2_224((116, 232, 464)),
            "ShuffleNetV2 (2018), Table 8",
            Published("2.3M", "146M"),
            note="no public code gives the printed FLOPs; this one's outputs are torchvision's",
        ),
        Anchor(
            "shufflenetv2-x2-32",
            shufflenetv2((224, 488, 976)),
            COMPARED,
            compared("shufflenetv2-x2-32"),
        ),
        Anchor(
            "shufflenetv2-x0.5-32",
            shufflenetv2((48, 96, 192)),
            "ShuffleNetV2 (2018), Table 5",
            note="the paper's widths on the CIFAR port",
            reference=True,
        ),
    )
}


def _stage_v1(width: tuple[int, ...], depth: tuple[int, ...]) -> object:
    unit = of(
        ShuffleV1,
        groups=one_of(1, 2, 3, name="groups"),
        shuffle=one_of(True, False, name="shuffle"),
        mid_act="relu",
        squeeze_from="path",
    )
    return of(Stage, block=unit, width=one_of(*width), depth=one_of(*depth), stride=2)


def _stage_v2(width: tuple[int, ...], depth: tuple[int, ...]) -> object:
    return of(Stage, block=of(ShuffleV2, kernel=one_of(3, 5)), width=one_of(*width), depth=one_of(*depth), stride=2)


SHUFFLENETV1 = Space(  # where a stage is no wider than the one before, its unit cannot be built
    "shufflenetv1",
    of(
        Arch,
        stem=Stem(24, act="relu", kernel=1),
        stages=(
            _stage_v1((48, 72, 96, 144, 192, 240), (1, 2, 3, 4)),
            _stage_v1((96, 144, 192, 288, 384, 480), (2, 4, 6, 8)),
            _stage_v1((192, 288, 384, 576, 768, 960), (1, 2, 3, 4)),
        ),
        head=Head(),
    ),
    about="groups of the 1x1 convolutions, channel shuffle or none, widths, depths",
    anchors=("shufflenetv1-32", "shufflenetv1-noshuffle-32"),
)
SHUFFLENETV2 = Space(
    "shufflenetv2",
    of(
        Arch,
        stem=of(Stem, width=one_of(16, 24, 32), act="relu"),
        stages=(
            _stage_v2((32, 48, 72, 96, 116, 176, 224), (2, 3, 4, 5)),
            _stage_v2((64, 96, 144, 192, 232, 352, 488), (4, 6, 8, 10)),
            _stage_v2((96, 144, 192, 288, 384, 464, 704, 976), (2, 3, 4, 5)),
        ),
        head=of(Head, width=one_of(256, 512, 1024, 2048), act="relu"),
    ),
    about="kernels, widths, depths, width of the last convolution",
    anchors=("shufflenetv2-x0.5-32", "shufflenetv2-x2-32"),
)
