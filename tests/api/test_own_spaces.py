"""Spaces of a user's own: in a file or a module, and in plain Python."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas.networks.enumeration import every
from nas.networks.plain_space import plain_space
from nas.networks.space import axes, decode, encode, sample, size
from nas.records.run_folder import open_run
from nas.records.search_files import read_trials
from tests.cli.test_cli import nas_here

OWN_BLOCK = """
from dataclasses import dataclass
from typing import ClassVar

from nas import Arch, Head, Space, Stage, Stem, of, one_of
from nas.networks.blocks import Separable

@dataclass(frozen=True, slots=True)
class Doubled:
    kind: ClassVar[str] = "doubled"
    kernel: int = 3

    def wire(self, g, x, cout, stride):
        with g.within("first"):
            y = Separable(self.kernel).wire(g, x, cout, stride)
        with g.within("second"):
            return Separable(self.kernel).wire(g, y, cout, 1)

MINE = Space("mine", of(Arch, stem=Stem(8), head=Head(), stages=(
    of(Stage, block=of(Doubled, kernel=one_of(3, 5)), width=one_of(8, 16), depth=one_of(1, 2), stride=2),
    of(Stage, block=Separable(), width=one_of(16, 24), depth=1, stride=2),
)))
"""


def test_the_example_is_written_searched_resumed_and_guarded(here: Path) -> None:
    written = nas_here("space", "--write", "my_space.py", "--budget", "2MFLOPs")
    assert written.returncode == 0 and "my_space.py is written" in written.stderr
    assert "stages.0-2.block" in written.stdout
    again = nas_here("space", "--write", "my_space.py")
    assert again.returncode == 2 and "my_space.py exists already" in again.stderr
    asked = ("--space", "my_space.py:SPACE", "--budget", "1MFLOPs", "--workers", "1", "--quiet")
    found = nas_here("search", *asked, "--trials", "2", "--run", "mine")
    assert found.returncode == 0, found.stderr
    run, plan = open_run(here / "runs" / "mine")
    assert plan.space == f"{here / 'my_space.py'}:SPACE"
    assert run.space_file.read_bytes() == (here / "my_space.py").read_bytes()
    os.chdir(here / "runs")  # from elsewhere
    more = nas_here("search", "--resume", "mine", "--trials", "3", "--workers", "1", "--quiet")
    assert more.returncode == 0, more.stderr
    assert sum(bool(trial.scores) for trial in read_trials(run)[0]) == 3
    assert nas_here("show", "mine").returncode == 0
    os.chdir(here)
    with (here / "my_space.py").open("a") as file:
        file.write("# a thought\n")
    refused = nas_here("search", "--resume", "runs/mine", "--trials", "4")
    assert refused.returncode == 2 and "put back what it was (runs/mine/space.py)" in refused.stderr
    (here / "my_space.py").write_bytes(run.space_file.read_bytes())
    assert nas_here("search", "--resume", "runs/mine", "--workers", "1", "--quiet").returncode == 0
    trained = nas_here("train", "runs/mine", "--epochs", "1", "--workers", "1", "--run", "trained", "--quiet")
    assert trained.returncode == 0, trained.stderr


def test_a_file_with_a_block_of_its_own_is_searched_shown_and_resumed(here: Path) -> None:
    (here / "mine.py").write_text(OWN_BLOCK)
    asked = {"budget": "1MFLOPs", "trials": 2, "workers": 1, "run": here / "run"}
    found = nas.search("mine.py:MINE", **asked)  # type: ignore[arg-type]
    mine = [trial for trial in found.trials if trial.scores]
    assert len(mine) == 2
    (here / "mine.py").unlink()
    shown = nas.show(here / "run")
    assert isinstance(shown, nas.api.report.SearchRun) and [t.arch_id for t in shown.trials] == [
        t.arch_id for t in found.trials
    ]
    assert nas.cost(nas.profile(f"{here / 'run'}/{mine[0].arch_id}").arch) == mine[0].cost
    with pytest.raises(nas.Error, match="there is no file"):
        nas.search(resume=here / "run", trials=3, workers=1)
    (here / "mine.py").write_text(OWN_BLOCK)
    more = nas.search(resume=here / "run", trials=3, workers=1).trials
    assert [(t.arch_id, t.scores) for t in more[:-1]] == [(t.arch_id, t.scores) for t in found.trials]


@pytest.mark.slow
def test_workers_on_ray_are_sent_the_block_of_a_file(here: Path) -> None:
    (here / "mine.py").write_text(OWN_BLOCK)
    done = nas_here("search", "--space", "mine.py:MINE", "--budget", "1MFLOPs", "--trials", "2", "--workers", "2")
    assert done.returncode == 0, done.stderr
    (run,) = (here / "runs").iterdir()
    states = [trial.state for trial in nas.show(run).trials if trial.scores]  # type: ignore[union-attr]
    assert len(states) == 2 and set(states) <= {"complete", "pruned"}


@pytest.mark.parametrize(
    ("reference", "content", "said"),
    [
        ("mine.py", "", "is a file; say which space in it, as in mine.py:SPACE"),
        ("none.py:SPACE", None, "nas space --write none.py writes an example"),
        ("mine.py:SPACE", "x = 1", "there is no SPACE; spaces in it: none"),
        ("mine.py:SPACE", "x = 1\ny = 1 / 0", "cannot be loaded: ZeroDivisionError in line 2"),
        ("mine.py:SPACE", "x = 1\ny = (", "cannot be loaded: SyntaxError in line 2"),
        ("mine.py:SPACE", "import sys; sys.exit(3)", "cannot be loaded: SystemExit in line 1"),
        ("mine.py:SPACE", "import nothere", "No module named 'nothere'; give FILE.py:NAME"),
        ("mine.py:SPACE", "SPACE = 3", "mine.py:SPACE: space must be a name, a Space, a dict"),
        ("mine.py:SPACE", "SPACE = {'a': [1, 2]}", "are no architectures of nas"),
        ("nothere.module:SPACE", "", "No module named 'nothere'"),
    ],
)
def test_files_that_hold_no_space(here: Path, reference: str, content: str | None, said: str) -> None:
    if content is not None:
        (here / "mine.py").write_text(content)
    with pytest.raises(nas.Error) as raised:
        nas.space(reference)
    assert said in str(raised.value)


def test_a_module_is_named_by_its_dots() -> None:
    assert nas.space("search_spaces.example:SPACE").space.name == "search_spaces.example:SPACE"


PLAIN: dict[str, tuple[Any, int, Any]] = {
    "dict": ({"width": [8, 16], "depth": range(1, 4), "name": "x"}, 6, {"width": 8, "depth": 1, "name": "x"}),
    "nested": (
        {"block": [{"kind": "a", "kernel": [3, 5]}, {"kind": "b"}], "head": {"width": [0, 16]}},
        6,
        {"block": {"kind": "b"}, "head": {"width": 16}},
    ),
    "tuple": ((["skip", "small"], [1, 2, 3], 7), 6, ("small", 2, 7)),
    "scalars": (["a", "b", "c"], 3, "b"),
    "candidates": ([(1, "x"), {"a": 1}, (1, "y")], 3, (1, "y")),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_python_is_a_space(name: str) -> None:
    value, number, network = PLAIN[name]
    space = plain_space(value)
    assert size(space) == number and axes(space)
    assert decode(space, encode(space, network)) == network
    rng = random.Random(0)
    for _ in range(20):
        drawn = sample(space, rng)
        assert decode(space, encode(space, drawn)) == drawn
    found = nas.search(value, evaluate=lambda drawn, _: float(drawn == network), trials=number)
    assert found.best and found.best.arch == network and len(found.trials) == number


def test_architectures_are_candidates_too() -> None:
    archs = [anchor.arch for anchor in nas.anchors() if anchor.arch.resolution == 32][:5]
    found = nas.search(archs, "30MFLOPs", lambda arch, _: -nas.cost(arch).macs)
    cheap = min(archs, key=lambda arch: nas.cost(arch).macs)
    assert found.best and found.best.arch == cheap and all(trial.cost.macs <= 30e6 for trial in found.trials)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"budget": "3MFLOPs"}, "give evaluate=, which scores them"),
        ({"budget": "3MFLOPs", "evaluate": lambda n, _: 1.0}, "need cost=, which says what they cost"),
        ({"objective": "accuracy,macs", "evaluate": lambda n, _: 1.0}, "need cost=, which says what they cost"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(nas.Error) as raised:
        nas.search({"width": [8, 16]}, **asked)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_without_a_budget_nothing_is_limited_and_cost_is_not_needed() -> None:
    found = nas.search({"width": [8, 16], "depth": [1, 2, 3]}, evaluate=lambda d, _: d["width"] * d["depth"], trials=6)
    assert found.best and found.best.arch == {"width": 16, "depth": 3} and len(found.trials) == 6


def test_a_small_space_is_searched_to_its_end_at_once() -> None:
    asked: list[dict[str, int]] = []

    def evaluate(network: dict[str, int], _rung: int) -> float:
        asked.append(dict(network))
        return network.pop("width")  # what it does to its network is its own affair

    space = {"width": [8, 16, 32], "depth": [1, 2, 3]}
    found = nas.search(space, "5MFLOPs", evaluate, cost=lambda n: n["width"] * n["depth"] * 1e5, trials=20)
    assert len(asked) == len(found.trials) == 7 and found.best and found.best.arch == {"width": 32, "depth": 1}
    drawn = [network for _, network in every(plain_space(space))]
    assert len(drawn) == 9 and all(drawn.count(network) == 1 for network in drawn)
    tree = plain_space({"block": [{"kind": "a", "kernel": [3, 5]}, {"kind": "b"}], "head": [0, 1, 2]})
    assert len(list(every(tree))) == size(tree) == 9
    assert all(decode(tree, choices) == network for choices, network in every(tree))


BROKEN = {
    "of(Stage, block=Separable(), width=one_of(8, 16), depth=1, strid=2)": "unexpected keyword argument 'strid'",
    "of(Stage, block='separable', width=one_of(8, 16), depth=1)": "has no attribute 'wire'",
    "of(Stage, block=Separable(), width=one_of(8, -3), depth=1)": "stages.0.width must be a whole number",
}


@pytest.mark.parametrize("stage", BROKEN)
def test_mistakes_in_a_file_are_one_error_that_names_it(here: Path, stage: str) -> None:
    content = "from nas import *\nfrom nas.networks.blocks import Separable\n"
    content += f"SPACE = Space('x', of(Arch, stem=Stem(8), head=Head(), stages=({stage},)))\n"
    (here / "mine.py").write_text(content)
    with pytest.raises(nas.Error) as raised:
        nas.space("mine.py:SPACE")
    assert "no network can be drawn from space" in str(raised.value) and "mine.py:SPACE" in str(raised.value)
    assert BROKEN[stage] in str(raised.value)


def test_numpys_numbers_are_choices() -> None:
    space = {"a": list(np.arange(4)), "b": np.array([1.5, 2.5]), "c": np.int64(3)}
    found = nas.search(space, evaluate=lambda n, _: n["a"] * n["b"] * n["c"], trials=8)
    assert found.best and found.best.arch == {"a": 3, "b": 2.5, "c": 3} and type(found.best.arch["a"]) is int


def test_what_a_number_of_macs_does_not_say_is_asked_for() -> None:
    with pytest.raises(nas.Error, match=r"cost must return a nas.Cost where params is asked for"):
        nas.search({"a": [1, 2]}, "1MParams", evaluate=lambda n, _: 1.0, cost=lambda n: 1e5)


def test_runs_of_ones_own_function_say_how_they_are_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    nas.search({"a": [1, 2, 3, 4]}, evaluate=lambda n, _: float(n["a"]), trials=2, run=run)
    with pytest.raises(nas.Error, match=r"call nas\.search as it was begun, with run="):
        nas.search(resume=run)
    with pytest.raises(nas.Error, match="was begun in another space"):
        nas.search({"a": [1, 2, 3, 5]}, evaluate=lambda n, _: float(n["a"]), trials=2, run=run)
