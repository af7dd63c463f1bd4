"""`from nas import search`: spaces, blocks, costs and evaluators of a user's own."""

import itertools
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas import search
from nas.api.resolve import fitted_to_dataset
from nas.networks.architecture import Arch, Head, Stage, Stem, arch_id, cost
from nas.networks.blocks import Separable
from nas.networks.graph import Map, Wiring
from nas.networks.space import Space, axes, of, one_of
from nas.records.budget import Budget
from nas.records.pareto import dominates, front, hypervolume, point, ranks
from nas.records.plan import FRONT_KEEP, PASSES, PROXY, RUNG_STEPS, filled
from nas.records.run_folder import RunFailed, open_run
from nas.records.search_files import read_trials
from search_spaces import ANCHORS, LOWRES, lowres
from tests.cli.test_cli import nas_here
from tests.conftest import plan_for

LAYERS = Space("layers", tuple(one_of("skip", "small", "large") for _ in range(5)))
MACS = {"skip": 0, "small": 2_000_000, "large": 5_000_000}


def macs(layers: tuple[str, ...]) -> int:
    return 1_000_000 + sum(MACS[layer] * (5 - i) for i, layer in enumerate(layers))


def worth(layers: tuple[str, ...], _rung: int = 0) -> float:
    """Late layers pay best; the third one is better small."""
    gains = {"skip": 0.0, "small": 2.0, "large": 3.0}
    return sum(gains[layer] * (1 + i) for i, layer in enumerate(layers)) - 4 * (layers[2] == "large")


def best_worth(limit: int) -> float:
    return max(worth(layers) for layers in itertools.product(MACS, repeat=5) if macs(layers) <= limit)


def test_networks_and_costs_of_ones_own() -> None:
    result = search(LAYERS, "30MFLOPs", worth, trials=40, seed=0, cost=macs)
    assert len(result.trials) == 40 and {trial.state for trial in result.trials} == {"complete"}
    assert [trial.index for trial in result.trials] == list(range(40))
    assert all(trial.cost.macs == macs(trial.arch) <= 30_000_000 for trial in result.trials)
    assert all(trial.score == worth(trial.arch) for trial in result.trials)
    assert len({trial.arch for trial in result.trials}) == 40
    assert result.best and result.best.score == best_worth(30_000_000) == max(t.score or 0 for t in result.trials)
    assert result.path is None
    again = search(LAYERS, "30MFLOPs", worth, trials=40, seed=0, cost=macs)
    assert [trial.arch for trial in again.trials] == [trial.arch for trial in result.trials]
    assert search(LAYERS, "30MFLOPs", worth, trials=40, seed=1, cost=macs).trials != result.trials


def test_searches_of_ones_own_are_shown(tmp_path: Path) -> None:
    own, layers = tmp_path / "own", tmp_path / "layers"
    for objective in ("accuracy", "accuracy,macs"):
        path = own / objective
        search(LOWRES, "25MFLOPs", lambda arch, _: 190 - 1e6 / cost(arch).macs, trials=8, objective=objective, run=path)
        shown = nas_here("show", path)
        assert shown.returncode == 0 and "of an evaluate of its own" in shown.stdout and "189.9" in shown.stdout
        assert "%" not in shown.stdout
    search(LAYERS, "30MFLOPs", worth, trials=8, cost=macs, run=layers)
    for command in ("show", "compare", "report"):
        said = nas_here(command, layers)
        assert said.returncode == 2 and "networks that are no architectures of nas" in said.stderr


@dataclass(frozen=True, slots=True)
class Doubled:
    """A block kind of a user's own: two separable convolutions."""

    kind: ClassVar[str] = "doubled"
    kernel: int = 3

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        with g.within("first"):
            y = Separable(self.kernel).wire(g, x, cout, stride)
        with g.within("second"):
            return Separable(self.kernel).wire(g, y, cout, 1)


OWN = Space(
    "own",
    of(
        Arch,
        stem=Stem(16),
        stages=tuple(
            of(Stage, block=of(Doubled, kernel=one_of(3, 5)), width=one_of(16, 24, 32), depth=one_of(1, 2), stride=2)
            for _ in range(3)
        ),
        head=Head(64),
    ),
)


