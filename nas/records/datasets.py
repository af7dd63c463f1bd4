"""The datasets that nas knows by name, a row each, and what else may be named."""

from dataclasses import dataclass

from nas.networks.sizes import SMALL


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A dataset that torchvision, or scikit-learn, knows how to get."""

    title: str
    images: int
    """In all parts."""
    classes: int
    channels: int = 3
    side: int = SMALL
    """Pixels that its images are taken at where nothing else is said."""
    flip: bool = True
    """Whether a mirrored image keeps its class."""
    folder: str = ""
    """Where torchvision looks for it, in what --data names; none where it comes with a package."""
    track: int = 0
    """How many images, one after the other, are of one thing: they are never on two sides of a split."""


BUILT_IN = {
    "digits": BuiltIn("scikit-learn's 8x8 digits", 1_797, 10, flip=False),
    "cifar10": BuiltIn("CIFAR-10", 60_000, 10, folder="cifar-10-batches-py"),
    "cifar100": BuiltIn("CIFAR-100", 60_000, 100, folder="cifar-100-python"),
    "mnist": BuiltIn("MNIST", 70_000, 10, 1, flip=False, folder="MNIST"),
    "fashion-mnist": BuiltIn("Fashion-MNIST", 70_000, 10, 1, folder="FashionMNIST"),
    "emnist-letters": BuiltIn("EMNIST letters", 145_600, 26, 1, flip=False, folder="EMNIST"),
    "svhn": BuiltIn("SVHN", 99_289, 10, flip=False, folder="train_32x32.mat"),
    "stl10": BuiltIn("STL-10, its labelled images", 13_000, 10, side=96, folder="stl10_binary"),
    "gtsrb": BuiltIn("GTSRB, traffic signs", 39_270, 43, flip=False, folder="gtsrb", track=30),
    "flowers102": BuiltIn("Flowers-102", 8_189, 102, side=96, folder="flowers-102"),
}
"""What `--dataset` takes by name. Gray images of 28x28 are brought to 32x32."""


def _described(row: BuiltIn) -> str:
    got = "downloaded by torchvision, or --data DIR" if row.folder else "embedded, no download"
    return f"{row.title}: {row.images:,} images at {row.side}x{row.side}x{row.channels}, {row.classes} classes; {got}"


DATASETS = {
    **{name: _described(row) for name, row in BUILT_IN.items()},
    "folder:PATH": "pictures of any size, in train/CLASS/* and test/CLASS/*, or in CLASS/* without a split",
    "npz:FILE": "arrays: x_train (N, height, width, channels), y_train, and x_test, y_test; see nas.images",
}
