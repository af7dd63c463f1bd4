"""GhostNet (Han et al., arXiv:1911.11907, Table 1), at 224x224 and at 32x32 with a stem without stride."""

from nas.networks.architecture import Anchor, Arch, Head, Published, Stage, Stem
from nas.networks.blocks import Ghost
from nas.networks.rounding import rounded
from nas.networks.space import Space, of, one_of
from search_spaces.mobilenet import at_224

TABLE = [  # kernel, hidden width, width, SE, stride
    (3, 16, 16, 0, 1),
    (3, 48, 24, 0, 2),
    (3, 72, 24, 0, 1),
    (5, 72, 40, 0.25, 2),
    (5, 120, 40, 0.25, 1),
    (3, 240, 80, 0, 2),
    (3, 200, 80, 0, 1),
    (3, 184, 80, 0, 1),
    (3, 184, 80, 0, 1),
    (3, 480, 112, 0.25, 1),
    (3, 672, 112, 0.25, 1),
    (5, 672, 160, 0.25, 2),
    (5, 960, 160, 0, 1),
    (5, 960, 160, 0.25, 1),
    (5, 960, 160, 0, 1),
    (5, 960, 160, 0.25, 1),
]


def ghostnet() -> Arch:
    """GhostNet 1.0 at 32x32."""
    stages, cin = [], 16
    for kernel, hidden, width, se, stride in TABLE:
        stages.append(Stage(Ghost(hidden / cin, kernel, float(se)), width, 1, stride))
        cin = width
    head = Head(960, act="relu", hidden=1280, hidden_layer="conv", dropout=0.2)
    return Arch(Stem(16, act="relu"), tuple(stages), head)


ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor(
            "ghostnet",
            at_224(ghostnet()),
            "paper 001, Tables 5 and 6",
            Published("5.18M", "151M", "", "torchstat", ("ReLU",), "92.22 % CIFAR-10, 70.36 % ImageNet"),
        ),
        Anchor(
            "ghostnet-32",
            ghostnet(),
            "GhostNet (2020), Table 1",
            Published(modules=("ReLU",)),
            "stem without stride",
        ),
    )
}


def _row(width: int, stride: int) -> object:
    return of(
        Stage,
        block=of(Ghost, expand=one_of(1.0, 2.0, 2.3, 2.5, 3.0, 4.0, 6.0), kernel=one_of(3, 5), se=one_of(0.0, 0.25)),
        width=one_of(*sorted({rounded(share * width, 4) for share in (0.25, 0.5, 0.75, 1, 1.5)})),
        depth=1,
        stride=stride,
    )


GHOSTNET = Space(
    "ghostnet",
    of(
        Arch,
        stem=of(Stem, width=one_of(8, 16, 24), act="relu"),
        stages=tuple(_row(width, stride) for _, _, width, _, stride in TABLE),
        head=of(
            Head,
            width=one_of(240, 480, 960),
            act="relu",
            hidden=one_of(320, 640, 1280),
            hidden_layer="conv",
            dropout=0.2,
        ),
    ),
    about="expansion, kernel, SE and width of each of its sixteen bottlenecks, widths of the last layers",
    anchors=("ghostnet-32",),
)
