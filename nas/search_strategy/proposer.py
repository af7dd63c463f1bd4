"""Which networks are trained next: new ones that keep the budget and promise most.

`propose` is a function of what is known and of nothing else, so a search that was killed proposes again what it had
proposed. The first networks are drawn at random, near the budget; later ones are those of a pool of new networks that
the surrogate expects most of, one after the other, each believed before the next is chosen; some are chosen from the
random ones of the pool alone, for the best networks are not always variations of the best so far. Nothing over
the budget enters the pool.
"""

import math
import random
from collections.abc import Callable, Collection, Sequence
from itertools import zip_longest

from nas.networks.enumeration import every, few
from nas.networks.space import Space, axes
from nas.records.budget import Budget
from nas.records.plan import derived_seed
from nas.records.trial import Costs, identity
from nas.search_strategy.candidates import Candidate, PredictLatency, Request, ScoredCandidate
from nas.search_strategy.near_budget import NEAR, NearBudget
from nas.search_strategy.pool import Pool, Promise
from nas.search_strategy.surrogate import Describer, Description, Surrogate, aligned, one_thread

PARENTS = 8  # how many of the best are varied
SCORES = 160  # scores that the surrogate is fitted to, at the most: its time grows with their cube
STARTUP = 8  # networks of the space that have a score, before the surrogate is asked
FEW = 4  # times as many in the pool as are to be chosen: with fewer, those far below the budget are taken in too
ROUNDS = 3  # in which the most promising of the pool are varied
ASKS_BEFORE_RANDOM = 4  # asks for one wave, after which it is drawn at random: what promises most there is too slow
RANDOM_EVERY = 4  # one of so many of a wave is chosen from the random networks alone
POLISHED = 4  # of the best, where they are polished
FILLED = 0.97  # share of the budget that a polished network takes at least
WAITING = 32  # of those being trained, the newest, that are believed to come to what is expected of them
BELIEFS = 32  # times that those chosen for one wave are believed, at the most: where it is large, several at a time


class Proposer:
    """Proposes networks of one space under one budget.

    `seed`: of all that is left to chance. `rungs`: how many scores a network may have. `objective`: the first is
    accuracy, the others are costs. `surrogate`: whether one is asked; else all are drawn at random, near the budget.
    `earlier`: what is known from another search, of networks that are nonetheless new to this one.
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
        earlier: Sequence[ScoredCandidate] = (),
    ) -> None:
        self.space, self.budget, self.costs, self.seed, self.rungs = space, budget, costs, seed, rungs
        self.objective, self.surrogate, self.earlier = tuple(objective), surrogate, tuple(earlier)
        self.axes = axes(space)
        self.near_budget = NearBudget(space, budget, costs)
        self.describer = Describer(self.axes)
        self.all = list(every(space)) if few(space) else None  # its networks, where they are few
        self.described: dict[str, Description] = {}  # of trained networks

    def propose(self, request: Request, known: Sequence[ScoredCandidate], seen: Collection[str]) -> list[Candidate]:
        """The new networks that `request` asks for, which keep the budget and are not in `seen`; fewer where no more
        can be found.

        `known`: all candidates so far, in the order asked; those without a score are believed to come to what is
        expected of them. `seen`: the identities of all that were tried. Where enough is known of latencies, networks
        that are almost surely too slow are left out.
        """
        wave, size, ask, predict_latency = request.wave, request.size, request.again, request.predict_latency
        rng = random.Random(derived_seed(self.seed, f"wave {wave}" + f" again {ask}" * (ask > 0)))
        scored = [item for item in (*self.earlier, *known) if item.candidate.choices and item.scores]
        waiting = [item.candidate for item in known if item.candidate.choices and not item.scores][-WAITING:]
        new = set(seen)
        if self.all is not None and len(left := self._left(new, predict_latency)) <= size:
            return left
        chosen: list[Candidate] = []
        if len(scored) >= STARTUP and self.surrogate and ask < ASKS_BEFORE_RANDOM:
            with one_thread():
                chosen = self._promising(scored, waiting, request, new, rng)
        while len(chosen) < size:
            candidate = self.near_budget.at_random(rng, new, predict_latency)
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
            if key not in new and self.near_budget.keeps(network, cost, predict_latency):
                left.setdefault(key, Candidate(network, choices, cost, key))
        return list(left.values())

    def estimates(self, known: Sequence[ScoredCandidate]) -> list[float | None]:
        """The score that the surrogate expects of each candidate that has one at the last rung, noise taken off."""
        return self._estimates([*self.earlier, *known])[len(self.earlier) :]

    def _estimates(self, known: Sequence[ScoredCandidate]) -> list[float | None]:
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

    def _promising(
        self,
        scored: Sequence[ScoredCandidate],
        waiting: Sequence[Candidate],
        request: Request,
        new: set[str],
        rng: random.Random,
    ) -> list[Candidate]:
        """The networks with the highest expected improvement that could be found, added to `new`."""
        rungs, size, predict_latency = self.rungs, request.size, request.predict_latency
        scored = _most_informative(scored, rungs)
        ranked = [scored[i].candidate for i in _ranked(scored, rungs)]
        keeping = [candidate for candidate in ranked if self.budget.keeps(candidate.cost)]
        pool = self._pool((keeping or ranked)[:PARENTS], request, new, rng)
        rows = [self._description(item.candidate) for item in scored]
        scores = [item.scores for item in scored]
        surrogate = Surrogate(rows, scores, rungs, pool.rows)
        expected = surrogate.mean_and_spread(rows)[0]
        if waiting:
            surrogate.believe([self._description(candidate) for candidate in waiting])
        chosen: list[Candidate] = []
        while len(chosen) < size and pool.found:
            keeps = self._cost_levels(scored, rng, predict_latency)
            random_only = not request.polish and len(chosen) % RANDOM_EVERY == RANDOM_EVERY - 1
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

    def _pool(self, best: Sequence[Candidate], request: Request, seen: Collection[str], rng: random.Random) -> Pool:
        """Networks to choose from: what is a step from the best, where they are polished; random ones and variations of
        the best; where those that come near the budget are few, also such as do not."""
        least = 0.0 if len(self.objective) > 1 else NEAR
        pool = Pool(self.near_budget, self.describer, self.all, seen, least, request.predict_latency)
        for near in (least, 0.0):
            pool.near = near
            pool.fill(best, rng)
            pool.vary(best, rng)
            if len(pool.found) >= FEW * request.size:
                break
        if request.polish:
            pool.polish(best[:POLISHED], FILLED, rng)
        return pool

    def _cost_levels(
        self, scored: Sequence[ScoredCandidate], rng: random.Random, predict_latency: PredictLatency | None
    ) -> Callable[[Candidate], bool]:
        """What the next choice has to keep: the budget, which networks of an earlier search may not; with several
        objectives, a random level of each cost below its limit.

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
        return lambda candidate: (
            self.budget.keeps(candidate.cost) and all(spent(candidate, name) <= limit for name, limit in limits.items())
        )


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
