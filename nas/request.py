"""From what was typed to what is run: searches, calibrations and trainings, begun or resumed. All of it raises
ValueError where a request cannot be met.
"""

import math
import os
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch import Arch, cost
from nas.compare import Drilled
from nas.names import (
    RESOLUTION,
    absolute,
    anchor_costs,
    anchors_for,
    architecture,
    first_of,
    named,
    of_a_search,
    on_paper,
)
from nas.plan import (
    BUDGET_HELP,
    COMPARED,
    MEASURED_SECONDS,
    PROXIES,
    PROXY,
    WAVE,
    Budget,
    Meter,
    Plan,
    Recipe,
    longer,
    parse_budget,
)
from nas.recall import course_taken, drilled
from nas.recipes import TRAININGS, Course, Decay, Goal, Goals, Recipes
from nas.runs import (
    Run,
    create,
    free_name,
    is_calibration,
    is_course,
    open_course,
    open_run,
    read_trials,
    read_value,
    write_value,
)
from nas.space import Space, decode, fitted
from search_spaces import ANCHORS, BASELINE, SPACES

if TYPE_CHECKING:
    from nas.data import Data
    from nas.gate import Measure

RUNS = Path("runs")
MEASURED = Meter(BASELINE, seconds=MEASURED_SECONDS)
STEPS = 16  # of an epoch, at least: with fewer, ten epochs over a hundred images leave a network where it began
LONGER_VAL = 5_000  # validation images of a calibration's longer training


def planned(
    budget: list[str],
    dataset: str,
    data: Path | None,
    space: str,
    trials: int,
    seed: int,
    objective: tuple[str, ...],
    name: str | None,
    flip: bool = True,
    meter: Meter | None = None,
    proposals: str = "surrogate",
) -> tuple[Plan, Space]:
    """The plan and the space of a new run for what was asked, all of which is possible. Nothing is written yet."""
    if not budget:
        raise ValueError(f"--budget is missing; {BUDGET_HELP}")
    limits = parse_budget(budget, anchor_costs(RESOLUTION, 10))
    template = named(SPACES, space, "space")
    _free(name)
    dataset = absolute(dataset)
    plan = Plan(limits, dataset, space, "", trials, seed, PROXY, 32, 10, objective, proposals=proposals)
    if meter and not plan.timed:
        raise ValueError("latency is measured where --budget or --objective asks for it, as in --budget 25MFLOPs,1.5ms")
    meter = replace(meter or MEASURED, reference=limits.reference or BASELINE) if plan.timed else None

    from nas.api import proxy_plan  # heavy; what is above is refused at once
    from nas.data import CLASSES
    from nas.propose import cheapest

    if dataset in CLASSES:  # refused, where need be, before a download
        plan = replace(plan, budget=parse_budget(budget, anchor_costs(RESOLUTION, CLASSES[dataset])))
        cheapest(fitted(template, RESOLUTION, CLASSES[dataset]), plan, random.Random(seed), cost)
    folder = str(data.expanduser().absolute()) if data else None
    plan, where = proxy_plan(limits, dataset, folder, template, trials, seed, objective, plan.wave)
    limits = parse_budget(budget, anchor_costs(plan.resolution, plan.classes))
    plan = replace(plan, budget=limits, meter=meter, proposals=proposals, flip=flip)
    cheapest(where, plan, random.Random(seed), cost)  # raises where nothing keeps the budget
    return plan, where


def created(plan: Plan, budget: list[str], name: str | None, kind: str = "") -> Run:
    """A new run's folder: called `name`, or after its kind, dataset and budget."""
    return create(_folder(name, f"{kind}{plan.dataset.split('/')[-1]}-{','.join(budget)}"), plan)


def _free(name: str | None) -> None:
    """Raises ValueError where a run cannot be called `name`."""
    if name is not None and not re.fullmatch(r"[\w][\w.,+-]*", name):
        raise ValueError(f"run {name!r} must be a plain name of letters, digits, '.', '-' and '_'; it lies in {RUNS}/")
    if name is not None and (RUNS / name).exists():
        raise ValueError(f"{RUNS / name} exists already; go on with --resume {RUNS / name}, or take another --run")


