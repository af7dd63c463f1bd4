"""From what was typed to what is run: budgets by name, runs begun and resumed, networks found. Beside the commands the
only room that knows search_spaces. All of it raises ValueError where a request cannot be met.
"""

import math
import os
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nas.arch import Anchor, Arch, cost
from nas.graph import Cost
from nas.outcome import Outcome
from nas.plan import (
    BUDGET_HELP,
    COMPARED,
    MEASURED_SECONDS,
    PROXIES,
    PROXY,
    Budget,
    Meter,
    Plan,
    Recipes,
    longer,
    parse_budget,
)
from nas.recipes import TRAININGS, Course, Decay
from nas.runs import (
    Run,
    create,
    free_name,
    is_course,
    open_course,
    open_run,
    read_best,
    read_sessions,
    read_tallies,
    read_trials,
    read_value,
    write_value,
)
from nas.space import Space, decode, fitted
from nas.values import from_json
from search_spaces import ANCHORS, BASELINE, SPACES

if TYPE_CHECKING:
    from nas.compare import Calibrated, Drilled, Searched
    from nas.course import Trained
    from nas.data import Data
    from nas.gate import Measure
    from nas.outcome import Made
    from nas.report import View

RUNS = Path("runs")
RESOLUTION = 32  # of the anchors that a search compares with
MEASURED = Meter(BASELINE, seconds=MEASURED_SECONDS)
LONGER_VAL = 5_000  # validation images of a calibration's longer training
T = TypeVar("T")


def begun(
    budget: list[str],
    dataset: str,
    data: Path | None,
    space: str,
    trials: int,
    seed: int,
    objective: tuple[str, ...],
    name: str | None,
    meter: Meter | None = None,
    kind: str = "",
    proposals: str = "surrogate",
) -> tuple[Run, Plan, Space]:
    """A new run for what was asked. Nothing is written before all of it has been found possible."""
    if not budget:
        raise ValueError(f"--budget is missing; {BUDGET_HELP}")
    limits = parse_budget(budget, anchor_costs(RESOLUTION, 10))
    template = named(SPACES, space, "space")
    _free(name)
    dataset = _absolute(dataset)
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
    plan = replace(
        plan, budget=parse_budget(budget, anchor_costs(plan.resolution, plan.classes)), meter=meter, proposals=proposals
    )
    cheapest(where, plan, random.Random(seed), cost)  # raises where nothing keeps the budget
    return create(_folder(name, f"{kind}{dataset.split('/')[-1]}-{','.join(budget)}"), plan), plan, where


def _free(name: str | None) -> None:
    """Raises ValueError where a run cannot be called `name`."""
    if name is not None and not re.fullmatch(r"[\w][\w.,+-]*", name):
        raise ValueError(f"run {name!r} must be a plain name of letters, digits, '.', '-' and '_'; it lies in {RUNS}/")
    if name is not None and (RUNS / name).exists():
        raise ValueError(f"{RUNS / name} exists already; go on with --resume {RUNS / name}, or take another --run")


def _folder(name: str | None, about: str) -> Path:
    """The folder of a new run: called `name`, or after what it is about."""
    return RUNS / name if name else free_name(RUNS, re.sub(r"[^\w.,+-]+", "-", about).strip("-"))


def _absolute(dataset: str) -> str:
    """`dataset`, which a run that is resumed from elsewhere still finds."""
    if not dataset.startswith("folder:"):
        return dataset
    return f"folder:{Path(dataset.removeprefix('folder:')).expanduser().absolute()}"


def resumed(path: Path, data: Path | None) -> tuple[Run, Plan, Space]:
    """The run in folder `path`, fit to be gone on with."""
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
    _same_images(path, plan.dataset, loaded(plan.dataset, plan.data), (plan.resolution, plan.classes))
    return folder, plan, where


def _same_images(path: Path, dataset: str, images: "Data", then: tuple[int, int]) -> None:
    """Raises ValueError where the images are not of the resolution and classes that a run was begun on."""
    now = images.resolution, len(images.classes)
    if now != then:
        raise ValueError(f"{path} was begun on (resolution, classes) {then}, dataset {dataset} now has {now}")


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
) -> tuple[Run, Plan, Space, Recipes]:
    """A new run that compares `proxies` with `epochs` over `images`."""
    if networks < 3 or images < 1 or epochs < 1:
        raise ValueError(f"a calibration needs 3 networks, 1 image and 1 epoch, got {networks}, {images}, {epochs}")
    if budget:
        on_paper(parse_budget(budget, anchor_costs(RESOLUTION, 10)))
    compared = [named(PROXIES, proxy, "proxy") for proxy in proxies or COMPARED]
    folder, plan, where = begun(budget, dataset, data, space, networks, seed, ("accuracy",), name, None, "calibration-")

    from nas.api import filled
    from nas.evaluate import loaded

    held = loaded(plan.dataset, plan.data)
    whole = [*compared, longer(PROXY, images, epochs, LONGER_VAL)]
    recipes = Recipes(tuple(filled(recipe, len(held.train), len(held.val)) for recipe in whole))
    write_value(folder, "recipes", recipes)
    return folder, plan, where, recipes


