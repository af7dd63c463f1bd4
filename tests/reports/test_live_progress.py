"""What is shown while a search or a training goes on."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from nas.records.budget import Budget
from nas.records.recipes import TRAINING_RECIPES, TrainingPlan
from nas.reports.live_progress import search_progress, stage, training_progress
from nas.search_strategy.progress import Running, SearchProgress
from nas.training.full_training import TrainingProgress
from tests.conftest import plan_for
from tests.records.test_run_folder import trial
from tests.training.test_learner import TINY

BASELINE = replace(trial(0), anchor="lowres-mobilenet", state="complete")
BEST = replace(trial(5), state="complete", arch_id="0123456789", anchor=None)
RUNNING = (Running("aaaaaaaaaa", 2, 9, 0, None), Running("bbbbbbbbbb", 1, 7, 1, 41.256))
AT = SearchProgress(
    2, 9, "aaaaaaaaaa", 0, 45, 0, 100, BEST, False, RUNNING, (("complete", 2), ("refused", 18), ("failed", 1)), BASELINE
)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_live_view_tells_who_is_trained_and_how_it_stands(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width).print(stage(AT, 3, "wave 2", "11 min left"))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(" 45 %") and lines[0].endswith("wave 2, 11 min left")
    assert lines[1].startswith(f"best {BEST.score:.2f} % 0123456789")
    assert lines[2] == "2 complete, 18 refused, 1 failed"
    assert [line.split() for line in lines[4:]] == [
        ["aaaaaaaaaa", "2", "1/3"],
        ["bbbbbbbbbb", "1", "2/3", "41.26", "%"],
    ]
    Console(file=out, width=width).print(stage(replace(AT, side_by_side=1000), 3, "wave 2", "11 min left"))
    assert out.getvalue().splitlines()[-1].strip() == "and 998 more"


def test_a_file_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    folder: list[Path] = []
    with search_progress(False, folder) as (started, watch):
        started(Path("runs/x"), plan_for(Budget(macs=10**7)))
        watch(AT)
        watch(AT)  # the same rung of the same trial: nothing new
        watch(replace(AT, rung=1))
    assert folder == [Path("runs/x")]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and lines[0].startswith("runs/x: digits, budget 10MFLOPs")
    assert lines[1].startswith("trains on ")
    assert lines[2].startswith(" 45 %  wave 2, trial 9 (aaaaaaaaaa), rung 1/2, best ")
    assert "\x1b" not in "".join(lines)


def test_time_left_counts_what_this_process_has_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 600.0))
    monkeypatch.setattr("nas.reports.live_progress.time.monotonic", lambda: next(clock))
    folder: list[Path] = []
    with search_progress(False, folder) as (started, watch):
        started(Path("runs/x"), plan_for(Budget(macs=10**7)))
        watch(replace(AT, work=0))
        watch(replace(AT, rung=1, work=60, here=10))  # of a search that is resumed, 50 were there
    assert capsys.readouterr().err.splitlines()[-1].endswith("40 min left")


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    folder: list[Path] = []
    with search_progress(True, folder) as (started, watch):
        started(Path("runs/x"), plan_for(Budget(macs=10**7)))
        watch(AT)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_a_training_tells_its_epoch_once_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    training_plan = TrainingPlan("tiny", "here", TINY, "digits", TRAINING_RECIPES["quick"], (0, 1))
    with training_progress(False, []) as (started, watch):
        started(Path("runs/x"), training_plan)
        for images in (0, 100, 200):
            watch(TrainingProgress(0, 1, None, images, 1000))
        watch(TrainingProgress(1, 2, 61.5, 300, 1000))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "runs/x: tiny on digits, recipe quick, 2 seeds"
    assert lines[1].startswith("trains on ")
    assert lines[2].startswith("  0 %  seed 0, epoch 1/10, time left: wait")
    assert lines[3].startswith(" 30 %  seed 1, epoch 2/10, val top-1 61.50 %") and len(lines) == 4
