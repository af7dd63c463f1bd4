"""HL-CNN (paper 003): our reading. The paper prints ingredients and 310M FLOPs at 224x224, but no architecture."""

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import HL
from nas.networks.space import Space, of, one_of
from search_spaces.mobilenet import at_224

TABLE = [  # width, depth, stride
    (48, 1, 1),
    (72, 2, 2),
    (128, 3, 2),
    (256, 6, 2),
    (512, 2, 2),
]
DOUBLING = [
    (32, 2, 1),
    (64, 2, 2),
    (128, 2, 2),
    (256, 6, 2),
    (512, 2, 2),
]


def hlcnn(table: list[tuple[int, int, int]], head: int = 0) -> Arch:
    """HL-CNN at 32x32, the stem without stride."""
    stages = tuple(Stage(HL(), width, depth, stride) for width, depth, stride in table)
    return Arch(Stem(24, act="relu"), stages, Head(head, dropout=0.2))


SOURCE = "paper 003, FLOPs table"
PRINTED = Published(flops="310M", top1="93.4 % CIFAR-10")
NOTE = "our design from the paper's ingredients, sized to its 310M"

ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor("hl-cnn", at_224(hlcnn(TABLE)), SOURCE, PRINTED, NOTE, reading=True),
        Anchor("hl-cnn-32", hlcnn(TABLE), SOURCE, note=NOTE, reading=True),
        Anchor(
            "hl-cnn-alt", at_224(hlcnn(DOUBLING, 960)), SOURCE, PRINTED, f"{NOTE}; widths that double", reading=True
        ),
        Anchor("hl-cnn-alt-32", hlcnn(DOUBLING, 960), SOURCE, note=f"{NOTE}; widths that double", reading=True),
    )
}


def _stage(width: tuple[int, ...], depth: tuple[int, ...], stride: int) -> object:
    block = of(
        HL,
        bottleneck=one_of(0.125, 0.25, 0.5),
        fusion=one_of("weighted", "sum"),
        attention=one_of(True, False),
    )
    return of(Stage, block=block, width=one_of(*width), depth=one_of(*depth), stride=stride)


HL_CNN = Space(
    "hl-cnn",
    of(
        Arch,
        stem=of(Stem, width=one_of(16, 24, 32), act="relu"),
        stages=(
            _stage((16, 24, 32, 48, 64), (1, 2), 1),
            _stage((24, 32, 48, 64, 72, 96), (1, 2, 3), 2),
            _stage((48, 64, 96, 128, 160), (1, 2, 3), 2),
            _stage((96, 128, 192, 256), (2, 4, 6), 2),
            _stage((128, 192, 256, 384, 512), (1, 2), 2),
        ),
        head=of(Head, width=one_of(0, 480, 960), dropout=0.2),
    ),
    about="the global branch's bottleneck, how branches are fused, channel attention or none, widths, depths",
    anchors=("hl-cnn-32", "hl-cnn-alt-32"),
)
