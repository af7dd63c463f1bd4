"""A search space to start from: `nas space --write my_space.py` writes this file, for you to change.

    nas space my_space.py:SPACE --budget 10MFLOPs                   what it holds, and how much keeps the budget
    nas search --space my_space.py:SPACE --budget 10MFLOPs          searches it

A space is a network written down with choices in it. `of(X, ...)` is an X some of whose fields are still to be chosen;
`one_of(...)` is such a choice. All else is fixed. Blocks: nas/networks/blocks.py; published networks written this way:
search_spaces/ beside it.
"""

from nas import Arch, Head, Space, Stage, Stem, of, one_of
from nas.networks.blocks import Bottleneck, Separable

# What a stage may be made of: an inverted bottleneck, whose own fields are chosen too, or a depthwise-separable layer.
BLOCK = one_of(
    of(Bottleneck, expand=one_of(2.0, 3.0, 4.0), kernel=one_of((3,), (5,)), se=one_of(0.0, 0.25)),
    Separable(),
)

SPACE = Space(
    "example",
    of(
        Arch,
        stem=of(Stem, width=one_of(16, 24)),
        stages=(  # the first block of a stage has its stride: 32x32 images become maps of 16, 8 and 4 pixels
            of(Stage, block=BLOCK, width=one_of(16, 24, 32), depth=one_of(1, 2), stride=2),
            of(Stage, block=BLOCK, width=one_of(32, 48, 64), depth=one_of(1, 2, 3), stride=2),
            of(Stage, block=BLOCK, width=one_of(64, 96, 128), depth=one_of(1, 2, 3), stride=2),
        ),
        head=Head(160),
    ),
    about="three stages of bottlenecks or separable layers",
)