def test_a_block_kind_of_ones_own_is_searched_trained_and_resumed(tmp_path: Path) -> None:
    def macs_are_good(arch: Arch, rung: int) -> float:
        return cost(arch).macs / 1e6 + rung

    kept = search(OWN, "4MFLOPs", macs_are_good, trials=10, rungs=2, run=tmp_path / "run")
    assert {trial.state for trial in kept.trials} == {"complete", "pruned"} and kept.path == tmp_path / "run"
    resumed = search(OWN, "4MFLOPs", macs_are_good, trials=10, rungs=2, run=tmp_path / "run")
    assert resumed.trials == kept.trials and resumed.best == kept.best
    unsaid = search(OWN, "4MFLOPs", macs_are_good, rungs=2, run=tmp_path / "run")
    assert unsaid.trials == kept.trials, "as many as the run was to have"
    for trials, seed in ((9, 0), (11, 1)):
        with pytest.raises(ValueError, match="was started with another plan"):
            search(OWN, "4MFLOPs", macs_are_good, trials=trials, seed=seed, rungs=2, run=tmp_path / "run")
    more = search(OWN, "4MFLOPs", macs_are_good, trials=11, rungs=2, run=tmp_path / "run")
    assert more.trials[:10] == kept.trials and len(more.trials) == 11
    trained = search(OWN, "2MFLOPs", trials=1, dataset="digits", anchors=(), run=tmp_path / "digits", workers=1)
    assert trained.trials[0].scores[-1].val_images == 288


def test_rungs_and_anchors_of_ones_own() -> None:
    seeds = list(lowres.ANCHORS.values())
    result = search(LOWRES, "25MFLOPs", lambda arch, rung: cost(arch).macs / 1e6, trials=12, rungs=3, anchors=seeds)
    assert [trial.anchor for trial in result.trials[:6]] == [anchor.name for anchor in seeds]
    assert {len(trial.scores) for trial in result.trials} == {0, 1, 2, 3}
    assert result.trials[0].state == "complete" and result.trials[1].anchor == "tailored-mobilenetv2-imp1"
    assert result.trials[1].state == "refused"


