"""Which knobs of a space mattered: how much of the spread of scores each accounts for, and what each choice was worth.

Judged by what ranks networks in the search (`nas.records.trial.merit`) at the first rung, because every network that
was trained has been through it. Anchors are left out: they are few, and were not drawn.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import exp

import numpy as np
from numpy.typing import NDArray

from nas.errors import Error
from nas.networks.space import Label
from nas.records.statistics import FEWEST, AxisShare, ChoiceEffect, Estimate, KnobImportance
from nas.records.trial import Trial, merit
from nas.reports.comparison import SearchRun
from nas.search_strategy.study import importance

LEAST = 8  # networks, for any figure
FORESTS = 30  # resamples for the interval of a share, each with a forest of its own
RESAMPLES = 2_000  # for the interval of a worth
OWN = ("width", "depth", "stride")  # of a stage


def importance_of(search: SearchRun, axes: bool = True) -> KnobImportance:
    """Which knobs the scores of a search depend on; without the shares of `axes`, which take seconds, where not wanted.

    Raises Error where it has trained fewer than 8 networks besides the anchors.
    """
    drawn = drawn_of(search.trials)
    if len(drawn) < LEAST:
        raise Error(f"importance needs {LEAST} trained networks besides the anchors, got {len(drawn)}: {search.run}")
    recipe = search.plan.recipe
    merits = [merit(trial.scores[0], recipe.judge) for trial in drawn]
    choices = effects(drawn, merits)
    if recipe.judge == "loss":
        choices = [replace(one, points=_percent(one.points)) for one in choices]
    shares = axis_shares(drawn, merits) if axes else []
    return KnobImportance(search.run, search.plan.dataset, recipe, len(drawn), tuple(shares), tuple(choices))


def drawn_of(trials: Sequence[Trial]) -> list[Trial]:
    """Those of `trials` that show what knobs do: drawn from the space, and trained."""
    return [trial for trial in trials if trial.scores and trial.choices and not trial.anchor]


def axis_shares(trials: Sequence[Trial], merits: Sequence[float]) -> list[AxisShare]:
    """The share of each axis that all of `trials` have, the largest first, with its 95 % interval."""
    whole = importance(trials, merits)
    rng = np.random.default_rng(0)
    again: dict[str, list[float]] = {axis: [] for axis in whole}
    for _ in range(FORESTS if whole else 0):
        part = rng.integers(len(trials), size=len(trials)).tolist()
        found = importance([trials[i] for i in part], [merits[i] for i in part])
        for axis in whole:
            again[axis].append(found.get(axis, 0.0))
    rows = [AxisShare(axis, _estimate(share, again[axis])) for axis, share in whole.items()]
    return sorted(rows, key=lambda row: -row.share.value)


def effects(trials: Sequence[Trial], merits: Sequence[float]) -> list[ChoiceEffect]:
    """What each choice was worth, with its 95 % interval by resampling networks; the best first.

    The slope of a straight line: merit against the share of the places with that knob where the choice was made. Other
    knobs are not held still, so choices that came together share their worth.
    """
    scores = np.array(merits)
    made: dict[tuple[str, Label], dict[int, float]] = defaultdict(dict)
    having: dict[str, list[int]] = defaultdict(list)
    for i, trial in enumerate(trials):
        places: dict[str, Counter[Label]] = defaultdict(Counter)
        for axis, choice in trial.choices.items():
            places[_knob(axis)][choice] += 1
        for knob, counts in places.items():
            having[knob].append(i)
            for choice, number in counts.items():
                made[knob, choice][i] = number / counts.total()
    rows = []
    for (knob, choice), by in made.items():
        who = having[knob]
        x = np.array([by.get(i, 0.0) for i in who])
        if min((x > 0).sum(), (x < x.max()).sum()) < FEWEST:
            continue
        rows.append(ChoiceEffect(knob, choice, len(by), _slope(x, scores[who])))
    return sorted(rows, key=lambda row: -row.points.value)


def _percent(points: Estimate) -> Estimate:
    """Of what the loss merits (`nas.records.trial.merit`), as a share of the loss."""
    return Estimate(*(100 * (1 - exp(-one / 100)) for one in (points.value, points.low, points.high)))


def _knob(axis: str) -> str:
    """What axes of several stages, or of several blocks, have in common: stages.2.block.expand is an `expand`.

    Not sizes of stages, which mean something else in each.
    """
    name = axis.rpartition(".")[2]
    return name if axis.startswith("stages.") and name not in OWN else axis


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> Estimate:
    def slopes(i: NDArray[np.int64]) -> list[float]:  # of each row of networks; nan where all are alike
        spread = x[i] - x[i].mean(1, keepdims=True)
        square = (spread**2).sum(1)
        square[square == 0] = np.nan
        return [float(one) for one in (spread * y[i]).sum(1) / square]

    drawn = np.random.default_rng(0).integers(len(x), size=(RESAMPLES, len(x)))
    return _estimate(slopes(np.arange(len(x))[None])[0], slopes(drawn))


def _estimate(value: float, again: Sequence[float]) -> Estimate:
    low, high = np.nanpercentile(again, [2.5, 97.5])
    return Estimate(value, min(value, float(low)), max(value, float(high)))