def _folder(name: str | None, about: str) -> Path:
    """The folder of a new run: called `name`, or after what it is about."""
    return RUNS / name if name else free_name(RUNS, re.sub(r"[^\w.,+-]+", "-", about).strip("-"))


def resumed(path: Path, data: Path | None, trials: int | None = None) -> tuple[Run, Plan, Space]:
    """The search in folder `path`, fit to be gone on with, up to `trials` trained networks where that is asked for."""
    if is_calibration(path):
        raise ValueError(f"{path} is a calibration; go on with nas calibrate --resume {path}")
    folder, plan, where = _resumed(path, data)
    if trials is not None:
        from nas.book import prolong

        prolong(folder, trials, sum(plan.budget.keeps(cost(anchor.arch)) for anchor in anchors_for(plan)))
        plan = replace(plan, trials=trials)
    return folder, plan, where


def _resumed(path: Path, data: Path | None) -> tuple[Run, Plan, Space]:
    folder, plan = open_run(path)
    where = fitted(named(SPACES, plan.space, "space"), plan.resolution, plan.classes)
    if where.digest != plan.space_digest:
        raise ValueError(
            f"{path} was made with another version of space {plan.space} ({plan.space_digest}, here {where.digest}); "
            "resume it with the version of nas that made it, or begin a new run"
        )
    found, problems = read_trials(folder)
    if problems:
        raise ValueError(
            f"{problems[0]}; the {len(found)} other trials are readable and stay; delete that line to go on without it"
        )

    for trial in found:
        if trial.choices and decode(where, trial.choices) != trial.arch:
            raise ValueError(f"trial {trial.index} of {path} has choices that draw another network than its own")

    from nas.evaluate import loaded

    if data:
        plan = replace(plan, data=str(data.expanduser().absolute()))
    _same_images(
        path, plan.dataset, loaded(plan.dataset, plan.data), (plan.resolution, plan.classes), plan.images_digest
    )
    return folder, plan, where


def _same_images(path: Path, dataset: str, images: "Data", then: tuple[int, int], digest: str) -> None:
    """Raises ValueError where the images are not those that a run was begun on."""
    now = images.resolution, len(images.classes)
    if now != then:
        raise ValueError(f"{path} was begun on (resolution, classes) {then}, dataset {dataset} now has {now}")
    if digest and digest != images.digest:
        raise ValueError(
            f"{path} was begun on other images: dataset {dataset} has been changed since; put back what it was, or "
            "begin a new run"
        )


def calibration_begun(
    budget: list[str],
    dataset: str,
    data: Path | None,
    space: str,
    networks: int,
    proxies: list[str],
    images: int,
    epochs: int,
    seed: int,
    name: str | None,
    flip: bool = True,
) -> tuple[Run, Plan, Space, Recipes]:
    """A new run that compares `proxies` with `epochs` over `images`."""
    if networks < 3 or images < 1 or epochs < 1:
        raise ValueError(f"a calibration needs 3 networks, 1 image and 1 epoch, got {networks}, {images}, {epochs}")
    if budget:
        on_paper(parse_budget(budget, anchor_costs(RESOLUTION, 10)))
    shorter = _proxies(proxies)
    named(SPACES, space, "space")
    _free(name)

    from nas.api import filled
    from nas.calibrate import diverse
    from nas.evaluate import loaded

    held = loaded(absolute(dataset), str(data.expanduser().absolute()) if data else None)
    whole = [*shorter, longer(PROXY, images, epochs, LONGER_VAL)]
    recipes = Recipes(tuple(filled(recipe, len(held.train), len(held.val)) for recipe in whole))
    _all_shorter(recipes.recipes[:-1], recipes.recipes[-1].images, "raise --epochs or --images")
    plan, where = planned(budget, dataset, data, space, networks, seed, ("accuracy",), name, flip)
    diverse(plan, where, networks, first_of(plan))  # raises where there are not as many
    folder = created(plan, budget, name, "calibration-")
    write_value(folder, "recipes", recipes)
    return folder, plan, where, recipes


