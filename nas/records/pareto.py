"""Fronts of networks: who is dominated, in layers, and how much a front covers."""

import math
from collections.abc import Sequence
from typing import TypeAlias

from nas.networks.graph import Cost
from nas.records.timing import Latency
from nas.records.trial import Trial

Point: TypeAlias = tuple[float, ...]
"""Each entry the larger the better."""


def point(score: float, spent: Cost, objective: Sequence[str], latency: Latency | None = None) -> Point:
    """A network as a point: its score, and its costs with the sign turned."""
    known = {"accuracy": score, "latency": -(latency.median_ms if latency else math.inf)}
    return tuple(known[name] if name in known else -float(getattr(spent, name)) for name in objective)


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def undominated(points: Sequence[Point]) -> list[int]:
    """Which of `points` no other one dominates; equal ones stay together."""
    found: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: points[i], reverse=True):  # one is dominated by those before
        if not any(dominates(points[j], points[i]) for j in found):
            found.append(i)
    return sorted(found)


def ranks(points: Sequence[Point]) -> list[int]:
    """The front that each point lies on: 0 where nothing dominates it, 1 where only points of front 0 do, and so on."""
    if points and len(points[0]) == 1:  # no two dominate each other, unless they are equal
        order = {one: rank for rank, one in enumerate(sorted(set(points), reverse=True))}
        return [order[one] for one in points]
    found = [-1] * len(points)
    left = list(range(len(points)))
    rank = 0
    while left:
        for i in undominated([points[i] for i in left]):
            found[left[i]] = rank
        left = [i for i in left if found[i] < 0]
        rank += 1
    return found


def front(trials: Sequence[Trial], objective: Sequence[str]) -> list[Trial]:
    """The complete trials that no other complete one dominates, by score, best first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    kept = undominated([point(trial.score or 0.0, trial.cost, objective, trial.latency) for trial in complete])
    return sorted((complete[i] for i in kept), key=lambda trial: (-(trial.score or 0.0), trial.index))


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume that `points` dominate above `reference`; 0 for points that do not lie above it."""
    inside = [p for p in points if all(a > b for a, b in zip(p, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return max(p[0] for p in inside) - reference[0]
    volume, below = 0.0, reference[0]
    for level in sorted({p[0] for p in inside}):  # slices along the first objective, from the bottom
        beyond = [p[1:] for p in inside if p[0] >= level]
        volume += (level - below) * hypervolume(beyond, reference[1:])
        below = level
    return volume
