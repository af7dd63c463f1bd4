"""Ray dies under a search, for real: the search says so, begins it again, and loses nothing."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.execution.cluster import RayDied, RayWorkers
from nas.execution.jobs import Tick
from nas.records.run_folder import RunFailed
from nas.records.trial import Score
from tests.conftest import score
from tests.execution.test_workers import first_time, jobs, outcomes

pytestmark = pytest.mark.slow


def processes() -> dict[int, str]:
    """Command lines by process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return found


def session_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])


def kill(what: str, session: int) -> None:
    """Kills the process of the Ray of that session whose command line has `what`."""
    for pid, line in processes().items():
        if what in line and session_of(pid) == session:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("what", ["raylet/raylet", "dashboard/agent.py"])
def test_ray_is_begun_again(tmp_path: Path, what: str) -> None:
    def kills(network: Any, rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, bytes]:
        if network == "kills" and first_time(tmp_path / "once"):
            kill(what, os.getsid(os.getppid()))
            time.sleep(60)  # it does not come to an end by itself
        return score(rung, 50.0), b"state"

    workers = RayWorkers(kills, 2, gpus=0)
    try:
        with pytest.warns(
            RayDied, match=r"Ray on this machine died \(.*\); it is begun again, and \d trainings? begin"
        ):
            found = outcomes(workers, jobs("kills", "works", "works"))
        assert {key: outcome.error for key, outcome in found.items()} == dict.fromkeys(range(3), "")
        assert all(outcome.score and outcome.state == b"state" for outcome in found.values())
    finally:
        workers.close()


def test_what_kills_ray_each_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kills(network: Any, rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, None]:
        if network == "kills":
            kill("raylet/raylet", os.getsid(os.getppid()))
            time.sleep(60)
        return score(rung, 50.0), None

    workers = RayWorkers(kills, 1, gpus=0)
    try:
        with pytest.warns(RayDied):
            found = outcomes(workers, jobs("kills", "works"))
        assert found[0].error == "Ray died while it ran" and found[1].score
        monkeypatch.setattr("nas.execution.cluster.PAUSES", (0.1, 0.1))
        workers.host.process.kill()
        workers.processors = -1  # no Ray can be begun so
        with pytest.warns(RayDied), pytest.raises(RunFailed, match="died and cannot be had again: Ray cannot be begun"):
            outcomes(workers, jobs("works"))
    finally:
        workers.close()


def test_a_training_that_hangs_is_ended_and_recorded(tmp_path: Path) -> None:
    def hangs(network: dict[str, int], rung: int) -> float:
        if network["width"] == 16:
            time.sleep(600)
        return float(network["width"])

    space = {"width": [8, 16, 32]}
    found = nas.search(space, evaluate=hangs, trials=3, trial_timeout=8.0, run=tmp_path / "run")
    ended = {trial.arch["width"]: trial for trial in found.trials}
    assert {width: trial.state for width, trial in ended.items()} == {8: "complete", 16: "failed", 32: "complete"}
    assert "TimeoutError: a rung took more than 8 s" in (ended[16].error or "")


def test_a_worker_killed_for_memory_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # by which this machine has none to spare
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")

    def waits(_network: Any, rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, None]:
        time.sleep(60)
        return score(rung, 50.0), None

    asked: list[int] = []
    workers = RayWorkers(waits, 1, gpus=0)
    try:
        found = {job.key: outcome for job, outcome in
                 workers.run(jobs("a"), lambda job, _: asked.append(job.key), lambda: False)}  # fmt: skip
    finally:
        workers.close()
    assert asked == [0, 0]
    assert found[0].score is None and found[0].error.count("\n") == 0
    assert found[0].error.startswith("OutOfMemoryError: ") and "low on memory" in found[0].error
    assert found[0].error.endswith("take fewer --workers")
