"""Networks at random that keep a budget and come near it, and variations that do."""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from nas.networks.descent import wander
from nas.networks.graph import Cost
from nas.networks.space import Choices, Label, Space, axes, draw, encode, in_order, shared, varied
from nas.records.budget import Budget
from nas.records.trial import Costs, identity
from nas.search_strategy.candidates import Candidate, PredictLatency, cheapest
from nas.search_strategy.surrogate import LEVELS

NEAR = 0.85  # share of the budget that a candidate takes at least, where such can be found
DRAWS = 500  # at random for one candidate, before walking to one
ALIKE, NEARLY = 0.5, 0.2  # share of random networks that are nearly alike in all their parts; how nearly, of all ranks
STEPS_TO_BUDGET = 60  # steps in which a random network comes to the budget, at the most
WALKS, STEPS = 20, 100
UNLIKELY = 0.02  # a chance to be fast enough below which a network is not measured
LIKELY = 0.5  # and below which another is drawn, where nothing but chance speaks for it


class NearBudget:
    """Draws networks of one space under one budget."""

    def __init__(self, space: Space, budget: Budget, costs: Costs) -> None:
        self.space, self.budget, self.costs = space, budget, costs
        self.axes, self.shared = axes(space), shared(space)
        self.tally: Counter[str] = Counter()
        """Networks looked at so far: "drawn", and of them "over_budget" on paper, and "predicted_too_slow"."""

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

        Numbers go up or down, by a step or by a sixth of their choices; all else is the same everywhere: every stage
        wider, every kernel of 5, no transitions. Papers improve networks so, and no few axes drawn anew come there.
        """
        places: dict[str, list[str]] = {}
        for name in parent:
            places.setdefault(name.rpartition(".")[2], []).append(name)
        knob = rng.choice([names for names in places.values() if len(names) > 1] or list(places.values()))
        label, up = rng.choice(self.axes[rng.choice(knob)]), rng.choice((-1, 1))
        by_level = rng.random() < 0.5
        choices = dict(parent)
        for name in knob:
            ordered = in_order(self.axes[name])
            if ordered:
                step = up * max(1, len(ordered) // LEVELS * by_level)
                choices[name] = ordered[min(max(ordered.index(parent[name]) + step, 0), len(ordered) - 1)]
            elif label in self.axes[name]:
                choices[name] = label
        choices, network = varied(self.space, choices, (), rng)
        return self._moved_to_budget(choices, network, near, knob, rng)[:2]

    def stepped(self, parent: Choices, names: Sequence[str], rng: random.Random) -> tuple[Choices, Any]:
        """A network like `parent`, but in the axes `names`: numbers a step up or down, all else drawn anew."""
        choices = dict(parent)
        for name in names:
            ordered = in_order(self.axes[name])
            at = ordered.index(parent[name]) + rng.choice((-1, 1)) if ordered else 0
            choices[name] = ordered[min(max(at, 0), len(ordered) - 1)] if ordered else rng.choice(self.axes[name])
        return varied(self.space, choices, (), rng)

    def neighbours(self, parent: Choices, near: float, rng: random.Random) -> Iterator[tuple[Choices, Any]]:
        """The networks that are a step from `parent` in one axis, but for those of which one choice fills several
        places; brought to the budget by steps in others."""
        for name in (name for name in parent if name not in self.shared):
            ordered = in_order(self.axes[name])
            at = ordered.index(parent[name]) if ordered else 0
            for label in ordered[max(at - 1, 0) : at + 2] if ordered else self.axes[name]:
                if label != parent[name]:
                    choices, network = varied(self.space, {**parent, name: label}, (), rng)
                    yield self._moved_to_budget(choices, network, near, (name,), rng, by_steps=True)[:2]

    def _moved_to_budget(
        self,
        choices: Choices,
        network: Any,
        near: float,
        knob: Sequence[str],
        rng: random.Random,
        by_steps: bool = False,
    ) -> tuple[Choices, Any, int]:
        """`choices` and `network` brought to the budget, as far as can be, and how many were drawn for it.

        The axes of `knob` stay as they are. `by_steps`: numbers go a step at a time, all else is not touched.
        """

        def use(network: Any) -> float:
            return self.budget.use(self.costs(network)) if self.budget.limits() else 1.0

        def away(use: float) -> float:
            return max(use - 1, near - use, 0.0)

        here, steps = use(network), 1
        while away(here) and steps < STEPS_TO_BUDGET:
            free = [name for name in choices if name not in self.shared and name not in knob] or list(choices)
            if by_steps:
                numbers = [name for name in free if in_order(self.axes[name])] or free
                moved = self.stepped(choices, (rng.choice(numbers),), rng)
            else:
                moved = varied(self.space, choices, (rng.choice(free),), rng)
            there, left = use(moved[1]), here
            if away(there) < away(here):
                (choices, network), here = moved, there
            else:
                left = there
            self.tally["drawn"] += 1  # the one that stays is counted where it is looked at
            self.tally["over_budget"] += left > 1
            steps += 1
        return choices, network, steps

    def at_random(
        self, rng: random.Random, new: Collection[str], predict_latency: PredictLatency | None
    ) -> Candidate | None:
        """A network drawn at random that comes near the budget and is likely to be fast enough; where draws do not, the
        likeliest of them, or the end of a walk that keeps the budget."""
        found: Candidate | None = None
        best = (False, False, 0.0)
        for arch in self._random_networks(rng):
            spent = self.costs(arch)
            if not self.keeps(arch, spent, predict_latency) or (key := identity(arch)) in new:
                continue
            chance = predict_latency(arch)[1] if predict_latency else 1.0
            worth = (chance >= LIKELY, self.budget.use(spent) >= NEAR, chance)
            if worth > best:
                found, best = Candidate(arch, encode(self.space, arch), spent, key), worth
            if worth[:2] == (True, True):
                break
        return found

    def _random_networks(self, rng: random.Random) -> Iterator[Any]:
        drawn = 0
        while drawn < DRAWS:
            _, network, steps = self.random_near_budget(rng, NEAR)
            drawn += steps
            yield network
        start = cheapest(self.space, self.budget, rng, self.costs)
        for _ in range(WALKS):
            yield wander(self.space, start, lambda arch: self.budget.keeps(self.costs(arch)), STEPS, rng)
