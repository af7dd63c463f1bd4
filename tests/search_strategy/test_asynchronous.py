"""A search without waves: no worker waits, nothing is lost, and what is refused on paper is never trained."""

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

import nas
from nas.errors import Error
from nas.execution.jobs import Job, JobResult, Jobs
from nas.execution.local import LocalWorkers
from nas.networks.architecture import Arch, arch_id, cost
from nas.records.budget import Budget
from nas.records.plan import Plan
from nas.records.run_folder import RunFailed, create, open_run
from nas.records.search_files import read_scores, read_tallies, read_trials
from nas.records.timing import Latency, exactly
from nas.records.trial import Score, Trial
from nas.search_strategy.engine import search
from nas.search_strategy.progress import Halt
from nas.search_strategy.trial_log import extend_run
from search_spaces import LOWRES, lowres
from tests.conftest import fake_evaluate, plan_for

BUDGET = Budget(macs=25_000_000)
SEEDS = list(lowres.ANCHORS.values())
PLAN = replace(plan_for(BUDGET, trials=40), asynchronous=True)


class Killed(BaseException):
    """What ends a search in the middle."""


class FakeWorkers:
    """`number` workers whose trainings end one by one, in an order of their own; says how many were at work."""

    def __init__(self, number: int, evaluate: Callable[..., Any] = fake_evaluate) -> None:
        self.number, self.evaluate = number, evaluate
        self.begun: list[tuple[int, int]] = []
        self.at_work: list[int] = []
        """How many were at work whenever one more training was begun or none was to be had."""

    def run(
        self, jobs: Jobs, tick: Callable[[Job, int], None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Job, JobResult]]:
        jobs, ends, count, rng = iter(jobs), list[tuple[float, int, Job]](), itertools.count(), random.Random(7)
        now = 0.0
        while True:
            while len(ends) < self.number and not stop() and (job := next(jobs, None)):
                tick(job, 0)
                self.begun.append((job.key, job.rung))
                heapq.heappush(ends, (now + rng.uniform(30, 90), next(count), job))
            self.at_work.append(len(ends))
            if not ends:
                return
            now, _, job = heapq.heappop(ends)
            try:
                yield job, JobResult(*self.evaluate(job.arch, job.rung, job.state(), lambda _: None))
            except ArithmeticError as error:
                yield job, JobResult(None, None, repr(error))


def run_search(folder: Path, plan: Plan = PLAN, workers: Any = None, halt: Halt | None = None) -> list[Trial]:
    run = open_run(folder)[0] if folder.exists() else create(folder, plan)
    return search(plan, LOWRES, SEEDS, run, workers or FakeWorkers(10), halt=halt).trials


@pytest.mark.parametrize("objective", [("accuracy",), ("accuracy", "macs")], ids=",".join)
def test_all_are_tried_once_and_the_budget_is_kept(tmp_path: Path, objective: tuple[str, ...]) -> None:
    built = []

    def evaluate(arch: Arch, rung: int, *rest: Any) -> tuple[Score, None]:
        built.append((arch_id(arch), rung))
        assert BUDGET.keeps(cost(arch))
        return fake_evaluate(arch, rung, *rest)

    workers = FakeWorkers(10, evaluate)
    trials = run_search(tmp_path / "run", replace(PLAN, objective=objective), workers)
    assert len(built) == len(set(built))
    assert Counter(rung for _, rung in built)[0] == 40
    assert [trial.index for trial in trials] == list(range(len(trials)))
    states = Counter(trial.state for trial in trials)
    assert states["complete"] + states["pruned"] == 40 and states["refused"] == 2 and not states["failed"]
    assert trials[0].anchor == SEEDS[0].name and trials[0].state == "complete"
    for seed in (1, 2):  # how many of one search go on is left to chance: 10 to 22 of ten seeds, for a front
        run_search(tmp_path / str(seed), replace(PLAN, objective=objective, seed=seed), workers)
    at_rung = Counter(rung for _, rung in built)
    assert at_rung[0] == 120
    assert 120 * 0.3 <= at_rung[1] <= 120 * 0.8  # half, or somewhat more, as each is decided at once
    study = optuna.load_study(
        study_name="nas",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "run" / "study.log"))
        ),
    )
    inside = [trial for trial in trials if trial.choices and trial.state != "refused"]
    assert {one.user_attrs.get("arch_id") for one in study.trials} >= {trial.arch_id for trial in inside}
    assert not [one for one in study.trials if not one.state.is_finished()]


