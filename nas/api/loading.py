"""Runs and trained networks read back, for tables, pages, exports, and to be resumed. All raise Error where
one has not come to that.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.resolve import absolute, architecture, folder_of, restore_in, restore_of, space_of
from nas.errors import Error, Notice
from nas.networks.architecture import Arch, arch_id
from nas.networks.space import Space, decode, fitted
from nas.records.plan import Plan, Reading
from nas.records.recipes import Recipes, TrainingPlan
from nas.records.results import Export, Mistake, TrainingResult, WeightsInfo
from nas.records.run_folder import (
    Run,
    is_training,
    open_run,
    open_training,
    read_best,
    read_history,
    read_sessions,
    read_value,
    write_split,
)
from nas.records.search_files import read_tallies, read_trials
from nas.records.statistics import Calibration
from nas.records.timing import Latency
from nas.records.trial import merit
from nas.reports.comparison import CalibrationRun, SearchRun, TrainedRun
from search_spaces import ANCHORS, BASELINE, SPACES

if TYPE_CHECKING:
    from nas.reports.plots import ReportView
    from nas.reports.training_page import TrainingView
    from nas.training.full_training import TrainedNetwork
    from nas.training.images import Data


SHOWN = 24  # images that a network is wrong about, on its page


class UnreadableRecord(Notice):
    """A record of a run cannot be read; the others can."""


def search_run(path: Path) -> tuple[SearchRun, list[str]]:
    """The search in folder `path`, finished or not, and a line for each record that cannot be read."""
    folder, plan = open_run(path)
    trials, problems = read_trials(folder, restore_of(folder, plan))
    if problems and not trials and not plan.dataset:
        raise Error(
            f"{path} is a search from Python over networks that are no architectures of nas; nas.search with "
            f'run="{path}" gives its result again'
        )
    best, sessions = read_best(folder, trials), tuple(read_sessions(folder))
    return SearchRun(path.resolve().name, plan, tuple(trials), best, read_tallies(folder), sessions), problems


def report_view(path: Path) -> "tuple[ReportView, list[str]]":
    """The run in folder `path` as a report shows it, and a line for each record that cannot be read."""
    one, problems = search_run(path)

    from nas.reports.importance import drawn_of
    from nas.reports.plots import ReportView
    from nas.search_strategy.study import importance

    found = read_value(Run(path), "calibration", Calibration)
    drawn = drawn_of(one.trials)
    mattered = importance(drawn, [merit(trial.scores[0], one.plan.recipe.judge) for trial in drawn])
    return ReportView(one.run, one.plan, one.trials, one.best, one.tallies, mattered, found, BASELINE), problems


def training_view(path: Path) -> "TrainingView":
    """The full training in folder `path` as a report shows it, ended or not."""
    from nas.reports.training_page import TrainingView

    folder, plan = open_training(path)
    outcome = read_value(folder, "result", TrainingResult)
    exported = read_value(Run(folder.export), "export", Export)
    mistakes, why = _mistakes(folder, plan, outcome) if outcome else ((), "")
    histories = {seed: read_history(folder, seed) for seed in plan.seeds}
    return TrainingView(path.resolve().name, plan, histories, outcome, exported, mistakes, why)


def _mistakes(folder: Run, plan: TrainingPlan, outcome: TrainingResult) -> tuple[tuple[Mistake, ...], str]:
    """What the network is most wrong about, of the images that validate; or why that cannot be said."""
    file = folder.weights(outcome.chosen.seed)
    if plan.all_images:
        return (), "All images were trained on; those of the test are not looked at a second time."
    if not file.exists():
        return (), f"They are found with the weights, {file}, which are not there."

    from nas.models.weights import put, read
    from nas.training.built_in import is_here
    from nas.training.learner import network
    from nas.training.mistakes import mistakes_of
    from nas.training.proxy import images_for

    if not is_here(plan.dataset, plan.data):
        return (), f"They are found on the images of {plan.dataset}, which are not on this machine."
    try:
        images, model = images_for(plan), network(plan.arch)
        put(model, read(file)[0], f"the weights of {folder.path}")
    except Error as error:
        return (), f"They are found with the weights on the images, which cannot be read: {error}"
    if plan.images_digest not in ("", images.digest):
        return (), f"They are found on the images, which have been changed since: {plan.dataset}."
    found = mistakes_of(model, images, images.val, SHOWN)
    return found, "" if found else "Of the validation images it is wrong about none."


def run_summary(path: Path) -> SearchRun | CalibrationRun | TrainedRun:
    """What the run in folder `path` came to. Raises Error where it has not ended, or cannot be read."""
    if is_training(path):
        return trained_run(path)
    folder, plan = open_run(path)
    recipes = read_value(folder, "recipes", Recipes)
    if recipes:
        found = read_value(folder, "calibration", Calibration)
        if found is None:
            raise Error(f"{path} has not ended; go on with nas calibrate --resume {path}")
        return CalibrationRun(str(path), plan, recipes, found, tuple(read_sessions(folder)))
    one, problems = search_run(path)
    if problems:
        raise Error(problems[0])
    return one


def trained_run(path: Path) -> TrainedRun:
    """The full training in folder `path`, which has ended, as one that others are compared with."""
    folder, training_plan, outcome = finished_training(path)
    name = training_plan.network if training_plan.network in ANCHORS else outcome.arch_id
    exported = read_value(Run(folder.export), "export", Export)
    latency, sessions = read_value(folder, "latency", Latency), tuple(read_sessions(folder))
    return TrainedRun(path.resolve().name, name, training_plan, outcome, exported, latency, sessions)


def finished_training(path: Path) -> tuple[Run, TrainingPlan, TrainingResult]:
    """The full training in folder `path`, which has ended."""
    folder, training_plan = open_training(path)
    outcome = read_value(folder, "result", TrainingResult)
    if outcome is None:
        raise Error(f"{path} has not ended; go on with nas train --resume {path}")
    return folder, training_plan, outcome


def trained_network(
    network: str | Path,
    weights: str | Path | None,
    dataset: str | None,
    data: str | Path | None,
    to: str | Path | None,
) -> "TrainedNetwork":
    """The trained network that `network` names: a full training's folder, a file of weights that nas wrote, or the
    file of an architecture or an anchor, with `weights`."""
    network, path, folder = str(network), Path(network), folder_of(data)
    target = Path(to) if to is not None else None

    from nas.models.weights import read
    from nas.training.full_training import TrainedNetwork

    if is_training(path):
        if weights or dataset:
            raise Error(f"{path} has weights and a dataset of its own; leave out --weights and --dataset")
        run, training_plan, outcome = finished_training(path)
        file = run.weights(outcome.chosen.seed)
        tensors, info = read(file)
        if info is None or info.arch != training_plan.arch:
            raise Error(f"{file} is not what nas train left there; train again, or give the network and --weights")
        name = Path(training_plan.network).name.removesuffix(".json") or path.resolve().name
        data_folder = folder or training_plan.data
        return TrainedNetwork(
            name, training_plan.found, tensors, info, training_plan, outcome, data_folder, target or run.export
        )
    if (path / "plan.json").is_file():
        raise Error(f"{path} holds a network without weights; nas train {path}, then nas export what that leaves")
    if weights is None and path.suffix != ".safetensors":
        raise Error(f"{network} has no weights; give --weights FILE, or the folder that nas train has made")
    file = Path(weights) if weights is not None else path
    tensors, info = read(file)
    if weights is not None:
        arch = architecture(network, None, None)
        if info and network in ANCHORS:
            arch = replace(arch, classes=info.arch.classes)
        if info and info.arch != arch:  # equal shapes may differ in activations or shuffles
            raise Error(
                f"weights {file} are of network {arch_id(info.arch)}, {network} is {arch_id(arch)}; name the file alone"
            )
        if info is None or dataset:
            info = _made(arch, info is None and network in ANCHORS, dataset, folder, file)
    elif dataset:
        raise Error(f"{file} says itself what it was trained on; leave out --dataset")
    elif info is None:
        raise Error(f"{file} does not say of which network it is; give the network, and --weights {file}")
    return TrainedNetwork(path.stem, network, tensors, info, None, None, folder, target or file.parent / "export")


def _made(arch: Arch, fits: bool, dataset: str | None, folder: str | None, file: Path) -> WeightsInfo:
    """What foreign weights do not say of themselves; a network that `fits` any number of classes has the dataset's."""
    from nas.training.proxy import loaded

    if dataset is None:
        raise Error(f"{file} does not say how images are prepared; give --dataset, for which it was trained")
    reading = Reading(channels=arch.channels)
    images = loaded(absolute(dataset), folder, arch.resolution, reading)
    if fits:
        arch = replace(arch, classes=len(images.classes))
    if arch.classes != len(images.classes):
        raise Error(f"the network is for {arch.classes} classes, dataset {dataset} has {len(images.classes)}")
    return WeightsInfo(arch, absolute(dataset), images.classes, images.mean, images.std, images.share, reading)


