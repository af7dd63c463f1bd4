"""kill -9, for real: a search on digits, killed in the middle of waves, ends like one that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.records.run_folder import open_run
from nas.records.search_files import read_trials
from nas.records.trial import Trial
from tests.conftest import COMMAND, same_outcome

ROOT = Path(__file__).parents[2]
SMALL = ["--budget", "1MFLOPs", "--resolution", "16", "--space", "lowres"]
SEARCH = ["search", *SMALL, "--trials", "12", "--run"]
RESUME = ["search", "--resume", "runs/killed"]
ALONE = ["--workers", "1"]  # in the process itself; else two on Ray


def start(*args: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *COMMAND, *args], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )


def killed_at(process: "subprocess.Popen[str]", moment: str) -> None:
    """Reads the process' progress up to `moment`, then kills it; it is training at that time."""
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            process.kill()
            break
    else:
        raise AssertionError(f"the search ended before {moment!r}")
    process.stderr.close()
    assert process.wait() == -9


def ended(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def outcome(name: str) -> list[Trial]:
    trials, problems = read_trials(open_run(Path("runs") / name)[0])
    assert not problems
    return [same_outcome(trial) for trial in trials]


@pytest.mark.slow
def test_killed_twice_and_resumed_it_ends_the_same(here: Path) -> None:
    ended(start(*SEARCH, "whole", *ALONE))
    trials = outcome("whole")
    first = {wave: min(trial.index for trial in trials if trial.wave == wave) for wave in (1, 2)}
    killed_at(start(*SEARCH, "killed"), f"wave 1, trial {first[1] + 3} ")  # in a first rung
    killed_at(start(*RESUME, *ALONE), f"wave 2, trial {first[2]} ")  # proposed by what the ones before came to
    ended(start(*RESUME, *ALONE))
    assert sum(trial.state != "refused" for trial in trials) == 12
    assert {trial.state for trial in trials} == {"refused", "pruned", "complete"}
    assert outcome("killed") == trials
    best = [(here / "runs" / name / "best" / "arch.json").read_text() for name in ("whole", "killed")]
    assert best[0] == best[1]
    assert not (here / "runs" / "killed" / "work").exists()


@pytest.mark.slow
def test_killed_without_waves_it_goes_on(here: Path) -> None:
    killed_at(start(*SEARCH, "killed", "--asynchronous"), "wave 1, trial")
    before = outcome("killed")
    killed_at(start(*RESUME, *ALONE), "rung 2/3")
    ended(start(*RESUME, *ALONE))
    trials = outcome("killed")
    assert before and [trial for trial in trials if trial.index in {one.index for one in before}] == before
    assert sum(trial.state in ("pruned", "complete") for trial in trials) == 12
    assert len({trial.arch_id for trial in trials}) == len(trials)
    assert not (here / "runs" / "killed" / "work").exists()
