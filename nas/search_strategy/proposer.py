"""Which networks are trained next: new ones that keep the budget and promise most.

`propose` is a function of what is known and of nothing else, so a search that was killed proposes again what it had
proposed. The first networks are drawn at random, near the budget; later ones are those of a pool of new networks that
the surrogate expects most of, one after the other, each believed before the next is chosen; some are chosen from the
random ones of the pool alone, for the best networks are not always variations of the best so far. Nothing over
the budget enters the pool.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from nas.networks.enumeration import every, few
from nas.networks.graph import Cost
from nas.networks.space import Choices, Label, Space, axes, draw, encode, in_order, shared, varied, wander
from nas.records.plan import Budget, derived_seed
from nas.records.trial import Costs, identity
from nas.search_strategy.candidates import Candidate, PredictLatency, ScoredCandidate, cheapest
from nas.search_strategy.surrogate import Describer, Description, Surrogate, aligned, one_thread

SCORES = 160  # scores that the surrogate is fitted to, at the most: its time grows with their cube
STARTUP = 8  # networks of the space that have a score, before the surrogate is asked
NEAR = 0.85  # share of the budget that a candidate takes at least, where such can be found
DRAWS = 500  # at random for one candidate, before walking to one
ALIKE, NEARLY = 0.5, 0.2  # share of random networks that are nearly alike in all their parts; how nearly, of all ranks
STEPS_TO_BUDGET = 60  # steps in which a random network comes to the budget, at the most
WALKS, STEPS = 20, 100
POOL, DRAWN = 1000, 3000  # networks at random in the pool, and how many are drawn for them at the most
FEW = 4  # times as many in the pool as are to be chosen: with fewer, those far below the budget are taken in too
PARENTS, CHILDREN = 8, 25  # how many of the best are varied, and how often each, an axis or a few at a time
SHIFTS = 15  # how often each has a knob turned in all its places
ROUNDS = 3  # in which the most promising of the pool are varied
SAME_KINDS = 0.5  # share of the pool's random networks that are of the kinds of one of the best
ASKS_BEFORE_RANDOM = 4  # asks for one wave, after which it is drawn at random: what promises most there is too slow
RANDOM_EVERY = 4  # one of so many of a wave is chosen from the random networks alone
WAITING = 32  # of those being trained, the newest, that are believed to come to what is expected of them
ASKED = 64  # networks that the surrogate is asked about at a time, to find the best of a pool
BELIEFS = 32  # times that those chosen for one wave are believed, at the most: where it is large, several at a time
UNLIKELY = 0.02  # a chance to be fast enough below which a network is not measured


class Proposer:
    """Proposes networks of one space under one budget.

    `seed`: of all that is left to chance. `rungs`: how many scores a network may have. `objective`: the first is
    accuracy, the others are costs. `surrogate`: whether one is asked; else all are drawn at random, near the budget.
    """

    def __init__(
        self,
        space: Space,
        budget: Budget,
        costs: Costs,
        seed: int = 0,
        rungs: int = 1,
        objective: Sequence[str] = ("accuracy",),
        surrogate: bool = True,
    ) -> None:
        self.space, self.budget, self.costs, self.seed, self.rungs = space, budget, costs, seed, rungs
        self.objective, self.surrogate = tuple(objective), surrogate
        self.axes = axes(space)
        self.describer = Describer(self.axes)
        self.shared = shared(space)
        self.all = list(every(space)) if few(space) else None  # its networks, where they are few
        self.described: dict[str, Description] = {}  # of trained networks
        self.tally: Counter[str] = Counter()
        """Networks looked at so far: "drawn", and of them "over_budget" on paper, and "predicted_too_slow"."""

    def propose(
        self,
        wave: int,
        size: int,
        known: Sequence[ScoredCandidate],
        seen: Collection[str],
        predict_latency: PredictLatency | None = None,
        ask: int = 0,
    ) -> list[Candidate]:
        """Up to `size` networks that keep the budget and are not in `seen`; fewer where no more can be found.

        `known`: all candidates so far, in the order asked; those without a score are believed to come to what is
        expected of them. `seen`: the identities of all that were tried. `predict_latency`: what is expected of
        latencies, where they are limited and enough is known; networks that are almost surely too slow are left out.
        `ask`: how often candidates of this wave were asked for before.
        """
        rng = random.Random(derived_seed(self.seed, f"wave {wave}" + f" again {ask}" * (ask > 0)))
        scored = [item for item in known if item.candidate.choices and item.scores]
        waiting = [item.candidate for item in known if item.candidate.choices and not item.scores][-WAITING:]
        new = set(seen)
        if self.all is not None and len(left := self._left(new, predict_latency)) <= size:
            return left
        chosen: list[Candidate] = []
        if len(scored) >= STARTUP and self.surrogate and ask < ASKS_BEFORE_RANDOM:
            with one_thread():
                chosen = self._promising(scored, waiting, size, new, rng, predict_latency)
        while len(chosen) < size:
            candidate = self._at_random(rng, new, predict_latency)
            if candidate is None:
                break
            chosen.append(candidate)
            new.add(candidate.id)
        return chosen

    def _left(self, new: Collection[str], predict_latency: PredictLatency | None) -> list[Candidate]:
        """All networks of a space of few that keep the budget and are not in `new`."""
        left: dict[str, Candidate] = {}
        for choices, network in self.all or ():
            cost, key = self.costs(network), identity(network)
            if key not in new and self.keeps(network, cost, predict_latency):
                left.setdefault(key, Candidate(network, choices, cost, key))
        return list(left.values())

    def estimates(self, known: Sequence[ScoredCandidate]) -> list[float | None]:
        """The score that the surrogate expects of each candidate that has one at the last rung, noise taken off."""
        scored = [i for i, item in enumerate(known) if item.candidate.choices and item.scores]
        expected: list[float | None] = [None] * len(known)
        through = [i for i in scored if len(known[i].scores) == self.rungs]
        if len(scored) >= STARTUP and through:
            rungs = self.rungs
            informative = _most_informative([known[i] for i in scored], rungs)
            rows = [self._description(item.candidate) for item in informative]
            with one_thread():
                surrogate = Surrogate(rows, [item.scores for item in informative], rungs)
                means = surrogate.mean_and_spread([self._description(known[i].candidate) for i in through])[0]
            for i, value in zip(through, means.tolist(), strict=True):
                expected[i] = value
        return expected

    def _description(self, candidate: Candidate) -> Description:
        if candidate.id not in self.described:
            self.described[candidate.id] = self.describer(candidate.arch, candidate.choices, candidate.cost)
        return self.described[candidate.id]

    def keeps(self, network: Any, spent: Cost, predict_latency: PredictLatency | None, near: float = 0.0) -> bool:
        """Whether a network keeps the budget on paper, takes a share of it of at least `near`, and is not too slow by
        prediction.

        The share is that of limits on paper, where there are some: being slow is no merit.
        """
        self.tally["drawn"] += 1
        if not self.budget.keeps(spent):
            self.tally["over_budget"] += 1
            return False
        use = self.budget.use(spent)
        if predict_latency:
            slowness, chance = predict_latency(network)
            if self.budget.timed and not self.budget.limits():
                use = slowness
            if chance < UNLIKELY:
                self.tally["predicted_too_slow"] += 1
                return False
        return use >= near

    def random_near_budget(
        self, rng: random.Random, near: float, kinds_of: Choices | None = None
    ) -> tuple[Choices, Any, int]:
        """A random network that has come to the budget, by its choices, and how many were drawn for it.

        Half of them are nearly alike in all their parts, as people draw networks. As long as one is over the budget, or
        far below it, an axis at a time is drawn anew, and stays so where that brings it nearer. Axes of which one
        choice fills several places, as kinds of blocks, stay as they were drawn: else kinds of which most networks are
        over the budget would hardly ever be tried. `kinds_of`: of a network of which they are taken.
        """
        fixed = {name: label for name, label in (kinds_of or {}).items() if name in self.shared}
        choices, network = self._drawn_alike(fixed, rng) if rng.random() < ALIKE else varied(self.space, fixed, (), rng)
        return self._moved_to_budget(choices, network, near, (), rng)

    def _drawn_alike(self, fixed: Choices, rng: random.Random) -> tuple[Choices, Any]:
        """A random network of which each knob has choices of about one rank in all its places.

        All depths are small then, all expansions large, and stages grow wider as their choices do.
        """
        ranks: dict[str, float] = {}
        choices: Choices = {}

        def pick(name: str, labels: tuple[Label, ...]) -> Label:
            rank = ranks.setdefault(name.rpartition(".")[2], rng.random()) + rng.uniform(-NEARLY, NEARLY)
            ordered = in_order(labels) or labels
            nearest = ordered[min(max(int(rank * len(ordered)), 0), len(ordered) - 1)]
            choices[name] = fixed.get(name, nearest)
            return choices[name]

        return choices, draw(self.space, pick)

    def knob_shifted(self, parent: Choices, near: float, rng: random.Random) -> tuple[Choices, Any]:
        """A network like `parent` with a knob turned in all its places, brought back to the budget by other knobs.

        Numbers go a step up or down, all else is the same everywhere: every stage wider, every kernel of 5, no
        transitions. Papers improve networks so, and no few axes drawn anew ever come there.
        """
        places: dict[str, list[str]] = {}
        for name in parent:
            places.setdefault(name.rpartition(".")[2], []).append(name)
        knob = rng.choice([names for names in places.values() if len(names) > 1] or list(places.values()))
        label, step = rng.choice(self.axes[rng.choice(knob)]), rng.choice((-1, 1))
        choices = dict(parent)
        for name in knob:
            ordered = in_order(self.axes[name])
            if ordered:
                choices[name] = ordered[min(max(ordered.index(parent[name]) + step, 0), len(ordered) - 1)]
            elif label in self.axes[name]:
                choices[name] = label
        choices, network = varied(self.space, choices, (), rng)
        return self._moved_to_budget(choices, network, near, knob, rng)[:2]

    def _moved_to_budget(
        self, choices: Choices, network: Any, near: float, knob: Sequence[str], rng: random.Random
    ) -> tuple[Choices, Any, int]:
        """`choices` and `network` brought to the budget, as far as can be, and how many were drawn for it.

        The axes of `knob` stay as they are.
        """

        def use(network: Any) -> float:
            return self.budget.use(self.costs(network)) if self.budget.limits() else 1.0

        def away(use: float) -> float:
            return max(use - 1, near - use, 0.0)

        here, steps = use(network), 1
        while away(here) and steps < STEPS_TO_BUDGET:
            name = rng.choice(
                [name for name in choices if name not in self.shared and name not in knob] or list(choices)
            )
            moved = varied(self.space, choices, (name,), rng)
            there, left = use(moved[1]), here
            if away(there) < away(here):
                (choices, network), here = moved, there
            else:
                left = there
            self.tally["drawn"] += 1  # the one that stays is counted where it is looked at
            self.tally["over_budget"] += left > 1
            steps += 1
        return choices, network, steps

    def _promising(
        self,
        scored: Sequence[ScoredCandidate],
        waiting: Sequence[Candidate],
        size: int,
        new: set[str],
        rng: random.Random,
        predict_latency: PredictLatency | None,
    ) -> list[Candidate]:
        """The networks with the highest expected improvement that could be found, added to `new`."""
        rungs = self.rungs
        scored = _most_informative(scored, rungs)
        best = [scored[i] for i in _ranked(scored, rungs)[:PARENTS]]
        pool = Pool(self, new, predict_latency)
        for near in (pool.near, 0.0):
            pool.near = near
            pool.fill([item.candidate for item in best], rng)
            pool.vary([item.candidate for item in best], rng)
            if len(pool.found) >= FEW * size:
                break
        rows = [self._description(item.candidate) for item in scored]
        scores = [item.scores for item in scored]
        surrogate = Surrogate(rows, scores, rungs, pool.rows)
        expected = surrogate.mean_and_spread(rows)[0]
        if waiting:
            surrogate.believe([self._description(candidate) for candidate in waiting])
        chosen: list[Candidate] = []
        while len(chosen) < size and pool.found:
            keeps = self._cost_levels(scored, rng, predict_latency)
            random_only = len(chosen) % RANDOM_EVERY == RANDOM_EVERY - 1
            rivals = [e for e, item in zip(expected, scored, strict=True) if keeps(item.candidate)]
            goal = max(rivals, default=min(expected))
            if not chosen:
                for _ in range(ROUNDS):
                    best_found = Promise(surrogate, pool).order(goal, [keeps(one) for one in pool.found])[:PARENTS]
                    pool.vary([pool.found[i] for i in best_found], rng)
                promise = Promise(surrogate, pool, max(1, size // BELIEFS))
            allowed = [keeps(one) and (one.id in pool.at_random or not random_only) for one in pool.found]
            chosen.append(promise.take(promise.best(goal, allowed)))
        new.update(candidate.id for candidate in chosen)
        return chosen

    def _cost_levels(
        self, scored: Sequence[ScoredCandidate], rng: random.Random, predict_latency: PredictLatency | None
    ) -> Callable[[Candidate], bool]:
        """What the next choice has to keep: with several objectives, a random level of each cost below its limit.

        Latency's level is of what is predicted; while nothing is, there is none.
        """

        def spent(candidate: Candidate, name: str) -> float:
            if name == "latency":
                return predict_latency(candidate.arch)[0] if predict_latency else 1.0
            return float(getattr(candidate.cost, name))

        limits = {}
        for name in self.objective:
            if name != "accuracy":
                all_spent = [spent(item.candidate, name) for item in scored]
                low, high = math.log1p(min(all_spent)), math.log1p(max(all_spent))  # some networks cost nothing
                limits[name] = math.expm1(rng.uniform(low, high))
        return lambda candidate: all(spent(candidate, name) <= limit for name, limit in limits.items())

    def _at_random(
        self, rng: random.Random, new: Collection[str], predict_latency: PredictLatency | None
    ) -> Candidate | None:
        """A network drawn at random; where draws do not keep the budget, the end of a walk that does."""
        second_best: Candidate | None = None
        for arch in self._random_networks(rng):
            spent = self.costs(arch)
            if not self.keeps(arch, spent, predict_latency) or (key := identity(arch)) in new:
                continue
            candidate = Candidate(arch, encode(self.space, arch), spent, key)
            if self.budget.use(spent) >= NEAR:
                return candidate
            second_best = second_best or candidate
        return second_best

    def _random_networks(self, rng: random.Random) -> Iterator[Any]:
        drawn = 0
        while drawn < DRAWS:
            _, network, steps = self.random_near_budget(rng, NEAR)
            drawn += steps
            yield network
        start = cheapest(self.space, self.budget, rng, self.costs)
        for _ in range(WALKS):
            yield wander(self.space, start, lambda arch: self.budget.keeps(self.costs(arch)), STEPS, rng)


class Pool:
    """New networks that keep the budget and come near it, with their descriptions."""

    def __init__(self, proposer: Proposer, new: Collection[str], predict_latency: PredictLatency | None) -> None:
        self.proposer, self.tried, self.predict_latency = proposer, set(new), predict_latency
        self.found: list[Candidate] = []
        self.rows: list[Description] = []
        self.chances: list[float] = []
        """That each is fast enough, as predicted."""
        self.near = 0.0 if len(proposer.objective) > 1 else NEAR
        """Share of the budget that is to be taken at least."""
        self.at_random: set[str] = set()
        """The identities of those that are random, and no variations of others."""

    def fill(self, parents: Sequence[Candidate], rng: random.Random) -> None:
        """Takes in random networks, some of them of the kinds of one of `parents`."""
        drawn = 0
        if self.proposer.all is not None:
            for choices, network in self.proposer.all:
                self.add(choices, network)
            self.at_random.update(candidate.id for candidate in self.found)
            return
        while drawn < DRAWN and len(self.found) < POOL:
            kinds_of = rng.choice(parents).choices if rng.random() < SAME_KINDS else None
            choices, network, steps = self.proposer.random_near_budget(rng, self.near, kinds_of)
            drawn += steps
            if self.add(choices, network):
                self.at_random.add(self.found[-1].id)

    def add(self, choices: Choices, network: Any) -> bool:
        """Takes a network in if it belongs there; whether it does."""
        spent = self.proposer.costs(network)
        if not self.proposer.keeps(network, spent, self.predict_latency, self.near):
            return False
        key = identity(network)  # takes longer than the cost
        if key in self.tried:
            return False
        self.tried.add(key)
        self.found.append(Candidate(network, choices, spent, key))
        self.rows.append(self.proposer.describer(network, choices, spent))
        self.chances.append(self.predict_latency(network)[1] if self.predict_latency else 1.0)
        return True

    def vary(self, parents: Sequence[Candidate], rng: random.Random) -> None:
        """Takes in variations of `parents`: one to three axes from them, or with a knob turned."""
        for parent in parents if self.proposer.all is None else ():
            names = list(parent.choices)
            for _ in range(CHILDREN):
                changed = rng.sample(names, min(len(names), rng.choice((1, 1, 2, 3))))
                self.add(*varied(self.proposer.space, parent.choices, changed, rng))
            for _ in range(SHIFTS):
                self.add(*self.proposer.knob_shifted(parent.choices, self.near, rng))

    def take(self, i: int) -> Candidate:
        """Network `i`, out of the pool."""
        del self.rows[i], self.chances[i]
        return self.found.pop(i)


def _ranked(scored: Sequence[ScoredCandidate], rungs: int) -> list[int]:
    """Their places, the best first, by their last scores as they would be at the last rung.

    Not those that got farthest first: the best of a poor wave does, and the second of a good one does not.
    """
    ends = [scores[-1] for scores in aligned([item.scores for item in scored], rungs)]
    return sorted(range(len(scored)), key=lambda i: -ends[i])


def _most_informative(scored: Sequence[ScoredCandidate], rungs: int) -> list[ScoredCandidate]:
    """Those of whom most can be learnt, where all are too many: the best, the newest, and some evenly from all."""
    if sum(len(item.scores) for item in scored) <= SCORES:
        return list(scored)
    best = _ranked(scored, rungs)
    newest = range(len(scored) - 1, -1, -1)
    evenly = range(0, len(scored), max(1, 3 * len(scored) // SCORES))
    chosen: set[int] = set()
    left = SCORES
    for i in dict.fromkeys(i for three in zip_longest(best, newest, evenly) for i in three if i is not None):
        left -= len(scored[i].scores)
        if left < 0:
            break
        chosen.add(i)
    return [scored[i] for i in sorted(chosen)]


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
