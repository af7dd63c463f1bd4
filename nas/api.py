"""`nas.search` for Python: a space, a budget and, where you like, an `evaluate` of your own."""

import functools
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from nas.account import Halt, Watch
from nas.arch import Anchor, Arch
from nas.arch import cost as cost_on_paper
from nas.book import prolong
from nas.calibrate import Trainers
from nas.conditions import cores
from nas.gate import Measure
from nas.graph import Cost
from nas.pareto import front
from nas.plan import (
    FRONT_KEEP,
    MEASURED_SECONDS,
    PROXY,
    TRIALS,
    WAVE,
    Budget,
    Meter,
    Plan,
    Recipe,
    Rung,
    derived_seed,
    parse_budget,
)
from nas.propose import cheapest
from nas.runs import create, open_run, read_trials
from nas.space import Space, decode, fitted
from nas.timing import Latency, exactly
from nas.trial import Costs, Score, Trial, identity, merit, restored
from nas.waves import search as run_waves
from nas.workers import LIMIT, Evaluate, Here, OnRay, Tick, Workers

STEPS = 32  # of a rung, at least: after fewer the means of batch norm are far from where they belong

Own: TypeAlias = Callable[[Any, int], float]
"""A user's `evaluate(network, rung)`: a score, the higher the better."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a search came to."""

    plan: Plan
    trials: tuple[Trial, ...]
    """In the order asked, each with its `arch`, `choices`, `cost`, `score` and `state`."""
    best: Trial | None
    """The complete trial of which most is to be expected, once the luck of its one score is taken off."""
    front: tuple[Trial, ...]
    """The complete trials that no other one beats in every objective, by score."""
    path: Path | None
    """The run's folder, where one was asked for."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for each trial, in the order asked: its figures, and what was chosen."""
        rows = []
        for trial in self.trials:
            latency = {"latency_ms": trial.latency.median_ms} if trial.latency else {}
            cost = {"macs": trial.cost.macs, "params": trial.cost.params, "peak": trial.cost.peak}
            about = {"index": trial.index, "wave": trial.wave, "arch_id": trial.arch_id, "anchor": trial.anchor}
            rows.append(about | {"state": trial.state, "score": trial.score} | cost | latency | dict(trial.choices))
        return rows

    def frame(self) -> Any:
        """`rows` as a pandas frame. Raises ImportError where pandas is not installed."""
        from pandas import DataFrame

        return DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """A table of the ten best trials, for notebooks."""
        judge = self.plan.recipe.judge
        complete = [trial for trial in self.trials if trial.state == "complete"]
        best = sorted(complete, key=lambda t: (t != self.best, -merit(t.scores[-1], judge)))[:10]
        cells = [
            (trial.anchor or trial.arch_id, f"{trial.cost.macs / 1e6:.2f} M", f"{trial.score:.2f}") for trial in best
        ]
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        head = "<tr><th>network</th><th>MACs</th><th>score</th></tr>"
        said = f"{len(self.trials)} trials, budget {self.plan.budget}, space {self.plan.space}; the best:"
        return f"<p>{escape(said)}</p><table>{head}{body}</table>"


