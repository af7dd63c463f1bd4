"""`nas.images`: arrays, or a dataset of torchvision's kind, as a dataset that all commands take."""

from collections.abc import Sequence
from typing import Any

from nas.api.arguments import checked


@checked
def images(
    x_train: Any,
    y_train: Any = None,
    *,
    x_test: Any = None,
    y_test: Any = None,
    classes: Sequence[str] | None = None,
) -> str:
    """The name of a dataset, "npz:FILE", for `dataset` of `nas.search`, `nas.train` and the others.

    `x_train`, `x_test`: arrays or tensors of uint8 pixels, (N, height, width, channels) or (N, channels, height,
    width); `y_train`, `y_test`: their labels, whole numbers from 0 or names. Or `x_train`, `x_test` alone: datasets of
    torchvision's kind, with (picture, label) as items. Without a test a share of each class is it. `classes`: their
    names. All of it is kept in the user's cache, in a file named after what it holds.

    Raises Error where these are no such images.
    """
    from nas.training.arrays import kept

    return f"npz:{kept(x_train, y_train, x_test, y_test, classes)}"
