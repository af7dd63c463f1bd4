"""What a search finds within 60 evaluations, in tables of some thousand networks that cost no training.

The landscapes are made up, a family of them: 8 layers, each left out, small (expand 3, kernel 3) or large (expand 6,
kernel 5), at three resolutions, 6,561 networks in all. Each stage pays with diminishing returns, pairs of layers help
or harm each other, params cost a little, and some of it no model could know. A network has three noisy scores (0.15
points); an evaluation gives one of them at random, and regret is counted on their mean, against the best that keeps the
budget. Nothing in the search was tuned to them. Whatever sampler proposes, nothing over the budget is evaluated.

pytest -s -n 0 tests/benchmarks/bench_regret.py
"""

import itertools
import random
from collections.abc import Callable
from functools import cache

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from nas import search
from nas.networks.space import Space, one_of
from nas.records.plan import SAMPLERS

SEEDS, TRIALS, MARKS = 16, 60, (10, 20, 30, 40, 60)
OPS = ("skip", "small", "large")
EXPAND, KERNEL = {"skip": 0, "small": 3, "large": 6}, {"skip": 0, "small": 3, "large": 5}
STAGES = ((32, 32, (0, 1)), (64, 16, (2, 3, 4)), (128, 8, (5, 6, 7)))  # channels, resolution, layers
LAYERS = Space("layers", tuple(one_of(*OPS) for _ in range(8)))
Network = tuple[str, ...]
NETWORKS: list[Network] = list(itertools.product(OPS, repeat=8))
INDEX = {network: i for i, network in enumerate(NETWORKS)}


def counted(network: Network) -> tuple[int, int]:
    """MACs and params, those of stem and head a round number."""
    macs, params = 6_000_000, 60_000
    for channels, resolution, layers in STAGES:
        for op in (network[i] for i in layers):
            hidden = channels * EXPAND[op]
            weights = hidden * (2 * channels + KERNEL[op] ** 2)
            macs, params = macs + weights * resolution**2, params + weights + 4 * hidden
    return macs, params


COUNTED = np.array([counted(network) for network in NETWORKS])
MACS = COUNTED[:, 0]
CODED = np.array([[OPS.index(op) for op in network] for network in NETWORKS])


@cache
def landscape(seed: int) -> NDArray[np.float64]:
    """Three noisy accuracies of each network."""
    rng = np.random.default_rng(seed)
    strength = np.array([0.0, rng.uniform(0.5, 0.9), rng.uniform(0.9, 1.3)])[CODED]
    accuracy = np.full(len(NETWORKS), rng.uniform(93.2, 94.2))
    for (_, _, layers), scale in zip(STAGES, rng.uniform((2, 2, 1), (4, 4, 2.5)), strict=True):
        depth = (strength[:, layers] * rng.uniform(0.6, 1.4, len(layers))).sum(1)
        accuracy -= scale * np.exp(-rng.uniform(0.6, 1.1) * depth)
    accuracy -= rng.uniform(2, 5) * np.exp(-0.55 * strength.sum(1))
    accuracy -= rng.uniform(0, 0.8) * COUNTED[:, 1] / COUNTED[:, 1].max()
    for i, j in itertools.combinations(range(8), 2):
        if rng.random() < 0.4:
            accuracy += rng.normal(0, 0.15, (3, 3))[CODED[:, i], CODED[:, j]]
    accuracy += rng.normal(0, 0.14, len(NETWORKS))
    return accuracy[:, None] + rng.normal(0, 0.15, (len(NETWORKS), 3))


Score = Callable[[Network], float]
Policy = Callable[[Score, int, int], tuple[list[Network], Network | None]]
"""Networks in the order evaluated, and the winner where the policy names one."""


def at_random(score: Score, limit: int, seed: int) -> tuple[list[Network], None]:
    """Networks that keep the budget."""
    rng = random.Random(seed)
    asked = rng.sample([n for n in NETWORKS if MACS[INDEX[n]] <= limit], TRIALS)
    return [n for n in asked if score(n) is not None], None


def evolution(score: Score, limit: int, seed: int) -> tuple[list[Network], None]:
    """Regularised evolution (Real et al., 2019) among networks that keep the budget: 20 alive, samples of 5."""
    rng = random.Random(seed)
    asked = rng.sample([n for n in NETWORKS if MACS[INDEX[n]] <= limit], 20)
    alive = [(score(network), network) for network in asked]
    while len(asked) < TRIALS:
        parent = max(rng.sample(alive, 5))[1]
        layer = rng.randrange(8)
        child = (*parent[:layer], rng.choice(OPS), *parent[layer + 1 :])
        if child not in asked and MACS[INDEX[child]] <= limit:
            asked.append(child)
            alive = [*alive[1:], (score(child), child)]
    return asked, None


def searched(sampler: str) -> Policy:
    """`nas.search` with its defaults and that sampler."""

    def policy(score: Score, limit: int, seed: int) -> tuple[list[Network], Network | None]:
        found = search(
            LAYERS,
            f"{limit}FLOPs",
            lambda network, _rung: score(network),
            trials=TRIALS,
            seed=seed,
            cost=lambda network: int(MACS[INDEX[network]]),
            sampler=sampler,
        )
        assert len(found.trials) == TRIALS
        return [trial.arch for trial in found.trials], found.best.arch if found.best else None

    return policy


def regrets(policy: Policy, limit: int, seed: int) -> tuple[list[float], int]:
    """Regret after each of MARKS evaluations, the last one of the network that the policy names; and how many broke
    the budget."""
    table, rng = landscape(seed), np.random.default_rng(seed)
    scores: dict[Network, float] = {}

    def score(network: Network) -> float:
        return scores.setdefault(network, float(table[INDEX[network], rng.integers(3)]))

    asked, winner = policy(score, limit, seed)
    true, keeps = table.mean(1), limit >= MACS
    best = true[keeps].max()
    row = []
    for mark in MARKS:
        inside = [network for network in asked[:mark] if keeps[INDEX[network]]]
        top = max(inside, key=score, default=None)
        row.append(float(best - true[INDEX[top]]) if top else float(best - true[keeps].min()))
    if winner:
        row[-1] = float(best - true[INDEX[winner]])
    return row, sum(not keeps[INDEX[network]] for network in asked)


POLICIES: dict[str, Policy] = {
    "random, feasible": at_random,
    "evolution, feasible": evolution,
    **{sampler: searched(sampler) for sampler in SAMPLERS},
}


@pytest.mark.parametrize("share", [0.1, 0.36, 0.7])
def test_regret(share: float) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    limit = int(np.quantile(MACS, share))
    print(f"\nbudget {limit / 1e6:.1f} M, which {100 * share:.0f} % keep; regret after {MARKS}, {SEEDS} seeds")
    at_60 = {}
    for name, policy in POLICIES.items():
        found = [regrets(policy, limit, seed) for seed in range(SEEDS)]
        rows = np.array([row for row, _ in found])
        error = rows.std(0, ddof=1) / SEEDS**0.5
        said = "  ".join(f"{mean:.2f}+-{se:.2f}" for mean, se in zip(rows.mean(0), error, strict=True))
        broken = np.mean([number for _, number in found])
        print(f"{name:22s} {said}  over the budget {broken:.1f} of {TRIALS}")
        at_60[name] = rows.mean(0)[-1]
        assert broken == 0
    assert at_60["gp"] < 0.5 * min(value for name, value in at_60.items() if name != "gp")
