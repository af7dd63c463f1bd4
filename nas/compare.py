"""Runs beside each other: what searches spent and found, how far proxies can be believed, what trained networks do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import mean, stdev

from nas.findings import Calibration
from nas.outcome import Export, Outcome, Session
from nas.plan import Plan
from nas.recipes import Course, Recipes, Teacher, Training
from nas.timing import Latency
from nas.trial import Trial


@dataclass(frozen=True, slots=True)
class Searched:
    """A search, and what it came to."""

    run: str
    plan: Plan
    trials: tuple[Trial, ...]
    best: Trial | None
    tallies: dict[int, dict[str, float]]
    sessions: tuple[Session, ...]

    @property
    def looked_at(self) -> dict[str, int]:
        """How many networks were "drawn" for it, how many of them were refused, by why, or "let in"; anchors aside."""
        told = dict.fromkeys(name for tally in self.tallies.values() for name in tally)
        names = [name for name in told if name not in ("asked", "forecast error")]
        return {name: round(sum(tally.get(name, 0) for tally in self.tallies.values())) for name in names}

    @property
    def trained(self) -> int:
        """Networks that were trained, anchors among them."""
        return sum(bool(trial.scores) for trial in self.trials)

    @property
    def images(self) -> int:
        """That were trained on, over all networks."""
        return sum(score.images for trial in self.trials for score in trial.scores)

    @property
    def cpu_hours(self) -> float:
        """Of workers that trained or validated."""
        scores = [score for trial in self.trials for score in trial.scores]
        return sum(score.train_seconds + score.val_seconds for score in scores) / 3600


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and what it came to."""

    folder: str
    plan: Plan
    recipes: Recipes
    found: Calibration
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class Drilled:
    """A full training, and what it came to."""

    run: str
    name: str
    """The network's: an anchor's own, of others their identity."""
    course: Course
    outcome: Outcome
    exported: Export | None
    latency: Latency | None
    sessions: tuple[Session, ...]

    @property
    def like(self) -> tuple[str, Training, Teacher | None, int]:
        """What two trainings have in common that were trained alike: dataset, recipe, teacher, training images."""
        return self.course.dataset, self.course.training, self.course.teacher, self.outcome.train_images

    @property
    def validated(self) -> float | None:
        """Validation top-1, the mean over the seeds; None where nothing was validated."""
        values = [one.val_top1 for one in self.outcome.tested if one.val_top1 is not None]
        return mean(values) if values else None

    @property
    def int8(self) -> float | None:
        """Test top-1 of the int8 graph that was exported, of one seed, less that of the same weights in fp32."""
        if not self.exported:
            return None
        return next(
            (one.top1 - self.exported.top1 for one in self.exported.artefacts if one.format == "onnx-int8"), None
        )

    @property
    def cpu_hours(self) -> float:
        """Of training, over all seeds."""
        return sum(one.train_seconds for one in self.outcome.tested) / 3600


def hours(sessions: Sequence[Session]) -> float | None:
    """Hours from the beginning to the end of all sessions; None where the end of one is not known."""
    if not sessions or any(session.ended is None for session in sessions):
        return None
    spans = [datetime.fromisoformat(s.ended or "") - datetime.fromisoformat(s.began) for s in sessions]
    return sum(span.total_seconds() for span in spans) / 3600


def against(one: Drilled, other: Drilled) -> tuple[float, float | None]:
    """By how many points of test top-1 `one` is better, and the standard error of that by the spread over seeds."""
    here, there = ([tested.top1 for tested in drilled.outcome.tested] for drilled in (one, other))
    gain = mean(here) - mean(there)
    if min(len(here), len(there)) < 2:
        return gain, None
    return gain, (stdev(here) ** 2 / len(here) + stdev(there) ** 2 / len(there)) ** 0.5
