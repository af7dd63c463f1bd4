"""How well short trainings rank networks: a few diverse ones trained as in a search, and for longer.

All of it goes through the same workers as a search, each rung on disk as it is done. Nothing is pruned: what a rung
would have thrown away is what is to be learnt.
"""

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau, spearmanr

from nas.errors import Error
from nas.execution.environment import at_work
from nas.execution.jobs import Evaluate, Job, Tick, Workers
from nas.networks.architecture import Arch, cost
from nas.networks.space import Space, axes, encode
from nas.records.plan import LONGER, Plan, Recipe, Rung, derived_seed
from nas.records.recipes import Recipes, References
from nas.records.run_folder import Run, RunFailed, forget_all, read_work, write_value, write_work
from nas.records.search_files import append_score, read_scores
from nas.records.statistics import Agreement, Calibration, Estimate
from nas.records.trial import Score, identity
from nas.search_strategy.candidates import Candidate, Request, costs_for
from nas.search_strategy.proposer import Proposer
from nas.search_strategy.surrogate import Describer
from nas.training.proxy import Proxy

DRAWN = 30  # networks, at least, among which the diverse ones are found
RESAMPLES = 2_000  # of the networks, and of the seeds of their full trainings, for intervals


@dataclass(frozen=True, slots=True)
class EvaluateByRecipe:
    """Several recipes as one `evaluate`: a network comes with the name of the recipe that trains it."""

    evaluates: Mapping[str, Evaluate]

    def __call__(
        self, named: tuple[str, Arch], rung: int, state: bytes | None, tick: Tick
    ) -> tuple[Score, bytes | None]:
        """The score of a rung of that recipe."""
        recipe, arch = named
        return self.evaluates[recipe](arch, rung, state, tick)


def evaluate_by_recipe(plan: Plan, recipes: Sequence[Recipe], device: str | None = None) -> Evaluate:
    """What trains (recipe's name, architecture) on `device`: each recipe with a seed of its own."""
    return EvaluateByRecipe(
        {
            recipe.name: Proxy(replace(plan, recipe=recipe, seed=derived_seed(plan.seed, recipe.name) % 2**31), device)
            for recipe in recipes
        }
    )


def diverse(plan: Plan, space: Space, number: int, first: Sequence[Arch]) -> list[Candidate]:
    """`number` networks that keep the budget and come near it: `first`, then each the farthest from those before.

    Raises Error where there are not as many.
    """
    describer = Describer(axes(space))
    costs = costs_for(plan.budget)
    chosen = [Candidate(arch, encode(space, arch), costs(arch), identity(arch)) for arch in first[:number]]
    proposer, seen = (
        Proposer(space, plan.budget, costs, plan.seed),
        {candidate.id for candidate in chosen},
    )
    others = proposer.propose(Request(0, max(DRAWN, 3 * number), {}), (), seen)
    if len(chosen) + len(others) < number:
        raise Error(f"space {space.name} has no {number} networks that keep {plan.budget}; ask for fewer")
    rows = {c.id: describer(c.arch, c.choices, c.cost).choices for c in (*chosen, *others)}
    while len(chosen) < number and others:
        apart = [min((float(np.abs(rows[c.id] - rows[o.id]).sum()) for o in chosen), default=0.0) for c in others]
        chosen.append(others.pop(int(np.argmax(apart))))
    return chosen


def networks_of(plan: Plan, space: Space, recipes: Recipes, first: Sequence[Arch]) -> list[Candidate]:
    """The networks of a calibration: those trained in full before, or `first` and others, as `diverse` finds them."""
    if recipes.goals:
        archs = [goal.arch for goal in recipes.goals.networks]
        return [Candidate(arch, {}, cost(arch), identity(arch)) for arch in archs]
    return diverse(plan, space, plan.trials, first)


class _ProxyTraining(NamedTuple):
    """A network under a recipe."""

    number: int
    candidate: Candidate
    recipe: Recipe

    @property
    def name(self) -> str:
        """Its name on disk."""
        return f"{self.candidate.id}-{self.recipe.name}"