def test_no_worker_waits_while_there_are_networks_to_try(tmp_path: Path) -> None:
    workers = FakeWorkers(50)
    run_search(tmp_path / "run", replace(PLAN, trials=120), workers)
    last_new = max(i for i, (_, rung) in enumerate(workers.begun) if rung == 0)
    assert last_new > 120
    assert set(workers.at_work[: last_new - 50]) == {50}


@pytest.mark.parametrize("moment", [3, 37, 60])
def test_stopped_it_goes_on_with_what_had_not_ended(tmp_path: Path, moment: int) -> None:
    trained: list[tuple[str, int]] = []
    killed: list[bool] = []

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Any) -> tuple[Score, bytes]:
        trained.append((arch_id(arch), rung))
        assert state == (f"{arch_id(arch)} {rung}".encode() if rung else None)
        if len(trained) == moment and not killed:
            killed.append(True)
            trained.pop()
            raise Killed
        return fake_evaluate(arch, rung, state, tick)[0], f"{arch_id(arch)} {rung + 1}".encode()

    with pytest.raises(Killed):
        run_search(tmp_path / "run", PLAN, FakeWorkers(10, evaluate))
    before = read_trials(open_run(tmp_path / "run")[0])[0]
    trials = run_search(tmp_path / "run", PLAN, FakeWorkers(4, evaluate))
    assert len(trained) == len(set(trained))  # no training of which the score was on disk ran again
    assert [trial for trial in trials if trial.index in {one.index for one in before}] == before
    assert sum(trial.state in ("complete", "pruned") for trial in trials) == 40
    assert not (tmp_path / "run" / "work").exists()
    assert run_search(tmp_path / "run", PLAN, FakeWorkers(4, None)) == trials  # nothing is trained


def test_a_search_that_ended_is_extended(tmp_path: Path) -> None:
    first = run_search(tmp_path / "run")
    run = open_run(tmp_path / "run")[0]
    extend_run(run, 60, 4)
    trials = run_search(tmp_path / "run", replace(PLAN, trials=60))
    assert trials[: len(first)] == first
    assert sum(trial.state != "refused" for trial in trials) == 60


def test_it_ends_where_all_workers_fail_and_not_for_a_few(tmp_path: Path) -> None:
    def fails(arch: Arch, rung: int, *rest: Any) -> tuple[Score, None]:
        if int(arch_id(arch)[:4], 16) % 3 or rung:
            return fake_evaluate(arch, rung, *rest)
        raise ArithmeticError("no such block")

    trials = run_search(tmp_path / "some", PLAN, FakeWorkers(10, fails))
    states = Counter(trial.state for trial in trials)
    assert states["failed"] >= 5 and states["complete"] >= 2

    def always(*_: Any) -> None:
        raise ArithmeticError("no such block")

    for workers, failures in ((10, 10), (100, 20)):  # of 40 networks
        with pytest.raises(RunFailed, match=f"{failures} candidates in a row failed"):
            run_search(tmp_path / f"{workers}", PLAN, FakeWorkers(workers, always))


@pytest.mark.parametrize(("workers", "trials"), [(16, 24), (50, 60), (13, 12)])
def test_few_networks_for_many_workers_have_a_winner(tmp_path: Path, workers: int, trials: int) -> None:
    plan = replace(PLAN, trials=trials)
    run = create(tmp_path / "run", plan)
    found = search(plan, LOWRES, SEEDS, run, FakeWorkers(workers))
    assert found.best and found.best.state == "complete"
    assert search(plan, LOWRES, SEEDS, run, FakeWorkers(1, None)).best == found.best  # type: ignore[arg-type]


def test_anchors_over_the_budget_are_rows_too(tmp_path: Path) -> None:
    trials = run_search(tmp_path / "run", replace(PLAN, trials=4))
    assert [trial.anchor for trial in trials] == [anchor.name for anchor in SEEDS]
    assert sum(trial.state == "refused" for trial in trials) == 2


