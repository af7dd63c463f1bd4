"""Networks published for microcontrollers: two of MLPerf Tiny's reference models, MCUNet's two smallest.

MLPerf Tiny (Banbury et al., arXiv:2106.07597), github.com/mlcommons/tiny: `image_classification/keras_model.py` and
`visual_wake_words/vww_model.py` in `benchmark/training`. MCUNet (Lin et al., arXiv:2007.10319): `mcunet-in0` is
`mcunet/assets/configs/mcunet-10fps_imagenet.json` in github.com/mit-han-lab/tinyml; of `mcunet-vww0` no such file is
public, its rows are the shapes of the tensors in the released `mcunet-10fps_vww.tflite`, as
github.com/nycu-caslab/TinyTS prints them (`models/ts_gen/MCUNet_model_zoo/1_MW10`).
"""

from collections.abc import Sequence

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import Bottleneck
from nas.networks.published_blocks import BasicBiased, SeparableBiased

IN0 = [  # expand, kernel, width, stride
    (1, 3, 16, 1),
    (4, 5, 16, 2),
    (3, 3, 16, 1),
    (4, 3, 16, 1),
    (5, 7, 24, 2),
    (4, 5, 24, 1),
    (5, 5, 24, 1),
    (5, 7, 48, 2),
    (4, 5, 48, 1),
    (5, 3, 56, 1),
    (4, 5, 56, 1),
    (5, 3, 56, 1),
    (6, 3, 112, 2),
    (4, 5, 112, 1),
    (6, 3, 192, 1),
]
VWW0 = [
    (1, 3, 8, 1),
    (6, 5, 16, 2),
    (4, 3, 16, 1),
    (5, 3, 24, 2),
    (4, 3, 24, 1),
    (4, 3, 24, 1),
    (5, 3, 40, 2),
    (4, 3, 40, 1),
    (3, 7, 40, 1),
    (3, 3, 48, 1),
    (4, 3, 48, 1),
    (5, 7, 96, 2),
    (5, 5, 96, 1),
    (4, 7, 160, 1),
]


def resnet8() -> Arch:
    """MLPerf Tiny's ResNet-8: 16, 32 and 64 channels."""
    stages = tuple(Stage(BasicBiased(), width, 1, 1 if width == 16 else 2) for width in (16, 32, 64))
    return Arch(Stem(16, act="relu", bias=True), stages, Head(pool="window"))


def mobilenetv1_x025() -> Arch:
    """MLPerf Tiny's MobileNetV1 x0.25 for people in pictures."""
    table = [(16, 1, 1), (32, 2, 2), (64, 2, 2), (128, 6, 2), (256, 2, 2)]
    stages = tuple(Stage(SeparableBiased(), width, depth, stride) for width, depth, stride in table)
    return Arch(Stem(8, 2, act="relu", bias=True), stages, Head(pool="window"), resolution=96, classes=2)


def mcunet(stem: int, table: Sequence[tuple[int, int, int, int]], resolution: int, classes: int) -> Arch:
    """A network of MCUNet's: inverted bottlenecks, one a row; the classifier reads the last one's mean."""
    stages = tuple(
        Stage(Bottleneck(float(expand), (kernel,), expand_from="input", expand_always=False), width, 1, stride)
        for expand, kernel, width, stride in table
    )
    return Arch(Stem(stem, 2), stages, Head(), resolution, classes)


TINY = "MLPerf Tiny (2021), reference model"
PADDING = (
    "Keras pads a stride of 2 by zeros at the right and below alone, we by zeros all around: the same counts, not the "
    "same outputs"
)

ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor(
            "resnet8",
            resnet8(),
            TINY,
            Published("78186", top1="quality target 85 % CIFAR-10"),
            f"its training log prints 78,186 trainable params, 78,666 with batch norm's running statistics; {PADDING}",
            reference=True,
        ),
        Anchor(
            "mobilenetv1-x0.25-96",
            mobilenetv1_x025(),
            TINY,
            Published(top1="quality target 80 % Visual Wake Words"),
            f"three channels, biases beside batch norm; {PADDING}",
            reference=True,
        ),
        Anchor(
            "mcunet-in0",
            mcunet(24, IN0, 48, 1000),
            "MCUNet (2020), its model list",
            Published("0.75M", "6.4M", top1="41.5 % ImageNet (int8: 40.4 %)"),
            reference=True,
        ),
        Anchor(
            "mcunet-vww0",
            mcunet(16, VWW0, 64, 2),
            "MCUNet (2020), its model list",
            Published("0.37M", "6.0M", top1="87.4 % Visual Wake Words (int8: 87.3 %)"),
            "rows from the tensors of the released .tflite; ReLU6 as in the other networks of its list",
            reference=True,
        ),
    )
}
