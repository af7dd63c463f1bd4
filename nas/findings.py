"""What short trainings are worth, and what knobs are, as values."""

from dataclasses import dataclass

from nas.space import Label

FEWEST = 5  # networks that must make a choice, and that must not


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, by resampling the networks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a rung of a proxy ranks the networks, against the longer training."""

    proxy: str
    rung: int
    by: str
    """What ranks: "accuracy" on validation images, or the mean training "loss"."""
    spearman: Estimate
    kendall: Estimate
    minutes: float
    """Of one worker, for one network, from its first step to here."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was trained, and how the proxies agree with the longer training."""

    networks: tuple[str, ...]
    scores: dict[str, tuple[tuple[float, ...], ...]]
    """By recipe: a row for each network, its top-1 at each rung."""
    agreements: tuple[Agreement, ...]
    device: str
    torch: str


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the spread of scores the choices of an axis account for, by fANOVA, from 0 to 1."""

    axis: str
    share: Estimate


@dataclass(frozen=True, slots=True)
class Worth:
    """Points between a network that makes a choice wherever it can and one that never does, by what its search goes by:
    of top-1, or what less training loss merits (`nas.trial.merit`)."""

    knob: str
    """An axis; those of several stages, or of several blocks of a kind, are one knob."""
    choice: Label
    networks: int
    """That make it somewhere."""
    points: Estimate