def search(
    space: Space,
    budget: str | Budget,
    evaluate: Own | None = None,
    *,
    trials: int | None = None,
    seed: int = 0,
    rungs: int = 1,
    cost: Callable[[Any], Cost | float] | None = None,
    latency: Callable[[Any], Latency | float] | None = None,
    anchors: Sequence[Anchor] = (),
    objective: str = "accuracy",
    proposals: str = "surrogate",
    wave: int | None = None,
    dataset: str = "digits",
    data: str | None = None,
    flip: bool = True,
    run: str | Path | None = None,
    workers: int = 1,
    ray_address: str | None = None,
    time_limit: float | None = None,
    watch: Watch = lambda _: None,
) -> Result:
    """The result of searching `space` for the network with the highest score that keeps `budget`.

    `evaluate(network, rung)` scores a network in `rungs` rungs: the better half of a wave goes on to each next one.
    Without it networks are architectures, and are trained on `dataset` as `nas search` does, its images mirrored if
    `flip`. `cost(network)`: what a network of your own costs, a `Cost` or a number of MACs; what an architecture costs
    is known. `latency(network)`: its milliseconds, where `budget` or `objective` asks for latency; by default
    architectures are measured here, in turn with the anchor that `budget` names, or the first. `anchors` are tried
    first, and the first of them goes through all rungs. `proposals`: "random" leaves them to chance, to compare with.
    `wave`: networks proposed before any of them is told; 8, or 4 for an `evaluate`. `run`: a folder that keeps all of
    it, and is gone on with where it exists, also with more `trials`: networks to score, 64 or as many as that run was
    to have. `workers`: trainings side by side, by Ray where there are several or a `ray_address`. `time_limit`: in
    seconds. `watch` hears how far it is.

    Raises ValueError where the request cannot be met, RunFailed after three failures in a row.
    """
    if rungs < 1:
        raise ValueError(f"rungs must be at least 1, got {rungs}")
    if rungs > 1 and not evaluate:
        raise ValueError(f"rungs={rungs} is for an evaluate; networks that are trained here have those of nas search")
    known = {anchor.name: functools.partial(cost_on_paper, anchor.arch) for anchor in anchors} if not cost else {}
    limits = budget if isinstance(budget, Budget) else parse_budget([budget], known)
    asked = TRIALS if trials is None else trials
    names = tuple(objective.replace(" ", "").split(","))
    if evaluate:
        recipe = replace(PROXY, name="evaluate", rungs=(Rung(1, 1, 0),) * rungs, keep=0.5, judge="top1")
        plan = Plan(limits, "", space.name, space.digest, asked, seed, recipe, 0, 0, names, wave=wave or 4)
    else:
        plan, space = proxy_plan(limits, dataset, data, space, asked, seed, names, wave or WAVE)
    plan = replace(plan, proposals=proposals, flip=flip)
    costs = _costs(cost)
    cheapest(space, plan, random.Random(seed), costs)  # raises where nothing keeps the budget
    if plan.timed and latency and limits.latency_ratio is not None:
        raise ValueError(
            f"budget {limits} is a multiple of an anchor's latency, latency= gives milliseconds: give 1.5ms"
        )
    reference = _reference(limits, anchors) if plan.timed and not latency else None
    if reference:
        plan = replace(plan, meter=Meter(reference.name, seconds=MEASURED_SECONDS))
    measure = _measure(plan, latency, reference) if plan.timed else None
    with tempfile.TemporaryDirectory() as room:
        path = Path(run) if run else Path(room) / "run"
        folder, begun = open_run(path) if path.exists() else (create(path, plan), plan)
        if not evaluate:
            plan = replace(plan, recipe=begun.recipe)  # that of its day
        if not begun.images_digest:
            plan = replace(plan, images_digest="")
        restore = (lambda trial: _redrawn(space, trial)) if evaluate else restored
        if problems := read_trials(folder, restore)[1]:
            raise ValueError(f"{problems[0]}; the other trials stay: delete that line to go on without it")
        if trials is None:
            plan = replace(plan, trials=begun.trials)
        if replace(begun, trials=plan.trials) == plan and plan.trials > begun.trials:
            prolong(folder, plan.trials, sum(plan.budget.keeps(costs(anchor.arch)) for anchor in anchors))
        elif begun != plan:
            raise ValueError(f"{path} was begun with another plan; take another run, or ask for what it was begun with")
        halt = Halt(deadline=time.monotonic() + time_limit if time_limit else math.inf)
        score: Evaluate = Scored(evaluate) if evaluate else trainer(plan)
        with crew(score, workers, ray_address) as hands:
            found = run_waves(plan, space, anchors, folder, hands, watch, halt, costs, restore, measure)
    best = tuple(front(found.trials, plan.objective))
    return Result(plan, tuple(found.trials), found.best, best, Path(run) if run else None)


@dataclass(frozen=True, slots=True)
class Scored:
    """A user's `evaluate` as workers call it."""

    evaluate: Own

    def __call__(self, network: Any, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, bytes | None]:
        """The score of a rung, and no state."""
        begun = time.perf_counter()
        try:
            value = float(self.evaluate(network, rung))
        except OSError as error:  # of what it reaches for; those of workers are the run's, of a full disk
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise ValueError(f"evaluate must give a finite score, got {value}")
        tick(1)
        return Score(rung, value, 0.0, 1, 0, time.perf_counter() - begun, 0.0, "", 0, ""), None


