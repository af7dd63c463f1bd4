"""Forecasts of latency, on a machine of which the prices are known."""

import math
import random

import pytest

from nas.latency.predictor import LEAST_ERROR, LatencyPredictor, features
from nas.networks.architecture import Arch, cost
from nas.networks.space import sample
from search_spaces import ANCHORS, LIGHTWEIGHT

PRICES = {"macs, pointwise": 1e-8, "macs, depthwise": 5e-8, "macs, dense": 2e-8, "moved, conv": 2e-7, "layers": 3e-3}


def slowness(network: Arch, noise: float = 0.0, rng: random.Random | None = None) -> float:
    paid = sum(PRICES.get(name, 1e-8) * number for name, number in features(network).items())
    return paid * math.exp(rng.gauss(0, noise) if rng else 0)


@pytest.fixture(scope="module")
def networks() -> list[Arch]:
    rng = random.Random(0)
    return [sample(LIGHTWEIGHT, rng) for _ in range(80)]


def test_prices_are_found(networks: list[Arch]) -> None:
    forecast = LatencyPredictor(networks[:50], [slowness(network) for network in networks[:50]])
    for network in networks[50:]:
        assert forecast.expected(network) == pytest.approx(slowness(network), rel=0.2)
    assert forecast.error < 0.1


def test_the_error_is_that_of_networks_not_fitted_to(networks: list[Arch]) -> None:
    rng = random.Random(1)
    forecast = LatencyPredictor(networks[:50], [slowness(network, 0.1, rng) for network in networks[:50]])
    misses = [math.log(forecast.expected(network) / slowness(network, 0.1, rng)) for network in networks[50:]]
    seen = math.sqrt(sum(miss * miss for miss in misses) / len(misses))
    assert LEAST_ERROR <= forecast.error and 0.5 < forecast.error / seen < 2


def test_chances_follow_the_limit(networks: list[Arch]) -> None:
    forecast = LatencyPredictor(networks[:30], [slowness(network) for network in networks[:30]])
    expected = forecast.expected(networks[40])
    chances = [forecast.chance(networks[40], expected * share) for share in (0.5, 0.99, 1, 1.01, 2)]
    assert chances == sorted(chances) and chances[2] == pytest.approx(0.5)
    assert chances[0] < 0.02 and chances[-1] > 0.98


def test_all_macs_have_a_price() -> None:
    for anchor in ANCHORS.values():
        found = features(anchor.arch)
        assert sum(number for name, number in found.items() if name.startswith("macs")) == cost(anchor.arch).macs
