"""What a search begins with: networks of the user's own, and what an earlier search learnt."""

from dataclasses import replace
from pathlib import Path

import pytest

import nas
from nas.networks.architecture import Arch, arch_id, cost
from nas.networks.space import encode
from nas.records.run_folder import create, open_run
from nas.records.search_files import read_trials, read_warm_start
from nas.serialization import to_json
from search_spaces import ANCHORS, LOWRES
from tests.cli.test_cli import nas_here
from tests.conftest import plan_for, same_outcome

BASE = ANCHORS["lowres-mobilenet"].arch
INSIDE = replace(BASE, stages=(*BASE.stages[:3], replace(BASE.stages[3], width=48), BASE.stages[4]))
OUTSIDE = replace(INSIDE, stages=(*INSIDE.stages[:3], replace(INSIDE.stages[3], width=52), INSIDE.stages[4]))


def worth(network: Arch, _rung: int = 0) -> float:
    """Most for MACs, in few params."""
    return cost(network).macs / 1e6 - cost(network).params / 1e5


def test_a_network_of_ones_own_is_tried_and_the_nearest_point_where_it_is_none(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(to_json(OUTSIDE))
    found = nas.search(LOWRES, "25MFLOPs", worth, trials=3, start=[INSIDE, file], run=tmp_path / "run")
    names = {trial.anchor: trial for trial in found.trials if trial.anchor}
    assert list(names) == [arch_id(INSIDE), str(file), f"near {file}"]
    assert names[arch_id(INSIDE)].arch == INSIDE and names[arch_id(INSIDE)].choices == encode(LOWRES, INSIDE)
    assert names[str(file)].arch == OUTSIDE and not names[str(file)].choices
    near = names[f"near {file}"]
    assert near.choices and near.cost.macs <= 25e6 and near.arch.stages[3].width in (48, 64)
    assert [len(near.arch.stages[i].block.kernel) for i in range(5)] == [len(s.block.kernel) for s in OUTSIDE.stages]  # type: ignore[union-attr]
    assert all(trial.score == worth(trial.arch) for trial in found.trials)
    again = nas.search(LOWRES, "25MFLOPs", worth, trials=3, start=[INSIDE, file], run=tmp_path / "run")
    assert again.trials == found.trials
    with pytest.raises(nas.Error, match="was started with another plan"):
        nas.search(LOWRES, "25MFLOPs", worth, trials=3, start=[INSIDE], run=tmp_path / "run")


def test_of_one_over_the_budget_the_nearest_that_keeps_it_is_tried() -> None:
    found = nas.search(LOWRES, "12MFLOPs", worth, trials=2, start=[INSIDE])
    over, near = found.trials[:2]
    assert over.state == "refused" and over.cost.macs > 12e6 and over.arch == INSIDE
    assert near.state == "complete" and 9e6 < near.cost.macs <= 12e6
    assert [start.note for start in found.plan.starts] == [
        f"{arch_id(INSIDE)} is over the budget: the nearest point that keeps the budget is tried", ""
    ]  # fmt: skip


def test_a_start_is_no_second_row_of_an_anchor() -> None:
    rows = ["lowres-mobilenet", "tailored-mobilenetv2-imp4"]
    found = nas.search(LOWRES, "25MFLOPs", worth, trials=4, anchors=rows, start=[INSIDE, *rows])
    named = [trial.anchor for trial in found.trials if trial.anchor]
    assert named == [rows[0], arch_id(INSIDE), rows[1]]


def test_starts_are_for_architectures() -> None:
    with pytest.raises(nas.Error, match="start is for spaces of architectures"):
        nas.search({"width": [8, 16]}, evaluate=lambda one, _rung: float(one["width"]), start=[INSIDE], trials=1)


def test_what_an_earlier_search_learnt_is_known(tmp_path: Path) -> None:
    earlier = nas.search(LOWRES, "25MFLOPs", worth, trials=24, run=tmp_path / "first")
    warm = nas.search(
        LOWRES, "20MFLOPs", worth, trials=12, warm_start=tmp_path / "first", seed=1, run=tmp_path / "second"
    )
    cold = nas.search(LOWRES, "20MFLOPs", worth, trials=12, seed=1)
    keeping = sorted((t for t in earlier.trials if t.cost.macs <= 20e6), key=lambda t: -(t.score or 0))
    begun = [trial for trial in warm.trials if trial.anchor]
    assert [trial.arch_id for trial in begun] == [trial.arch_id for trial in keeping[:3]]
    assert [trial.anchor for trial in begun] == [f"first/{trial.arch_id}" for trial in begun]
    first = [[t.score or 0 for t in one.trials if t.wave == 1] for one in (warm, cold)]
    assert sum(first[0]) / len(first[0]) > sum(first[1]) / len(first[1])  # no longer at random
    kept = read_warm_start(*open_run(tmp_path / "second"))
    assert [trial.arch_id for trial in kept] == [trial.arch_id for trial in earlier.trials]


def test_resumed_it_knows_the_same(tmp_path: Path) -> None:
    nas.search(LOWRES, "25MFLOPs", worth, trials=16, run=tmp_path / "first")
    asked = {"warm_start": tmp_path / "first", "seed": 1}
    whole = nas.search(LOWRES, "20MFLOPs", worth, trials=12, run=tmp_path / "whole", **asked)  # type: ignore[arg-type]

    calls = []

    def stops(network: Arch, rung: int) -> float:
        calls.append(network)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return worth(network, rung)

    with pytest.raises(KeyboardInterrupt):
        nas.search(LOWRES, "20MFLOPs", stops, trials=12, run=tmp_path / "stopped", **asked)  # type: ignore[arg-type]
    resumed = nas.search(LOWRES, "20MFLOPs", worth, trials=12, run=tmp_path / "stopped", **asked)  # type: ignore[arg-type]
    assert [same_outcome(trial) for trial in resumed.trials] == [same_outcome(trial) for trial in whole.trials]


def test_what_was_scored_otherwise_is_refused(tmp_path: Path) -> None:
    nas.search(LOWRES, "25MFLOPs", worth, trials=2, rungs=2, run=tmp_path / "two-rungs")
    with pytest.raises(nas.Error, match="its recipe is another, so its scores do not compare; --start takes its best"):
        nas.search(LOWRES, "25MFLOPs", worth, trials=2, warm_start=tmp_path / "two-rungs")
    create(tmp_path / "empty", plan_for(nas.Budget(macs=25_000_000)))
    with pytest.raises(nas.Error, match="its dataset is another"):
        nas.search(LOWRES, "25MFLOPs", worth, trials=2, warm_start=tmp_path / "empty")
    nas.search({"width": [8, 16]}, evaluate=lambda one, _rung: float(one["width"]), trials=1, run=tmp_path / "own")
    with pytest.raises(nas.Error, match="a warm start is for sampler gp, tpe knows no earlier search"):
        nas.search(LOWRES, "25MFLOPs", worth, trials=2, sampler="tpe", warm_start=tmp_path / "two-rungs")
    with pytest.raises(nas.Error, match="has no trained network in space lowres"):
        nas.search(LOWRES, "25MFLOPs", worth, trials=2, warm_start=tmp_path / "own")


def test_what_is_over_the_new_budget_leads_nowhere(tmp_path: Path) -> None:
    """Of an earlier search under a wider budget the best are no parents: they are out of reach."""
    nas.search(LOWRES, "50MFLOPs", worth, trials=24, run=tmp_path / "wide")
    warm = nas.search(LOWRES, "12MFLOPs", worth, trials=20, warm_start=tmp_path / "wide", seed=1)
    cold = nas.search(LOWRES, "12MFLOPs", worth, trials=20, seed=1)
    scores = [[trial.score or 0 for trial in one.trials] for one in (warm, cold)]
    assert sum(scores[0]) / len(scores[0]) > sum(scores[1]) / len(scores[1])


def test_a_copy_that_is_not_the_plans_is_refused(tmp_path: Path) -> None:
    nas.search(LOWRES, "25MFLOPs", worth, trials=4, run=tmp_path / "first")
    nas.search(LOWRES, "20MFLOPs", worth, trials=2, warm_start=tmp_path / "first", run=tmp_path / "second")
    copy = tmp_path / "second" / "warm_start.jsonl"
    copy.write_text("".join(copy.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(nas.Error, match=r"is not what .*second was begun with"):
        nas.search(LOWRES, "20MFLOPs", worth, trials=3, warm_start=tmp_path / "first", run=tmp_path / "second")


@pytest.mark.slow
def test_on_the_command_line(here: Path) -> None:
    (here / "mine.json").write_text(to_json(OUTSIDE))
    asked = ["search", "--budget", "3MFLOPs", "--workers", "1", "--space", "lowres"]
    first = nas_here(*asked, "--trials", "3", "--run", "first", "--start", "mine.json")
    assert first.returncode == 0, first.stderr
    assert "mine.json is not in space lowres: the nearest point that keeps the budget is tried" in first.stderr
    assert "near mine.json" in first.stdout
    second = nas_here(*asked, "--trials", "4", "--run", "second", "--warm-start", "runs/first")
    assert second.returncode == 0, second.stderr
    assert "warm start: what first learnt is known" in second.stderr
    trials = read_trials(open_run(Path("runs/second"))[0])[0]
    assert any((trial.anchor or "").startswith("first/") for trial in trials)
