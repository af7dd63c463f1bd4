"""Runs looked at: `nas.show`, `nas.compare`, `nas.importance`, `nas.report`, `nas.dashboard`."""

import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.api.arguments import checked
from nas.api.loading import UnreadableRecord, report_view, run_summary, search_run, training_view
from nas.errors import Error
from nas.records.recipes import TrainingPlan
from nas.records.results import History, TrainingResult
from nas.records.run_folder import is_calibration, is_training, open_run, open_training, read_history, read_value
from nas.records.statistics import KnobImportance
from nas.reports.comparison import CalibrationRun, SearchRun, TrainedRun


@dataclass(frozen=True, slots=True)
class UnfinishedTraining:
    """A full training that has not ended."""

    folder: Path
    training_plan: TrainingPlan
    histories: dict[int, History]
    """By seed."""


@checked
def show(run: str | Path) -> SearchRun | CalibrationRun | TrainedRun | UnfinishedTraining:
    """What the run in a folder came to: a search or a training, finished or not, or a finished calibration.

    Warns of each record of a search that cannot be read. Raises Error where the folder holds no run.
    """
    path = Path(run)
    if is_training(path):
        folder, plan = open_training(path)
        if read_value(folder, "result", TrainingResult) is None:
            return UnfinishedTraining(path, plan, {seed: read_history(folder, seed) for seed in plan.seeds})
        return run_summary(path)
    open_run(path)
    if is_calibration(path):
        return run_summary(path)
    found, problems = search_run(path)
    _warn(problems)
    return found


@checked
def compare(runs: Sequence[str | Path]) -> list[SearchRun | CalibrationRun | TrainedRun]:
    """The runs in some folders, to be compared. Raises Error where one has not ended or cannot be read."""
    return [run_summary(Path(run)) for run in runs]


@checked
def importance(runs: Sequence[str | Path], axes: bool | None = None) -> list[KnobImportance]:
    """Which knobs of the space mattered in searches of one space, and what each choice was worth.

    `axes`: whether the shares of axes are computed, which takes seconds; by default for a single run. Raises Error
    where a run is no search, is of another space than the first, or has trained fewer than 8 networks beside anchors.
    """
    from nas.reports.importance import importance_of

    rows = compare(runs)
    searches = [row for row in rows if isinstance(row, SearchRun)]
    spaces = dict.fromkeys(row.plan.space for row in searches)
    if len(searches) < len(rows) or len(spaces) > 1:
        raise Error(
            f"importance is computed for searches of one space; these are of {', '.join(spaces) or 'none'}"
            + (", and some are no searches" if len(searches) < len(rows) else "")
            + "; leave out the others"
        )
    return [importance_of(row, axes=len(rows) == 1 if axes is None else axes) for row in searches]


@checked
def report(runs: str | Path | Sequence[str | Path], to: str | Path | None = None, *, small: bool = False) -> Path:
    """The file of one page that shows a search or a full training, or several; it opens without a network.

    Of a training: loss and accuracy by epoch, accuracy by class, what was taken for what, and the validation images
    that the network is most wrong about. `to`: the file, by default report.html in the first run's folder. `small`:
    plotly, 5 MB, is fetched when the page is opened. Warns of each record that cannot be read. Raises Error where a run
    is neither, or there are both kinds, OSError where the file cannot be written.
    """
    from nas.reports.page import page
    from nas.reports.training_page import training_page

    paths = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    if not paths:
        raise Error("name the folder of a search or of a training, as in runs/NAME")
    trained = [path for path in paths if is_training(path)]
    if 0 < len(trained) < len(paths):
        raise Error(f"{trained[0]} is a full training, others are searches; each kind has a page of its own")
    if trained:
        text = training_page([training_view(path) for path in trained], not small)
    else:
        views = [report_view(path) for path in paths]
        _warn([problem for _, problems in views for problem in problems])
        text = page([view for view, _ in views], not small)
    file = Path(to) if to is not None else paths[0] / "report.html"
    file.write_bytes(text.encode())
    return file


@checked
def dashboard(run: str | Path, port: int = 8080) -> list[str]:
    """The command that opens a search in optuna-dashboard, on this machine only, also while the search goes on.

    Raises Error where there is no study yet, ImportError where optuna-dashboard is not installed.
    """
    folder, _ = open_run(Path(run))
    if not folder.study_log.exists():
        raise Error(f"{run} has no study.log yet; it comes with the first trial")
    beside = Path(sys.executable).parent
    program = shutil.which("optuna-dashboard", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise ImportError(
            'the dashboard is not installed: pip install "nas[dashboard]", or pip install optuna-dashboard'
        )
    return [program, "--host", "127.0.0.1", "--port", str(port), str(folder.study_log)]


def _warn(problems: Sequence[str]) -> None:
    for problem in problems[:3]:
        warnings.warn(problem, UnreadableRecord, stacklevel=3)
    if len(problems) > 3:
        warnings.warn(f"{len(problems) - 3} more records cannot be read", UnreadableRecord, stacklevel=3)
