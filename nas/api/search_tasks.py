"""What a search was asked, made into one that can be run: its plan, space, anchors, scores, costs and latencies."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.resolve import (
    RESOLUTION,
    Read,
    SpaceLike,
    anchor_of,
    anchors_for,
    budget_of,
    budget_text,
    fitted_to_dataset,
    folder_of,
    redrawn,
    restore_in,
    space_of,
    with_starts,
)
from nas.api.starts import StartLike, best_of, known_from, starts_in
from nas.api.user_functions import UserEvaluate, UserFunction, check_takes, priced, timed
from nas.errors import Error
from nas.networks.architecture import Anchor, Arch
from nas.networks.graph import Cost
from nas.networks.space import Space, fitted
from nas.records.budget import Budget
from nas.records.datasets import BUILT_IN
from nas.records.plan import MEASURED_SECONDS, PROXY, WAVE, Meter, Plan, Reading, Rung
from nas.records.run_folder import is_calibration, open_run
from nas.records.search_files import Restore, digest_of
from nas.records.timing import Latency
from nas.records.trial import Costs, Trial
from nas.search_strategy.candidates import cheapest, costs_for

if TYPE_CHECKING:
    from nas.execution.jobs import Evaluate
    from nas.search_strategy.latency_limit import Measure


@dataclass(frozen=True, slots=True)
class Asked:
    """What all searches are asked alike."""

    budget: str | Sequence[str] | Budget | None
    trials: int
    seed: int
    objective: tuple[str, ...]
    sampler: str
    resolution: int | None
    flip: bool
    reading: Reading
    balance: bool
    reproducible: bool | None
    start: tuple[StartLike, ...]
    warm_start: Path | None


@dataclass(frozen=True, slots=True)
class Task:
    """A search that can be run: all that was asked has been found possible."""

    plan: Plan
    space: Space
    anchors: Sequence[Anchor]
    score: "Evaluate"
    costs: Costs
    restore: Restore
    measure: "tuple[Measure, Any] | None" = None
    earlier: Sequence[Trial] = ()
    """What the sampler knows from another search."""
    about: str = ""
    """What its folder is named after, where none is given; nothing is kept where that is nothing."""


def plan_on_paper(
    asked: Asked,
    space: Space,
    dataset: str,
    anchors: Sequence[str | Anchor] | None,
    wave: int | None,
    cost: Callable[[Any], Cost | float] | None,
    latency: Callable[[Any], Latency | float] | None,
    meter: Meter,
) -> Plan:
    """The plan of a search on a dataset that is not loaded yet. What can be refused is, before heavy work."""
    known = BUILT_IN.get(dataset, BUILT_IN["digits"])
    side, classes = asked.resolution or known.side, known.classes
    reading = replace(asked.reading, channels=asked.reading.channels or known.channels)
    limits = budget_of(asked.budget, side, classes, anchors, reading.channels)
    plan = Plan(
        limits, dataset, space.name, "", asked.trials, asked.seed, PROXY, side, classes, asked.objective, None,
        WAVE if wave is None else wave, sampler=asked.sampler, flip=asked.flip, reading=reading,
        balance=asked.balance,
    )  # fmt: skip
    _check_latency(plan, meter, latency, asked.reproducible)
    if dataset in BUILT_IN:
        where = fitted(space, side, classes, reading.channels)
        cheapest(where, limits, random.Random(asked.seed), priced(cost, limits))
    return plan


def on_dataset(
    plan: Plan,
    asked: Asked,
    space: Space,
    data: str | Path | None,
    anchors: Sequence[str | Anchor] | None,
    cost: Callable[[Any], Cost | float] | None,
    latency: Callable[[Any], Latency | float] | None,
    meter: Meter,
    device: str | None,
    read: Read,
) -> Task:
    """A search whose networks are trained on a dataset, which is loaded, on `device`."""
    from nas.training.proxy import Proxy

    plan = replace(plan, reading=asked.reading)
    plan, where = fitted_to_dataset(plan, folder_of(data), space, asked.resolution, read)
    limits = budget_of(asked.budget, plan.resolution, plan.classes, anchors, plan.reading.channels)
    plan, costs = replace(plan, budget=limits), priced(cost, limits)
    cheapest(where, plan.budget, random.Random(asked.seed), costs)  # raises where nothing keeps the budget
    plan, earlier = _begun_with(plan, asked, where, costs)
    rows = anchors_for(plan) if anchors is None else with_starts([anchor_of(one, plan) for one in anchors], plan)
    if plan.timed and not latency:
        plan = replace(plan, meter=replace(meter, reference=_reference(plan, rows or anchors_for(plan)).name))
    about = f"{plan.dataset.split('/')[-1]}-{budget_text(asked.budget)}"
    measure = _measure(plan, latency, rows)
    return Task(plan, where, rows, Proxy(plan, device), costs, restore_in(where), measure, earlier, about)


def _begun_with(plan: Plan, asked: Asked, space: Space, costs: Costs) -> tuple[Plan, list[Trial]]:
    """`plan` with the networks that it begins with beside the anchors, and what is known from an earlier search."""
    plan = replace(plan, starts=starts_in(space, asked.start, plan, costs))
    if asked.warm_start is None:
        return plan, []
    earlier = known_from(asked.warm_start, space, plan, costs)
    tried = {start.arch for start in plan.starts}
    best = [start for start in best_of(earlier, plan, asked.warm_start) if start.arch not in tried]
    known = f"{asked.warm_start.resolve().name} {digest_of(earlier)}"
    return replace(plan, starts=(*plan.starts, *best), warm_start=known), earlier


def by_function(
    asked: Asked,
    space: Space,
    evaluate: UserFunction,
    rungs: int,
    wave: int | None,
    anchors: Sequence[str | Anchor],
    cost: Callable[[Any], Cost | float] | None,
    latency: Callable[[Any], Latency | float] | None,
    meter: Meter,
) -> Task:
    """A search whose networks are scored by a function of the user's own."""
    check_takes(evaluate, "evaluate", ("network", "rung"))
    limits = Budget() if asked.budget is None else budget_of(asked.budget, RESOLUTION, 10, anchors)
    recipe = replace(PROXY, name="evaluate", rungs=(Rung(1, 1, 0),) * rungs, keep=0.5, judge="top1")
    plan = Plan(
        limits, "", space.name, space.digest, asked.trials, asked.seed, recipe, 0, 0, asked.objective,
        wave=4 if wave is None else wave, sampler=asked.sampler, flip=asked.flip,
    )  # fmt: skip
    _check_latency(plan, meter, latency, asked.reproducible)
    costs = priced(cost, limits, {*asked.objective} - {"accuracy", "latency"})
    cheapest(space, plan.budget, random.Random(asked.seed), costs)
    plan, earlier = _begun_with(plan, asked, space, costs)
    rows = with_starts([anchor_of(one, None) for one in anchors], plan)
    if plan.timed and not latency:
        plan = replace(plan, meter=replace(meter, reference=_reference(plan, rows).name))
    restore = functools.partial(redrawn, space)
    return Task(plan, space, rows, UserEvaluate(evaluate), costs, restore, _measure(plan, latency, rows), earlier)


