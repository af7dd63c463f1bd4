"""The joint space, the default of `nas search`: the knobs of the lightweight families over five stages.

Every anchor of paper 000 is a point of it. Named axes (activations, what `expand` refers to) hold for the
whole network; every other axis is a stage's own.
"""

from nas.arch import Arch, Head, Stage, Stem
from nas.blocks import Bottleneck
from nas.space import Space, of, one_of


def _stage(width: tuple[int, ...], depth: tuple[int, ...], stride: object, concat: object) -> object:
    block = of(
        Bottleneck,
        expand=one_of(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        kernel=one_of((3,), (5,), (3, 5), "filled"),
        se=one_of(0.0, 0.25),
        expand_act=one_of("linear", "relu", "relu6", "hswish", name="expand_act"),
        act=one_of("relu6", "hswish", name="act"),
        expand_from=one_of("output", "input", name="expand_from"),
    )
    return of(Stage, block=block, width=one_of(*width), depth=one_of(*depth), stride=stride, concat=concat)


FALLS = one_of(1, 2)  # where the resolution may halve
JOINS = one_of(False, True)  # inter-layer concat

LIGHTWEIGHT = Space(
    "lightweight",
    of(
        Arch,
        stem=of(Stem, width=one_of(16, 24, 32), norm=one_of(False, True)),
        stages=(
            _stage((8, 16, 24, 32), (1, 2, 3), 1, JOINS),
            _stage((16, 24, 32, 48), (1, 2, 3, 4), FALLS, JOINS),
            _stage((24, 32, 48, 64), (1, 2, 3, 4), FALLS, JOINS),
            _stage((32, 48, 64, 96), (1, 2, 3, 4), FALLS, JOINS),
            _stage((48, 64, 96, 128), (1, 2, 3, 4), FALLS, False),
        ),
        head=of(Head, width=one_of(96, 160, 256), norm=one_of(False, True)),
    ),
    about="expansion, kernel mixes, SE, activations, concat, widths, depths and strides of the lightweight families",
)
