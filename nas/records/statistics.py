"""What short trainings are worth, and what knobs are, as values."""

from dataclasses import dataclass, field

from nas.networks.space import Label
from nas.records.plan import Recipe

FEWEST = 5  # networks that must make a choice, and that must not


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, by resampling the networks, and seeds where there are several."""

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
    """Their identities; names of those that were trained in full before."""
    scores: dict[str, tuple[tuple[float, ...], ...]]
    """By recipe: a row for each network, its top-1 at each rung; "longer": of what they are compared with."""
    agreements: tuple[Agreement, ...]
    device: str
    torch: str
    again: Estimate | None = None
    """Spearman's correlation of two seeds of full trainings that were there before: how far these agree with
    themselves."""
    losses: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """The training losses beside `scores`; none where they were not kept (before 0.16.0)."""


@dataclass(frozen=True, slots=True)
class AxisShare:
    """How much of the spread of scores the choices of an axis account for, by fANOVA, from 0 to 1."""

    axis: str
    share: Estimate


@dataclass(frozen=True, slots=True)
class ChoiceEffect:
    """Between a network that makes a choice wherever it can and one that never does: points of top-1, or percent that
    the training loss is lower, whichever the search goes by."""

    knob: str
    """An axis; those of several stages, or of several blocks of a kind, are one knob."""
    choice: Label
    networks: int
    """That make it somewhere."""
    points: Estimate


@dataclass(frozen=True, slots=True)
class KnobImportance:
    """Which knobs the scores of a search depend on."""

    run: str
    dataset: str | None
    recipe: Recipe
    networks: int
    axes: tuple[AxisShare, ...]
    """The largest share first."""
    choices: tuple[ChoiceEffect, ...]
    """The best first."""
