"""How random networks are brought to the budget."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.arch import Arch, arch_id, cost
from nas.plan import Budget
from nas.propose import LANDING, NEAR, Proposer
from nas.space import decode, varied
from search_spaces import SPACES
from tests.conftest import plan_for


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 2**32), macs=st.sampled_from((5_000_000, 15_000_000, 25_000_000, 80_000_000)))
def test_a_network_lands_on_the_budget_or_nearer_to_it(name: str, seed: int, macs: int) -> None:
    def away(network: Arch) -> float:
        use = cost(network).macs / macs
        return max(use - 1, NEAR - use, 0.0)

    proposer = Proposer(plan_for(Budget(macs), SPACES[name]), SPACES[name], cost)
    _, start = varied(SPACES[name], {}, (), random.Random(seed))
    choices, network, steps = proposer.landed(random.Random(seed), NEAR)
    assert away(network) <= away(start)
    assert steps == LANDING or (steps < LANDING and away(network) == 0)
    assert steps > 1 or network == start
    assert arch_id(decode(SPACES[name], choices)) == arch_id(network)
