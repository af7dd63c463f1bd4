"""How networks are drawn, turned, and brought to the budget."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.networks.architecture import Arch, cost, cost_or_unbuildable
from nas.networks.graph import Cost
from nas.networks.space import decode, encode, fitted, shared
from nas.records.budget import Budget
from nas.records.plan import Plan
from nas.search_strategy.candidates import Candidate, Request, ScoredCandidate
from nas.search_strategy.near_budget import NEAR, STEPS_TO_BUDGET, NearBudget
from nas.search_strategy.pool import Pool
from nas.search_strategy.proposer import FILLED, RANDOM_EVERY, STARTUP, Proposer
from nas.search_strategy.surrogate import Describer
from search_spaces import ANCHORS, LIGHTWEIGHT, LOWRES, SPACES
from tests.conftest import RECIPE


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 2**32), macs=st.sampled_from((5_000_000, 15_000_000, 25_000_000, 80_000_000)))
def test_a_network_lands_on_the_budget_or_nearer_to_it(name: str, seed: int, macs: int) -> None:
    def away(network: Arch) -> float:
        use = cost_or_unbuildable(network).macs / macs
        return max(use - 1, NEAR - use, 0.0)

    near_budget = NearBudget(SPACES[name], Budget(macs), cost_or_unbuildable)
    free = NearBudget(SPACES[name], Budget(10**12), cost_or_unbuildable)
    _, start, _ = free.random_near_budget(
        random.Random(seed), 0.0
    )  # where all are on the budget, it stays as it was drawn
    choices, network, steps = near_budget.random_near_budget(random.Random(seed), NEAR)
    assert away(network) <= away(start)
    assert steps == STEPS_TO_BUDGET or (steps < STEPS_TO_BUDGET and away(network) == 0)
    assert steps > 1 or network == start
    assert decode(SPACES[name], choices) == network


def test_half_of_the_random_networks_are_alike_in_all_their_parts() -> None:
    near_budget = NearBudget(LIGHTWEIGHT, Budget(macs=10**12), cost)  # none has to land
    drawn = [near_budget.random_near_budget(random.Random(seed), 0.0)[1] for seed in range(400)]

    one_stride = [len({stage.stride for stage in network.stages[1:]}) == 1 for network in drawn]
    assert 0.3 < sum(one_stride) / 400 < 0.6  # an eighth where each is drawn by itself


def test_kin_are_of_the_same_kinds() -> None:
    parent = encode(LIGHTWEIGHT, ANCHORS["lowres-mobilenet"].arch)
    near_budget = NearBudget(LIGHTWEIGHT, Budget(macs=25_000_000), cost)
    for seed in range(40):
        choices, network, _ = near_budget.random_near_budget(random.Random(seed), NEAR, parent)
        assert all(choices[name] == parent[name] for name in near_budget.shared & choices.keys())
        assert {stage.block.kind for stage in network.stages} == {"bottleneck"}


def test_two_of_a_wave_come_from_the_random_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Proposer(LOWRES, Budget(macs=25_000_000), cost)
    first = sampler.propose(Request(1, STARTUP, {}), [], ())
    known = [ScoredCandidate(candidate, (-float(candidate.cost.params),)) for candidate in first]
    pools = list[Pool]()
    fill = Pool.fill

    def noted(pool: Pool, parents: list[Candidate], rng: random.Random) -> None:
        pools.append(pool)
        fill(pool, parents, rng)

    monkeypatch.setattr(Pool, "fill", noted)
    chosen = sampler.propose(Request(2, 8, {}), known, {candidate.id for candidate in first})
    strange = [candidate.id in pools[0].at_random for candidate in chosen]
    assert strange[RANDOM_EVERY - 1 :: RANDOM_EVERY] == [True, True] and not all(strange)


def test_a_knob_is_turned_in_all_its_places() -> None:
    parent = encode(LIGHTWEIGHT, ANCHORS["lowres-mobilenet"].arch)
    near_budget = NearBudget(LIGHTWEIGHT, Budget(macs=25_000_000), cost)
    children = [near_budget.knob_shifted(parent, NEAR, random.Random(seed)) for seed in range(300)]
    assert all(decode(LIGHTWEIGHT, choices) == network for choices, network in children)
    random_near_budget = [network for _, network in children if NEAR <= cost(network).macs / 25e6 <= 1]
    assert len(random_near_budget) > 250

    def seen(attribute: str, values: tuple[object, ...], of: str = "") -> bool:
        parts = [[getattr(stage, of) if of else stage for stage in network.stages] for network in random_near_budget]
        return any(tuple(getattr(part, attribute, None) for part in stages) == values for stages in parts)

    # Its widths are 16, 24, 32, 64, 96, its depths 1, 2, 3, 4, 3, its kernels filled, all stages but one joined.
    assert seen("kernel", ((5,),) * 5, "block")
    assert seen("concat", (False,) * 5)
    assert seen("width", (24, 32, 48, 96, 128)) and seen("width", (8, 16, 24, 48, 64))
    assert seen("depth", (1, 1, 2, 3, 2)) and seen("depth", (2, 3, 4, 6, 4))


def test_polished_networks_are_near_the_best_and_fill_the_budget() -> None:
    proposer = Proposer(LIGHTWEIGHT, Budget(macs=25_000_000), cost)
    first = proposer.propose(Request(1, 16, {}), [], ())
    known = [ScoredCandidate(candidate, (-float(candidate.cost.params),)) for candidate in first]
    best = sorted(known, key=lambda item: -item.scores[0])[:4]
    chosen = proposer.propose(Request(2, 8, {}, polish=True), known, {candidate.id for candidate in first})
    assert len(chosen) == 8 and all(candidate.cost.macs <= 25e6 for candidate in chosen)
    steps = []
    for candidate in chosen:
        apart = [sum(b.candidate.choices.get(n) != label for n, label in candidate.choices.items()) for b in best]
        steps.append(min(apart))
    assert sum(apart < 8 for apart in steps) >= 4, steps
    near_budget = proposer.near_budget
    near = list(near_budget.neighbours(best[0].candidate.choices, FILLED, random.Random(0)))
    used = [cost(network).macs / 25e6 for _, network in near]
    assert len(near) > 40 and sum(FILLED <= use <= 1 for use in used) > 0.8 * len(near)
    assert all(decode(LIGHTWEIGHT, choices) == network for choices, network in near)


def test_near_widths_are_near_in_a_description() -> None:
    widths = tuple(range(8, 257, 8))
    describe = Describer({"width": widths, "kernel": (3, 5), "act": ("relu", "hswish")})

    def row(width: int, act: str = "relu") -> np.ndarray[Any, np.dtype[np.float64]]:
        return describe(None, {"width": width, "kernel": 3, "act": act}, Cost(1, 1, 1)).choices

    assert len(row(8)) == 6 + 2 + 2
    apart = [float(np.abs(row(low) - row(high)).sum()) for low, high in ((8, 16), (128, 136), (8, 256), (128, 256))]
    assert apart[0] == pytest.approx(1) == apart[3] and apart[2] == pytest.approx(5) and 0 < apart[1] < 0.1
    assert np.abs(row(8) - row(8, "hswish")).sum() == 2
    counts = describe(None, {"width": 24, "kernel": 3, "act": "relu"}, Cost(1, 1, 1)).counts
    assert ("3", "chosen") in counts and ("24", "chosen") not in counts


@pytest.mark.slow
def test_all_kinds_of_blocks_are_drawn_alike() -> None:
    space = fitted(SPACES["lightweight"], 32, 10)
    assert {"early", "late"} < shared(space)
    plan = Plan(Budget(macs=25_000_000), "cifar10", space.name, space.digest, 200, 0, RECIPE, 32, 10)
    found = Proposer(space, plan.budget, cost, plan.seed).propose(Request(1, 200, {}), [], set())
    for stage in (0, 4):
        kinds = Counter(candidate.arch.stages[stage].block.kind for candidate in found)
        assert len(kinds) == 8 and min(kinds.values()) >= 5 and max(kinds.values()) <= 60, kinds
