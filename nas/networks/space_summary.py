"""What a space holds, and how much of it keeps a budget: known before anything is trained."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from nas.errors import Error
from nas.networks.architecture import cost_or_unbuildable
from nas.networks.descent import least
from nas.networks.graph import UNBUILDABLE, Cost
from nas.networks.space import Label, Space, axes, sample, size

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
    unbuildable: int
    """How many of the draws cannot be built: their parts do not fit each other."""
    keeping: int | None
    """How many of the draws keep the budget; None where there is none."""
    near: int | None
    """How many of those take at least 85 % of it."""


def summary_of(
    space: Space,
    use: Callable[[Cost], float] | None = None,
    near: float = 0.85,
    costs: Callable[[Any], Cost] = cost_or_unbuildable,
) -> SpaceSummary:
    """`space` in figures.

    `use`: the share of a budget that a cost takes, above 1 where it breaks the budget. `near`: the share from which a
    network counts as near it. `costs`: what counts them, where the budget limits more than is always counted.
    """
    rng = random.Random(0)
    drawn = [costs(sample(space, rng)) for _ in range(DRAWS)]
    spent = [one for one in drawn if one != UNBUILDABLE]
    names = ("macs", "params", "peak")
    if not spent:
        raise Error(f"none of {DRAWS} networks drawn from space {space.name} can be built: their parts do not fit")

    def extreme(name: str, sign: int) -> int:
        def measure(network: Any) -> float:
            cost = cost_or_unbuildable(network)
            return math.inf if cost == UNBUILDABLE else float(sign * getattr(cost, name))

        return int(sign * measure(least(space, measure, rng)))

    shares = [share for share in map(use, spent) if share <= 1] if use else []
    return SpaceSummary(
        name=space.name,
        size=size(space),
        axes=axes(space),
        smallest=Cost(*(extreme(name, 1) for name in names)),
        median=Cost(*(round(median(getattr(one, name) for one in spent)) for name in names)),
        largest=Cost(*(extreme(name, -1) for name in names)),
        draws=DRAWS,
        unbuildable=len(drawn) - len(spent),
        keeping=len(shares) if use else None,
        near=sum(share >= near for share in shares) if use else None,
    )
