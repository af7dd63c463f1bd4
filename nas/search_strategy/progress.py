"""How far a search is, what is shown of that, and when it is to stop."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from nas.execution.jobs import Stopped
from nas.records.plan import Plan
from nas.records.trial import State, Trial
from nas.search_strategy.trial_log import ActiveTrial, TrialLog

SHOWN = 16  # of the trainings under way


@dataclass(frozen=True, slots=True)
class Running:
    """A training under way; `top1`: at the rung before, if any."""

    name: str
    wave: int
    trial: int
    rung: int
    top1: float | None


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """Where a search stands. `work`, `here` and `planned` are training images: done, done by this process, in all."""

    wave: int
    trial: int
    name: str
    rung: int
    work: int
    here: int
    planned: int
    best: Trial | None
    measuring: bool = False
    """Whether its latency is being measured; else it is trained."""
    running: tuple[Running, ...] = ()
    """The trainings under way, the first SHOWN of them; `side_by_side` is how many there are."""
    ended: tuple[tuple[State, int], ...] = ()
    """How many trials ended how."""
    baseline: Trial | None = None
    """The first trial, where it has ended."""
    side_by_side: int = 0


Watch: TypeAlias = Callable[[SearchProgress], None]


@dataclass(slots=True)
class Halt:
    """When to stop before the end: as soon as `asked`, or so that all is over at `deadline`, a time.monotonic()."""

    asked: bool = False
    deadline: float = math.inf

    def __call__(self) -> bool:
        """Whether nothing more is to be begun. Raises Stopped where the time is up."""
        if time.monotonic() >= self.deadline:
            raise Stopped
        return self.asked


class ProgressTracker:
    """The training images spent, and what is shown of them."""

    def __init__(self, plan: Plan, watch: Watch, halt: Halt, log: TrialLog) -> None:
        self.plan, self.watch, self.halt, self.log = plan, watch, halt, log
        self.work = self.trained = 0  # what is done, and what of it this process did
        self.spent = 0.0  # seconds of workers on that
        self.planned = 1  # until the anchors are known
        self.begun = time.monotonic()
        self.measured = 0.0  # seconds of measuring
        self.partly: dict[int, tuple[ActiveTrial, int, int]] = {}  # what runs now: its rung, its images so far

    def begin(self, anchors: Sequence[ActiveTrial]) -> None:
        """Takes in how many of the anchors are trained."""
        fitting = sum(entry.state != "refused" for entry in anchors)
        first = bool(anchors) and anchors[0].state != "refused"
        waves = range(0, self.plan.trials - fitting, self.plan.wave)
        sizes = (min(self.plan.wave, self.plan.trials - fitting - begun) for begun in waves)
        steps = [*self.steps(fitting, 0, first), *(step for size in sizes for step in self.steps(size))]
        self.planned = sum(sum(step) for step in steps)

    def steps(self, size: int, first: int = 0, baseline: bool = False) -> list[list[int]]:
        """The trainings of each step of a wave of which `size` begin rung `first`, to the last rung, by their images.

        `baseline`: one of them goes through all.
        """
        steps, size = list[list[int]](), size - baseline
        for rung in range(first, len(self.plan.recipe.rungs)):
            steps.append([images_of(self.plan, rung)] * (size + baseline))
            size = math.ceil(size * self.plan.recipe.keep)
        return steps

    def in_time(self, size: int, waves: Sequence[Sequence[ActiveTrial]]) -> bool:
        """Whether another wave, and what is under way, are likely to end before the deadline."""
        if self.halt.deadline == math.inf or not self.trained:
            return True
        steps = self.steps(size)
        for wave, entries in enumerate(waves):
            under_way = [entry for entry in entries if entry.state is None]
            baseline = any(entry.index == 0 for entry in under_way)
            for step, jobs in zip(steps, self.steps(len(under_way), len(waves) - wave, baseline), strict=False):
                step += jobs
        now = time.monotonic()
        measuring = self.measured / len(waves)  # of a wave
        rate = (now - self.begun - self.measured) / self.trained  # of all workers
        alone = max(rate, self.spent / self.trained)  # of one: no step is over before its longest training
        seconds = sum(max(sum(step) * rate, max(step, default=0) * alone) for step in steps)
        return now + measuring + seconds <= self.halt.deadline

    def time_for(self, rung: int) -> bool:
        """Whether a network that begins `rung` now is likely to be through all others before the deadline too."""
        if self.halt.deadline == math.inf or not self.trained:
            return True
        images = sum(images_of(self.plan, later) for later in range(rung, len(self.plan.recipe.rungs)))
        return time.monotonic() + images * self.spent / self.trained <= self.halt.deadline

    def measuring(self, entry: ActiveTrial) -> None:
        """Hears that a network is being measured."""
        self._tell(entry, len(entry.scores), True)

    def tick(self, entry: ActiveTrial, rung: int, images: int) -> None:
        """Hears of images that were trained on. Raises Stopped where the time is up."""
        if time.monotonic() >= self.halt.deadline:
            raise Stopped
        most = images_of(self.plan, rung)
        seen = self.partly[entry.index][2] if entry.index in self.partly else 0
        self.partly[entry.index] = entry, rung, min(seen + images, most)
        self._tell(entry, rung)

    def done(self, entry: ActiveTrial, rung: int, trained: bool) -> None:
        """Hears that a rung is done."""
        self.partly.pop(entry.index, None)
        self.work += images_of(self.plan, rung)
        if trained:
            self.trained += images_of(self.plan, rung)
            self.spent += sum(score.train_seconds + score.val_seconds for score in entry.scores if score.rung == rung)
            self._tell(entry, rung)

    def _tell(self, entry: ActiveTrial, rung: int, measuring: bool = False) -> None:
        partly = sum(images for _, _, images in self.partly.values())
        running = tuple(
            Running(one.name, one.wave, one.index, at, one.scores[-1].top1 if one.scores else None)
            for one, at, _ in islice(self.partly.values(), SHOWN)
        )
        self.watch(
            SearchProgress(
                entry.wave,
                entry.index,
                entry.name,
                rung,
                min(self.work + partly, self.planned),
                self.trained + partly,
                self.planned,
                self.log.best,
                measuring,
                running,
                tuple(self.log.ended.items()),
                self.log.trials.get(0),
                len(self.partly),
            )
        )


def images_of(plan: Plan, rung: int) -> int:
    """Training images of one network at `rung`."""
    return plan.recipe.rungs[rung].images * plan.recipe.rungs[rung].epochs
