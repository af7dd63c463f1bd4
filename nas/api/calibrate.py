"""`nas.calibrate`: how well a search's short trainings rank networks, against longer ones."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.arguments import checked
from nas.api.loading import check_images, resumable, trained_run
from nas.api.resolve import (
    RESOLUTION,
    Read,
    SpaceLike,
    absolute,
    budget_of,
    budget_text,
    checked_device,
    first_of,
    fitted_to_dataset,
    folder_of,
    images_of,
    named,
    new_folder,
    on_paper,
    space_of,
    workers_here,
)
from nas.errors import Error
from nas.networks.architecture import cost
from nas.networks.space import Space
from nas.records.budget import Budget
from nas.records.plan import COMPARED, PROXIES, PROXY, Plan, Reading, Recipe, filled, longer
from nas.records.recipes import Recipes, Reference, References
from nas.records.run_folder import Run, create, read_sessions, read_value, write_value
from nas.records.statistics import Calibration
from nas.reports.comparison import CalibrationRun, TrainedRun
from search_spaces import SPACES

if TYPE_CHECKING:
    from nas.search_strategy.progress import Halt

LONGER_VAL = 5_000  # validation images of a calibration's longer training


@checked
def calibrate(
    trained: Sequence[str | Path] = (),
    budget: str | Sequence[str] | Budget | None = None,
    *,
    dataset: str = "digits",
    data: str | Path | None = None,
    resolution: int | None = None,
    flip: bool = True,
    groups: str | None = None,
    skip_bad: bool = False,
    channels: int | None = None,
    space: SpaceLike = "lightweight",
    networks: int = 10,
    proxies: Sequence[str] = (),
    images: int = 40_000,
    epochs: int = 8,
    seed: int = 0,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    halt: "Halt | None" = None,
    read: Read = lambda *_: None,
    started: Callable[[Path, Plan], None] = lambda *_: None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
) -> CalibrationRun:
    """How well `proxies` (by default "proxy" and "short"; or "half") rank networks, against a longer training.

    `networks` of `space`, as different as can be, that keep `budget`, are trained on `dataset` by each proxy, and for
    `epochs` over `images`. Or `trained`, the folders of full trainings that have ended, say which networks and images,
    and are what the proxies are compared with. `resolution`, `groups`, `skip_bad`, `channels`, `read`: as of
    `nas.search`. `run`: the folder that keeps all of it, by default a new one in runs/; `resume`: one that is resumed.
    `device`, `workers`: where networks train, and how many side by side, as of `nas.search`. `started` is called with
    the folder and the plan as soon as they are on disk; `watch` with a training's name, images trained on, and images
    in all.

    Raises Error where the request cannot be met, RunFailed where a network cannot be trained, KeyboardInterrupt
    where `halt` was asked to end it.
    """
    from nas.execution.workers import check_workers, open_workers
    from nas.search_strategy.calibration import calibrate as run_calibration
    from nas.search_strategy.calibration import evaluate_by_recipe, networks_of
    from nas.search_strategy.progress import Halt

    check_workers(workers)
    checked_device(device)
    halt = halt or Halt()
    if not isinstance(halt, Halt):
        raise Error(f"halt of nas.calibrate must be a nas.Halt, got {halt!r}")
    if resume is not None:
        folder, plan, where, recipes = _resumed(Path(resume), data)
    elif trained:
        folder, plan, where, recipes = _against([Path(path) for path in trained], data, proxies, seed, run)
    else:
        folder, plan, where, recipes = _begun(
            budget, absolute(dataset), folder_of(data), space, networks, proxies, images, epochs, seed, run, flip,
            resolution, Reading(groups or "", skip_bad, channels or 0), read,
        )  # fmt: skip
    found = read_value(folder, "calibration", Calibration)
    if found is None:
        candidates = networks_of(plan, where, recipes, first_of(plan))
        started(folder.path, plan)
        largest = max((one.arch for one in candidates), key=lambda arch: cost(arch).peak)
        number = workers or workers_here(device, None, largest, max(one.batch for one in recipes.recipes))
        evaluate = evaluate_by_recipe(plan, recipes.recipes, device)
        gpus = 0.0 if device == "cpu" and number > 1 else None
        with open_workers(evaluate, number, gpus=gpus, limit=math.inf) as pool:
            found = run_calibration(candidates, recipes, folder, pool, watch, halt)
        if found is None:
            raise KeyboardInterrupt
    return CalibrationRun(str(folder.path), plan, recipes, found, tuple(read_sessions(folder)))


def _begun(
    budget: str | Sequence[str] | Budget | None,
    dataset: str,
    data: str | None,
    space: SpaceLike,
    networks: int,
    proxies: Sequence[str],
    images: int,
    epochs: int,
    seed: int,
    run: str | Path | None,
    flip: bool,
    resolution: int | None,
    reading: Reading,
    read: Read,
) -> tuple[Run, Plan, Space, Recipes]:
    """A new run that compares `proxies` with `epochs` over `images`."""
    if networks < 3 or images < 1 or epochs < 1:
        raise Error(f"a calibration needs 3 networks, 1 image and 1 epoch, got {networks}, {images}, {epochs}")
    on_paper(budget_of(budget, resolution or RESOLUTION, 10))
    if run is not None and Path(run).exists():
        raise Error(f"{run} exists already; go on with resume, or name another run")
    shorter, template = _proxies(proxies), space_of(space)

    from nas.search_strategy.calibration import diverse

    held = images_of(dataset, data, resolution, reading, read)
    whole = [*shorter, longer(PROXY, images, epochs, LONGER_VAL)]
    recipes = Recipes(tuple(filled(recipe, len(held.train), len(held.val)) for recipe in whole))
    _check_shorter(recipes.recipes[:-1], recipes.recipes[-1].images, "raise --epochs or --images")
    limits = budget_of(budget, held.resolution, len(held.classes), channels=held.channels)
    plan = Plan(limits, dataset, template.name, "", networks, seed, PROXY, RESOLUTION, 10, flip=flip, reading=reading)
    plan, where = fitted_to_dataset(plan, data, template, held.resolution)
    diverse(plan, where, networks, first_of(plan))  # raises where there are not as many
    folder = create(_run_folder(run, f"calibration-{dataset.split('/')[-1]}-{budget_text(budget)}"), plan)
    write_value(folder, "recipes", recipes)
    return folder, plan, where, recipes


def _against(
    trained: Sequence[Path], data: str | Path | None, proxies: Sequence[str], seed: int, run: str | Path | None
) -> tuple[Run, Plan, Space, Recipes]:
    """A new run that compares `proxies` with the full trainings in folders `trained`, which have ended."""
    shorter = _proxies(proxies)
    rows = [trained_run(path) for path in trained]
    if len({row.outcome.arch_id for row in rows}) < max(3, len(rows)):
        raise Error(f"a calibration needs full trainings of 3 different networks, each once, got {len(rows)}")
    first = rows[0]
    for path, row in zip(trained, rows, strict=True):
        if row.like != first.like:
            raise Error(
                f"{path} was not trained as {trained[0]}, by the same recipe on the same images: compare each kind "
                "with itself"
            )
    asked, outcome = first.training_plan, first.outcome
    goals = References(
        asked.training,
        outcome.train_images,
        outcome.val_images,
        tuple(
            Reference(str(path), row.name, row.training_plan.arch, _validated(path, row))
            for path, row in zip(trained, rows, strict=True)
        ),
    )

    from nas.training.proxy import loaded

    where_data = folder_of(data) or asked.data
    held = loaded(asked.dataset, where_data, asked.arch.resolution, asked.reading)
    for path, row in zip(trained, rows, strict=True):
        then = row.training_plan.arch.resolution, row.training_plan.arch.classes
        check_images(path, asked.dataset, held, then, row.training_plan.images_digest)
    recipes = Recipes(tuple(filled(recipe, len(held.train), len(held.val)) for recipe in shorter), goals)
    _check_shorter(recipes.recipes, goals.images, "leave it out, by --proxy")
    most = Budget(macs=max(row.outcome.cost.macs for row in rows))
    template = SPACES["lightweight"]
    plan = Plan(
        most, asked.dataset, template.name, "", len(rows), seed, PROXY, RESOLUTION, 10, flip=asked.flip,
        reading=asked.reading, balance=asked.balance,
    )  # fmt: skip
    plan, where = fitted_to_dataset(plan, where_data, template, held.resolution)
    folder = create(_run_folder(run, f"calibration-{asked.dataset.split('/')[-1]}-{asked.training.name}"), plan)
    write_value(folder, "recipes", recipes)
    return folder, plan, where, recipes


def _resumed(path: Path, data: str | Path | None) -> tuple[Run, Plan, Space, Recipes]:
    """The calibration in folder `path`, ready to be resumed."""
    folder, plan, where = resumable(path, data)
    recipes = read_value(folder, "recipes", Recipes)
    if recipes is None:
        raise Error(f"{path} is no calibration: it has no recipes.json; see nas show {path}")
    return folder, plan, where, recipes


def _run_folder(run: str | Path | None, about: str) -> Path:
    return Path(run) if run is not None else new_folder(about)


def _validated(path: Path, row: TrainedRun) -> tuple[float, ...]:
    """Its top-1 on the validation images, a seed each."""
    values = tuple(one.val_top1 for one in row.outcome.tested if one.val_top1 is not None)
    if len(values) < len(row.outcome.tested):
        raise Error(f"{path} was trained on the validation images too (--all-images): nothing ranks it")
    return values


def _proxies(names: Sequence[str]) -> list[Recipe]:
    return [named(PROXIES, name, "proxy") for name in dict.fromkeys(names or COMPARED)]


def _check_shorter(proxies: Sequence[Recipe], images: int, remedy: str) -> None:
    """Raises Error where a proxy has as many `images` as what it is compared with."""
    for one in proxies:
        if one.images >= images:
            raise Error(
                f"the proxy {one.name} has {one.images:,} training images, the training that it is compared with "
                f"{images:,}, and has to have more: {remedy}"
            )
