"""The command line: thin commands, heavy imports inside them. The only room that exits, and that knows
search_spaces; what is shown is in screen.py and tables.py.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the search could not go
on, 2 the request cannot be met, 130 interrupted.
"""

import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from nas import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from nas.arch import Anchor, Arch
    from nas.graph import Cost
    from nas.plan import Plan
    from nas.runs import Run
    from nas.space import Space
    from nas.waves import Halt

app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its traceback
    rich_markup_mode="rich",
    help="Neural architecture search over lightweight convolutional blocks, under budgets that are kept.",
)
RUNS = Path("runs")
HOW = ("workers", "ray_address", "cpus", "gpus", "time_limit")  # options that do not change what is found
RESOLUTION = 32  # of the anchors that a search compares with
T = TypeVar("T")


def fail(message: str, code: int = 2) -> NoReturn:
    """Ends the process with one line on standard error."""
    print(f"nas: error: {message}", file=sys.stderr)
    raise typer.Exit(code)


@contextmanager
def refusing() -> Iterator[None]:
    """Turns a ValueError about the request into an error line and exit code 2."""
    try:
        yield
    except ValueError as error:
        fail(str(error))


@contextmanager
def interruptible(halt: "Halt") -> Iterator[None]:
    """Makes the first Ctrl-C ask `halt`, so that what is being trained comes to its end; the second stops at once."""

    def interrupted(_number: int, _frame: object) -> None:
        if halt.asked:
            raise KeyboardInterrupt
        halt.asked = True
        print("nas: finishing the trainings in hand; Ctrl-C again stops now", file=sys.stderr)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Neural architecture search over lightweight convolutional blocks, under budgets that are kept."""
    if version:
        print(f"nas {__version__}")
        raise typer.Exit


@app.command()
def search(
    context: typer.Context,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Upper limits that every network keeps: 25MFLOPs, 0.4MParams, 128KBpeak, or an anchor's name for what "
            "that network costs; join with commas or repeat."
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="digits, cifar10, cifar100, or folder:PATH.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    space: Annotated[str, typer.Option(help="Search space: lightweight or lowres.")] = "lightweight",
    trials: Annotated[int, typer.Option(help="Networks to train, anchors among them.")] = 36,
    seed: Annotated[int, typer.Option(help="Seed of proposals, weights and batches.")] = 0,
    objective: Annotated[
        str, typer.Option(help="accuracy, or a front of it against macs, params or peak: accuracy,macs.")
    ] = "accuracy",
    workers: Annotated[
        int | None,
        typer.Option(help="Trainings side by side, one thread each; by default one a core. One needs no Ray."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster to train on: auto, or HOST:PORT.")
    ] = None,
    cpus: Annotated[float, typer.Option(help="CPUs that a worker takes, on Ray.")] = 1.0,
    gpus: Annotated[float, typer.Option(help="GPUs that a worker takes, on Ray; 0.5: two share one.")] = 0.0,
    time_limit: Annotated[
        str | None, typer.Option(help="End in time with what is there: 90s, 30m, 2h. It can be resumed.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder: runs/NAME.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Search for the network with the best validation accuracy under a budget.

    Example: [bold]nas search --budget 25MFLOPs --dataset cifar10[/bold]
    """
    with refusing():
        if resume:
            sources = {name: context.get_parameter_source(name) for name in context.params}
            given = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
            if clash := sorted(given - {"resume", "data", "json", "quiet", *HOW}):
                raise ValueError(f"--resume takes its plan from the run; leave out --{clash[0]}")
        seconds = _seconds(time_limit)
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        began = time.monotonic()
        if resume:
            folder, plan, where = _resumed(resume, data)
        else:
            names = tuple(objective.replace(" ", "").split(","))
            folder, plan, where = _begun(budget or [], dataset, data, space, trials, seed, names, run)

    from nas.api import crew, trainer
    from nas.runs import RunInUse
    from nas.screen import print_result, progress
    from nas.waves import Halt, SearchFailed
    from nas.waves import search as run_waves
    from search_spaces import BASELINE

    halt = Halt(deadline=began + seconds)
    number = workers or (len(os.sched_getaffinity(0)) if ray_address is None else None)
    try:
        with (
            interruptible(halt),
            crew(trainer(plan), number, ray_address, cpus, gpus) as hands,
            progress(quiet, folder, plan) as watch,
        ):
            found = run_waves(plan, where, _anchors(plan), folder, hands, watch, halt)
    except KeyboardInterrupt:
        fail(f"interrupted; finished trials are kept: nas search --resume {folder.path}", 130)
    except (RunInUse, ConnectionError) as error:
        fail(str(error))
    except SearchFailed as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error}; finished trials are kept: nas search --resume {folder.path}", 1)
    print_result(folder, plan, found.trials, found.best, BASELINE, json)
    if halt.asked:
        raise typer.Exit(130)