def calibration_against(
    trained: list[Path], data: Path | None, proxies: list[str], seed: int, name: str | None
) -> tuple[Run, Plan, Space, Recipes]:
    """A new run that compares `proxies` with the full trainings in folders `trained`, which have ended."""
    shorter = _proxies(proxies)
    _free(name)
    rows = [drilled(path) for path in trained]
    if len({row.outcome.arch_id for row in rows}) < max(3, len(rows)):
        raise ValueError(f"a calibration needs full trainings of 3 different networks, each once, got {len(rows)}")
    first = rows[0]
    for path, row in zip(trained, rows, strict=True):
        if row.like != first.like or row.course.flip != first.course.flip:
            raise ValueError(
                f"{path} was not trained as {trained[0]}, by the same recipe on the same images: compare each kind "
                "with itself"
            )
    course, outcome = first.course, first.outcome
    goals = Goals(
        course.training,
        outcome.train_images,
        outcome.val_images,
        tuple(
            Goal(str(p), row.name, row.course.arch, _validated(p, row)) for p, row in zip(trained, rows, strict=True)
        ),
    )

    from nas.api import filled, proxy_plan
    from nas.evaluate import loaded

    folder = str(data.expanduser().absolute()) if data else course.data
    held = loaded(course.dataset, folder)
    for path, row in zip(trained, rows, strict=True):
        then = row.course.arch.resolution, row.course.arch.classes
        _same_images(path, course.dataset, held, then, row.course.images_digest)
    recipes = Recipes(tuple(filled(recipe, len(held.train), len(held.val)) for recipe in shorter), goals)
    _all_shorter(recipes.recipes, goals.images, "leave it out, by --proxy")
    most = Budget(macs=max(row.outcome.cost.macs for row in rows))
    plan, where = proxy_plan(most, course.dataset, folder, SPACES["lightweight"], len(rows), seed, ("accuracy",), WAVE)
    plan = replace(plan, flip=course.flip)
    run = create(_folder(name, f"calibration-{course.dataset.split('/')[-1]}-{course.training.name}"), plan)
    write_value(run, "recipes", recipes)
    return run, plan, where, recipes


def _validated(path: Path, row: Drilled) -> tuple[float, ...]:
    """Its top-1 on the validation images, a seed each."""
    values = tuple(one.val_top1 for one in row.outcome.tested if one.val_top1 is not None)
    if len(values) < len(row.outcome.tested):
        raise ValueError(f"{path} was trained on the validation images too (--all-images): nothing ranks it")
    return values


def _proxies(names: list[str]) -> list[Recipe]:
    return [named(PROXIES, name, "proxy") for name in dict.fromkeys(names or COMPARED)]


def _all_shorter(proxies: Sequence[Recipe], images: int, remedy: str) -> None:
    """Raises ValueError where a proxy has as many `images` as what it is held against."""
    for one in proxies:
        if one.images >= images:
            raise ValueError(
                f"the proxy {one.name} has {one.images:,} training images, the training that it is held against "
                f"{images:,}, and has to have more: {remedy}"
            )


