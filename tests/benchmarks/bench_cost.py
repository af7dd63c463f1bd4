"""Drawing and costing an architecture on paper, against building it and counting it with thop. One thread.

pytest -s -n 0 tests/benchmarks/bench_cost.py
"""

import random
import time
import warnings

import pytest
import torch

from nas.models.torch_model import build
from nas.networks.architecture import cost
from nas.networks.space import sample
from search_spaces import SPACES

PAPER, BUILT = 4_000, 20


# In the larger space more parts are met for the first time, and its networks are quicker to build and count.
@pytest.mark.parametrize(("name", "ratio", "speed"), [("lowres", 200, 2_000), ("lightweight", 120, 1_400)])
def test_paper_against_thop(name: str, ratio: float, speed: float) -> None:
    torch.set_num_threads(1)
    rng, space = random.Random(0), SPACES[name]
    start = time.perf_counter()
    for _ in range(PAPER):
        cost(sample(space, rng))
    on_paper = (time.perf_counter() - start) / PAPER
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from thop import profile

        archs = [sample(space, rng) for _ in range(BUILT)]
        start = time.perf_counter()
        for arch in archs:
            profile(build(arch), inputs=(torch.zeros(1, 3, 32, 32),), verbose=False)
        counted = (time.perf_counter() - start) / BUILT
    print(f"\n{name}: {1 / on_paper:,.0f} a second on paper; built and counted {1 / counted:,.1f} a second")
    print(f"ratio {counted / on_paper:,.0f}")
    assert counted / on_paper >= ratio
    assert 1 / on_paper >= speed
