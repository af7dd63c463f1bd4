"""Small rules that block kinds share: how widths are rounded, and what a field may hold."""

import math

KERNELS = (1, 3, 5, 7)


def rounded(channels: float, divisor: int = 8) -> int:
    """`channels` rounded to the nearest multiple of `divisor`, at least one of them and never below nine tenths."""
    near = max(divisor, int(channels / divisor + 0.5) * divisor)
    return near if near >= 0.9 * channels else near + divisor


def check_kernel(kernel: int) -> None:
    """Raises ValueError where `kernel` is none that keeps a padded map's size."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {KERNELS}, got {kernel}")


def check_above(name: str, value: float) -> None:
    """Raises ValueError unless `value`, a field called `name`, is above 0 and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless `value`, a field called `name`, lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
