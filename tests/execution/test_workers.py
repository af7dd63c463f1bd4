"""Workers: the same search whoever trains, and what happens when they are lost. On Ray, for real."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.execution.cluster import GpuFull, RayWorkers, shared
from nas.execution.jobs import Job, JobResult, Tick, Workers
from nas.execution.local import LocalWorkers
from nas.execution.workers import usual_number
from nas.records.budget import Budget
from nas.records.run_folder import RunFailed, create
from nas.records.trial import Score, Trial
from nas.search_strategy.engine import search
from search_spaces import LOWRES, lowres
from tests.conftest import fake_evaluate, plan_for, score

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)
SEEDS = list(lowres.ANCHORS.values())
PLAN = plan_for(Budget(macs=25_000_000), trials=16)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of four CPUs, which takes it that there are two GPUs; Ray starts a new process for each task on a GPU."""
    ray.init(num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def on_ray(cluster: None) -> Iterator[Callable[..., RayWorkers]]:
    """Opens workers on it, which are closed when the test has ended: else a later test is told of their processes."""
    with ExitStack() as opened:
        yield lambda *args, **options: opened.enter_context(closing(RayWorkers(*args, **options)))


def trials_of(path: Path, workers: Workers) -> list[Trial]:
    return search(PLAN, LOWRES, SEEDS, create(path, PLAN), workers).trials


def outcomes(workers: Workers, jobs: list[Job]) -> dict[int, JobResult]:
    return {job.key: outcome for job, outcome in workers.run(jobs, lambda *_: None, lambda: False)}


def jobs(*networks: Any) -> list[Job]:
    return [Job(key, network, 0, lambda: None, 1.0) for key, network in enumerate(networks)]


def first_time(marker: Path) -> bool:
    """Whether nobody asked this of `marker` before."""
    try:
        marker.open("x").close()
    except FileExistsError:
        return False
    return True


def hostile(network: tuple[str, str], rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, None]:
    """Does, the first time or whenever it is asked, what the network says."""
    what, where = network
    if what == "raises":
        raise RuntimeError("no such block")
    if what != "works" and first_time(Path(where)):
        if what == "raises once":
            raise RuntimeError("no such block")
        if what == "killed once":
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()  # hangs
    return score(rung, 50.0), None


@pytest.mark.slow
def test_one_two_and_four_workers_find_the_same(tmp_path: Path, on_ray: Callable[..., RayWorkers]) -> None:
    here = trials_of(tmp_path / "here", LocalWorkers(fake_evaluate))
    assert len(here) == 18 and {trial.state for trial in here} == {"complete", "pruned", "refused"}
    for number in (2, 4):
        assert trials_of(tmp_path / str(number), on_ray(fake_evaluate, number, gpus=0)) == here


@pytest.mark.slow
def test_workers_share_the_gpus(on_ray: Callable[..., RayWorkers]) -> None:
    def seen(_network: Any, rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, bytes]:
        return score(rung, 50.0), os.environ["CUDA_VISIBLE_DEVICES"].encode()

    workers = on_ray(seen)
    assert workers.number == 4
    assert {outcome.state for outcome in outcomes(workers, jobs(*range(4))).values()} <= {b"0", b"1"}
    assert {outcome.state for outcome in outcomes(on_ray(seen, gpus=0), jobs(0)).values()} == {b""}
    assert on_ray(seen, 4, gpus=1).number == 2  # the others would have waited, and their time run out
    with pytest.raises(RunFailed, match="take 1 CPUs and 3 GPUs, here are 4 and 2"):
        on_ray(seen, 1, gpus=3)


def crowded(folders: tuple[Path, Path], rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, bytes]:
    """The first four find a GPU full; others say how many run beside each other."""
    begun, running = (folder / f"{os.getpid()}-{time.monotonic_ns()}" for folder in folders)
    begun.touch()
    if len(list(begun.parent.iterdir())) <= 4:
        while len(list(begun.parent.iterdir())) < 4:
            time.sleep(0.01)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
    running.touch()
    time.sleep(0.3)
    there = len(list(running.parent.iterdir()))
    running.unlink()
    return score(rung, 50.0), str(there).encode()


@pytest.mark.slow
def test_half_as_many_share_a_gpu_that_is_full(tmp_path: Path, on_ray: Callable[..., RayWorkers]) -> None:
    folders = tmp_path / "begun", tmp_path / "running"
    for folder in folders:
        folder.mkdir()
    workers = on_ray(crowded, 4)
    assert workers.number == 4 and workers.takes == (1, 0.5)
    with pytest.warns(GpuFull, match="out of GPU memory: 2 at a time from here on"):
        found = outcomes(workers, jobs(*[folders] * 6))
    assert workers.number == 2 and workers.takes == (1, 1.0), "halved once, though four were told so"
    assert len(found) == 6 and all(outcome.score for outcome in found.values())
    assert {outcome.state for outcome in found.values()} <= {b"1", b"2"}


@given(st.integers(1, 16), st.none() | st.integers(1, 200), st.integers(1, 256))
def test_all_that_share_gpus_have_room(cards: int, number: int | None, processors: int) -> None:
    workers, share = shared(cards, number, processors)
    assert workers == (number or min(processors, 4 * cards)) and 0 < share <= 1
    assert cards * (10_000 // round(share * 10_000)) >= workers


@pytest.mark.slow
def test_a_job_that_fails_is_tried_again_once(tmp_path: Path, on_ray: Callable[..., RayWorkers]) -> None:
    asked = jobs(*((what, str(tmp_path / what)) for what in ("works", "raises", "raises once")))
    for workers in (LocalWorkers(hostile), on_ray(hostile, 2, gpus=0)):
        (tmp_path / "raises once").unlink(missing_ok=True)
        found = outcomes(workers, asked)
        assert found[0].score and found[2].score
        assert found[1].score is None and "RuntimeError: no such block" in found[1].error


@pytest.mark.slow
def test_jobs_may_come_one_by_one(on_ray: Callable[..., RayWorkers]) -> None:
    def works(network: Any, rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, None]:
        return score(rung, float(network)), None

    def one_by_one(ended: list[Job]) -> Iterator[Job | None]:
        asked = iter(jobs(*range(5)))
        yield next(asked)
        while len(ended) < 5:
            yield next(asked, None) if ended else None  # nothing, until the first has ended

    for workers in (LocalWorkers(works), on_ray(works, 2, gpus=0)):
        ended: list[Job] = []
        for job, outcome in workers.run(one_by_one(ended), lambda *_: None, lambda: False):
            assert outcome.score and outcome.score.top1 == job.key
            ended.append(job)
        assert sorted(job.key for job in ended) == list(range(5))


@pytest.mark.slow
def test_large_states_go_both_ways_while_nobody_listens(on_ray: Callable[..., RayWorkers]) -> None:
    def works(_network: Any, rung: int, state: bytes | None, _tick: Tick) -> tuple[Score, bytes]:
        time.sleep(0.3)
        return score(rung, float(len(state or b""))), bytes(5_000_000)

    asked = [Job(key, "a", 1, lambda: bytes(5_000_000), 1.0) for key in range(16)]
    ended = 0
    for _, outcome in on_ray(works, 4, gpus=0).run(asked, lambda *_: None, lambda: False):
        assert outcome.score and outcome.score.top1 == 5_000_000 and len(outcome.state or b"") == 5_000_000
        time.sleep(0.5)  # meanwhile others end
        ended += 1
    assert ended == 16


def test_a_machine_has_a_worker_a_core_but_no_more_than_its_gpus_have_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.execution.workers.cores", lambda: 16)
    assert [usual_number(*asked) for asked in ((0, None), (1, None), (8, None), (1, 0), (2, 0.5), (2, 4))] == [
        16, 4, 16, 16, 4, 1
    ]  # fmt: skip
    assert [usual_number(2, None, room) for room in (1, 3, 99)] == [2, 6, 8]


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, on_ray: Callable[..., RayWorkers]) -> None:
    asked = jobs(*((what, str(tmp_path / what)) for what in ("killed once", "works", "works", "works")))
    assert all(outcome.score for outcome in outcomes(on_ray(hostile, 2, gpus=0), asked).values())


@pytest.mark.slow
def test_a_job_that_hangs_is_ended_and_tried_again(tmp_path: Path, on_ray: Callable[..., RayWorkers]) -> None:
    limit = 25.0  # above what a new worker takes to begin, beside other tests
    found = outcomes(on_ray(hostile, 2, gpus=0, limit=limit), jobs(("hangs once", str(tmp_path / "a")), ("works", "")))
    assert found[0].score and found[1].score


@pytest.mark.slow
def test_a_job_that_always_hangs_has_failed(tmp_path: Path, on_ray: Callable[..., RayWorkers]) -> None:
    def hangs(_network: Any, _rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, None]:
        threading.Event().wait()
        raise AssertionError

    found = outcomes(on_ray(hangs, 2, gpus=0, limit=1.0), jobs("a"))
    assert found[0].score is None and "a rung took more than 1 s" in found[0].error
