"""The large networks of paper 000's Table 3, at 32x32: VGG-16, Inception V1 and V3, Xception. Rows to compare with.

They can be built, counted and trained, but are in no search space. The networks are those of the CIFAR ports that the
paper measured (kuangliu/pytorch-cifar, weiaicunzai/pytorch-cifar100); the latter's two were counted with 100 classes.
"""

from nas.networks.architecture import Anchor, Arch, Head, Stage, Stem
from nas.networks.blocks import Conv
from nas.networks.published_blocks import Fork, Mixed, Pool, PoolStep, Step, Xception
from search_spaces.papers import COMPARED, compared


def vgg16() -> Arch:
    """VGG-16 with batch norm and one linear layer."""
    conv, pool = Conv(bias=True), Pool("max", kernel=2)
    stages = [Stage(conv, 64, 1)]
    for i, (width, depth) in enumerate([(64, 0), (128, 2), (256, 3), (512, 3), (512, 3)]):
        if i:
            stages.append(Stage(conv, width, depth))
        stages.append(Stage(pool, width, 1, 2))
    return Arch(Stem(64, act="relu", bias=True), tuple(stages), Head(pool="window"))


def inception_v1() -> Arch:
    """GoogLeNet: branches 1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3 | pool, 1x1."""
    table: list[tuple[int, ...] | str] = [
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        "pool",
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        "pool",
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ]
    stages, width = [], 192
    for row in table:
        if isinstance(row, str):
            stages.append(Stage(Pool("max", kernel=3, pad=1, shared=True), width, 1, 2))
            continue
        one, reduce3, three, reduce5, five, pool = row
        branches = (
            (Step(one),),
            (Step(reduce3), Step(three, (3, 3))),
            (Step(reduce5), Step(five, (3, 3)), Step(five, (3, 3))),
            (PoolStep("max"), Step(pool)),
        )
        width = one + three + five + pool
        stages.append(Stage(Mixed(branches, bias=True), width, 1))
    return Arch(Stem(192, act="relu", bias=True), tuple(stages), Head(pool="window"))


def inception_v3() -> Arch:
    """Inception V3 with its stem at stride 1."""

    def a(pool: int) -> Stage:
        branches = (
            (Step(64),),
            (Step(48), Step(64, (5, 5))),
            (Step(64), Step(96, (3, 3)), Step(96, (3, 3))),
            (PoolStep("avg"), Step(pool, (3, 3))),
        )
        return Stage(Mixed(branches), 224 + pool, 1)

    def b(cin: int) -> Stage:
        branches = (
            (Step(384, (3, 3), down=True),),
            (Step(64), Step(96, (3, 3)), Step(96, (3, 3), down=True)),
            (PoolStep("max", down=True),),
        )
        return Stage(Mixed(branches), cin + 480, 1, 2)

    def c(c7: int) -> Stage:
        branches = (
            (Step(192),),
            (Step(c7), Step(c7, (7, 1)), Step(192, (1, 7))),
            (Step(c7), Step(c7, (7, 1)), Step(c7, (1, 7)), Step(c7, (7, 1)), Step(192, (1, 7))),
            (PoolStep("avg"), Step(192)),
        )
        return Stage(Mixed(branches), 768, 1)

    def d(cin: int) -> Stage:
        branches = (
            (Step(192), Step(320, (3, 3), down=True)),
            (Step(192), Step(192, (1, 7)), Step(192, (7, 1)), Step(192, (3, 3), down=True)),
            (PoolStep("avg", down=True),),
        )
        return Stage(Mixed(branches), cin + 512, 1, 2)

    def e() -> Stage:
        apart = Fork((Step(384, (1, 3)), Step(384, (3, 1))))
        branches = (
            (Step(320),),
            (Step(384), apart),
            (Step(448), Step(384, (3, 3)), apart),
            (PoolStep("avg"), Step(192)),
        )
        return Stage(Mixed(branches), 2048, 1)

    def one(step: Step) -> Stage:
        return Stage(Mixed(((step,),)), step.width, 1)

    stem = [Step(32, (3, 3)), Step(64, (3, 3)), Step(80), Step(192, (3, 3), pad=False)]
    stages = [one(step) for step in stem]
    stages += [a(32), a(64), a(64), b(288), c(128), c(160), c(160), c(192), d(768), e(), e()]
    return Arch(Stem(32, act="relu"), tuple(stages), Head(), classes=100)


def xception() -> Arch:
    """Xception with its stem at stride 1."""

    def separable(width: int) -> Stage:
        return Stage(Mixed(((Step(width, (3, 3), separable=True),),)), width, 1)

    stages = (
        Stage(Conv(), 64, 1),
        Stage(Xception(relu_first=False), 128, 1, 2),
        Stage(Xception(), 256, 1, 2),
        Stage(Xception(), 728, 1),
        Stage(Xception(repeats=3, pool=False), 728, 8),
        Stage(Xception(grow=1), 1024, 1, 2),
        separable(1536),
        separable(2048),
    )
    return Arch(Stem(32, act="relu"), stages, Head(), classes=100)


MODULES = ("ReLU", "MaxPool2d", "AvgPool2d")


def _row(name: str, arch: Arch) -> Anchor:
    note = (
        "params, FLOPs and memory are those of 100 classes, the accuracies those of 10" if arch.classes == 100 else ""
    )
    return Anchor(name, arch, COMPARED, compared(name, MODULES), note, reference=True)


ANCHORS = {
    anchor.name: anchor
    for anchor in (
        _row("vgg16-32", vgg16()),
        _row("inception-v1-32", inception_v1()),
        _row("inception-v3-32", inception_v3()),
        _row("xception-32", xception()),
    )
}