@app.command()
def calibrate(
    budget: Annotated[
        list[str] | None, typer.Option(help="Limits that the networks keep, as given to nas search.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="digits, cifar10, cifar100, or folder:PATH.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    space: Annotated[str, typer.Option(help="Search space: lightweight or lowres.")] = "lightweight",
    networks: Annotated[int, typer.Option(help="How many networks, Low-res MobileNet among them.")] = 10,
    proxy: Annotated[list[str] | None, typer.Option(help="Proxies to compare; by default all.")] = None,
    images: Annotated[int, typer.Option(help="Training images of the longer training.")] = 40_000,
    epochs: Annotated[int, typer.Option(help="Epochs of the longer training.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of networks, weights and batches.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Trainings side by side; by default one a core.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the calibration in this folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure how well the search's short trainings rank networks, against longer ones.

    Example: [bold]nas calibrate --budget 25MFLOPs --dataset cifar10[/bold]
    """
    from nas.api import crew, filled, trainer
    from nas.calibrate import Calibration, Trainers, diverse, longer
    from nas.calibrate import calibrate as run_calibration
    from nas.evaluate import loaded
    from nas.plan import PROXIES, PROXY, Recipes, derived_seed
    from nas.runs import RunInUse, read_value, write_value
    from nas.screen import counting, print_calibration
    from nas.waves import Halt
    from search_spaces import ANCHORS, BASELINE

    with refusing():
        if resume:
            folder, plan, where = _resumed(resume, data)
            kept = read_value(folder, "recipes", Recipes)
            if kept is None:
                raise ValueError(f"{resume} is no calibration: it has no recipes.json; see nas show {resume}")
            recipes = kept.recipes
        else:
            if networks < 3 or images < 1 or epochs < 1:
                raise ValueError(
                    f"a calibration needs 3 networks, 1 image and 1 epoch, got {networks}, {images}, {epochs}"
                )
            compared = [_named(PROXIES, name, "proxy") for name in proxy or PROXIES]
            name = run or f"calibration-{re.sub(r'[^A-Za-z0-9_.+-]+', '-', dataset.split('/')[-1])}"
            folder, plan, where = _begun(
                budget or [], dataset, data, space, networks, seed, ("accuracy",), run and name
            )
            held = loaded(plan.dataset, plan.data)
            whole = [*compared, longer(PROXY, images, epochs, 5_000)]
            recipes = tuple(filled(recipe, len(held.train), len(held.val)) for recipe in whole)
            write_value(folder, "recipes", Recipes(recipes))
    found = read_value(folder, "calibration", Calibration)
    if found is None:
        baseline = replace(ANCHORS[BASELINE].arch, resolution=plan.resolution, classes=plan.classes)
        first = [baseline] if plan.space in ("lightweight", "lowres") and plan.budget.keeps(_cost(baseline)) else []
        candidates = diverse(plan, where, plan.trials, first)
        halt = Halt()
        trainers = {
            recipe.name: trainer(replace(plan, recipe=recipe, seed=derived_seed(plan.seed, recipe.name) % 2**31))
            for recipe in recipes
        }
        try:
            with (
                interruptible(halt),
                crew(Trainers(trainers), workers or len(os.sched_getaffinity(0))) as hands,
                counting(quiet, folder) as watch,
            ):
                found = run_calibration(candidates, recipes, folder, hands, watch, halt)
        except KeyboardInterrupt:
            pass
        except RunInUse as error:
            fail(str(error))
        except (OSError, RuntimeError) as error:
            fail(f"{error}; what was trained is kept: nas calibrate --resume {folder.path}", 1)
        if found is None:
            fail(f"interrupted; what was trained is kept: nas calibrate --resume {folder.path}", 130)
    print_calibration(folder, plan, recipes, found, json)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Folder of the run: runs/NAME.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print the result of a run again, finished or not.

    Example: [bold]nas show runs/cifar10-25MFLOPs[/bold]
    """
    from nas.runs import open_run, read_best, read_trials
    from nas.screen import print_result
    from search_spaces import BASELINE

    with refusing():
        folder, plan = open_run(run)
    found, problems = read_trials(folder)
    for problem in problems[:3]:
        print(f"nas: warning: {problem}", file=sys.stderr)
    if len(problems) > 3:
        print(f"nas: warning: {len(problems) - 3} more records cannot be read", file=sys.stderr)
    print_result(folder, plan, found, read_best(folder, found), BASELINE, json)


@app.command()
def anchors(
    space: Annotated[
        str | None,
        typer.Option(help="Show which are points of this search space, and the nearest points of the others."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Print every published network: what its paper prints, what we count, and how they agree.

    Example: [bold]nas anchors[/bold]
    """
    import random

    from nas.space import fitted, nearest
    from nas.tables import print_anchors, print_projections
    from search_spaces import ANCHORS, SPACES

    if space is None:
        print_anchors(list(ANCHORS.values()), json)
        return
    with refusing():
        template = _named(SPACES, space, "space")
    rows = []
    for anchor in ANCHORS.values():
        if anchor.arch.resolution == RESOLUTION and not anchor.reference:
            where = fitted(template, RESOLUTION, anchor.arch.classes)
            rows.append((anchor, nearest(where, anchor.arch, random.Random(0))))
    print_projections(space, rows, json)


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="Search space: lightweight or lowres.")],
    budget: Annotated[
        list[str] | None, typer.Option(help="Say which share of the space keeps this budget, as given to nas search.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Print what a search space holds, and how much of it keeps a budget.

    Example: [bold]nas space lightweight --budget 25MFLOPs[/bold]
    """
    from nas.arch import cost
    from nas.plan import parse_budget
    from nas.space import fitted
    from nas.survey import survey
    from nas.tables import print_space
    from search_spaces import SPACES

    with refusing():
        where = fitted(_named(SPACES, name, "space"), RESOLUTION, 10)
        limits = parse_budget(budget, _costs(RESOLUTION, 10)) if budget else None
    print_space(where, survey(where, cost, limits), limits, json)


@app.command()
def profile(
    network: Annotated[str, typer.Argument(help="An anchor (see nas anchors), an arch.json, or a run's folder.")],
    resolution: Annotated[int | None, typer.Option(help="Side of the images; by default the network's own.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes; by default the network's own.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer, not block by block.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Build it and count again; thop as a second opinion.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print all layers and totals as JSON.")] = False,
) -> None:
    """Print a network layer by layer, with its totals under each counting convention.

    Example: [bold]nas profile lowres-mobilenet[/bold]
    """
    from nas.profile import MODULES
    from nas.profile import profile as profiled
    from nas.tables import print_profile
    from search_spaces import ANCHORS

    with refusing():
        arch = _architecture(network, resolution, classes)
        anchor = ANCHORS.get(network)
        modules = anchor.published.modules if anchor else MODULES
        rows, totals = profiled(arch, modules)
    checked = None
    if check:
        from nas.counting import check as counted

        try:
            with refusing():
                checked = counted(arch, modules)
        except ImportError as error:
            fail(f"--check needs thop: {error}; pip install thop setuptools", 1)
    unchanged = anchor if anchor and arch == anchor.arch else None  # else what the paper prints does not apply
    print_profile(network, arch, unchanged, modules, rows, totals, layers, json, checked)
    if checked and not checked.agree:
        raise typer.Exit(1)


# ---- the request ---------------------------------------------------------------------------------------------


def _begun(
    budget: list[str],
    dataset: str,
    data: Path | None,
    space: str,
    trials: int,
    seed: int,
    objective: tuple[str, ...],
    name: str | None,
) -> "tuple[Run, Plan, Space]":
    """A new run for what was asked. Nothing is written before all of it has been found possible."""
    import random

    from nas.plan import BUDGET_HELP, PROXY, Plan, parse_budget
    from nas.runs import create, free_name
    from nas.space import fitted
    from search_spaces import SPACES

    if not budget:
        raise ValueError(f"--budget is missing; {BUDGET_HELP}")
    limits = parse_budget(budget, _costs(RESOLUTION, 10))
    template = _named(SPACES, space, "space")
    if name is not None and not re.fullmatch(r"[\w][\w.,+-]*", name):
        raise ValueError(f"run {name!r} must be a plain name of letters, digits, '.', '-' and '_'; it lies in {RUNS}/")
    if name is not None and (RUNS / name).exists():
        raise ValueError(f"{RUNS / name} exists already; go on with --resume {RUNS / name}, or take another --run")
    if dataset.startswith("folder:"):  # resumed from elsewhere, the run still finds it
        dataset = f"folder:{Path(dataset.removeprefix('folder:')).expanduser().absolute()}"
    plan = Plan(limits, dataset, space, "", trials, seed, PROXY, 32, 10, objective)

    from nas.api import proxy_plan
    from nas.arch import cost
    from nas.data import CLASSES
    from nas.propose import cheapest

    if dataset in CLASSES:  # refused, where need be, before a download
        plan = replace(plan, budget=parse_budget(budget, _costs(RESOLUTION, CLASSES[dataset])))
        cheapest(fitted(template, RESOLUTION, CLASSES[dataset]), plan, random.Random(seed), cost)
    folder = str(data.expanduser().absolute()) if data else None
    plan, where = proxy_plan(limits, dataset, folder, template, trials, seed, objective, plan.wave)
    plan = replace(plan, budget=parse_budget(budget, _costs(plan.resolution, plan.classes)))
    cheapest(where, plan, random.Random(seed), cost)  # raises where nothing keeps the budget
    stem = re.sub(r"[^\w.,+-]+", "-", f"{dataset.split('/')[-1]}-{','.join(budget)}").strip("-")
    return create(RUNS / name if name else free_name(RUNS, stem), plan), plan, where


def _resumed(path: Path, data: Path | None) -> "tuple[Run, Plan, Space]":
    """The run in folder `path`, fit to be gone on with."""
    from nas.runs import open_run, read_trials
    from nas.space import decode, fitted
    from search_spaces import SPACES

    folder, plan = open_run(path)
    where = fitted(_named(SPACES, plan.space, "space"), plan.resolution, plan.classes)
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
    images = loaded(plan.dataset, plan.data)
    now, then = (images.resolution, len(images.classes)), (plan.resolution, plan.classes)
    if now != then:
        raise ValueError(f"{path} was begun on (resolution, classes) {then}, dataset {plan.dataset} now has {now}")
    return folder, plan, where


def _seconds(text: str | None) -> float:
    """The seconds that `text` spells: 90s, 30m, 2h; without end where it is None."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match or not float(match[1]):
        raise ValueError(f"time limit {text!r} is not understood; it is a number and a unit: 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _named(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        near = get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(table)}"
        raise ValueError(f"{what} {name!r} is unknown; {hint}")
    return table[name]


def _architecture(network: str, resolution: int | None, classes: int | None) -> "Arch":
    """The network called `network`: an anchor, the file of an architecture, or the best of the run in that folder."""
    from nas.arch import Arch
    from nas.values import from_json
    from search_spaces import ANCHORS

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
        arch = _named({name: anchor.arch for name, anchor in ANCHORS.items()}, network, "network")
    resolution = arch.resolution if resolution is None else resolution
    return replace(arch, resolution=resolution, classes=arch.classes if classes is None else classes)


def _cost(arch: "Arch") -> "Cost":
    from nas.arch import cost

    return cost(arch)


def _costs(resolution: int, classes: int) -> "dict[str, Callable[[], Cost]]":
    """What each anchor costs on such images: a budget may be given by name."""
    from nas.arch import cost
    from search_spaces import ANCHORS

    def spent(anchor: "Anchor") -> "Cost":
        if anchor.arch.resolution != resolution:
            small = f"{anchor.name}-{resolution}"
            hint = f"did you mean {small}?" if small in ANCHORS else "give a number"
            side = anchor.arch.resolution
            raise ValueError(f"budget {anchor.name!r} is a network for {side}x{side}, not {resolution}; {hint}")
        return cost(replace(anchor.arch, classes=classes))

    return {name: partial(spent, anchor) for name, anchor in ANCHORS.items()}


def _anchors(plan: "Plan") -> "list[Anchor]":
    """The anchors that were made for images like the plan's, at its resolution and classes; the baseline first."""
    from search_spaces import ANCHORS, BASELINE

    rows = [anchor for anchor in ANCHORS.values() if anchor.arch.resolution == RESOLUTION and not anchor.reference]
    rows.sort(key=lambda anchor: anchor.name != BASELINE)
    return [replace(a, arch=replace(a.arch, resolution=plan.resolution, classes=plan.classes)) for a in rows]