def course_begun(
    network: str,
    dataset: str | None,
    data: Path | None,
    recipe: str,
    epochs: int | None,
    decay: Decay | None,
    seeds: int,
    seed: int,
    all_images: bool,
    teacher: Path | None,
    name: str | None,
    flip: bool = True,
) -> tuple[Run, Course]:
    """A new full training of what was asked. Nothing is written before all of it has been found possible."""
    training = named(TRAININGS, recipe, "recipe")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    training = replace(training, epochs=training.epochs if epochs is None else epochs, decay=decay or training.decay)
    _free(name)
    arch, found = architecture(network, None, None), network
    chosen = of_a_search(network)
    path = Path(network).resolve() if os.path.isdir(network) else Path(network)
    folder = str(data.expanduser().absolute()) if data else None
    if network in ANCHORS:
        found = f"`{network}`, a published network: {ANCHORS[network].source}"
    elif chosen or (path / "plan.json").is_file():
        search, begins = chosen or (Path(network), "")
        which = f"Network `{begins}`" if begins else "The best network"
        _, plan = open_run(search)
        if dataset is None:
            dataset, folder, flip = plan.dataset, folder or plan.data, flip and plan.flip
        found = (
            f"{which} of `{search}`: `nas search --budget {plan.budget} --dataset {plan.dataset}`, "
            f"space {plan.space}, seed {plan.seed}, {plan.trials} trials."
        )
    elif is_course(path) and dataset is None:
        _, before = open_course(path)
        dataset, folder, flip = before.dataset, folder or before.data, flip and before.flip
        found = before.found
    dataset = absolute(dataset or "digits")

    from nas.course import teacher_of
    from nas.evaluate import loaded

    images = loaded(dataset, folder)
    if network in ANCHORS:
        arch = replace(arch, classes=len(images.classes))
    if arch.resolution != images.resolution:
        small = f"{network}-{images.resolution}"
        hint = f"; did you mean {small}?" if small in ANCHORS else ""
        side = arch.resolution
        raise ValueError(f"{network} is for images of {side}x{side}, {dataset} has {images.resolution}{hint}")
    if arch.classes != len(images.classes):
        raise ValueError(f"{network} is for {arch.classes} classes, dataset {dataset} has {len(images.classes)}")
    if teacher:
        if is_course(teacher):
            folder_of, _, outcome = course_taken(teacher)
            teacher = folder_of.weights(outcome.taken.seed)
        learnt = teacher_of(teacher, images)
    seen = len(images.train) + all_images * len(images.val)
    training = replace(training, batch=min(training.batch, max(3, seen // STEPS)))
    course = Course(
        network, found, arch, dataset, training, tuple(range(seed, seed + seeds)), folder, all_images,
        learnt if teacher else None, images.digest, flip,
    )  # fmt: skip
    stem = f"{chosen[0].resolve().name}-{chosen[1]}" if chosen else path.name.removesuffix(".json")
    return create(_folder(name, f"{stem}-{dataset.split('/')[-1]}-{training.name}"), course), course


def course_resumed(path: Path, data: Path | None) -> tuple[Run, Course]:
    """The full training in folder `path`, fit to be gone on with."""
    folder, course = open_course(path)
    if data:
        course = replace(course, data=str(data.expanduser().absolute()))

    from nas.evaluate import loaded

    then = course.arch.resolution, course.arch.classes
    _same_images(path, course.dataset, loaded(course.dataset, course.data), then, course.images_digest)
    return folder, course


def calibration_resumed(path: Path, data: Path | None) -> tuple[Run, Plan, Space, Recipes]:
    """The calibration in folder `path`, fit to be gone on with."""
    folder, plan, where = _resumed(path, data)
    recipes = read_value(folder, "recipes", Recipes)
    if recipes is None:
        raise ValueError(f"{path} is no calibration: it has no recipes.json; see nas show {path}")
    return folder, plan, where, recipes


def seconds(text: str | None) -> float:
    """The seconds that `text` spells: 90s, 30m, 2h; without end where it is None."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match or not float(match[1]):
        raise ValueError(f"time limit {text!r} is not understood; it is a number and a unit: 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def search_meter(device: str, command: str | None, threads: int) -> Meter:
    """How a search measures its candidates."""
    return replace(MEASURED, device=device, command=command, threads=threads)


def measure_for(plan: Plan) -> "tuple[Measure, Arch] | None":
    """What measures the candidates of `plan`, and the network that runs in turn with them; None where nothing asks."""
    if not plan.meter:
        return None

    from nas.api import stopwatch

    anchor = named(ANCHORS, plan.meter.reference, "anchor")
    reference = replace(anchor.arch, resolution=plan.resolution, classes=plan.classes)
    return stopwatch(plan.meter, reference), reference
