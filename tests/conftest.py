"""What several tests share: a space and recipe small enough to search in seconds, evaluators that do not train."""

import os
import tempfile

os.environ.setdefault("XDG_CACHE_HOME", f"{tempfile.gettempdir()}/nas-tests-{os.getuid()}")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads of several test processes would fight for cores

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from nas.networks.architecture import Arch, arch_id, cost, cost_or_unbuildable
from nas.networks.space import Space, sample
from nas.records.budget import Budget
from nas.records.plan import Plan, Recipe, Rung
from nas.records.trial import Score, Trial
from search_spaces import LOWRES

settings.register_profile("untimed", deadline=None)  # no test asserts a wall-clock time
settings.load_profile("untimed")

RECIPE = Recipe("tiny", (Rung(64, 1, 32), Rung(64, 1, 32)), 0.5, 32, 0.05, 0.9, 5e-4, 4)
SMALLER = {
    "pool.DRAWN": 300, "pool.CHILDREN": 8, "pool.SHIFTS": 3, "proposer.PARENTS": 4, "proposer.ROUNDS": 1,
    "near_budget.WALKS": 5, "near_budget.STEPS": 25,
}  # fmt: skip
FEW_STEPS = 32  # of a proxy on few images, where users have 128
PATCHED = f"""
from importlib import import_module
import nas.records.plan
from nas.cli.app import app
nas.records.plan.RUNG_STEPS = {FEW_STEPS}
for name, number in {SMALLER}.items():
    module, _, constant = name.partition(".")
    setattr(import_module(f"nas.search_strategy.{{module}}"), constant, number)
app(prog_name="nas")
"""
COMMAND = "-c", PATCHED  # of Python: `nas` in a process of its own, which proposes from as few and trains as few steps
LADDER = replace(RECIPE, rungs=(Rung(64, 1, 32), Rung(64, 2, 32), Rung(64, 5, 32, anew=True)), keep=0.25)


def plan_for(budget: Budget, space: Space = LOWRES, trials: int = 20, seed: int = 0, wave: int = 4) -> Plan:
    return Plan(budget, "digits", space.name, space.digest, trials, seed, RECIPE, 32, 10, wave=wave)


def score(rung: int, top1: float) -> Score:
    return Score(rung, top1, 1.0, 64, 32, 0.5, 0.1, "cpu", 1, "0")


def fake_evaluate(
    arch: Arch, rung: int, _state: bytes | None = None, tick: Callable[[int], None] = lambda _: None
) -> tuple[Score, None]:
    """A score that follows from the network alone: larger networks do better, with noise of their own."""
    tick(64)
    noise = random.Random(f"{arch_id(arch)}:{rung}").random()
    return score(rung, 40 + 10 * rung + cost(arch).macs / 1e6 + noise), None


def buildable(space: Space, seed: int, macs: int = 40_000_000) -> Arch:
    """A random network of `space` that can be built, of at most so many MACs."""
    rng = random.Random(seed)
    while True:
        arch: Arch = sample(space, rng)
        if cost_or_unbuildable(arch).macs <= macs:
            return arch


def same_outcome(trial: Trial) -> Trial:
    """`trial` without what a clock or a machine put in: equal for two runs of one plan."""
    scores = tuple(replace(s, train_seconds=0.0, val_seconds=0.0, device="", threads=0, torch="") for s in trial.scores)
    return replace(trial, scores=scores)


RAY = ("test_cluster", "test_workers", "test_ray_dies", "test_cli")  # look for, or are, a Ray cluster on this machine


class FilesTogether(LoadFileScheduling):
    """Tests of one file run in one process, where they share what they made; so do those that would meet on Ray."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "ray" if Path(file).stem in RAY else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    return FilesTogether(config, log)


@pytest.fixture(autouse=True, scope="session")
def small_pools() -> Iterator[None]:
    """Proposals from fewer networks, and fewer steps: what is tested does not hang on their number, the time does."""
    with pytest.MonkeyPatch.context() as patched:
        for name, number in SMALLER.items():
            patched.setattr(f"nas.search_strategy.{name}", number)
        patched.setattr("nas.records.plan.RUNG_STEPS", FEW_STEPS)
        yield


@pytest.fixture
def as_on_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings on the CPU go the way of those on a card, but that nothing is captured."""
    for module in ("step", "crops", "learner"):
        monkeypatch.setattr(f"nas.training.{module}.on_card", lambda where: True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