def resumed_search(
    path: Path, space: SpaceLike, data: str | Path | None, trials: int | None, device: str | None
) -> Task:
    """The search in folder `path`, ready to be resumed, up to `trials` trained networks where that is asked for."""
    if is_calibration(path):
        raise Error(f"{path} is a calibration; go on with nas calibrate --resume {path}")

    from nas.api.loading import resumable
    from nas.search_strategy.trial_log import extend_run
    from nas.training.proxy import Proxy

    if not open_run(path)[1].dataset:
        raise Error(f"{path} is of an evaluate of its own; call nas.search as it was begun, with run={str(path)!r}")
    folder, plan, where = resumable(path, data, None if isinstance(space, str) else space_of(space))
    rows, costs = anchors_for(plan), costs_for(plan.budget)
    if trials is not None:
        extend_run(folder, trials, sum(plan.budget.keeps(costs(anchor.arch)) for anchor in rows))
        plan = replace(plan, trials=trials)
    return Task(plan, where, rows, Proxy(plan, device), costs, restore_in(where), _measure(plan, None, rows))


def _check_latency(
    plan: Plan, meter: Meter, latency: Callable[[Any], Latency | float] | None, reproducible: bool | None
) -> None:
    """Raises Error where latency is to be measured and nothing asks for it, is given in the wrong unit, or would be
    measured on this machine while it trains."""
    usual = Meter("", seconds=MEASURED_SECONDS)
    if meter != usual and not plan.timed:
        raise Error("latency is measured where --budget or --objective asks for it, as in --budget 25MFLOPs,1.5ms")
    if plan.timed and not latency and meter.device == "here" and reproducible is False:
        raise Error(
            "latency is measured on this machine while nothing trains: leave out --asynchronous, or name a "
            "--measure-device"
        )
    if plan.timed and latency and plan.budget.latency_ratio is not None:
        raise Error(
            f"budget {plan.budget} is a multiple of an anchor's latency, latency= gives milliseconds: give 1.5ms"
        )
    if meter.on_board and plan.budget.latency_ratio is not None:
        raise Error(f"budget {plan.budget} is a multiple of an anchor's latency, a board gives milliseconds: give 50ms")


def _reference(plan: Plan, anchors: Sequence[Anchor]) -> Anchor:
    """The network that runs in turn with each that is measured: the one that the budget names, else the first."""
    named = [anchor for anchor in anchors if plan.budget.reference in (None, anchor.name)]
    if not named and plan.budget.reference:
        named = [anchor_of(plan.budget.reference, plan if plan.dataset else None)]
    if not named or not isinstance(named[0].arch, Arch):
        raise Error("latency is measured in turn with a reference network: give anchors, or latency=")
    return named[0]


def _measure(
    plan: Plan, latency: Callable[[Any], Latency | float] | None, anchors: Sequence[Anchor]
) -> "tuple[Measure, Any] | None":
    """What gives latencies, and the network that they are scaled by, if any; None where nothing asks for latency."""
    if not plan.timed:
        return None
    if latency:
        return timed(latency), None
    if not plan.meter:
        raise Error("this search was begun with a latency= of its own; give it again, with run= its folder")

    from nas.latency.measure import measured

    meter = plan.meter
    if meter.on_board:  # nothing to scale by: a board is as fast an hour later
        return lambda arch: measured(arch, arch, meter), None
    named = [anchor for anchor in anchors if anchor.name == meter.reference]
    reference = (named[0] if named else anchor_of(meter.reference, plan if plan.dataset else None)).arch
    return lambda arch: measured(arch, reference, meter), reference
