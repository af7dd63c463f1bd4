"""What runs came to, as values: for Python users, and for tables and pages that put runs beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from nas.records.plan import Plan
from nas.records.recipes import Recipes, Teacher, TrainingPlan, TrainingRecipe
from nas.records.results import Export, Session, TrainingResult
from nas.records.statistics import Calibration
from nas.records.timing import Latency
from nas.records.trial import Trial, merit


@dataclass(frozen=True, slots=True)
class Result:
    """What a search came to."""

    plan: Plan
    trials: tuple[Trial, ...]
    """In the order asked, each with its `arch`, `choices`, `cost`, `score` and `state`."""
    best: Trial | None
    """The complete trial that is expected to be the best, once the noise of single scores is averaged out."""
    front: tuple[Trial, ...]
    """The complete trials that no other one beats in every objective, by score."""
    path: Path | None
    """The run's folder, where there is one."""

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
        heading = f"{len(self.trials)} trials, budget {self.plan.budget}, space {self.plan.space}; the best:"
        return f"<p>{escape(heading)}</p><table>{head}{body}</table>"


@dataclass(frozen=True, slots=True)
class SearchRun:
    """A search, and what it came to."""

    run: str
    plan: Plan
    trials: tuple[Trial, ...]
    best: Trial | None
    tallies: dict[int, dict[str, float]]
    sessions: tuple[Session, ...]

    @property
    def looked_at(self) -> dict[str, int]:
        """How many networks were "drawn" for it, how many of them rejected, by why, or "accepted"; anchors aside."""
        names_seen = dict.fromkeys(name for tally in self.tallies.values() for name in tally)
        names = [name for name in names_seen if name not in ("asked", "predictor_error")]
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
class CalibrationRun:
    """A calibration, and what it came to."""

    folder: str
    plan: Plan
    recipes: Recipes
    found: Calibration
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A full training, and what it came to."""

    run: str
    name: str
    """The network's: an anchor's own, of others their identity."""
    training_plan: TrainingPlan
    outcome: TrainingResult
    exported: Export | None
    latency: Latency | None
    sessions: tuple[Session, ...]

    @property
    def like(self) -> tuple[str, TrainingRecipe, Teacher | None, int, str]:
        """What two trainings have in common that were trained alike: dataset, recipe, teacher, training images, and how
        these are drawn."""
        return (
            self.training_plan.dataset,
            self.training_plan.training,
            self.training_plan.teacher,
            self.outcome.train_images,
            self.training_plan.drawn,
        )

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


def against(one: TrainedRun, other: TrainedRun) -> tuple[float, float | None]:
    """By how many points of test top-1 `one` is better, and the standard error of that by the spread over seeds."""
    here, there = ([tested.top1 for tested in trained_run.outcome.tested] for trained_run in (one, other))
    gain = mean(here) - mean(there)
    if min(len(here), len(there)) < 2:
        return gain, None
    return gain, (stdev(here) ** 2 / len(here) + stdev(there) ** 2 / len(there)) ** 0.5