def searched(path: Path) -> "tuple[Searched, list[str]]":
    """The search in folder `path`, finished or not, and a line for each record that cannot be read."""
    from nas.compare import Searched

    folder, plan = open_run(path)
    trials, problems = read_trials(folder)
    best, sessions = read_best(folder, trials), tuple(read_sessions(folder))
    return Searched(path.resolve().name, plan, tuple(trials), best, read_tallies(folder), sessions), problems


def viewed(path: Path) -> "tuple[View, list[str]]":
    """The run in folder `path` as a report shows it, and a line for each record that cannot be read."""
    if is_course(path):
        raise ValueError(f"{path} is a full training, a report shows searches; nas show {path} prints it")
    one, problems = searched(path)

    from nas.calibrate import Calibration
    from nas.journal import importance
    from nas.report import View

    found = read_value(Run(path), "calibration", Calibration)
    return View(one.run, one.plan, one.trials, one.best, one.tallies, importance(one.trials), found, BASELINE), problems


def compared(path: Path) -> "Searched | Calibrated | Drilled":
    """The run in folder `path` as one that others are held against. Raises ValueError where it has not come to that."""
    from nas.calibrate import Calibration
    from nas.compare import Calibrated, Drilled
    from nas.outcome import Export
    from nas.timing import Latency

    if is_course(path):
        folder, course, outcome = course_taken(path)
        name = course.network if course.network in ANCHORS else outcome.arch_id
        exported = read_value(Run(folder.export), "export", Export)
        latency, sessions = read_value(folder, "latency", Latency), tuple(read_sessions(folder))
        return Drilled(path.resolve().name, name, course, outcome, exported, latency, sessions)
    folder, plan = open_run(path)
    recipes = read_value(folder, "recipes", Recipes)
    if recipes:
        found = read_value(folder, "calibration", Calibration)
        if found is None:
            raise ValueError(f"{path} has not ended; go on with nas calibrate --resume {path}")
        return Calibrated(path, plan, recipes, found, tuple(read_sessions(folder)))
    one, problems = searched(path)
    if problems:
        raise ValueError(problems[0])
    return one


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
) -> tuple[Run, Course]:
    """A new full training of what was asked. Nothing is written before all of it has been found possible."""
    training = named(TRAININGS, recipe, "recipe")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    training = replace(training, epochs=training.epochs if epochs is None else epochs, decay=decay or training.decay)
    _free(name)
    arch, found = architecture(network, None, None), network
    path = Path(network).resolve() if os.path.isdir(network) else Path(network)
    folder = str(data.expanduser().absolute()) if data else None
    if network in ANCHORS:
        found = f"`{network}`, a published network: {ANCHORS[network].source}"
    elif (Path(network) / "plan.json").is_file():
        _, plan = open_run(Path(network))
        if dataset is None:
            dataset, folder = plan.dataset, folder or plan.data
        found = (
            f"The best network of `{network}`: `nas search --budget {plan.budget} --dataset {plan.dataset}`, "
            f"space {plan.space}, seed {plan.seed}, {plan.trials} trials."
        )
    elif is_course(path) and dataset is None:
        _, before = open_course(path)
        dataset, folder, found = before.dataset, folder or before.data, before.found
    dataset = _absolute(dataset or "digits")

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
    course = Course(
        network, found, arch, dataset, training, tuple(range(seed, seed + seeds)), folder, all_images,
        learnt if teacher else None,
    )  # fmt: skip
    stem = f"{path.name.removesuffix('.json')}-{dataset.split('/')[-1]}-{training.name}"
    return create(_folder(name, stem), course), course


def course_resumed(path: Path, data: Path | None) -> tuple[Run, Course]:
    """The full training in folder `path`, fit to be gone on with."""
    folder, course = open_course(path)
    if data:
        course = replace(course, data=str(data.expanduser().absolute()))

    from nas.evaluate import loaded

    then = course.arch.resolution, course.arch.classes
    _same_images(path, course.dataset, loaded(course.dataset, course.data), then)
    return folder, course


def course_taken(path: Path) -> tuple[Run, Course, Outcome]:
    """The full training in folder `path`, which has ended."""
    folder, course = open_course(path)
    outcome = read_value(folder, "result", Outcome)
    if outcome is None:
        raise ValueError(f"{path} has not ended; go on with nas train --resume {path}")
    return folder, course, outcome


