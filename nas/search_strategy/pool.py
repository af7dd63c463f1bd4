"""The networks of which a proposer takes those that promise most, and what is expected of each."""

import math
import random
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from nas.networks.space import Choices, varied
from nas.records.trial import identity
from nas.search_strategy.candidates import Candidate, PredictLatency
from nas.search_strategy.near_budget import NearBudget
from nas.search_strategy.surrogate import Describer, Description, Surrogate

POOL, DRAWN = 1000, 3000  # networks at random in the pool, and how many are drawn for them at the most
CHILDREN = 25  # how often each of the best is varied, an axis or a few at a time
SHIFTS = 15  # how often each has a knob turned in all its places
STEPPED = 0.5  # share of those variations in which numbers go a step up or down; else axes are drawn anew
SAME_KINDS = 0.5  # share of the pool's random networks that are of the kinds of one of the best
ASKED = 64  # networks that the surrogate is asked about at a time, to find the best of a pool


class Pool:
    """New networks that keep the budget and come near it, with their descriptions.

    `everything`: all networks of a space of few, which are all taken in; None of a larger one. `tried`: the identities
    of networks that are not new. `near`: the share of the budget that is to be taken at least.
    """

    def __init__(
        self,
        near_budget: NearBudget,
        describer: Describer,
        everything: Sequence[tuple[Choices, Any]] | None,
        tried: Collection[str],
        near: float,
        predict_latency: PredictLatency | None,
    ) -> None:
        self.near_budget, self.describer, self.everything = near_budget, describer, everything
        self.tried, self.near, self.predict_latency = set(tried), near, predict_latency
        self.found: list[Candidate] = []
        self.rows: list[Description] = []
        self.chances: list[float] = []
        """That each is fast enough, as predicted."""
        self.at_random: set[str] = set()
        """The identities of those that are random, and no variations of others."""

    def fill(self, parents: Sequence[Candidate], rng: random.Random) -> None:
        """Takes in random networks, some of them of the kinds of one of `parents`."""
        drawn = 0
        if self.everything is not None:
            for choices, network in self.everything:
                self.add(choices, network)
            self.at_random.update(candidate.id for candidate in self.found)
            return
        while drawn < DRAWN and len(self.found) < POOL:
            kinds_of = rng.choice(parents).choices if rng.random() < SAME_KINDS else None
            choices, network, steps = self.near_budget.random_near_budget(rng, self.near, kinds_of)
            drawn += steps
            if self.add(choices, network):
                self.at_random.add(self.found[-1].id)

    def add(self, choices: Choices, network: Any) -> bool:
        """Takes a network in if it belongs there; whether it does."""
        spent = self.near_budget.costs(network)
        if not self.near_budget.keeps(network, spent, self.predict_latency, self.near):
            return False
        key = identity(network)  # takes longer than the cost
        if key in self.tried:
            return False
        self.tried.add(key)
        self.found.append(Candidate(network, choices, spent, key))
        self.rows.append(self.describer(network, choices, spent))
        self.chances.append(self.predict_latency(network)[1] if self.predict_latency else 1.0)
        return True

    def vary(self, parents: Sequence[Candidate], rng: random.Random) -> None:
        """Takes in variations of `parents`: one to three axes from them, or with a knob turned."""
        for parent in parents if self.everything is None else ():
            names = list(parent.choices)
            for _ in range(CHILDREN):
                changed = rng.sample(names, min(len(names), rng.choice((1, 1, 2, 3))))
                if rng.random() < STEPPED:
                    self.add(*self.near_budget.stepped(parent.choices, changed, rng))
                else:
                    self.add(*varied(self.near_budget.space, parent.choices, changed, rng))
            for _ in range(SHIFTS):
                self.add(*self.near_budget.knob_shifted(parent.choices, self.near, rng))

    def polish(self, parents: Sequence[Candidate], filled: float, rng: random.Random) -> None:
        """Takes in what is a step from one of `parents`, by further steps brought to a share of the budget of `filled`
        at least, where that can be."""
        for parent in parents if self.everything is None else ():
            for choices, network in self.near_budget.neighbours(parent.choices, filled, rng):
                self.add(choices, network)

    def take(self, i: int) -> Candidate:
        """Network `i`, out of the pool."""
        del self.rows[i], self.chances[i]
        return self.found.pop(i)


class Promise:
    """What is expected of each network of a pool, kept up while some are taken and believed."""

    def __init__(self, surrogate: Surrogate, pool: Pool, together: int = 1) -> None:
        self.surrogate, self.pool, self.together = surrogate, pool, together
        self.taken: list[Description] = []  # and not believed yet
        self.places, self.chances = surrogate.places(pool.rows), np.array(pool.chances)
        self.mean, self.spread = surrogate.mean_and_spread_at(self.places)
        self.stale = np.zeros(len(pool.rows), bool)  # those whose spread is less by now

    def order(self, goal: float, allowed: Sequence[bool]) -> list[int]:
        """All networks, the one with the highest expected improvement over `goal` first, those not `allowed` last."""
        z = (self.mean - goal) / self.spread
        below = (1 + np.array([math.erf(one) for one in (z / math.sqrt(2)).tolist()])) / 2
        density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        gains = ((self.mean - goal) * below + self.spread * density) * self.chances
        return np.lexsort((-self.mean, -np.where(allowed, gains, -math.inf))).tolist()  # type: ignore[no-any-return]

    def best(self, goal: float, allowed: Sequence[bool]) -> int:
        """The place of the first of `order`.

        An improvement only falls with the spread, so those behind the first need not be asked about again.
        """
        while self.stale[(order := self.order(goal, allowed))[0]]:
            asked = [i for i in order[:ASKED] if self.stale[i]]
            self.mean[asked], self.spread[asked] = self.surrogate.mean_and_spread_at(self.places[asked])
            self.stale[asked] = False
        return order[0]

    def take(self, i: int) -> Candidate:
        """Network `i`, out of the pool; it is believed, with others where `together` are."""
        self.taken.append(self.pool.rows[i])
        for name in ("places", "chances", "mean", "spread", "stale"):
            setattr(self, name, np.delete(getattr(self, name), i, axis=0))
        if len(self.taken) == self.together:
            self.surrogate.believe(self.taken)
            self.taken = []
            self.stale[:] = True
        return self.pool.take(i)