def resumable(path: Path, data: str | Path | None, space: Space | None = None) -> tuple[Run, Plan, Space]:
    """The search or calibration in folder `path`, on a dataset, ready to be resumed; in `space` where it is one of
    the user's own.

    Raises Error where the space or the images have changed since, or a record cannot be read.
    """
    folder, plan = open_run(path)
    if space is None and plan.space not in SPACES and ":" not in plan.space:
        raise Error(f"{path} was begun in a space of its own, {plan.space!r}; nas.search(space, resume={str(path)!r})")
    try:
        where = fitted(space or space_of(plan.space), plan.resolution, plan.classes, plan.reading.channels)
    except Error as error:
        if folder.space_file.exists():
            raise Error(f"{error}; {path} keeps it as it was: put {folder.space_file} back there") from None
        raise
    if plan.space_digest not in (where.digest, where.old_digest):
        if where.source:
            raise Error(
                f"{path} was begun with another {plan.space}, it has been changed since; put back what it was "
                f"({folder.space_file}), or begin a new run"
            )
        raise Error(
            f"{path} was made with another version of space {plan.space} ({plan.space_digest}, here {where.digest}); "
            "resume it with the version of nas that made it, or begin a new run, which may know what it learnt by "
            f"--warm-start {path}"
        )
    found, problems = read_trials(folder, restore_in(where))
    if problems:
        raise Error(
            f"{problems[0]}; the {len(found)} other trials are readable and stay; delete that line to go on without it"
        )
    for trial in found:
        if trial.choices and decode(where, trial.choices) != trial.arch:
            raise Error(f"trial {trial.index} of {path} has choices that draw another network than its own")

    from nas.training.proxy import loaded

    if data:
        plan = replace(plan, data=folder_of(data))
    images = loaded(plan.dataset, plan.data, plan.resolution, plan.reading)
    check_images(path, plan.dataset, images, (plan.resolution, plan.classes), plan.images_digest)
    return folder, plan, where


def keep_split(run: Run, asked: Plan | TrainingPlan) -> None:
    """Writes which picture is in which part into the run, where the split is ours: split.csv."""
    from nas.training.proxy import images_for

    if asked.dataset.startswith("folder:") and (split := images_for(asked).split):
        write_split(run, split)


def check_images(path: Path, dataset: str, images: "Data", then: tuple[int, int], digest: str) -> None:
    """Raises Error where the images are not those that a run was begun on."""
    now = images.resolution, len(images.classes)
    if now != then:
        raise Error(f"{path} was begun on (resolution, classes) {then}, dataset {dataset} now has {now}")
    if digest and digest != images.digest:
        raise Error(
            f"{path} was begun on other images: dataset {dataset} has been changed since; put back what it was, or "
            "begin a new run"
        )