def trained(network: str, weights: Path | None, dataset: str | None, data: Path | None, to: Path | None) -> "Trained":
    """The trained network that `network` names: a full training's folder, a file of weights that nas wrote, or the
    file of an architecture or an anchor, with `weights`."""
    path = Path(network)
    folder = str(data.expanduser().absolute()) if data else None

    from nas.course import Trained
    from nas.weights import read

    if is_course(path):
        if weights or dataset:
            raise ValueError(f"{path} has weights and a dataset of its own; leave out --weights and --dataset")
        run, course, outcome = course_taken(path)
        file = run.weights(outcome.taken.seed)
        tensors, made = read(file)
        if made is None or made.arch != course.arch:
            raise ValueError(f"{file} is not what nas train left there; train again, or give the network and --weights")
        name = Path(course.network).name.removesuffix(".json") or path.resolve().name
        data_folder = folder or course.data
        return Trained(name, course.found, tensors, made, course, outcome, data_folder, to or run.export)
    if (path / "plan.json").is_file():
        raise ValueError(f"{path} holds a network without weights; nas train {path}, then nas export what that leaves")
    if weights is None and path.suffix != ".safetensors":
        raise ValueError(f"{network} has no weights; give --weights FILE, or the folder that nas train has made")
    file = weights or path
    tensors, made = read(file)
    if weights is not None:
        arch = architecture(network, None, None)
        if made and network in ANCHORS:
            arch = replace(arch, classes=made.arch.classes)
        if made is None or dataset:
            made = _made(arch, dataset, folder, file)
        if arch.classes != len(made.classes):
            raise ValueError(f"{network} is for {arch.classes} classes, weights {file} for {len(made.classes)}")
        made = replace(made, arch=arch)
    elif dataset:
        raise ValueError(f"{file} says itself what it was trained on; leave out --dataset")
    elif made is None:
        raise ValueError(f"{file} does not say of which network it is; give the network, and --weights {file}")
    return Trained(path.stem, network, tensors, made, None, None, folder, to or file.parent / "export")


def _made(arch: Arch, dataset: str | None, folder: str | None, file: Path) -> "Made":
    """What foreign weights do not say of themselves."""
    from nas.evaluate import loaded
    from nas.outcome import Made

    if dataset is None:
        raise ValueError(f"{file} does not say how images are prepared; give --dataset, for which it was trained")
    images = loaded(_absolute(dataset), folder)
    if arch.classes != len(images.classes):
        raise ValueError(f"the network is for {arch.classes} classes, dataset {dataset} has {len(images.classes)}")
    return Made(arch, _absolute(dataset), images.classes, images.mean, images.std)


def on_paper(budget: Budget) -> Budget:
    """`budget`, which limits nothing that would have to be measured."""
    if budget.timed:
        raise ValueError(f"budget {budget} limits latency, which nothing measures here; leave it out")
    return budget


def calibration_resumed(path: Path, data: Path | None) -> tuple[Run, Plan, Space, Recipes]:
    """The calibration in folder `path`, fit to be gone on with."""
    folder, plan, where = resumed(path, data)
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


def named(table: Mapping[str, T], name: str, what: str) -> T:
    """What `name` stands for in `table`; where it stands for nothing, the error names the nearest."""
    if name not in table:
        near = get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(table)}"
        raise ValueError(f"{what} {name!r} is unknown; {hint}")
    return table[name]


def architecture(network: str, resolution: int | None, classes: int | None) -> Arch:
    """The network called `network`: an anchor, the file of an architecture, or the best of the run in that folder."""
    path = Path(network)
    if network in ANCHORS:
        arch = ANCHORS[network].arch
    elif path.suffix == ".json" or (network and os.path.isdir(path)):  # False, too, for a name that is too long
        file = path / "best" / "arch.json" if os.path.isdir(path) else path
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} cannot be read ({error}); give an anchor or an arch.json") from None
        arch = from_json(Arch, text, str(file))
    else:
        arch = named({name: anchor.arch for name, anchor in ANCHORS.items()}, network, "network")
    resolution = arch.resolution if resolution is None else resolution
    return replace(arch, resolution=resolution, classes=arch.classes if classes is None else classes)


def anchor_costs(resolution: int, classes: int) -> dict[str, Callable[[], Cost]]:
    """What each anchor costs on such images: a budget may be given by name."""

    def spent(anchor: Anchor) -> Cost:
        if anchor.arch.resolution != resolution:
            small = f"{anchor.name}-{resolution}"
            hint = f"did you mean {small}?" if small in ANCHORS else "give a number"
            side = anchor.arch.resolution
            raise ValueError(f"budget {anchor.name!r} is a network for {side}x{side}, not {resolution}; {hint}")
        return cost(replace(anchor.arch, classes=classes))

    return {name: partial(spent, anchor) for name, anchor in ANCHORS.items()}


def anchors_for(plan: Plan) -> list[Anchor]:
    """The anchors that were made for images like the plan's, at its resolution and classes; the baseline first."""
    rows = [anchor for anchor in ANCHORS.values() if anchor.arch.resolution == RESOLUTION and not anchor.reference]
    rows.sort(key=lambda anchor: anchor.name != BASELINE)
    return [replace(a, arch=replace(a.arch, resolution=plan.resolution, classes=plan.classes)) for a in rows]


def first_of(plan: Plan) -> list[Arch]:
    """The baseline on the plan's images, where it keeps the budget."""
    baseline = anchors_for(plan)[0].arch
    return [baseline] if plan.budget.keeps(cost(baseline)) else []


def anchor_names(resolution: int | None) -> list[str]:
    """The anchors that were made for images of `resolution`, or of RESOLUTION."""
    side = resolution or RESOLUTION
    return [name for name, anchor in ANCHORS.items() if anchor.arch.resolution == side and not anchor.reference]


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
