"""Runs and trained networks read back, as tables, pages and exports want them. Raises ValueError where one has not
come to that.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch import Arch, arch_id
from nas.compare import Calibrated, Drilled, Searched
from nas.findings import Calibration
from nas.names import absolute, architecture
from nas.outcome import Export, Made, Outcome
from nas.recipes import Course, Recipes
from nas.runs import (
    Run,
    is_course,
    open_course,
    open_run,
    read_best,
    read_sessions,
    read_tallies,
    read_trials,
    read_value,
)
from nas.timing import Latency
from nas.trial import merit
from search_spaces import ANCHORS, BASELINE

if TYPE_CHECKING:
    from nas.course import Trained
    from nas.report import View


def searched(path: Path) -> tuple[Searched, list[str]]:
    """The search in folder `path`, finished or not, and a line for each record that cannot be read."""
    folder, plan = open_run(path)
    trials, problems = read_trials(folder)
    if problems and not trials and not plan.dataset:
        raise ValueError(
            f"{path} is a search from Python over networks that are no architectures of nas; nas.search with "
            f'run="{path}" gives its result again'
        )
    best, sessions = read_best(folder, trials), tuple(read_sessions(folder))
    return Searched(path.resolve().name, plan, tuple(trials), best, read_tallies(folder), sessions), problems


def viewed(path: Path) -> "tuple[View, list[str]]":
    """The run in folder `path` as a report shows it, and a line for each record that cannot be read."""
    if is_course(path):
        raise ValueError(f"{path} is a full training, a report shows searches; nas show {path} prints it")
    one, problems = searched(path)

    from nas.journal import importance
    from nas.knobs import drawn_of
    from nas.report import View

    found = read_value(Run(path), "calibration", Calibration)
    drawn = drawn_of(one.trials)
    mattered = importance(drawn, [merit(trial.scores[0], one.plan.recipe.judge) for trial in drawn])
    return View(one.run, one.plan, one.trials, one.best, one.tallies, mattered, found, BASELINE), problems


def compared(path: Path) -> Searched | Calibrated | Drilled:
    """The run in folder `path` as one that others are held against. Raises ValueError where it has not come to that."""
    if is_course(path):
        return drilled(path)
    folder, plan = open_run(path)
    recipes = read_value(folder, "recipes", Recipes)
    if recipes:
        found = read_value(folder, "calibration", Calibration)
        if found is None:
            raise ValueError(f"{path} has not ended; go on with nas calibrate --resume {path}")
        return Calibrated(str(path), plan, recipes, found, tuple(read_sessions(folder)))
    one, problems = searched(path)
    if problems:
        raise ValueError(problems[0])
    return one


def drilled(path: Path) -> Drilled:
    """The full training in folder `path`, which has ended, as one that others are held against."""
    folder, course, outcome = course_taken(path)
    name = course.network if course.network in ANCHORS else outcome.arch_id
    exported = read_value(Run(folder.export), "export", Export)
    latency, sessions = read_value(folder, "latency", Latency), tuple(read_sessions(folder))
    return Drilled(path.resolve().name, name, course, outcome, exported, latency, sessions)


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
        if made and made.arch != arch:  # shapes alone would not tell activations or shuffles apart
            raise ValueError(
                f"weights {file} are of network {arch_id(made.arch)}, {network} is {arch_id(arch)}; name the file alone"
            )
        if made is None or dataset:
            made = _made(arch, made is None and network in ANCHORS, dataset, folder, file)
    elif dataset:
        raise ValueError(f"{file} says itself what it was trained on; leave out --dataset")
    elif made is None:
        raise ValueError(f"{file} does not say of which network it is; give the network, and --weights {file}")
    return Trained(path.stem, network, tensors, made, None, None, folder, to or file.parent / "export")


def _made(arch: Arch, fits: bool, dataset: str | None, folder: str | None, file: Path) -> Made:
    """What foreign weights do not say of themselves; a network that `fits` any number of classes has the dataset's."""
    from nas.evaluate import loaded

    if dataset is None:
        raise ValueError(f"{file} does not say how images are prepared; give --dataset, for which it was trained")
    images = loaded(absolute(dataset), folder)
    if fits:
        arch = replace(arch, classes=len(images.classes))
    if arch.classes != len(images.classes):
        raise ValueError(f"the network is for {arch.classes} classes, dataset {dataset} has {len(images.classes)}")
    return Made(arch, absolute(dataset), images.classes, images.mean, images.std)
