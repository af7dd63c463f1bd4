"""A search under a limit of latency, with a stop-watch that is made up."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.execution.jobs import Tick
from nas.execution.local import LocalWorkers
from nas.latency.predictor import ENOUGH
from nas.networks.architecture import Arch, arch_id, cost
from nas.records.budget import Budget
from nas.records.plan import Meter, Plan
from nas.records.run_folder import RunFailed, create, locked, open_run
from nas.records.search_files import append_measured, read_measured, read_tallies, read_trials
from nas.records.timing import Latency
from nas.records.trial import Score, Trial
from nas.search_strategy.engine import SearchOutcome, search
from nas.search_strategy.progress import Halt, SearchProgress
from nas.search_strategy.trial_log import extend_run
from search_spaces import LOWRES, lowres
from tests.conftest import fake_evaluate, plan_for

SEEDS = list(lowres.ANCHORS.values())
REFERENCE = SEEDS[0].arch


class Stopwatch:
    """Latencies that follow from the network, on a machine that gets slower with each measurement."""

    def __init__(self, dies_at: int | None = None, drift: float = 0.01) -> None:
        self.measured: list[Arch] = []
        self.dies_at, self.drift = dies_at, drift

    def __call__(self, network: Arch) -> Latency:
        if len(self.measured) == self.dies_at:
            raise RunFailed("the device is dead")
        self.measured.append(network)
        ratio = self.true_ratio(network)
        ms = 2.0 * ratio * (1 + self.drift * len(self.measured))
        ends = ratio * 0.99, ratio, ratio * 1.01
        return Latency(
            ms, ms * 0.98, ms * 1.02, ends[1], ends[0], ends[2], ms / ratio, 80, 8, True, "none", "", 1, 1
        )  # fmt: skip

    def true_ratio(self, network: Arch) -> float:
        noise = random.Random(arch_id(network)).uniform(0.6, 1.4)
        return 1.0 if network == REFERENCE else noise * cost(network).macs / cost(REFERENCE).macs


def timed_plan(budget: Budget, trials: int = 20, objective: tuple[str, ...] = ("accuracy",), wave: int = 4) -> Plan:
    meter = Meter("lowres-mobilenet")
    return replace(plan_for(budget, LOWRES, trials, wave=wave), objective=objective, meter=meter)


def search_run(folder: Path, plan: Plan, watch: Any, evaluate: Callable[..., Any] = fake_evaluate) -> SearchOutcome:
    run = open_run(folder)[0] if folder.exists() else create(folder, plan)
    return search(plan, LOWRES, SEEDS, run, LocalWorkers(evaluate), measure=(watch, REFERENCE))


@pytest.mark.parametrize(
    "budget",
    [
        Budget(25_000_000, latency_ms=1.8),
        pytest.param(Budget(25_000_000, latency_ratio=0.9, reference="lowres-mobilenet"), marks=pytest.mark.slow),
        pytest.param(Budget(latency_ms=1.5), marks=pytest.mark.slow),
        Budget(25_000_000, latency_ms=1.9, latency_ratio=0.8, reference="lowres-mobilenet"),
    ],
    ids=str,
)
def test_nothing_too_slow_is_trained_and_nothing_over_the_budget_on_paper_measured(
    tmp_path: Path, budget: Budget
) -> None:
    trained: list[Arch] = []

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        trained.append(arch)
        return fake_evaluate(arch, rung, state, tick)

    watch = Stopwatch()
    trials = search_run(tmp_path / "a", timed_plan(budget), watch, evaluate).trials
    limit = min(budget.latency_ms or 9, 2.02 * (budget.latency_ratio or 9))  # the reference took 2.02 at the start
    assert all(2.02 * watch.true_ratio(arch) <= limit for arch in trained)
    assert all(budget.keeps(cost(arch)) for arch in watch.measured[1:])
    assert sum(trial.state != "refused" for trial in trials) == 20
    for trial in trials:
        assert (trial.latency is None) == (not budget.keeps(trial.cost))
        if trial.latency:
            assert budget.fast(trial.latency) == (trial.state != "refused")
    slow = [trial for trial in trials if trial.latency and trial.state == "refused"]
    assert slow and len({trial.arch_id for trial in trials}) == len(trials)
    assert [trial.index for trial in trials] == list(range(len(trials)))


@pytest.mark.slow
def test_a_machine_that_gets_slower_refuses_no_network_for_it(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.8))
    calm = search_run(tmp_path / "calm", plan, Stopwatch(drift=0.0)).trials
    slower = replace(
        plan, budget=Budget(25_000_000, latency_ms=1.8 * 1.05)
    )  # as it was when the reference was measured
    tired = search_run(tmp_path / "tired", slower, Stopwatch(drift=0.05)).trials
    assert [(trial.arch_id, trial.state) for trial in tired] == [(trial.arch_id, trial.state) for trial in calm]


@pytest.mark.slow
def test_stopped_while_measuring_and_resumed_it_ends_the_same(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.6), trials=14)
    undisturbed = search_run(tmp_path / "whole", plan, whole := Stopwatch(drift=0))
    measured, found = 0, None
    while found is None:
        watch = Stopwatch(dies_at=9, drift=0)
        try:
            found = search_run(tmp_path / "stopped", plan, watch)
        except RunFailed as error:
            assert str(error) == "the device is dead"
        measured += len(watch.measured)
    assert found == undisturbed
    assert measured == len(whole.measured)  # none a second time
    assert search_run(tmp_path / "stopped", plan, Stopwatch(dies_at=0)) == undisturbed


@pytest.mark.parametrize("dies_at", [14, 15])
def test_grown_while_its_last_wave_was_being_measured(tmp_path: Path, dies_at: int) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=2.3), trials=8)
    with pytest.raises(RunFailed, match="the device is dead"):
        search_run(tmp_path / "a", plan, Stopwatch(dies_at=dies_at, drift=0))
    run, _ = open_run(tmp_path / "a")
    before = read_trials(run)[0]
    assert 0 < sum(trial.wave == 2 for trial in before)  # some of the last wave, which is to have two, were refused
    extend_run(run, 20, 4)
    found = search_run(tmp_path / "a", open_run(tmp_path / "a")[1], Stopwatch(drift=0)).trials
    assert {trial.index: trial.arch_id for trial in before}.items() <= {t.index: t.arch_id for t in found}.items()
    assert sum(trial.state != "refused" for trial in found) == 20
    assert sum(trial.state != "refused" and trial.wave == 2 for trial in found) == 2


def test_networks_predicted_too_slow_are_not_measured_once_enough_is_known(tmp_path: Path) -> None:
    class Priced(Stopwatch):
        def true_ratio(self, network: Arch) -> float:
            return cost(network).macs / cost(REFERENCE).macs

    budget, plan = Budget(25_000_000, latency_ms=1.2), timed_plan(Budget(25_000_000, latency_ms=1.2), trials=24)
    trials = search_run(tmp_path / "a", plan, Priced(drift=0)).trials
    tallies = read_tallies(open_run(tmp_path / "a")[0])
    assert sum(tally.get("predicted_too_slow", 0) for tally in tallies.values()) > 500
    first = [trial for trial in trials if trial.wave and trial.latency][:ENOUGH]
    later = [trial for trial in trials if trial.wave and trial.latency][ENOUGH:]
    slow = [sum(not budget.fast(t.latency) for t in part) / len(part) for part in (first, later) if part]  # type: ignore[arg-type]
    assert len(slow) == 2 and slow[1] < slow[0]
    for tally in tallies.values():
        assert tally["measured_too_slow"] + tally["accepted"] <= tally["drawn"] - tally.get("over_budget", 0)


def test_a_front_of_accuracy_and_latency(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000), trials=30, objective=("accuracy", "latency"))
    trials = search_run(tmp_path / "a", plan, Stopwatch(drift=0)).trials
    assert all(trial.latency for trial in trials if trial.state != "refused")
    assert {trial.state for trial in trials} <= {"complete", "pruned", "refused"}


def test_a_plan_of_latency_needs_a_stop_watch(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.0))
    with pytest.raises(ValueError, match="say what measures it"):
        search(plan, LOWRES, SEEDS, create(tmp_path / "a", plan), LocalWorkers(fake_evaluate))


def test_latencies_on_disk(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.8), trials=8)
    trials: list[Trial] = search_run(tmp_path / "a", plan, Stopwatch()).trials
    run = open_run(tmp_path / "a")[0]
    found = read_measured(run)
    assert (found[0].wave, found[0].arch_id) == (-1, arch_id(REFERENCE))
    assert {item.arch_id for item in found} == {trial.arch_id for trial in trials if trial.latency}
    assert [item.arch_id for item in found[1:]] == [
        trial.arch_id for trial in trials if trial.latency and trial.arch_id != arch_id(REFERENCE)
    ]
    with (tmp_path / "a" / "latencies.jsonl").open("a") as handle:
        handle.write('{"wave": 3, "arch')  # torn
    assert read_measured(run) == found
    with locked(run):
        append_measured(run, found[1])
    assert read_measured(run) == [*found, found[1]]


def test_a_refused_line_taken_out_is_written_again(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.2), trials=8)
    whole = search_run(tmp_path / "a", plan, Stopwatch(drift=0))
    file = tmp_path / "a" / "trials.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    refused = [trial.index for trial in whole.trials if trial.state == "refused" and trial.wave]
    assert len(refused) > 2
    for index in refused[:3]:
        file.write_text("".join(line for line in lines if f'"index": {index},' not in line))
        assert search_run(tmp_path / "a", plan, Stopwatch(dies_at=0)) == whole


def test_no_limit_no_measuring(tmp_path: Path) -> None:
    plan = plan_for(Budget(25_000_000))
    watch = Stopwatch()
    search(plan, LOWRES, SEEDS, create(tmp_path / "a", plan), LocalWorkers(fake_evaluate), measure=(watch, REFERENCE))
    assert not watch.measured


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 3, 12])
def test_time_up_while_measuring_ends_the_search_and_loses_nothing(tmp_path: Path, at: int) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.6), trials=14)
    whole = search_run(tmp_path / "whole", plan, Stopwatch(drift=0))

    class Timed(Stopwatch):
        def __call__(self, network: Arch) -> Latency:
            halt.asked = len(self.measured) == at
            return super().__call__(network)

    halt, watch = Halt(), Timed(drift=0)
    run = create(tmp_path / "a", plan)
    found = search(plan, LOWRES, SEEDS, run, LocalWorkers(fake_evaluate), halt=halt, measure=(watch, REFERENCE))
    assert len(watch.measured) == at + 1  # none after the one in hand
    assert found.trials == [trial for trial in whole.trials if trial.index in {t.index for t in found.trials}]
    assert search_run(tmp_path / "a", plan, Stopwatch(drift=0)) == whole


def test_the_reference_is_as_slow_as_itself(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ratio=1.0, reference="lowres-mobilenet"), trials=10)
    trials = search_run(tmp_path / "a", plan, watch := Stopwatch()).trials
    (row,) = [trial for trial in trials if trial.arch_id == arch_id(REFERENCE)]
    assert row.state == "complete" and row.latency
    assert (row.latency.ratio_low, row.latency.ratio, row.latency.ratio_high) == (1.0, 1.0, 1.0)
    assert sum(network == REFERENCE for network in watch.measured) == 1


def test_the_doubt_about_the_reference_is_in_every_interval(tmp_path: Path) -> None:
    plan = timed_plan(Budget(25_000_000, latency_ms=1.8), trials=8)
    for trial in search_run(tmp_path / "a", plan, Stopwatch()).trials:
        if trial.latency and trial.arch_id != arch_id(REFERENCE):
            latency = trial.latency
            assert latency.high_ms / latency.median_ms == pytest.approx(1.02 * 1.01)
            assert latency.reference_ms == pytest.approx(2.02)
            assert latency.median_ms / latency.reference_ms == pytest.approx(latency.ratio)


def test_another_device_does_not_go_on_with_a_run(tmp_path: Path) -> None:
    class Other(Stopwatch):
        def __call__(self, network: Arch) -> Latency:
            return replace(super().__call__(network), device="another")

    plan = timed_plan(Budget(25_000_000, latency_ms=1.6), trials=14)
    with pytest.raises(RunFailed, match="the device is dead"):
        search_run(tmp_path / "a", plan, Stopwatch(dies_at=5))
    with pytest.raises(RunFailed, match="were measured with none on , now it is none on another; go on where it was"):
        search_run(tmp_path / "a", plan, Other())


def test_all_anchors_stand_in_the_table_however_few_are_trained(tmp_path: Path) -> None:
    trials = search_run(tmp_path / "a", timed_plan(Budget(25_000_000, latency_ms=5.0), trials=2), Stopwatch()).trials
    refused = [trial.anchor for trial in trials if trial.state == "refused"]
    assert refused == ["tailored-mobilenetv2-imp1", "tailored-mobilenetv2-imp3"]


def test_progress_while_anchors_are_measured(tmp_path: Path) -> None:
    seen: list[SearchProgress] = []
    plan = timed_plan(Budget(25_000_000, latency_ms=1.8), trials=8)
    run = create(tmp_path / "a", plan)
    search(plan, LOWRES, SEEDS, run, LocalWorkers(fake_evaluate), watch=seen.append, measure=(Stopwatch(), REFERENCE))
    assert seen[0].measuring and all(0 <= item.work <= item.planned and item.planned for item in seen)
