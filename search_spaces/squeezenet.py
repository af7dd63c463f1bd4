"""SqueezeNet: 1.0 as published, and with batch norm and shortcuts as paper 000 measured it at 32x32.

Iandola et al., arXiv:1602.07360, Table 1; the network at 32x32 is that of weiaicunzai/pytorch-cifar100.
"""

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.published_blocks import Fire, Pool
from nas.networks.space import Space, of, one_of
from search_spaces.papers import COMPARED, compared


def squeezenet() -> Arch:
    """SqueezeNet 1.0 at 224x224."""
    fire, pool = Fire(norm=False), Pool("max", kernel=3, ceil=True)
    stages = (
        Stage(pool, 96, 1, 2),
        Stage(fire, 128, 2),
        Stage(fire, 256, 1),
        Stage(pool, 256, 1, 2),
        Stage(fire, 256, 1),
        Stage(fire, 384, 2),
        Stage(fire, 512, 1),
        Stage(pool, 512, 1, 2),
        Stage(fire, 512, 1),
    )
    stem = Stem(96, 2, norm=False, act="relu", kernel=7, bias=True, pad=False)
    return Arch(stem, stages, Head(act="relu", dropout=0.5, classifier="map"), 224, 1000)


def squeezenet_32() -> Arch:
    """SqueezeNet of the CIFAR port: batch norm, shortcuts where a module keeps its width, 2x2 pools."""
    fire, pool = Fire(shortcut=True), Pool("max", kernel=2, shared=True)
    stages = (
        Stage(Pool("max", kernel=2), 96, 1, 2),
        Stage(fire, 128, 2),
        Stage(fire, 256, 1),
        Stage(pool, 256, 1, 2),
        Stage(fire, 256, 1),
        Stage(fire, 384, 2),
        Stage(fire, 512, 1),
        Stage(pool, 512, 1, 2),
        Stage(Fire(), 512, 1),
    )
    head = Head(act="linear", classifier="map")
    return Arch(Stem(96, act="relu", bias=True), stages, head)


ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor(
            "squeezenet",
            squeezenet(),
            "paper 003, comparison",
            Published(flops="833M", modules=("ReLU", "MaxPool2d")),
            note="quoted by the paper, which prints no architecture; torchstat would say 830M of version 1.0",
        ),
        Anchor(
            "squeezenet-32",
            squeezenet_32(),
            COMPARED,
            compared("squeezenet-32", ("ReLU", "MaxPool2d")),
            note="the printed memory is that of 100 classes (11.54 MB there), params and FLOPs are those of 10",
        ),
    )
}


def _fires(width: object, depth: object, shortcut: object = one_of(True, False)) -> object:
    return of(Stage, block=of(Fire, squeeze=one_of(0.125, 0.25, 0.5), shortcut=shortcut), width=width, depth=depth)


STEM = one_of(16, 32, 48, 64, 96, name="stem.width")  # a pool is as wide as what lies before it
SECOND = one_of(64, 96, 128, 192, 256, name="second.width")
THIRD = one_of(128, 192, 256, 384, 512, name="third.width")
SQUEEZENET = Space(
    "squeezenet",
    of(
        Arch,
        stem=of(Stem, width=STEM, act="relu", bias=True),
        stages=(
            of(Stage, block=Pool("max", kernel=2), width=STEM, depth=1, stride=2),
            _fires(one_of(32, 48, 64, 96, 128), one_of(1, 2, 3)),
            _fires(SECOND, 1),
            of(Stage, block=Pool("max", kernel=2, shared=True), width=SECOND, depth=1, stride=2),
            _fires(one_of(64, 96, 128, 192, 256), 1),
            _fires(one_of(96, 128, 192, 256, 384), one_of(1, 2, 3)),
            _fires(THIRD, 1),
            of(Stage, block=Pool("max", kernel=2, shared=True), width=THIRD, depth=1, stride=2),
            _fires(one_of(128, 192, 256, 384, 512), 1, shortcut=False),
        ),
        head=Head(act="linear", classifier="map"),
    ),
    about="how far fire modules squeeze, shortcuts, widths, depths",
    anchors=("squeezenet-32",),
)
