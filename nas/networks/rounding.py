"""Small rules that block kinds share: how widths are rounded, and what a field may hold."""

import math

from nas.errors import Error

KERNELS = (1, 3, 5, 7)


def rounded(channels: float, divisor: int = 8) -> int:
    """`channels` rounded to the nearest multiple of `divisor`, at least one of them and never below nine tenths."""
    near = max(divisor, int(channels / divisor + 0.5) * divisor)
    return near if near >= 0.9 * channels else near + divisor


def check_kernel(kernel: int) -> None:
    """Raises Error where `kernel` is none that keeps a padded map's size."""
    if type(kernel) is not int or kernel not in KERNELS:
        raise Error(f"kernel must be one of {KERNELS}, got {kernel!r}")


def check_above(name: str, value: float) -> None:
    """Raises Error unless `value`, a field called `name`, is above 0 and finite."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise Error(f"{name} must be above 0 and finite, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raises Error unless `value`, a field called `name`, lies between 0 and 1."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise Error(f"{name} must be between 0 and 1, got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