def test_anchors_outside_the_space_are_not_evaluated_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(arch: Arch, _rung: int) -> float:
        asked.append(arch_id(arch))
        return cost(arch).macs / 1e6

    strange = [ANCHORS["lowres-mobilenet"], ANCHORS["mobilenetv1-x0.5-32"]]  # the second is no point of lowres
    first = search(LOWRES, "25MFLOPs", counted, trials=6, anchors=strange, run=tmp_path / "run")
    assert search(LOWRES, "25MFLOPs", counted, trials=6, anchors=strange, run=tmp_path / "run").trials == first.trials
    assert len(asked) == 6
    with (tmp_path / "run" / "trials.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match="line 7 is no trial"):
        search(LOWRES, "25MFLOPs", counted, trials=6, anchors=strange, run=tmp_path / "run")


def test_a_front() -> None:
    result = search(LAYERS, "60MFLOPs", worth, trials=60, seed=0, cost=macs, objective="accuracy, macs")
    assert list(result.front) == front(result.trials, ("accuracy", "macs"))
    spent = [trial.cost.macs for trial in result.front]
    assert len(spent) > 4 and spent == sorted(spent, reverse=True)
    nets = list(itertools.product(MACS, repeat=5))
    reference = (0.0, -60_000_000.0)
    whole = hypervolume([(worth(n), -float(macs(n))) for n in nets if macs(n) <= 60_000_000], reference)
    found = hypervolume([point(t.score or 0, t.cost, ("accuracy", "macs")) for t in result.trials], reference)
    assert found > 0.97 * whole


def test_a_front_of_networks_of_which_one_costs_nothing() -> None:
    def spent(layers: tuple[str, ...]) -> int:
        return macs(layers) - 1_000_000

    result = search(LAYERS, "60MFLOPs", worth, trials=60, seed=0, cost=spent, objective="accuracy,macs")
    assert result.front[-1].cost.macs == 0


def test_hypervolume_and_ranks_by_brute_force() -> None:
    rng = random.Random(0)
    for dimensions in (1, 2, 3):
        points = [tuple(float(rng.randrange(6)) for _ in range(dimensions)) for _ in range(8)]
        cells = itertools.product(range(6), repeat=dimensions)
        covered = sum(any(all(p > c for p, c in zip(q, cell, strict=True)) for q in points) for cell in cells)
        assert hypervolume(points, (0.0,) * dimensions) == covered
        for one, rank in zip(points, ranks(points), strict=True):
            above = [r for other, r in zip(points, ranks(points), strict=True) if dominates(other, one)]
            assert rank == max(above, default=-1) + 1


@pytest.mark.parametrize(
    ("budget", "options", "message"),
    [
        ("1KFLOPs", {}, "no network of space layers keeps the budget 1KFLOPs: the smallest has 1,000,000 FLOPs"),
        ("30MFLOP", {}, "is not understood"),
        ("30MFLOPs", {"objective": "macs"}, "objective must be accuracy, alone or followed by"),
        ("30MFLOPs", {"objective": "accuracy,size"}, "objective must be accuracy"),
        ("30MFLOPs", {"trials": 0}, "trials must be at least 1"),
        ("30MFLOPs", {"workers": 0}, "workers must be at least 1"),
        ("30MFLOPs", {"rungs": 0}, "rungs must be at least 1, got 0"),
    ],
)
def test_requests_that_cannot_be_met(budget: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(LAYERS, budget, worth, cost=macs, **options)


def test_rungs_of_ones_own_need_an_evaluate() -> None:
    with pytest.raises(ValueError, match="rungs=2 is for an evaluate"):
        search(LOWRES, "30MFLOPs", rungs=2)


def test_a_score_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    scores = iter([1.0])

    def diverging(_network: object, _rung: int) -> float:
        return next(scores, math.nan)

    with pytest.raises(RunFailed, match=r"evaluate must return a finite number, but .*diverging returned nan"):
        search(LAYERS, "30MFLOPs", diverging, cost=macs, run=tmp_path / "run")
    states = [trial.state for trial in read_trials(open_run(tmp_path / "run")[0], lambda trial: trial)[0]]
    assert states == ["complete", "failed", "failed", "failed"]


def test_axes_are_all_there() -> None:
    assert axes(LAYERS) == {str(i): ("skip", "small", "large") for i in range(5)}
    assert axes(OWN)["stages.1.block.kernel"] == (3, 5)


def test_the_package_has_what_it_names() -> None:
    assert nas.Result is type(search(LAYERS, "30MFLOPs", worth, trials=1, cost=macs))
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serach'"):
        nas.serach  # noqa: B018


LETTERS = Space("letters", tuple(one_of("a", "b", "c") for _ in range(6)))


def spent(letters: tuple[str, ...]) -> int:
    return 1_000_000 * sum("abc".index(letter) + 1 for letter in letters)


def told(letters: tuple[str, ...], _rung: int = 0) -> float:
    return float(sum("abc".index(letter) for letter in letters))


@pytest.mark.parametrize(("name", "budget"), [("cost", "2MFLOPs"), ("latency", "1ms")])
def test_a_function_of_ones_own_that_raises_is_one_error(name: str, budget: str) -> None:
    def lookup(network: object) -> float:
        raise KeyError(network)

    with pytest.raises(nas.Error, match=rf"{name} .*lookup raised KeyError: '?\w'?, for '?\w'?$"):
        nas.search(["a", "b"], budget, lambda *_: 1.0, **{name: lookup})


def test_a_latency_of_ones_own() -> None:
    def milliseconds(letters: tuple[str, ...]) -> float:
        return 1.0 + letters.count("c")

    result = search(LETTERS, "15MFLOPs,3.5ms", told, cost=spent, latency=milliseconds, trials=12, objective="accuracy")
    trained = [trial for trial in result.trials if trial.state != "refused"]
    assert len(trained) == 12 and all(milliseconds(trial.arch) <= 3.5 for trial in trained)
    assert all(trial.latency and trial.latency.median_ms == milliseconds(trial.arch) for trial in result.trials)
    front = search(LETTERS, "15MFLOPs", told, cost=spent, latency=milliseconds, trials=12, objective="accuracy,latency")
    assert front.front and all(trial.latency for trial in front.front)


@pytest.mark.parametrize(
    ("budget", "more", "said"),
    [
        ("15MFLOPs,1ms", {"cost": spent}, "give anchors, or latency="),
        ("15MFLOPs", {}, "networks of your own need cost="),
        ("0.5xlowres-mobilenet:ms", {"latency": lambda _: 1.0}, "a multiple of an anchor.s latency"),
    ],
)
def test_latencies_that_cannot_be_had(budget: str, more: dict[str, object], said: str) -> None:
    space, anchors = (LOWRES, [ANCHORS["lowres-mobilenet"]]) if "lowres" in budget else (LETTERS, [])
    with pytest.raises(ValueError, match=said):
        search(space, budget, told, anchors=anchors, trials=4, **more)  # type: ignore[arg-type]


def test_the_reference_is_the_one_that_the_budget_names() -> None:
    anchors = [ANCHORS["tailored-mobilenetv2"], ANCHORS["lowres-mobilenet"]]
    budget = "5MFLOPs,0.8xlowres-mobilenet:ms"
    plan = search(LOWRES, budget, lambda arch, rung: 1.0, anchors=anchors, trials=1, time_limit=1e-9).plan
    assert plan.meter and plan.meter.reference == plan.budget.reference == "lowres-mobilenet"


def test_a_front_keeps_more_of_each_wave() -> None:
    plans = [
        fitted_to_dataset(replace(plan_for(Budget(25_000_000)), recipe=PROXY, objective=objective), None, LOWRES)[0]
        for objective in (("accuracy",), ("accuracy", "macs"))
    ]
    assert [plan.recipe.keep for plan in plans] == [PROXY.keep, FRONT_KEEP] and PROXY.keep < FRONT_KEEP


def test_the_rungs_of_a_small_dataset_have_steps_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where images are few, in smaller batches first, then by being seen again."""
    monkeypatch.setattr("nas.records.plan.RUNG_STEPS", RUNG_STEPS)
    assert filled(PROXY, 40_000, 10_000) == PROXY
    digits = filled(PROXY, 1_149, 288)
    assert [(rung.images, rung.epochs, rung.val_images) for rung in digits.rungs] == [
        (1_149, epochs, 288) for epochs in (1, 2, 3)
    ]
    assert (digits.batch, digits.lr) == (8, pytest.approx(PROXY.lr / math.sqrt(8)))
    assert [rung.epochs for rung in filled(PROXY, 600, 288).rungs] == [2, 2, 3]
    for images in (1, 7, 100, 1_149, 3_000, 9_000):
        recipe = filled(PROXY, images, 1)
        steps = [rung.epochs * math.ceil(rung.images / recipe.batch) for rung in recipe.rungs]
        assert min(steps) >= RUNG_STEPS or {rung.epochs for rung in recipe.rungs} == {PASSES}
    assert filled(PROXY, 5_000, 1).batch == 5_000 // RUNG_STEPS  # and none is seen again
    assert [rung.epochs for rung in filled(PROXY, 5_000, 1).rungs] == [1, 2, 3]


@given(st.integers(2, 400))
def test_no_batch_of_a_small_dataset_is_a_single_image(images: int) -> None:
    batch = filled(PROXY, images, 1).batch
    batches = torch.arange(images).tensor_split(math.ceil(images / batch))
    assert min(len(rows) for rows in batches) > 1  # of one image alone no batch norm can learn


def test_what_an_evaluate_reaches_for_may_be_away_for_a_while() -> None:
    asked: list[object] = []

    def flaky(letters: tuple[str, ...], _rung: int) -> float:
        asked.append(letters)
        if len(asked) == 1:
            raise ConnectionResetError("the device is away")
        return told(letters)

    found = search(LETTERS, "15MFLOPs", flaky, cost=spent, trials=4)
    assert asked[0] == asked[1] and {trial.state for trial in found.trials} == {"complete"}