def proxy_plan(
    budget: Budget,
    dataset: str,
    data: str | None,
    space: Space,
    trials: int,
    seed: int,
    objective: tuple[str, ...],
    wave: int,
    recipe: Recipe = PROXY,
) -> tuple[Plan, Space]:
    """The plan of a search on a dataset, with rungs that it can fill, and `space` fitted to its images."""
    from nas.evaluate import loaded

    images = loaded(dataset, data)
    where = fitted(space, images.resolution, len(images.classes))
    recipe = filled(recipe, len(images.train), len(images.val))
    if len(objective) > 1:
        recipe = replace(recipe, keep=FRONT_KEEP)
    classes = len(images.classes)
    return (
        Plan(
            budget,
            dataset,
            space.name,
            where.digest,
            trials,
            seed,
            recipe,
            images.resolution,
            classes,
            objective,
            data,
            wave,
            images_digest=images.digest,
        ),
        where,
    )


def filled(recipe: Recipe, images: int, val_images: int) -> Recipe:
    """`recipe` with rungs that take no more images than there are, in batches small enough for STEPS of them.

    None is below three: an odd number of images in twos leaves one alone.
    """
    rungs = tuple(
        replace(rung, images=min(rung.images, images), val_images=min(rung.val_images, val_images))
        for rung in recipe.rungs
    )
    fewest = min(rung.images * rung.epochs for rung in rungs)
    return replace(recipe, rungs=rungs, batch=min(recipe.batch, max(3, fewest // STEPS)))


def trainer(plan: Plan) -> Evaluate:
    """What trains the candidates of a plan."""
    from nas.evaluate import Proxy

    return Proxy(plan)


def trainers(plan: Plan, recipes: Sequence[Recipe]) -> Evaluate:
    """What trains (recipe's name, architecture): each recipe with a seed of its own."""
    return Trainers(
        {
            recipe.name: trainer(replace(plan, recipe=recipe, seed=derived_seed(plan.seed, recipe.name) % 2**31))
            for recipe in recipes
        }
    )


@contextmanager
def crew(
    evaluate: Evaluate,
    workers: int | None,
    ray_address: str | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    limit: float = LIMIT,
) -> Iterator[Workers]:
    """Workers for as long as they are needed: this process for one, Ray for several, for a cluster, for its GPUs.

    `workers`: by default one a core. The others: see `nas.workers.OnRay`.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if ray_address is None and (workers or cores()) == 1 and cpus == 1 and gpus is None:
        yield Here(evaluate)
        return
    hands = OnRay(evaluate, workers, ray_address, cpus, gpus, limit)
    try:
        yield hands
    finally:
        hands.close()


def _costs(own: Callable[[Any], Cost | float] | None) -> Costs:
    if own is None:

        def on_paper(network: Any) -> Cost:
            if not isinstance(network, Arch):
                raise ValueError(f"networks of your own need cost=, which says what they cost; got {network!r}")
            return cost_on_paper(network)

        return on_paper

    def costs(network: Any) -> Cost:
        spent = own(network)
        return spent if isinstance(spent, Cost) else Cost(round(spent), 0, 0)

    return costs


def _reference(limits: Budget, anchors: Sequence[Anchor]) -> Anchor:
    """The network that runs in turn with each that is measured: the one that the budget names, else the first."""
    named = [anchor for anchor in anchors if limits.reference in (None, anchor.name)]
    if not named or not isinstance(named[0].arch, Arch):
        raise ValueError("latency is measured in turn with a reference network: give anchors, or latency=")
    return named[0]


def _measure(plan: Plan, own: Callable[[Any], Latency | float] | None, reference: Anchor | None) -> tuple[Measure, Any]:
    """What gives latencies, and the network that they are scaled by, if any."""
    if plan.meter and reference:
        return stopwatch(plan.meter, reference.arch), reference.arch
    assert own

    def told(network: Any) -> Latency:
        said = own(network)
        return said if isinstance(said, Latency) else exactly(float(said))

    return told, None


def stopwatch(meter: Meter, reference: Arch) -> Measure:
    """What measures architectures as `meter` says."""
    from nas.latency import measured

    return lambda arch: measured(arch, reference, meter)


def _redrawn(space: Space, trial: Trial) -> Trial:
    """`trial` as read from disk, with the network that its choices draw; an anchor outside the space has none."""
    if trial.anchor and not trial.choices:
        return restored(trial)
    network = decode(space, trial.choices)
    if identity(network) != trial.arch_id:
        raise ValueError(f"its choices draw {identity(network)}, the record is of {trial.arch_id}")
    return replace(trial, arch=network)
