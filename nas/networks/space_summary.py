"""What a space holds, and how much of it keeps a budget: known before anything is trained."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from nas.networks.architecture import cost
from nas.networks.graph import Cost
from nas.networks.space import Label, Space, axes, least, sample, size

DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """A space in figures. Median and share are of `draws` networks drawn at random."""

    name: str
    size: int
    """Combinations of choices."""
    axes: dict[str, tuple[Label, ...]]
    smallest: Cost
    """Each quantity's smallest, as far as a descent found; not of one network."""
    median: Cost
    largest: Cost
    draws: int
    keeping: int | None
    """How many of the draws keep the budget; None where there is none."""
    near: int | None
    """How many of those take at least 85 % of it."""


def summary_of(space: Space, use: Callable[[Cost], float] | None = None, near: float = 0.85) -> SpaceSummary:
    """`space` in figures.

    `use`: the share of a budget that a cost takes, above 1 where it breaks the budget. `near`: the share from which a
    network counts as near it.
    """
    rng = random.Random(0)
    spent = [cost(sample(space, rng)) for _ in range(DRAWS)]
    names = ("macs", "params", "peak")

    def extreme(name: str, sign: int) -> int:
        found: int = getattr(cost(least(space, lambda network: sign * getattr(cost(network), name), rng)), name)
        return found

    shares = [share for share in map(use, spent) if share <= 1] if use else []
    return SpaceSummary(
        name=space.name,
        size=size(space),
        axes=axes(space),
        smallest=Cost(*(extreme(name, 1) for name in names)),
        median=Cost(*(round(median(getattr(one, name) for one in spent)) for name in names)),
        largest=Cost(*(extreme(name, -1) for name in names)),
        draws=DRAWS,
        keeping=len(shares) if use else None,
        near=sum(share >= near for share in shares) if use else None,
    )
