"""What a space holds, and how much of it keeps a budget: known before anything is trained."""

import random
from dataclasses import dataclass
from statistics import median

from nas.graph import Cost
from nas.plan import Budget
from nas.space import Label, Space, axes, least, sample, size
from nas.trial import Costs

DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Survey:
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


def survey(space: Space, costs: Costs, budget: Budget | None, seed: int = 0, near: float = 0.85) -> Survey:
    """`space` in figures; `near`: the share of a budget from which a network counts as near it."""
    rng = random.Random(seed)
    spent = [costs(sample(space, rng)) for _ in range(DRAWS)]
    names = ("macs", "params", "peak")

    def extreme(name: str, sign: int) -> int:
        found: int = getattr(costs(least(space, lambda network: sign * getattr(costs(network), name), rng)), name)
        return found

    keeping = [cost for cost in spent if budget.keeps(cost)] if budget else []
    return Survey(
        name=space.name,
        size=size(space),
        axes=axes(space),
        smallest=Cost(*(extreme(name, 1) for name in names)),
        median=Cost(*(round(median(getattr(cost, name) for cost in spent)) for name in names)),
        largest=Cost(*(extreme(name, -1) for name in names)),
        draws=DRAWS,
        keeping=len(keeping) if budget else None,
        near=sum(budget.use(cost) >= near for cost in keeping) if budget else None,
    )