def test_a_halt_loses_no_training_that_is_under_way(tmp_path: Path) -> None:
    halt, measured = Halt(), []

    def latency(arch: Arch) -> Latency:
        measured.append(arch_id(arch))
        halt.asked = len(measured) >= 14
        return exactly(cost(arch).peak / 1e5)

    plan = replace(PLAN, budget=Budget(macs=25_000_000, latency_ms=1.5))
    workers, run = FakeWorkers(6), create(tmp_path / "run", plan)
    search(plan, LOWRES, SEEDS, run, workers, halt=halt, measure=(latency, None))
    scored = {(index, rung) for index, _, rung in read_scores(run)}
    scored |= {(trial.index, score.rung) for trial in read_trials(run)[0] for score in trial.scores}
    assert halt.asked and set(workers.begun) == scored
    halt.asked, measured[:] = False, []
    trials = search(plan, LOWRES, SEEDS, run, FakeWorkers(6), measure=(latency, None)).trials
    assert sum(trial.state in ("complete", "pruned") for trial in trials) == 40
    tallies = read_tallies(run)
    assert set(tallies) == {trial.wave for trial in trials if trial.wave}
    for wave, tally in tallies.items():
        assert tally["accepted"] == sum(trial.wave == wave and trial.state != "refused" for trial in trials)
        assert tally["accepted"] <= tally["asked"]


def test_what_is_too_slow_is_not_trained() -> None:
    def slow(arch: Arch) -> float:
        return cost(arch).peak / 1e5

    def evaluate(arch: Arch, _rung: int) -> float:
        assert slow(arch) <= 1.0
        return cost(arch).macs / 1e6

    for seed in range(4):
        found = nas.search(
            LOWRES, "25MFLOPs,1ms", evaluate, trials=24, seed=seed, rungs=2, latency=slow, reproducible=False
        )
        assert found.plan.asynchronous
        # One of 25 random networks is fast enough: before the likeliest were measured first, two ended with 3, 7.
        assert sum(trial.state != "refused" for trial in found.trials) == 24 and len(found.trials) < 100
        assert all(trial.latency for trial in found.trials)


def test_a_small_space_ends_with_all_of_it(tmp_path: Path) -> None:
    found = nas.search({"width": [8, 16], "depth": [1, 2, 3]}, evaluate=lambda one, _: one["width"] * one["depth"],
                       reproducible=False, run=tmp_path / "run")  # fmt: skip
    assert len(found.trials) == 6 and found.best and found.best.arch == {"width": 16, "depth": 3}


def test_it_stops_in_time(tmp_path: Path) -> None:
    halt = Halt()
    plan = replace(PLAN, trials=1000)

    def evaluate(arch: Arch, rung: int, *rest: Any) -> tuple[Score, None]:
        score, state = fake_evaluate(arch, rung, *rest)
        if arch_id(arch) != arch_id(SEEDS[0].arch):
            halt.deadline = time.monotonic() + 60  # and a training takes half a minute, or so it says
        return replace(score, train_seconds=30.0), state

    trials = run_search(tmp_path / "run", plan, LocalWorkers(evaluate), halt)  # type: ignore[arg-type]
    assert 1 < len(trials) < 50


def test_who_may_search_so(tmp_path: Path) -> None:
    def plan_of(**how: Any) -> Plan:
        return nas.search({"a": [1, 2, 3]}, evaluate=lambda one, _: one["a"], **how).plan

    assert not plan_of().asynchronous
    assert plan_of(reproducible=False).asynchronous
    first = plan_of(reproducible=False, run=tmp_path / "run")
    assert plan_of(run=tmp_path / "run") == first  # as it was begun
    with pytest.raises(Error, match="another plan"):
        plan_of(run=tmp_path / "run", reproducible=True)
    with pytest.raises(Error, match="leave out --asynchronous"):
        nas.search(LOWRES, "25MFLOPs,1ms", dataset="cifar10", data=tmp_path, trials=1, reproducible=False)  # not read
