"""The wave loop, with evaluators that do not train."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import Error
from nas.execution.jobs import Evaluate
from nas.execution.local import LocalWorkers
from nas.models.micro_memory import cost_on_device
from nas.networks.architecture import Anchor, Arch, Head, arch_id, cost
from nas.networks.space import Space, of, one_of, sample
from nas.records import run_folder, search_files
from nas.records.budget import Budget
from nas.records.plan import Plan, Recipe
from nas.records.run_folder import Run, RunFailed, create, locked, open_run, read_best
from nas.records.search_files import read_trials
from nas.records.trial import Score, Trial, restored
from nas.search_strategy.candidates import cheapest
from nas.search_strategy.engine import search
from nas.search_strategy.progress import Halt, ProgressTracker, SearchProgress, images_of
from nas.search_strategy.proposer import STARTUP
from nas.search_strategy.trial_log import TrialLog, extend_run
from nas.serialization import from_json
from search_spaces import ANCHORS, LIGHTWEIGHT, LOWRES, lowres
from tests.conftest import LADDER, RECIPE, fake_evaluate, plan_for

BUDGET = Budget(macs=25_000_000)
SEEDS = list(lowres.ANCHORS.values())
Tick = Callable[[int], None]
LOWRES_AND_LIGHTWEIGHT = [LOWRES, pytest.param(LIGHTWEIGHT, marks=pytest.mark.slow)]


def run_search(folder: Path, plan: Plan, space: Space = LOWRES, evaluate: object = fake_evaluate) -> list[Trial]:
    run = open_run(folder)[0] if folder.exists() else create(folder, plan)
    return search(plan, space, SEEDS, run, LocalWorkers(evaluate)).trials  # type: ignore[arg-type]


@pytest.mark.parametrize("space", [LOWRES, LIGHTWEIGHT], ids=lambda space: space.name)
@pytest.mark.parametrize(
    "budget",
    [BUDGET, pytest.param(Budget(macs=4_000_000), marks=pytest.mark.slow), Budget(30_000_000, 200_000)],
    ids=str,
)
def test_the_budget_is_a_guarantee(tmp_path: Path, space: Space, budget: Budget) -> None:
    built = []

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        built.append(arch)
        return fake_evaluate(arch, rung, state, tick)

    trials = run_search(tmp_path / "a", plan_for(budget, space, trials=30), space, evaluate)
    assert built and all(budget.keeps(cost(arch)) for arch in built)
    trained = [trial for trial in trials if trial.state != "refused"]
    assert len(trained) == 30
    assert len({trial.arch_id for trial in trials}) == len(trials)
    for trial in trials:
        assert trial.cost == cost(trial.arch) and trial.arch_id == arch_id(trial.arch)
        assert (trial.state == "refused") == (not budget.keeps(trial.cost))
    assert [trial.index for trial in trials] == list(range(len(trials)))


def test_so_is_one_of_what_a_microcontroller_needs(tmp_path: Path) -> None:
    """Counted for whatever is proposed, and kept with the trials, which are read again."""
    budget = Budget(arena=160 * 1024, flash=200 * 1024)
    plan = plan_for(budget, trials=8)
    trials = run_search(tmp_path / "a", plan)
    trained = [trial for trial in trials if trial.state != "refused"]
    assert len(trained) == 8 and any(trial.state == "refused" for trial in trials)
    for trial in trials:
        assert trial.cost == cost_on_device(trial.arch)
        assert (trial.state == "refused") == (not budget.keeps(trial.cost))
    assert run_search(tmp_path / "a", plan) == trials
    with pytest.raises(Error, match="limits arena, which Cost"):
        budget.keeps(cost(trials[0].arch))


def test_anchors_come_first_and_the_first_goes_through_all_rungs(tmp_path: Path) -> None:
    seeds = [SEEDS[4], *SEEDS[:4], SEEDS[5]]  # the cheapest first: the fake evaluator scores it lowest
    plan = plan_for(BUDGET)
    trials = search(plan, LOWRES, seeds, create(tmp_path / "a", plan), LocalWorkers(fake_evaluate)).trials
    assert [trial.anchor for trial in trials[:6]] == [anchor.name for anchor in seeds]
    states = [trial.state for trial in trials[:6]]
    assert states[0] == states[5] == "complete" and states[2] == states[4] == "refused"
    assert {states[1], states[3]} == {"complete", "pruned"}  # two of the three others go on
    assert not any(trial.anchor for trial in trials[6:])


def test_rungs_keep_the_better_half_of_a_wave(tmp_path: Path) -> None:
    trials = run_search(tmp_path / "a", plan_for(BUDGET))
    for wave in range(1, 5):
        rivals = [trial for trial in trials if trial.wave == wave]
        kept = [trial for trial in rivals if trial.state == "complete"]
        left = [trial for trial in rivals if trial.state == "pruned"]
        assert (len(kept), len(left)) == (2, 2)
        assert min(t.scores[0].top1 for t in kept) >= max(t.scores[0].top1 for t in left)
        assert {len(t.scores) for t in kept} == {2} and {len(t.scores) for t in left} == {1}


def test_of_eight_two_and_then_one_go_on_through_three_rungs(tmp_path: Path) -> None:
    plan = replace(plan_for(BUDGET, trials=20, wave=8), recipe=LADDER)
    trials = run_search(tmp_path / "a", plan)
    assert len(trials[0].scores) == 3  # the baseline
    for wave in (1, 2):
        rivals = [trial for trial in trials if trial.wave == wave]
        assert sorted(len(trial.scores) for trial in rivals) == [1] * (len(rivals) - 2) + [2, 3]
        by_first, by_second = ({t.arch_id: t.scores[r].top1 for t in rivals if len(t.scores) > r} for r in (0, 1))
        assert set(by_second) == set(sorted(by_first, key=lambda key: -by_first[key])[:2])
        assert [t.arch_id for t in rivals if t.state == "complete"] == [max(by_second, key=lambda key: by_second[key])]


def test_a_search_that_goes_by_the_loss_promotes_proposes_and_ends_by_it(tmp_path: Path) -> None:
    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        found = fake_evaluate(arch, rung, state, tick)[0]
        return replace(found, top1=100 - found.top1, train_loss=math.exp(-found.top1 / 100)), None

    plan = plan_for(BUDGET)
    by_loss = replace(plan, recipe=replace(plan.recipe, judge="loss"))  # a percent counts alike at every rung
    by_top1 = run_search(tmp_path / "a", plan)
    trials = run_search(tmp_path / "b", by_loss, evaluate=evaluate)
    assert [(t.arch_id, t.state) for t in trials] == [(t.arch_id, t.state) for t in by_top1]
    best, by_score = read_best(Run(tmp_path / "b"), trials), read_best(Run(tmp_path / "a"), by_top1)
    assert best and by_score and best.arch == by_score.arch


def test_the_best_network_is_on_disk(tmp_path: Path) -> None:
    plan = plan_for(BUDGET)
    found = search(plan, LOWRES, SEEDS, create(tmp_path / "a", plan), LocalWorkers(fake_evaluate))
    assert found.best and found.best.state == "complete"
    assert from_json(Arch, (tmp_path / "a" / "best" / "arch.json").read_text()) == found.best.arch
    assert read_best(open_run(tmp_path / "a")[0], found.trials) == found.best
    # Larger is better here, with noise: the luck of a score does not choose the winner.
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert found.best.cost.macs >= max(trial.cost.macs for trial in complete) - 1_500_000


class Killed(BaseException):
    pass


@pytest.mark.parametrize("space", LOWRES_AND_LIGHTWEIGHT, ids=lambda space: space.name)
def test_stopped_again_and_again_and_resumed_it_ends_the_same(tmp_path: Path, space: Space) -> None:
    plan = plan_for(BUDGET, space, trials=26)
    undisturbed = run_search(tmp_path / "whole", plan, space)
    assert sum(trial.state in ("complete", "pruned") for trial in undisturbed) > STARTUP + plan.wave  # TPE was asked
    rungs: dict[tuple[str, int], Score] = {}  # what Proxy keeps in the run's folder

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        key = (arch_id(arch), rung)
        if key not in rungs:
            if len(rungs) % 5 == 4 and key not in stopped_at:
                stopped_at.append(key)
                raise Killed
            rungs[key] = fake_evaluate(arch, rung, state, tick)
        return rungs[key]

    stopped_at: list[tuple[str, int]] = []
    folder, resumed = tmp_path / "stopped", None
    while resumed is None:
        try:
            resumed = run_search(folder, plan, space, evaluate)
        except Killed:
            if len(stopped_at) % 3 == 0:  # nor does it need the journal
                (folder / "study.log").write_bytes(b'{"broken\n{')
    assert len(stopped_at) > 5
    assert resumed == undisturbed == read_trials(open_run(folder)[0])[0]


@pytest.mark.parametrize("space", LOWRES_AND_LIGHTWEIGHT, ids=lambda space: space.name)
def test_more_trials_go_on_as_if_they_had_been_asked_for_at_once(tmp_path: Path, space: Space) -> None:
    at_once = run_search(tmp_path / "whole", plan_for(BUDGET, space, trials=24), space)
    run_search(tmp_path / "parts", plan_for(BUDGET, space, trials=12), space)  # its waves are full
    extend_run(open_run(tmp_path / "parts")[0], 24, 4)
    assert run_search(tmp_path / "parts", open_run(tmp_path / "parts")[1], space) == at_once


def test_more_trials_leave_those_that_ended_as_they_are(tmp_path: Path) -> None:
    first = run_search(tmp_path / "a", plan_for(BUDGET, trials=14))  # the last wave has two
    both = run_search(tmp_path / "a", plan_for(BUDGET, trials=22))
    assert both[: len(first)] == first
    assert sum(trial.state != "refused" for trial in both) == 22
    assert [sum(trial.wave == wave for trial in both) for wave in range(1, 6)] == [4, 4, 2, 4, 4]


def test_a_run_does_not_shrink_nor_let_anchors_in_late(tmp_path: Path) -> None:
    run_search(tmp_path / "a", plan_for(BUDGET, trials=3))
    run = open_run(tmp_path / "a")[0]
    with pytest.raises(ValueError, match="is to train 3 networks, 2 are fewer"):
        extend_run(run, 2, 4)
    with pytest.raises(ValueError, match="was to train 3 of 4 anchors only"):
        extend_run(run, 12, 4)
    assert open_run(tmp_path / "a")[1].trials == 3


def test_the_same_seed_gives_the_same_search_and_another_does_not(tmp_path: Path) -> None:
    one = run_search(tmp_path / "1", plan_for(BUDGET, LIGHTWEIGHT, 24), LIGHTWEIGHT)
    two = run_search(tmp_path / "2", plan_for(BUDGET, LIGHTWEIGHT, 24), LIGHTWEIGHT)
    three = run_search(tmp_path / "3", plan_for(BUDGET, LIGHTWEIGHT, 24, seed=1), LIGHTWEIGHT)
    assert one == two
    assert [t.arch_id for t in one[6:]] != [t.arch_id for t in three[6:]]


@pytest.mark.parametrize("how", ["asked", pytest.param("deadline", marks=pytest.mark.slow)])
def test_halted_again_and_again_and_resumed_it_ends_the_same(tmp_path: Path, how: str) -> None:
    plan = plan_for(BUDGET, trials=20)
    undisturbed = run_search(tmp_path / "whole", plan)
    folder, calls = tmp_path / "halted", 0
    trials: list[Trial] = []
    while len(trials) < len(undisturbed):
        halt, seen = Halt(), []

        def watch(progress: SearchProgress, halt: Halt = halt, seen: list[SearchProgress] = seen) -> None:
            seen.append(progress)
            if len(seen) == 12:  # in the middle of a training
                halt.asked = how == "asked"
                halt.deadline = -math.inf if how == "deadline" else math.inf

        run = open_run(folder)[0] if folder.exists() else create(folder, plan)
        trials = search(plan, LOWRES, SEEDS, run, LocalWorkers(fake_evaluate), watch, halt).trials
        ended = {trial.index for trial in trials}
        assert trials == [trial for trial in undisturbed if trial.index in ended]
        calls += 1
    assert calls > 3


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [RECIPE, LADDER], ids=["two rungs", "three"])
def test_no_wave_is_begun_that_would_not_end_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    clock = [0.0]
    monkeypatch.setattr("nas.search_strategy.progress.time.monotonic", lambda: clock[0])
    plan = replace(plan_for(BUDGET, trials=20), recipe=recipe)

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        clock[0] += images_of(plan, rung) / 64
        return fake_evaluate(arch, rung, state, tick)

    whole, waves = run_search(tmp_path / "whole", plan, evaluate=evaluate), set()
    for deadline in range(20, round(clock[0]), 3):
        clock[0] = 0.0
        run = create(tmp_path / str(deadline), plan)
        found = search(plan, LOWRES, SEEDS, run, LocalWorkers(evaluate), halt=Halt(deadline=deadline + 0.5))
        assert clock[0] <= deadline + 0.5 and found.best
        ended = max(trial.wave for trial in found.trials)  # and none of them was cut off
        assert found.trials == [trial for trial in whole if trial.wave <= ended]
        waves.add(ended)
    assert len(waves) > 1
    assert run_search(tmp_path / "20", plan) == whole


@pytest.mark.parametrize(("deadline", "in_time"), [(8.9, False), (9.1, True)])
def test_no_step_is_over_before_its_longest_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: float, in_time: bool
) -> None:
    plan = replace(plan_for(BUDGET), recipe=LADDER)
    run = create(tmp_path / "a", plan)
    tracker = ProgressTracker(plan, lambda _: None, Halt(deadline=deadline), TrialLog(run, LOWRES, plan, restored))
    tracker.begun, tracker.trained, tracker.spent = -5.0, 640, 10.0  # two workers: 128 images a second, 64 one alone
    monkeypatch.setattr("nas.search_strategy.progress.time.monotonic", lambda: 0.0)
    assert tracker.in_time(4, [[]]) == in_time  # 4 x 64 images, 128, and 320: 2 + 2 + 5 seconds


def test_a_line_taken_out_is_trained_again(tmp_path: Path) -> None:
    plan = plan_for(BUDGET)
    trials = run_search(tmp_path / "a", plan)
    for index in (5, 8, len(trials) - 1):
        file = tmp_path / "a" / "trials.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if f'"index": {index},' not in line))
        assert len(read_trials(open_run(tmp_path / "a")[0])[0]) == len(trials) - 1
        assert run_search(tmp_path / "a", plan) == trials


def test_a_network_trained_to_the_end_is_on_disk_at_once(tmp_path: Path) -> None:
    last: list[str] = []

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        if rung == 1 and len(last) == 2:
            raise Killed
        last.extend([arch_id(arch)] * (rung == 1))
        return fake_evaluate(arch, rung, state, tick)

    with pytest.raises(Killed):
        run_search(tmp_path / "a", plan_for(BUDGET), evaluate=evaluate)
    kept = [trial for trial in read_trials(open_run(tmp_path / "a")[0])[0] if trial.state == "complete"]
    assert sorted(trial.arch_id for trial in kept) == sorted(last)
    assert (tmp_path / "a" / "best" / "arch.json").exists()


def test_failures_in_a_row_are_counted_across_a_kill(tmp_path: Path) -> None:
    calls: list[Arch] = []

    def failing(stop: int) -> Evaluate:
        def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
            calls.append(arch)
            if len(calls) == stop:
                raise Killed
            raise RuntimeError("no such block")

        return evaluate

    with pytest.raises(Killed):
        run_search(tmp_path / "a", plan_for(BUDGET), evaluate=failing(3))
    with pytest.raises(RunFailed):
        run_search(tmp_path / "a", plan_for(BUDGET), evaluate=failing(0))
    assert len(calls) == 3 + 4  # each is tried twice: one failed, the second was killed, and it and a third failed


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(3_000_000, 60_000_000), st.integers(30_000, 900_000))
@settings(max_examples=15)
def test_whatever_the_budget_nothing_over_it_is_trained(seed: int, macs: int, params: int) -> None:
    budget, built = Budget(macs, params), []

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        built.append(cost(arch))
        return fake_evaluate(arch, rung, state, tick)

    with TemporaryDirectory() as folder:
        run_search(Path(folder) / "a", plan_for(budget, trials=14, seed=seed), LOWRES, evaluate)
    assert built and all(spent.macs <= macs and spent.params <= params for spent in built)


def test_a_failure_is_a_trial_with_its_traceback(tmp_path: Path) -> None:
    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        if cost(arch).macs % 7 == 0:
            raise RuntimeError("out of memory")
        return fake_evaluate(arch, rung, state, tick)

    trials = run_search(tmp_path / "a", plan_for(BUDGET, LIGHTWEIGHT, 24), LIGHTWEIGHT, evaluate)
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed and len(trials) == 26
    assert all("RuntimeError: out of memory" in (trial.error or "") for trial in failed)
    assert read_trials(open_run(tmp_path / "a")[0])[0] == trials


def test_three_failures_in_a_row_end_the_search(tmp_path: Path) -> None:
    calls = []

    def evaluate(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        calls.append(arch)
        if len(calls) > 2:
            raise RuntimeError("no such block")
        return fake_evaluate(arch, rung, state, tick)

    with pytest.raises(RunFailed, match=r"(?s)3 candidates in a row failed.*no such block.*--resume"):
        run_search(tmp_path / "a", plan_for(BUDGET, wave=8), evaluate=evaluate)
    assert len(calls) == 2 + 3 * 2  # each is tried twice
    kept = read_trials(open_run(tmp_path / "a")[0])[0]
    assert [trial.state for trial in kept].count("failed") == 3
    trials = run_search(tmp_path / "a", plan_for(BUDGET, wave=8))
    assert len([trial for trial in trials if trial.state != "refused"]) == 20
    assert [trial for trial in trials if trial.state == "failed"] == [t for t in kept if t.state == "failed"]


@pytest.mark.parametrize("call", ["append_trial", "append_score", "write_work"])
@pytest.mark.parametrize("nth", [0, 5])
def test_a_full_disk_ends_the_search_and_keeps_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    def stateful(arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, bytes]:
        assert state is None or state == arch_id(arch).encode()
        return fake_evaluate(arch, rung, None, tick)[0], arch_id(arch).encode()

    plan, calls, run = plan_for(BUDGET), list[object](), tmp_path / "a"
    write = getattr(run_folder if call == "write_work" else search_files, call)

    def full(*args: object) -> None:
        if len(calls) == nth:
            if call != "write_work":  # half a line is what goes on the disk
                file = run / ("trials.jsonl" if call == "append_trial" else "work/scores.jsonl")
                file.parent.mkdir(exist_ok=True)
                with file.open("a") as handle:
                    handle.write('{"index": 3, "wa')
            raise OSError(28, "No space left on device")
        calls.append(args)
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(f"nas.search_strategy.trial_log.{call}", full)
        with pytest.raises(OSError, match="No space left"):
            run_search(run, plan, evaluate=stateful)
    if call == "append_trial":
        assert len(read_trials(open_run(run)[0])[0]) == nth
    assert run_search(run, plan, evaluate=stateful) == run_search(tmp_path / "b", plan, evaluate=stateful)


def test_an_impossible_budget_names_the_smallest_cost() -> None:
    plan = plan_for(Budget(macs=1_000_000))
    with pytest.raises(ValueError, match=r"no network of space lowres keeps the budget 1MFLOPs: the smallest has 2,0"):
        cheapest(LOWRES, plan.budget, random.Random(0), cost)


def test_a_small_space_is_searched_to_its_end(tmp_path: Path) -> None:
    base = ANCHORS["lowres-mobilenet"].arch
    head = of(Head, width=one_of(8, 16, 24), norm=False)
    space = Space("few", of(Arch, stem=base.stem, stages=base.stages, head=head))
    trials = run_search(tmp_path / "a", plan_for(BUDGET, space, trials=50), space)
    found = [trial for trial in trials if trial.anchor is None]
    assert {trial.arch.head.width for trial in found} == {8, 16, 24}
    assert len(found) == 3


def test_an_anchor_outside_the_space_is_a_row_but_no_seed(tmp_path: Path) -> None:
    outside = sample(LIGHTWEIGHT, random.Random(1))
    run = create(tmp_path / "a", plan := plan_for(Budget(macs=10**10), trials=5))
    trials = search(plan, LOWRES, [Anchor("foreign", outside, "made up")], run, LocalWorkers(fake_evaluate)).trials
    assert trials[0].anchor == "foreign" and trials[0].state == "complete" and trials[0].choices == {}
    assert len(trials) == 5


def test_the_journal_opens_in_optuna_with_all_trials(tmp_path: Path) -> None:
    trials = run_search(tmp_path / "a", plan_for(BUDGET))
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "a" / "study.log"))
    )
    study = optuna.load_study(study_name="nas", storage=storage)
    assert sorted(t.user_attrs["index"] for t in study.trials) == list(range(len(trials)))
    assert all("train_loss" in t.user_attrs for t in study.trials if t.intermediate_values)
    assert study.best_value == max(t.score or 0 for t in trials if t.state == "complete")
    run_search(tmp_path / "a", plan_for(BUDGET))
    assert len(study.get_trials()) == len(trials)


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    seen: list[SearchProgress] = []
    plan = plan_for(BUDGET)
    search(plan, LOWRES, SEEDS, create(tmp_path / "a", plan), LocalWorkers(fake_evaluate), seen.append)
    work = [progress.work for progress in seen]
    assert work == sorted(work) and work[0] == 0
    assert {progress.planned for progress in seen} == {work[-1]}
    assert seen[-1].best is not None


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    run = create(tmp_path / "a", plan_for(BUDGET))
    with locked(run), pytest.raises(ValueError, match="in use by another nas process"):
        run_search(tmp_path / "a", plan_for(BUDGET))


def test_a_run_changed_by_hand_is_not_gone_on_with(tmp_path: Path) -> None:
    plan = plan_for(BUDGET)
    run_search(tmp_path / "a", plan)
    file = tmp_path / "a" / "trials.jsonl"
    lines = [line for line in file.read_text().splitlines(keepends=True) if '"wave": 2' not in line]
    other = [line for line in file.read_text().splitlines(keepends=True) if '"wave": 2' in line]
    states = ("pruned", "complete") if '"state": "pruned"' in other[0] else ("complete", "pruned")
    file.write_text("".join(lines) + other[0].replace(*states))
    with pytest.raises(RunFailed, match="was edited"):
        run_search(tmp_path / "a", plan)
