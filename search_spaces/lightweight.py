"""The joint space, the default of `nas search`: the knobs of the lightweight families over five stages.

A network has two kinds of blocks, one for the stages at high resolution (0 to 2) and one for those at low (3 and 4).
Named axes (the kinds, activations, what `expand` refers to) hold for the whole network; every other axis is a stage's
own. Low-res MobileNet and the five networks it came from, MobileNetV1 x0.5 and HL-CNN at 32x32 are points of it.
"""

from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import HL, Bottleneck, Ghost, Partial, Separable, ShuffleV2, Split
from nas.networks.published_blocks import Basic
from nas.networks.space import Space, of, one_of

EXPAND = one_of(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
ACTS = {
    "expand_act": one_of("linear", "relu", "relu6", "hswish", name="expand_act"),
    "act": one_of("relu6", "hswish", name="act"),
    "expand_from": one_of("output", "input", name="expand_from"),
}
SE = one_of(0.0, 0.25)
NEAR, FAR = one_of((3,), (5,)), one_of((5,), (7,))  # the kernels of the two paths
KINDS = (
    of(Bottleneck, expand=EXPAND, kernel=one_of((3,), (5,), (3, 5), "filled"), se=SE, **ACTS),
    of(Partial, block=one_of(of(Bottleneck, expand=EXPAND, se=SE, **ACTS), Basic()), share=one_of(0.25, 0.5, 0.75)),
    of(  # dual path: DP-block A where the shape is kept, B elsewhere
        Split,
        paths=(
            of(Partial, block=of(Bottleneck, expand=EXPAND, kernel=NEAR, se=SE, **ACTS), share=one_of(0.5, 1.0)),
            of(Partial, block=of(Bottleneck, expand=EXPAND, kernel=FAR, se=SE, **ACTS), share=one_of(0.5, 1.0)),
        ),
    ),
    of(Ghost, expand=EXPAND, se=SE),
    Basic(),
    ShuffleV2(),
    HL(),
    Separable(),
)


def _stage(kinds: str, width: tuple[int, ...], depth: tuple[int, ...], stride: object, concat: object) -> object:
    return of(
        Stage,
        block=one_of(*KINDS, name=kinds),
        width=one_of(*width),
        depth=one_of(*depth),
        stride=stride,
        concat=concat,
        transition=one_of("none", "stage", "block"),
    )


FALLS = one_of(1, 2)  # where the resolution may halve
JOINS = one_of(False, True)  # inter-layer concat

LIGHTWEIGHT = Space(
    "lightweight",
    of(
        Arch,
        stem=of(Stem, width=one_of(16, 24, 32), norm=one_of(False, True), act=one_of("relu6", "relu", "hswish")),
        stages=(
            _stage("early", (8, 16, 24, 32, 48), (1, 2, 3), 1, JOINS),
            _stage("early", (16, 24, 32, 48, 64, 72), (1, 2, 3, 4), FALLS, JOINS),
            _stage("early", (24, 32, 48, 64, 96, 128), (1, 2, 3, 4), FALLS, JOINS),
            _stage("late", (32, 48, 64, 96, 128, 256), (1, 2, 3, 4, 6), FALLS, JOINS),
            _stage("late", (48, 64, 96, 128, 256, 512), (1, 2, 3, 4), FALLS, False),
        ),
        head=of(Head, width=one_of(0, 96, 160, 256, 960), norm=one_of(False, True), dropout=one_of(0.0, 0.2)),
    ),
    about="block kinds, expansion, kernels, partial and dual paths, SE, shuffle, concat, transitions, widths, strides",
)
