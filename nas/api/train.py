"""`nas.train`: a network trained in full, and tested once."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from nas.api.arguments import checked
from nas.api.loading import check_images, finished_training, keep_split, trained_run
from nas.api.resolve import (
    Read,
    absolute,
    architecture,
    checked_device,
    folder_of,
    images_of,
    named,
    network_name,
    new_folder,
    of_a_search,
    one_of,
    trains_at,
    workers_here,
)
from nas.errors import Error
from nas.networks.architecture import Anchor, Arch
from nas.networks.sizes import SMALL, for_images
from nas.records.plan import READING, Reading
from nas.records.recipes import TRAINING_RECIPES, Decay, TrainingPlan, in_batches
from nas.records.run_folder import Run, create, is_training, open_run, open_training
from nas.reports.comparison import TrainedRun
from search_spaces import ANCHORS

if TYPE_CHECKING:
    from nas.training.full_training import TrainingProgress

STEPS = 16  # of an epoch, at least: with fewer, ten epochs over a hundred images leave a network where it began


@checked
def train(
    network: str | Path | Arch | Anchor | None = None,
    dataset: str | None = None,
    *,
    data: str | Path | None = None,
    resolution: int | None = None,
    flip: bool = True,
    groups: str | None = None,
    skip_bad: bool = False,
    channels: int | None = None,
    balance: bool = False,
    recipe: str = "quick",
    epochs: int | None = None,
    decay: str | None = None,
    batch: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    all_images: bool = False,
    teacher: str | Path | None = None,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    read: Read = lambda *_: None,
    started: Callable[[Path, TrainingPlan], None] = lambda *_: None,
    watch: "Callable[[TrainingProgress], None]" = lambda _: None,
) -> TrainedRun:
    """`network` trained in full, in `seeds` trainings from scratch, and the test images read once.

    `network`: an anchor's name, the file of an architecture, a search's folder, RUN/ID, or an `Arch` or `Anchor`.
    `dataset`: by default that of the search, or digits; `data`: the folder where it lies; `resolution`: side of the
    images that a published network is trained on, by default 32, and of a folder's pictures what fits them; any other
    network has its own. `flip`: whether images are mirrored. `groups`, `skip_bad`, `channels`, `balance`, `read`: as of
    `nas.search`.
    `recipe`: a name of `nas.records.recipes.TRAINING_RECIPES`; `epochs`, `decay` ("all" or "kernels") where they
    are to be others than its own; `batch`: images at a time, for which learning rates grow. `seed`: the first one.
    `all_images`: train on the validation images too. `teacher`: a training's folder, or weights, whose answers are
    teacher as well. `run`: the folder that keeps all of it, by default a new one in runs/; `resume`: one that is
    resumed. `device`: where it trains, "cuda", "mps" or "cpu"; by default the first of them that there is.
    `workers`: seeds side by side, by default one a core, on GPUs as many as have room on them. `started` is called
    with the folder and the plan as soon as they are on disk, `watch` with the progress.

    Raises Error where the request cannot be met, RunFailed where a training fails twice.
    """
    from nas.execution.workers import check_workers, open_workers

    check_workers(workers)
    checked_device(device)
    if resume is not None:
        folder, plan = resumed_training(Path(resume), data)
    elif network is None:
        raise Error("name a network: an anchor, an arch.json, a search's folder or RUN/ID; or give --resume")
    else:
        what = one_of(get_args(Decay), decay, "decay")
        folder, plan = new_training(
            network, dataset, data, recipe, epochs, what, seeds, seed, all_images, teacher, run, flip, resolution,
            Reading(groups or "", skip_bad, channels or 0), balance, read, batch,
        )  # fmt: skip

    from nas.training.full_training import TrainSeed
    from nas.training.full_training import train as run_training

    started(folder.path, plan)
    number = len(plan.seeds)
    if number > 1:
        number = min(number, workers or workers_here(device, None, plan.arch, plan.training.batch))
    gpus, seed_of = 0.0 if device == "cpu" and number > 1 else None, TrainSeed(plan, folder.path.absolute(), device)
    with open_workers(seed_of, number, gpus=gpus, limit=math.inf) as pool:
        run_training(folder, plan, pool, watch, device)
    return trained_run(folder.path)


def new_training(
    network: str | Path | Arch | Anchor,
    dataset: str | None,
    data: str | Path | None,
    recipe: str,
    epochs: int | None,
    decay: Decay | None,
    seeds: int,
    seed: int,
    all_images: bool,
    teacher: str | Path | None,
    run: str | Path | None,
    flip: bool = True,
    resolution: int | None = None,
    reading: Reading = READING,
    balance: bool = False,
    read: Read = lambda *_: None,
    batch: int | None = None,
) -> tuple[Run, TrainingPlan]:
    """The folder and the plan of a new training. Nothing is written before all of it has been found possible."""
    training = named(TRAINING_RECIPES, recipe, "recipe")
    if seeds < 1:
        raise Error(f"seeds must be at least 1, got {seeds}")
    training = replace(training, epochs=training.epochs if epochs is None else epochs, decay=decay or training.decay)
    arch, name = architecture(network), network_name(network)
    origin = name if isinstance(network, str | Path) else f"Network `{name}`, given as a value."
    by_value = not isinstance(network, str | Path)
    chosen = None if by_value else of_a_search(name)
    path = Path(name).resolve() if os.path.isdir(name) else Path(name)
    folder = folder_of(data)
    if name in ANCHORS and not by_value:
        origin = f"`{name}`, a published network: {ANCHORS[name].source}"
    elif chosen or (path / "plan.json").is_file():
        search, begins = chosen or (Path(name), "")
        which = f"Network `{begins}`" if begins else "The best network"
        _, plan = open_run(search)
        if dataset is None:
            dataset, folder, flip = plan.dataset, folder or plan.data, flip and plan.flip
            balance = balance or plan.balance
        if absolute(dataset) == plan.dataset:
            reading = joined(reading, plan.reading)
        origin = (
            f"{which} of `{search}`: `nas search --budget {plan.budget} --dataset {plan.dataset}`, "
            f"space {plan.space}, seed {plan.seed}, {plan.trials} trials."
        )
    elif is_training(path) and dataset is None:
        _, before = open_training(path)
        dataset, folder, flip = before.dataset, folder or before.data, flip and before.flip
        balance = balance or before.balance
        reading = joined(reading, before.reading)
        origin = before.found
    dataset = absolute(dataset or "digits")

    from nas.training.full_training import teacher_from

    published = name in ANCHORS or isinstance(network, Anchor)
    if not published and resolution not in (None, arch.resolution):
        raise Error(
            f"{name} is for images of {arch.resolution}x{arch.resolution}, resolution is {resolution}; leave it out"
        )
    if not published and reading.channels not in (0, arch.channels):
        raise Error(f"{name} is for images of {arch.channels} channels, channels is {reading.channels}; leave it out")
    if not published:
        reading = replace(reading, channels=arch.channels)
    images = images_of(dataset, folder, resolution if published else arch.resolution, reading, read)
    reading = replace(reading, channels=images.channels)
    if published and trains_at(arch, images.resolution):
        arch = for_images(arch, images.resolution, len(images.classes), images.channels)
    if arch.resolution != images.resolution:
        small = f"{name}-{SMALL}"
        hint = f"; did you mean {small}?" if small in ANCHORS else ""
        side = arch.resolution
        raise Error(f"{name} is for images of {side}x{side}, {dataset} has {images.resolution}{hint}")
    if arch.classes != len(images.classes):
        raise Error(f"{name} is for {arch.classes} classes, dataset {dataset} has {len(images.classes)}")
    taught_by = None
    if teacher:
        file = Path(teacher)
        if is_training(file):
            folder_of_teacher, _, outcome = finished_training(file)
            file = folder_of_teacher.weights(outcome.chosen.seed)
        taught_by = teacher_from(file, images)
    seen = len(images.train) + all_images * len(images.val)
    if batch is None:
        training = replace(training, batch=min(training.batch, max(3, seen // STEPS)))
    elif batch > seen:
        raise Error(f"batch is {batch}, {dataset} has {seen} images to train on; take at most as many")
    else:
        training = in_batches(training, batch)
    asked = TrainingPlan(
        name, origin, arch, dataset, training, tuple(range(seed, seed + seeds)), folder, all_images, taught_by,
        images.digest, flip, reading, balance,
    )  # fmt: skip
    stem = f"{chosen[0].resolve().name}-{chosen[1]}" if chosen else path.name.removesuffix(".json")
    folder_of_run = Path(run) if run is not None else new_folder(f"{stem}-{dataset.split('/')[-1]}-{training.name}")
    folder_made = create(folder_of_run, asked)
    keep_split(folder_made, asked)
    return folder_made, asked


def joined(asked: Reading, before: Reading) -> Reading:
    """What is asked now, and what was asked before where nothing is: a network is tested as it was found."""
    return replace(asked, groups=asked.groups or before.groups, skip_bad=asked.skip_bad or before.skip_bad)


def resumed_training(path: Path, data: str | Path | None) -> tuple[Run, TrainingPlan]:
    """The full training in folder `path`, ready to be resumed."""
    folder, plan = open_training(path)
    if data:
        plan = replace(plan, data=folder_of(data))

    from nas.training.proxy import loaded

    then = plan.arch.resolution, plan.arch.classes
    images = loaded(plan.dataset, plan.data, plan.arch.resolution, plan.reading)
    check_images(path, plan.dataset, images, then, plan.images_digest)
    return folder, plan
