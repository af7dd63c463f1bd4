"""Calibration: which networks, which figures, and that nothing trained is lost."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nas.execution.jobs import Evaluate, Tick
from nas.execution.local import LocalWorkers
from nas.networks.architecture import Arch, arch_id, cost
from nas.networks.space import encode, fitted
from nas.records.budget import Budget
from nas.records.plan import Recipe, longer
from nas.records.recipes import TRAINING_RECIPES, Recipes, Reference, References, TrainingPlan
from nas.records.results import TestResult as Came
from nas.records.results import TrainingResult
from nas.records.run_folder import Run, create, open_run, open_training, read_value, write_value
from nas.records.statistics import Calibration
from nas.records.trial import Score
from nas.search_strategy.calibration import EvaluateByRecipe, calibrate, diverse, networks_of
from search_spaces import ANCHORS, LIGHTWEIGHT, LOWRES
from tests.cli.test_cli import nas, nas_here
from tests.conftest import RECIPE, plan_for, score

PLAN = plan_for(Budget(macs=25_000_000), LIGHTWEIGHT)
FIRST = ANCHORS["lowres-mobilenet"].arch
GOOD, BAD, LONG = replace(RECIPE, name="good"), replace(RECIPE, name="bad"), longer(RECIPE, 128, 2, 32)


def trainer(recipe: Recipe) -> Evaluate:
    """What ranks as the longer training does, or at random."""

    def evaluate(arch: Arch, rung: int, _state: bytes | None, tick: Tick) -> tuple[Score, bytes | None]:
        tick(32)
        tick(32)
        value = cost(arch).macs / 1e6
        if recipe.name == "bad":
            value = random.Random(f"{arch_id(arch)}:{rung}").uniform(0, 90)
        return replace(score(rung, value), train_loss=-value), b"state"

    return evaluate


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from fewer resamples: what is tested does not hang on their number, the time does."""
    monkeypatch.setattr("nas.search_strategy.calibration.RESAMPLES", 100)


TRAINERS = EvaluateByRecipe({recipe.name: trainer(recipe) for recipe in (GOOD, BAD, LONG)})


def test_diverse_networks_keep_the_budget_and_come_near_it() -> None:
    found = diverse(PLAN, LIGHTWEIGHT, 8, [FIRST])
    assert found[0].arch == FIRST and len({candidate.id for candidate in found}) == 8
    assert all(15_000_000 <= candidate.cost.macs <= 25_000_000 for candidate in found)
    assert all(encode(LIGHTWEIGHT, candidate.arch) == candidate.choices for candidate in found)
    assert len({candidate.choices["early"] for candidate in found}) > 2
    assert diverse(PLAN, LIGHTWEIGHT, 8, [FIRST]) == found
    assert len({candidate.id for candidate in diverse(PLAN, LIGHTWEIGHT, 40, [FIRST])}) == 40


def test_a_good_proxy_ranks_and_a_bad_one_does_not(tmp_path: Path) -> None:
    run = create(tmp_path / "a", PLAN)
    candidates = diverse(PLAN, LIGHTWEIGHT, 10, [FIRST])
    recipes = Recipes((GOOD, BAD, LONG))
    halves = iter(range(100))
    seen: list[tuple[int, int]] = []

    def watch(_name: str, done: int, planned: int) -> None:
        seen.append((done, planned))

    assert calibrate(candidates, recipes, run, LocalWorkers(TRAINERS), watch, lambda: next(halves) > 20) is None
    found = calibrate(candidates, recipes, run, LocalWorkers(TRAINERS), watch, lambda: False)
    assert found == read_value(open_run(run.path)[0], "calibration", Calibration)
    assert found and len(seen) == 50  # each training of each rung once
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and {p for _, p in seen} == {
        10 * (4 * 64 + 256)
    }
    for one in found.agreements:
        assert -1.001 < one.spearman.low - 1e-9 <= one.spearman.value <= one.spearman.high + 1e-9 < 1.001
        assert (min(one.spearman.value, one.kendall.value) > 0.999) == (one.proxy == "good")
    assert {(one.proxy, one.rung, one.by) for one in found.agreements} == {
        (proxy, rung, by) for proxy in ("good", "bad") for rung in (0, 1) for by in ("accuracy", "loss")
    }
    assert not (run.path / "work").exists()


def full(arch: Arch, path: Path, *top1: float) -> Path:
    """A full training on digits, by eight epochs, that has come to `top1` on the validation images, a seed each."""
    training = replace(TRAINING_RECIPES["quick"], epochs=8)
    training_plan = TrainingPlan("a.json", "by hand", arch, "digits", training, tuple(range(len(top1))))
    run = create(path, training_plan)
    told = tuple(Came(seed, 50, 99, 50, 50, 50, ((1,),), one, 0.5, 60, 100) for seed, one in enumerate(top1))
    came = TrainingResult(arch_id(arch), cost(arch), 1149, 288, 360, ("0",), told, "cpu", 1, {"nas": "1"}, "2026-11-26")
    write_value(run, "result", came)
    return path


