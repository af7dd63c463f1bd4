"""Drawing and costing an architecture on paper, against building it and counting it with thop. One thread.

pytest -s tests/benchmarks/bench_cost.py
"""

import random
import time
import warnings

import torch

from nas.arch import cost
from nas.model import build
from nas.space import sample
from search_spaces import LIGHTWEIGHT

PAPER, BUILT = 4_000, 20


def test_paper_against_thop() -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    start = time.perf_counter()
    for _ in range(PAPER):
        cost(sample(LIGHTWEIGHT, rng))
    on_paper = (time.perf_counter() - start) / PAPER
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from thop import profile

        archs = [sample(LIGHTWEIGHT, rng) for _ in range(BUILT)]
        start = time.perf_counter()
        for arch in archs:
            profile(build(arch), inputs=(torch.zeros(1, 3, 32, 32),), verbose=False)
        counted = (time.perf_counter() - start) / BUILT
    print(f"\non paper {1 / on_paper:,.0f} a second; built and counted {1 / counted:,.1f} a second")
    print(f"ratio {counted / on_paper:,.0f}")
    assert counted / on_paper >= 200
    assert 1 / on_paper >= 2_000
