"""What optimisers and their schedules are, as values."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["onecycle", "linear"]
RISE, FALL = 0.3, 0.7  # of a one-cycle schedule
CLIMB = 0.1  # of a linear one


@dataclass(frozen=True, slots=True)
class Muon:
    """Steps of whole convolutions made orthogonal (`nas.training.muon`), without weight decay."""

    lr: float = 0.06
    """The highest; it follows the schedule of the others."""
    momentum: float = 0.6
    steps: int = 3
    """Of the Newton-Schulz iteration."""


def share_of_lr(schedule: Schedule, done: float) -> float:
    """The learning rate when a share `done` of a training is over, as a share of the highest."""
    return one_cycle(done) if schedule == "onecycle" else linear(done)


def one_cycle(done: float) -> float:
    """From a 25th up, then down to nothing, both as half a cosine."""
    return 1 - 0.96 * fallen(done / RISE) if done < RISE else fallen((done - RISE) / FALL)


def linear(done: float) -> float:
    """Up from a 25th in the first tenth, then down to nothing, both straight."""
    return 0.04 + 0.96 * done / CLIMB if done < CLIMB else (1 - done) / (1 - CLIMB)


def fallen(share: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return (1 + cos(pi * min(1.0, share))) / 2