def calibrate(
    candidates: Sequence[Candidate],
    compared: Recipes,
    run: Run,
    workers: Workers,
    watch: Callable[[str, int, int], None],
    stop: Callable[[], bool],
) -> Calibration | None:
    """Each of `candidates` trained by each of the recipes that are `compared`, and how these rank them.

    None where `stop` ended it before. What is in `run` already is not trained again. `watch` is called with a name and
    the images trained on, done and in all. Raises RunFailed where a network cannot be trained.
    """
    recipes = compared.recipes
    trainings = [_ProxyTraining(i, candidate, recipe) for recipe in recipes for i, candidate in enumerate(candidates)]
    planned = sum(_images(rung) for training in trainings for rung in training.recipe.rungs)
    done = 0

    def tick(job: Job, images: int) -> None:
        if not images:  # it begins
            watch(trainings[job.key].name, done, planned)

    with at_work(run):
        scores = read_scores(run)
        for step in range(max(len(recipe.rungs) for recipe in recipes)):
            jobs = []
            for key, training in enumerate(trainings):
                index, candidate, recipe = training
                if step >= len(recipe.rungs):
                    continue
                images = _images(recipe.rungs[step])
                if (index, training.name, step) in scores:
                    done += images
                    continue
                state = functools.partial(read_work, run, training.name)
                jobs.append(Job(key, (recipe.name, candidate.arch), step, state, images * candidate.cost.macs))
            trained = 0
            for job, outcome in workers.run(jobs, tick, stop):
                index, _, recipe = training = trainings[job.key]
                if outcome.score is None:
                    raise RunFailed(f"{training.name} cannot be trained:\n{outcome.error}")
                append_score(run, index, training.name, outcome.score)
                if outcome.state is not None:
                    write_work(run, training.name, outcome.state)
                scores[index, training.name, step] = outcome.score
                trained, done = trained + 1, done + _images(recipe.rungs[step])
            if trained < len(jobs):
                return None
        found: dict[str, list[list[Score]]] = {recipe.name: [] for recipe in recipes}
        for index, candidate, recipe in trainings:
            name = _ProxyTraining(index, candidate, recipe).name
            found[recipe.name].append([scores[index, name, rung] for rung in range(len(recipe.rungs))])
        names = [one.name for one in compared.goals.networks] if compared.goals else [one.id for one in candidates]
        calibration = _compared(names, found, compared.goals)
        write_value(run, "calibration", calibration)
        forget_all(run)
        return calibration


def _compared(networks: Sequence[str], found: Mapping[str, list[list[Score]]], goals: References | None) -> Calibration:
    top1 = {name: tuple(tuple(score.top1 for score in row) for row in rows) for name, rows in found.items()}
    if goals:
        top1[LONGER] = tuple((mean(goal.top1),) for goal in goals.networks)
    goal = [one.top1 for one in goals.networks] if goals else [row[-1:] for row in top1[LONGER]]
    agreements = []
    for proxy, rows in found.items():
        for rung in range(len(rows[0])) if proxy != LONGER else ():
            spent = mean(sum(score.train_seconds + score.val_seconds for score in row[: rung + 1]) for row in rows)
            for by, values in (
                ("accuracy", [row[rung].top1 for row in rows]),
                ("loss", [-row[rung].train_loss for row in rows]),
            ):
                ranks = [_rank(correlation, values, goal) for correlation in (spearmanr, kendalltau)]
                agreements.append(Agreement(proxy, rung, by, ranks[0], ranks[1], spent / 60))
    again = None
    if goals and min(len(goal.top1) for goal in goals.networks) > 1:
        one, other = ([goal.top1[seed] for goal in goals.networks] for seed in (0, 1))
        again = spearman(one, other)
    last = next(iter(found.values()))[0][-1]
    losses = {name: tuple(tuple(score.train_loss for score in row) for row in rows) for name, rows in found.items()}
    return Calibration(tuple(networks), top1, tuple(agreements), last.device, last.torch, again, losses)


def spearman(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Spearman's rank correlation of two figures of the same networks."""
    return _rank(spearmanr, one, [(value,) for value in other])


def _rank(correlation: Callable[..., object], one: Sequence[float], other: Sequence[Sequence[float]]) -> Estimate:
    """How a figure of each network ranks with the mean of its others, of which each is one of chance as well."""

    def value(which: Sequence[int], means: Sequence[float]) -> float:
        picked = [one[i] for i in which], [means[i] for i in which]
        if len(set(picked[0])) < 2 or len(set(picked[1])) < 2:
            return 0.0  # all alike: nothing is ranked
        return float(correlation(*picked).statistic)  # type: ignore[attr-defined]

    rng, draws = np.random.default_rng(0), random.Random(0)
    drawn = []
    for _ in range(RESAMPLES):
        means = [sum(draws.choices(seeds, k=len(seeds))) / len(seeds) for seeds in other]
        drawn.append(value(rng.integers(len(one), size=len(one)).tolist(), means))
    low, high = np.quantile(drawn, [0.025, 0.975])
    means = [sum(seeds) / len(seeds) for seeds in other]
    return Estimate(value(range(len(one)), means), float(low), float(high))


def _images(rung: Rung) -> int:
    return rung.images * rung.epochs
