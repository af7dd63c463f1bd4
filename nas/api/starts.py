"""What a search begins with beside the anchors: networks of the user's own, and what an earlier search learnt."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from nas.api.resolve import architecture, network_name, restore_of
from nas.errors import Error
from nas.networks.architecture import Anchor, Arch
from nas.networks.descent import nearest
from nas.networks.space import Space, encode, holds, sample
from nas.records.plan import Plan
from nas.records.run_folder import is_training, open_run
from nas.records.search_files import read_trials
from nas.records.trial import Costs, Trial, merit
from nas.serialization import from_json, to_json

StartLike: TypeAlias = str | Path | Arch | Anchor
BEST = 3  # networks of an earlier search that are trained anew


def starts_in(space: Space, networks: Sequence[StartLike], plan: Plan, costs: Costs) -> tuple[Anchor, ...]:
    """`networks` for the plan's images, each followed by the point of `space` that is most like it and keeps the budget
    on paper, where it is no such point itself.

    Raises Error where one cannot be read, or the space holds no architectures.
    """
    if networks and not isinstance(sample(space, random.Random(0)), Arch):
        raise Error(f"start is for spaces of architectures, those of space {space.name} are none; leave it out")
    images = (plan.resolution, plan.classes, plan.reading.channels) if plan.dataset else (None, None, None)

    def excess(arch: Arch) -> float:
        return plan.budget.use(costs(arch)) - 1 if plan.budget.limits() else 0.0

    found: dict[Arch, Anchor] = {}
    for network in networks:
        arch, name = architecture(network, *images), network_name(network)
        if not _is_kept(arch):
            raise Error(
                f"start {name} has blocks of your own, which a plan cannot keep; give it as an Anchor in anchors="
            )
        near = nearest(space, arch, random.Random(plan.seed), excess)
        why = "over the budget" if holds(space, arch) else f"not in space {space.name}"
        note = f"{name} is {why}: the nearest point that keeps the budget is tried" if near != arch else ""
        found.setdefault(arch, Anchor(name, arch, "start", note=note))
        found.setdefault(near, Anchor(f"near {name}", near, "start"))
    return tuple(found.values())


def _is_kept(arch: Arch) -> bool:
    """Whether `arch` is read from a plan as it was."""
    try:
        return from_json(Arch, to_json(arch), "") == arch
    except ValueError:
        return False


def known_from(path: Path, space: Space, plan: Plan, costs: Costs) -> list[Trial]:
    """The trained networks of the search in folder `path` that are points of `space`, with the choices that draw them.

    Raises Error where it is none, or was not trained and scored as the plan asks.
    """
    if plan.sampler != "gp":
        raise Error(
            f"a warm start is for sampler gp, {plan.sampler} knows no earlier search; --start RUN/ID takes a network"
        )
    if is_training(path):
        raise Error(f"{path} is a full training, a warm start takes a search; --start {path} takes its network")
    run, earlier = open_run(path)
    for name in ("dataset", "images_digest", "flip", "balance", "resolution", "classes", "recipe"):
        theirs, ours = getattr(earlier, name), getattr(plan, name)
        if theirs != ours and not (name == "images_digest" and not theirs):
            what = name.removesuffix("_digest")
            raise Error(
                f"{path} is no warm start for this search: its {what} is another, so its scores do not compare; "
                "--start takes its best network"
            )
    trials, problems = read_trials(run, restore_of(run, earlier))
    if problems and trials:
        raise Error(problems[0])
    found = [
        replace(trial, choices=encode(space, trial.arch), cost=costs(trial.arch))
        for trial in trials
        if trial.scores and not trial.error and holds(space, trial.arch)
    ]
    if not found:
        raise Error(f"{path} has no trained network in space {space.name}; begin without --warm-start")
    return found


def best_of(trials: Sequence[Trial], plan: Plan, path: Path) -> list[Anchor]:
    """The best of an earlier search that keep the budget on paper, which this one begins with."""
    keeping = [trial for trial in trials if trial.state == "complete" and plan.budget.keeps(trial.cost)]
    keeping.sort(key=lambda trial: -merit(trial.scores[-1], plan.recipe.judge))
    return [Anchor(f"{path.resolve().name}/{trial.arch_id}", trial.arch, "start") for trial in keeping[:BEST]]
