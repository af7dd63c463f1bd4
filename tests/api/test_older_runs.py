"""Runs that version 0.16 wrote, kept in `tests/data/v0.16/`: they open, are resumed, reported and exported."""

import json
import shutil
from pathlib import Path

import pytest

import nas
from nas.api.loading import trained_run
from nas.records.plan import Plan
from nas.records.run_folder import open_run
from nas.records.search_files import read_trials
from nas.records.trial import Trial
from nas.reports.comparison import CalibrationRun, SearchRun, TrainedRun
from tests.cli import test_cli as cli

OLD = Path(__file__).parents[1] / "data" / "v0.16"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of all of them."""
    shutil.copytree(OLD, tmp_path / "runs")
    return tmp_path / "runs"


def kept(run: Path) -> tuple[Plan, list[Trial]]:
    folder, plan = open_run(run)
    trials, problems = read_trials(folder)
    assert not problems
    return plan, trials


@pytest.mark.slow
def test_a_killed_search_is_resumed_to_its_end(runs: Path) -> None:
    asked = ("search", "--resume", runs / "search", "--workers", "1", "--quiet")
    done = cli.nas(*asked, program=("-m", "nas"))  # which proposes what was proposed then
    assert done.returncode == 0, done.stderr
    plan, trials = kept(runs / "search")
    _, before = kept(OLD / "search")
    assert 0 < len(before) < len(trials)
    assert all(trial in trials for trial in before), "what was on disk stays as it was"
    fitting = [trial for trial in trials if trial.state != "refused"]
    assert len(fitting) == plan.trials == 10 and not (runs / "search" / "work").exists()
    assert all(plan.budget.keeps(trial.cost) for trial in fitting)


@pytest.mark.slow
def test_a_killed_training_is_resumed_to_its_end(runs: Path) -> None:
    done = cli.nas("train", "--resume", runs / "training-killed", "--workers", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    before = json.loads((OLD / "training-killed" / "seed-0" / "epochs.json").read_text())
    after = json.loads((runs / "training-killed" / "seed-0" / "epochs.json").read_text())
    assert len(before["epochs"]) == 1 and len(after["epochs"]) == 3 and after["epochs"][:1] == before["epochs"]
    row = trained_run(runs / "training-killed")
    assert row.training_plan.training.epochs == 3 and len(row.outcome.tested) == 1


def test_all_of_them_are_shown(runs: Path) -> None:
    assert isinstance(nas.show(runs / "search"), SearchRun)
    assert isinstance(nas.show(runs / "calibration"), CalibrationRun)
    assert isinstance(nas.show(runs / "training"), TrainedRun)
    for name, text in (
        ("search", "go on with --resume"),
        ("calibration", "Spearman"),
        ("training", "test images, read once"),
        ("training-killed", "1 of 3 epochs"),
    ):
        shown = cli.nas_here("show", runs / name)
        assert shown.returncode == 0 and text in shown.stdout + shown.stderr, shown


def test_a_report_is_written(runs: Path) -> None:
    page = nas.report(runs / "search")
    _, trials = kept(runs / "search")
    trained = [trial.arch_id for trial in trials if trial.scores]
    assert page == runs / "search" / "report.html" and trained
    assert all(arch_id in page.read_text() for arch_id in trained)


def test_a_training_is_exported(runs: Path) -> None:
    exported = nas.export(runs / "training", formats=("python", "onnx"), seconds=0)
    assert not exported.found.failed
    files = {path.name for path in (runs / "training" / "export").iterdir()}
    assert {"model.py", "model.onnx", "model.safetensors", "preprocess.json", "README.md"} <= files
    tested = trained_run(runs / "training").outcome.chosen.top1
    export = json.loads((runs / "training" / "export" / "export.json").read_text())
    assert export["top1"] == pytest.approx(tested, abs=0.3)  # of 360 images; other kernels, other roundings
