"""Where the time of a search goes, and how long `nas --help` takes.

pytest -s -n 0 tests/benchmarks/bench_search.py
"""

import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from nas.execution.local import LocalWorkers
from nas.records.budget import Budget
from nas.records.plan import PROXY, Plan, Rung
from nas.records.run_folder import create
from nas.search_strategy.engine import search
from nas.training.proxy import Proxy, loaded
from search_spaces import LIGHTWEIGHT, lowres


def test_time_outside_training(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    loaded("digits", None)
    recipe = replace(PROXY, rungs=(Rung(1149, 1, 288), Rung(1149, 2, 288)))
    plan = Plan(Budget(macs=25_000_000), "digits", "lightweight", LIGHTWEIGHT.digest, 20, 0, recipe, 32, 10)
    run = create(tmp_path / "a", plan)
    start = time.perf_counter()
    trials = search(plan, LIGHTWEIGHT, list(lowres.ANCHORS.values()), run, LocalWorkers(Proxy(plan))).trials
    wall = time.perf_counter() - start
    scores = [score for trial in trials for score in trial.scores]
    inside = sum(score.train_seconds + score.val_seconds for score in scores)
    share = 100 * (1 - inside / wall)
    print(f"\n{len(trials)} trials in {wall:.1f} s; outside training and validation {share:.2f} %")
    assert share <= 3


def test_help() -> None:
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / "nas", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(f"\nnas --help: median of 5 {statistics.median(seconds[1:]):.3f} s")
    assert statistics.median(seconds[1:]) <= 0.3
