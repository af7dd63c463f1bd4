"""Runs beside each other, what commands leave of their conditions, which knobs mattered."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from nas import search
from nas.api.loading import report_view, run_summary
from nas.api.search import Result
from nas.networks.architecture import Arch, cost
from nas.records import results
from nas.records.budget import Budget
from nas.records.recipes import TRAINING_RECIPES
from nas.records.results import Session, TrainingResult
from nas.records.run_folder import (
    Run,
    append_session,
    create,
    end_killed,
    locked,
    open_training,
    read_sessions,
    write_value,
)
from nas.records.statistics import ChoiceEffect, Estimate, KnobImportance
from nas.records.timing import Latency
from nas.records.trial import Score, Trial
from nas.reports import importance
from nas.reports.comparison import SearchRun, against, hours
from nas.reports.comparison_tables import print_importance
from search_spaces import ANCHORS, LIGHTWEIGHT
from tests.cli.test_cli import nas_here
from tests.conftest import RECIPE, plan_for
from tests.training.test_full_training import began

SESSION = Session("nas train x", "2026-11-21T10:00:00+00:00", None, "a processor", 2, {"python": "3.11", "nas": "1"})


def worth(arch: Arch, _rung: int) -> float:
    """Networks with hswish are ten points better, whatever else they are."""
    return 50 + 10 * (arch.stem.act == "hswish") + random.Random(repr(arch)).random()


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "FORESTS", 3)


@pytest.fixture(scope="module")
def search_run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("runs") / "by-chance"
    return search(LIGHTWEIGHT, "25MFLOPs", worth, trials=40, wave=20, sampler="near-budget", run=folder)


def refused(message: str, *args: str) -> None:
    done = nas_here(*args)
    assert done.returncode == 2 and message in done.stderr, done.stderr


def of_seed(seed: int, top1: float) -> results.TestResult:
    return results.TestResult(seed, top1, 99.0, top1, top1, top1, ((1,),), top1 - 1, 0.5, 3600.0, 100.0)


def trained_run(path: Path, *top1: float) -> Path:
    """A full training of Low-res MobileNet that has come to `top1`, a seed each."""
    run, training_plan = began(path, seeds=len(top1))
    write_value(
        run, "training", replace(training_plan, network="lowres-mobilenet", arch=ANCHORS["lowres-mobilenet"].arch)
    )
    spent = cost(ANCHORS["lowres-mobilenet"].arch)
    told = tuple(of_seed(seed, value) for seed, value in enumerate(top1))
    came = TrainingResult("c6177ce8c1", spent, 1000, 100, 100, ("0", "1"), told, "cpu", 1, {"nas": "1"}, "2026-11-21")
    write_value(run, "result", came)
    return path


def test_what_a_search_looked_at_trained_and_spent(search_run: Result, here: Path) -> None:
    assert search_run.path
    (one,) = json.loads(nas_here("compare", str(search_run.path), "--json").stdout)["runs"]
    assert one["trained"] == len(search_run.trials) == 40 and one["images"] == 40
    assert one["looked_at"]["drawn"] >= one["looked_at"]["over_budget"] + 40 > 40
    assert one["looked_at"]["accepted"] == 40 and one["plan"]["sampler"] == "near-budget"
    assert "by-chance" in nas_here("compare", str(search_run.path)).stdout


def test_trained_networks_beside_the_baseline(here: Path) -> None:
    low, high = trained_run(here / "low", 86.0, 87.0), trained_run(here / "high", 89.0, 90.0)
    (other, baseline) = (run_summary(path) for path in (high, low))
    assert against(other, baseline) == (3.0, pytest.approx(0.5**0.5))  # type: ignore[arg-type]
    write_value(Run(low), "latency", Latency(1.0, 0.9, 1.1, 1.0, 0.9, 1.1, 1.0, 9, 9, True, "ort", "here", 1, 1))
    shown = nas_here("compare", str(low), str(high)).stdout
    assert "89.50 % +- 0.71" in shown and "1.000 (0.900-1.100)" in shown and "0.90-1.10" in shown
    (one, _) = json.loads(nas_here("compare", str(low), str(high), "--json").stdout)["runs"]
    assert one["cpu_hours"] == 2.0 and one["validated"] == 85.5 and one["int8"] is None


def test_trainings_are_held_against_a_baseline_trained_alike(here: Path) -> None:
    low, high = trained_run(here / "low", 86.0, 87.0), trained_run(here / "high", 89.0, 90.0)
    run, training_plan = open_training(high)
    other = replace(training_plan, network="shufflenetv2-x2-32", arch=ANCHORS["shufflenetv2-x2-32"].arch)
    write_value(run, "training", other)
    (one, _) = json.loads(nas_here("compare", str(high), str(low), "--json").stdout)["runs"]
    assert one["gain"] == 3.0 and one["gain_error"] == pytest.approx(0.5**0.5)
    assert "+3.00 +- 0.71" in nas_here("compare", str(high), str(low)).stdout
    write_value(run, "training", replace(other, training=TRAINING_RECIPES["plain"]))
    (one, _) = json.loads(nas_here("compare", str(high), str(low), "--json").stdout)["runs"]
    shown = nas_here("compare", str(high), str(low)).stdout
    assert one["gain"] is None and "+3.00" not in shown and "not trained alike" in shown


def test_runs_that_have_not_ended_are_refused(here: Path) -> None:
    began(here / "cut", seeds=1)
    refused("cut has not ended; go on with nas train --resume cut", "compare", "cut")
    refused("is no run", "compare", ".")


def test_sessions_are_paired_and_summed(here: Path) -> None:
    run = create(here / "run", plan_for(Budget(macs=25_000_000)))
    append_session(run, SESSION)
    assert hours(read_sessions(run)) is None  # killed, or still at work
    append_session(run, replace(SESSION, ended="2026-11-21T10:30:00+00:00"))
    later = replace(SESSION, began="2026-11-21T12:00:00+00:00", ended="2026-11-21T13:00:00+00:00")
    append_session(run, later)
    assert read_sessions(run)[-1] == later and hours(read_sessions(run)) == 1.5


def test_a_process_that_was_killed_ended_when_it_last_wrote(here: Path) -> None:
    run = create(here / "run", plan_for(Budget(macs=25_000_000)))
    append_session(run, SESSION)
    (run.path / "work").mkdir(exist_ok=True)
    (run.path / "work" / "state").touch()
    with (run.path / "trials.jsonl").open("w") as file:
        file.write('{"index": 0, "wa')  # what it was killed over
    for path in (*run.path.glob("*.jsonl"), run.path / "work" / "state"):
        os.utime(path, (1_795_000_000, 1_795_000_000))
    (run.path / "report.html").touch()  # looked at later
    with locked(run):  # which mends what was torn, and leaves its time as it was
        end_killed(run)
    (session,) = read_sessions(run)
    assert session == replace(SESSION, ended="2026-11-18T11:06:40+00:00")
    assert (run.path / "trials.jsonl").read_text() == ""
    end_killed(run)
    assert len((run.path / "sessions.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_command_leaves_its_conditions(here: Path) -> None:
    nas_here("search", "--budget", "2MFLOPs", "--trials", "1", "--workers", "1", "--run", "one", "--quiet")
    (session,) = read_sessions(Run(here / "runs" / "one"))
    assert session.ended and session.ended >= session.began and session.cores >= 1
    assert {"python", "nas", "torch", "optuna"} <= session.versions.keys()
    with locked(Run(here / "runs" / "one")):  # another process is at work: one that is refused leaves no line
        again = nas_here("search", "--resume", "runs/one", "--workers", "1", "--quiet")
    assert again.returncode == 2 and "is in use" in again.stderr
    with (here / "runs" / "one" / "sessions.jsonl").open("ab") as file:
        file.write(b'{"command": "nas sea')  # a process that was killed while it wrote
    assert nas_here("search", "--resume", "runs/one", "--workers", "1", "--quiet").returncode == 0
    sessions = read_sessions(Run(here / "runs" / "one"))
    assert len(sessions) == 2 and all(session.ended for session in sessions)


@pytest.mark.slow
def test_the_knob_that_matters_is_found(search_run: Result) -> None:
    assert search_run.path
    row = run_summary(search_run.path)
    assert isinstance(row, SearchRun)
    found = importance.importance_of(row)
    assert found.axes[0].axis == "stem.act" and found.axes[0].share.low > 0.3
    (best,) = [row for row in found.choices if (row.knob, row.choice) == ("stem.act", "hswish")]
    assert 9 < best.points.low <= best.points.value <= best.points.high < 11
    view, _ = report_view(search_run.path)
    assert {row.axis: row.share.value for row in found.axes} == view.importance  # of the same networks
    assert "hswish" in nas_here("importance", str(search_run.path)).stdout
    (data,) = json.loads(nas_here("importance", str(search_run.path), "--json").stdout)
    assert data["networks"] == found.networks == 40 and data["axes"][0]["axis"] == "stem.act"
    assert data["points"] == "of top-1"


def test_what_a_choice_is_worth_in_loss_is_told_in_percent_of_it(search_run: Result) -> None:
    assert search_run.path
    row = run_summary(search_run.path)
    assert isinstance(row, SearchRun)
    halved = [  # hswish halves the loss
        replace(trial, scores=(replace(trial.scores[0], train_loss=1 - (trial.choices["stem.act"] == "hswish") / 2),))
        for trial in row.trials
        if trial.choices and trial.scores
    ]
    by_loss = replace(row.plan, recipe=replace(row.plan.recipe, judge="loss"))
    found = importance.importance_of(replace(row, plan=by_loss, trials=tuple(halved)))
    (best,) = [row for row in found.choices if (row.knob, row.choice) == ("stem.act", "hswish")]
    assert (best.points.value, best.points.low, best.points.high) == pytest.approx((50, 50, 50))


def test_searches_are_put_beside_each_other_by_what_they_agree_on(capsys: pytest.CaptureFixture[str]) -> None:
    def hung(run: str, effects: dict[str, tuple[float, float, float]]) -> KnobImportance:
        choices = tuple(ChoiceEffect(knob, 1, 9, Estimate(*points)) for knob, points in effects.items())
        return KnobImportance(f"runs/{run}", "cifar10", RECIPE, 20, (), choices)

    first = {"se": (3.0, 1.0, 5.0), "kernel": (2.0, -1.0, 5.0), "width": (4.0, 2.0, 6.0), "depth": (1.0, -1.0, 3.0)}
    second = {"se": (9.0, 8.0, 10.0), "kernel": (5.0, 4.0, 6.0), "width": (-2.0, -3.0, -1.0), "depth": (1.0, -1.0, 3.0)}
    print_importance([hung("a", first), hung("b", second)], False)
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    assert rows == [
        ["se", "1", "+3 (+1 to +5)", "+9 (+8 to +10)", "2 of 2"],
        ["kernel", "1", "+2 (-1 to +5)", "+5 (+4 to +6)", "1 of 2"],
    ]
    assert "Worth something in one search, and the contrary in another: width 1." in said
    print_importance(
        [hung(f"cifar10-seed-{i}", first) for i in range(8)], False
    )  # no figure is cut where there are many
    said = capsys.readouterr().out
    assert "…" not in said and said.count("+4 (+2 to +6)") == 8


def test_importance_needs_searches_of_one_space_with_networks(here: Path) -> None:
    trained_run(here / "low", 86.0)
    refused("importance is computed for searches of one space", "importance", "low")
    create(here / "empty", plan_for(Budget(macs=25_000_000)))
    refused("needs 8 trained networks besides the anchors, got 0: empty", "importance", "empty")


def test_a_choice_that_is_never_made_has_no_worth() -> None:
    trials = [
        Trial(i, 0, str(i), cost(ANCHORS["lowres-mobilenet"].arch), "complete", None, {"a": i % 2}, None,
              (Score(0, float(i % 2), 1.0, 1, 1, 1.0, 1.0, "cpu", 1, ""),))
        for i in range(20)
    ]  # fmt: skip
    (one, zero) = importance.effects(trials, [float(i % 2) for i in range(20)])
    assert (one.choice, one.points.value, zero.points.value) == (1, 1.0, -1.0)
    assert [row.choice for row in importance.effects(trials[:8], [0.0, 1.0] * 4)] == []
