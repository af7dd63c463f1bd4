"""Networks that may be tried: candidates, with their scores so far and what is expected of their latency."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from nas.errors import Error
from nas.networks.architecture import Arch, cost_or_unbuildable
from nas.networks.descent import least
from nas.networks.graph import UNBUILDABLE, Cost
from nas.networks.space import Choices, Space
from nas.records.budget import Budget
from nas.records.trial import Costs, Trial

QUANTITIES = {"macs": "FLOPs (multiply-accumulates)", "params": "params", "peak": "activations held at once"}
QUANTITIES |= {"arena": "bytes of arena", "flash": "bytes of flash"}

PredictLatency: TypeAlias = Callable[[Any], tuple[float, float]]
"""How slow a network is expected to be, as a share of the limit of latency (in milliseconds where there is none), and
the chance that it keeps the limit."""


def costs_for(budget: Budget) -> Costs:
    """What counts the cost of an architecture: with arena and flash only where `budget` limits them, as that takes a
    hundred times as long."""
    if not budget.on_device:
        return cost_or_unbuildable

    from nas.models.micro_memory import cost_on_device

    return cost_on_device


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to be tried. `choices` draw it from the space; an anchor outside the space has none."""

    arch: Any
    choices: Choices
    cost: Cost
    id: str
    """Its identity."""
    anchor: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate of an earlier wave and its scores so far, rung by rung."""

    candidate: Candidate
    scores: tuple[float, ...]


class Request(NamedTuple):
    """What a sampler is asked for."""

    wave: int
    size: int
    """Networks that are wanted."""
    rungs: Mapping[str, int]
    """Of how many rungs each network's score counts that was tried so far, by its identity. A search that is gone
    through again knows as much at each wave as it did the first time, though more has ended since."""
    predict_latency: PredictLatency | None = None
    again: int = 0
    """How often the wave asked before."""
    polish: bool = False
    """Whether what is a step from the best so far is wanted, filled up to the budget: the last part of a search."""
    believed: bool = False
    """Whether networks without a score, which are being trained, are believed to come to what is expected of them; else
    they are passed over."""


def candidate_of(trial: Trial) -> Candidate:
    """The candidate that a trial was."""
    return Candidate(trial.arch, trial.choices, trial.cost, trial.arch_id, trial.anchor)


def cheapest(space: Space, budget: Budget, rng: random.Random, costs: Costs) -> Any:
    """The network of `space` that takes the smallest share of the budget; of equal ones, that with the fewest MACs.

    Raises Error where even that one is over it. It is found by descent: exact for MACs, and as far as a
    descent sees for several at once.
    """
    arch = least(space, lambda a: (budget.use(costs(a)), costs(a).macs), rng)
    smallest = costs(arch)
    if not budget.keeps(smallest):
        where = f" at {arch.resolution}x{arch.resolution}" if isinstance(arch, Arch) else ""
        if smallest.arena == UNBUILDABLE.macs:
            raise Error(
                f"no network of space {space.name} keeps the budget {budget}: LiteRT has no layers like theirs; limit "
                "macs, params or peak"
            )
        spent = [f"{getattr(smallest, name) or UNBUILDABLE.macs:,} {QUANTITIES[name]}" for name in budget.limits()]
        raise Error(
            f"no network of space {space.name} keeps the budget {budget}: the smallest has "
            f"{' and '.join(spent)}{where}; raise --budget or take another --space"
        )
    return arch
