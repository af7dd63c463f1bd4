"""kill -9, for real: a search on digits, killed in the middle of waves, ends like one that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

from nas.runs import open_run, read_trials
from nas.trial import Trial
from tests.conftest import same_outcome

SEARCH = ["search", "--budget", "3MFLOPs", "--space", "lowres", "--trials", "18", "--run"]


def start(*args: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "nas", *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


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


def test_killed_twice_and_resumed_it_ends_the_same(here: Path) -> None:
    ended(start(*SEARCH, "whole"))
    killed_at(start(*SEARCH, "killed"), "wave 1, trial 9 ")  # in a first rung
    killed_at(start("search", "--resume", "runs/killed"), "wave 2, trial 17 ")  # trials of this wave lie on disk
    killed_at(start("search", "--resume", "runs/killed"), "wave 3, trial 22 ")  # TPE has been asked
    ended(start("search", "--resume", "runs/killed"))
    whole = outcome("whole")
    assert len(whole) == 6 + 18 and {trial.state for trial in whole} == {"refused", "pruned", "complete"}
    assert outcome("killed") == whole
    best = [(here / "runs" / name / "best" / "arch.json").read_text() for name in ("whole", "killed")]
    assert best[0] == best[1]
    assert not (here / "runs" / "killed" / "work").exists()