def test_what_was_trained_in_full_before_is_not_trained_again(tmp_path: Path) -> None:
    candidates = diverse(PLAN, LIGHTWEIGHT, 6, [FIRST])
    told = tuple(
        Reference("runs/a", c.id, c.arch, (c.cost.macs / 1e6 + 5 * (i % 2), c.cost.macs / 1e6 - 5 * (i % 2)))
        for i, c in enumerate(candidates)
    )
    compared = Recipes((GOOD, BAD), References(TRAINING_RECIPES["quick"], 40_000, 10_000, told))
    assert networks_of(PLAN, LIGHTWEIGHT, compared, []) == [replace(c, choices={}) for c in candidates]
    seen: list[str] = []
    found = calibrate(
        candidates,
        compared,
        create(tmp_path / "a", PLAN),
        LocalWorkers(TRAINERS),
        lambda name, *_: seen.append(name),
        bool,
    )
    assert found and len(seen) == 6 * 2 * 2 and not any("longer" in name for name in seen)
    assert found.scores["longer"] == tuple((pytest.approx(c.cost.macs / 1e6),) for c in candidates)
    assert found.again and found.again.value < 0.9 and found.losses["good"][0] == (-24.084544, -24.084544)
    assert min(one.spearman.value for one in found.agreements if one.proxy == "good") > 0.999


@pytest.mark.slow
def test_the_command_holds_proxies_against_full_trainings(here: Path) -> None:
    where = fitted(LOWRES, 32, 10)
    archs = [one.arch for one in diverse(plan_for(Budget(macs=3_000_000), where), where, 3, [])]
    runs = [str(full(arch, here / f"{top1}", top1, top1 + 1)) for arch, top1 in zip(archs, (90, 80, 70), strict=True)]
    ended = nas("calibrate", *runs, "--proxy", "half", "--workers", "1", "--run", "half", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["scores"]["longer"] == [[90.5], [80.5], [70.5]] and found["again"]["value"] == 1.0
    assert [len(row) for row in found["losses"]["half"]] == [3, 3, 3]
    again = nas_here("show", "runs/half").stdout
    assert "trained in full before: 3 networks" in again and "rank the networks alike by +1.00" in again
    assert "after 9,192 training images (8 epochs, recipe quick, mean of 2 seeds)" in again
    assert re.search(rf"{arch_id(archs[0])} .* 90.50 % .* % ", again)

    def refused(*words: str) -> str:
        ended = nas_here("calibrate", *words, "--run", "no")
        assert ended.returncode == 2 and not Path("runs/no").exists()
        return ended.stderr

    assert "3 different networks, each once, got 2" in refused(*runs[:2])
    assert "3 different networks, each once, got 4" in refused(*runs, runs[0])
    assert "images; leave out --budget" in refused(*runs, "--budget", "3MFLOPs")
    assert "runs/half is no full training" in refused(*runs, "runs/half")
    training_plan = open_training(Path(runs[1]))[1]
    write_value(
        Run(Path(runs[1])), "training", replace(training_plan, training=replace(training_plan.training, epochs=9))
    )
    assert f"{runs[1]} was not trained as {runs[0]}" in refused(*runs)
    for run in runs:
        write_value(
            Run(Path(run)), "training", replace(training_plan, training=replace(training_plan.training, epochs=2))
        )
    assert "the proxy half has 3,447 training images" in refused(*runs, "--proxy", "half")


def test_a_network_that_cannot_be_trained_is_named(tmp_path: Path) -> None:
    def evaluate(_arch: Arch, _rung: int, _state: bytes | None, _tick: Tick) -> tuple[Score, bytes | None]:
        raise RuntimeError("no such block")

    candidates = diverse(PLAN, LIGHTWEIGHT, 3, [FIRST])
    trainers = EvaluateByRecipe({LONG.name: evaluate})
    with pytest.raises(RuntimeError, match=r"(?s)c6177ce8c1-longer cannot be trained.*no such block"):
        calibrate(
            candidates,
            Recipes((LONG,)),
            create(tmp_path / "a", PLAN),
            LocalWorkers(trainers),
            lambda *_: None,
            lambda: False,
        )


@pytest.mark.slow
def test_the_command(here: Path) -> None:
    budget = ("--budget", "1MFLOPs", "--resolution", "16", "--space", "lowres", "--networks", "3", "--epochs", "4")
    ended = nas("calibrate", *budget, "--workers", "1", "--proxy", "half", "--proxy", "half", "--run", "a", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert [recipe["name"] for recipe in found["recipes"]] == ["half", "longer"]
    assert len(found["networks"]) == 3 and len(found["agreements"]) == 6
    again = nas_here("calibrate", "--resume", "runs/a")
    assert "half, rung 3" in again.stdout and "Spearman" in again.stdout and "4,596 training images" in again.stdout
    assert nas_here("calibrate", "--budget", "3MFLOPs", "--proxy", "halve").stderr.startswith(
        "nas: error: proxy 'halve' is unknown; did"
    )
    assert nas_here("calibrate", "--budget", "3MFLOPs", "--networks", "2").returncode == 2
    few = nas_here("calibrate", "--budget", "2.15MFLOPs", "--space", "lowres", "--networks", "20", "--run", "c")
    assert "has no 20 networks" in few.stderr and not Path("runs/c").exists()
    short = nas_here("calibrate", "--budget", "3MFLOPs", "--epochs", "2", "--run", "b")
    assert "proxy proxy has 6,894 training images" in short.stderr and not Path("runs/b").exists()
    assert nas_here("calibrate", "--resume", "runs/a", "--networks", "5").stderr.endswith("leave out --networks\n")
    assert nas_here("show", "runs/a").stdout == again.stdout
    assert json.loads(nas_here("compare", "runs/a", "--json").stdout)["runs"][0]["kind"] == "calibration"
    assert "go on with nas calibrate --resume runs/a" in nas_here("search", "--resume", "runs/a").stderr
