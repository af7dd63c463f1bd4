"""The command line: thin commands, heavy imports inside them. The only room that prints or exits, with Typer and Rich.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the search could not go
on, 2 the request cannot be met, 130 interrupted.
"""

import json as jsonlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from nas import __version__

if TYPE_CHECKING:
    from nas.arch import Anchor
    from nas.plan import Plan
    from nas.runs import Run
    from nas.space import Space
    from nas.trial import Trial

app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its traceback
    rich_markup_mode="rich",
    help="Neural architecture search over lightweight convolutional blocks, under budgets that are kept.",
)
RUNS = Path("runs")
FLOPS_ARE = "FLOPs are multiply-accumulates of convolutions and linear layers, one image."
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
        typer.Option(help="Upper limit that every network keeps: 25MFLOPs, 0.4MParams; join with commas or repeat."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="digits, cifar10, cifar100, or folder:PATH.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    space: Annotated[str, typer.Option(help="Search space: lightweight or lowres.")] = "lightweight",
    trials: Annotated[int, typer.Option(help="Networks to train, anchors among them.")] = 36,
    seed: Annotated[int, typer.Option(help="Seed of proposals, weights and batches.")] = 0,
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
            if clash := sorted(given - {"resume", "data", "json", "quiet"}):
                raise ValueError(f"--resume takes its plan from the run; leave out --{clash[0]}")
            folder, plan, where = _resumed(resume, data)
        else:
            folder, plan, where = _begun(budget or [], dataset, data, space, trials, seed, run)

    from nas.evaluate import Proxy
    from nas.runs import RunInUse
    from nas.search import SearchFailed
    from nas.search import search as run_search

    try:
        with _progress(quiet, folder, plan) as watch:
            found = run_search(plan, where, _anchors(plan), folder, Proxy(plan, folder), watch)
    except KeyboardInterrupt:
        fail(f"interrupted; finished trials are kept: nas search --resume {folder.path}", 130)
    except RunInUse as error:
        fail(str(error))
    except SearchFailed as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error}; finished trials are kept: nas search --resume {folder.path}", 1)
    _print_result(folder, plan, found, json)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Folder of the run: runs/NAME.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print the result of a run again, finished or not.

    Example: [bold]nas show runs/cifar10-25MFLOPs[/bold]
    """
    from nas.runs import open_run, read_trials

    with refusing():
        folder, plan = open_run(run)
    found, problems = read_trials(folder)
    for problem in problems:
        print(f"nas: warning: {problem}", file=sys.stderr)
    _print_result(folder, plan, found, json)


# ---- the request ---------------------------------------------------------------------------------------------


def _begun(
    budget: list[str], dataset: str, data: Path | None, space: str, trials: int, seed: int, name: str | None
) -> "tuple[Run, Plan, Space]":
    """A new run for what was asked. Nothing is written before all of it has been found possible."""
    import random

    from nas.plan import BUDGET_HELP, PROXY, Plan, parse_budget
    from nas.runs import create, free_name
    from nas.space import fitted
    from search_spaces import SPACES

    if not budget:
        raise ValueError(f"--budget is missing; {BUDGET_HELP}")
    limits = parse_budget(budget)
    template = _named(SPACES, space, "space")
    if name is not None and not re.fullmatch(r"[\w][\w.,+-]*", name):
        raise ValueError(f"run {name!r} must be a plain name of letters, digits, '.', '-' and '_'; it lies in {RUNS}/")
    if name is not None and (RUNS / name).exists():
        raise ValueError(f"{RUNS / name} exists already; go on with --resume {RUNS / name}, or take another --run")
    if dataset.startswith("folder:"):  # resumed from elsewhere, the run still finds it
        dataset = f"folder:{Path(dataset.removeprefix('folder:')).expanduser().absolute()}"
    plan = Plan(limits, dataset, space, "", trials, seed, PROXY, 32, 10)

    from nas.data import CLASSES, RESOLUTION
    from nas.evaluate import loaded
    from nas.propose import cheapest

    if dataset in CLASSES:  # refused, where need be, before a download
        cheapest(fitted(template, RESOLUTION, CLASSES[dataset]), plan, random.Random(seed))
    folder = str(data.expanduser().absolute()) if data else None
    images = loaded(dataset, folder)
    where = fitted(template, images.resolution, len(images.classes))
    rungs = tuple(
        replace(rung, images=min(rung.images, len(images.train)), val_images=min(rung.val_images, len(images.val)))
        for rung in PROXY.rungs
    )
    plan = replace(
        plan,
        data=folder,
        space_digest=where.digest,
        recipe=replace(PROXY, rungs=rungs),
        resolution=images.resolution,
        classes=len(images.classes),
    )
    cheapest(where, plan, random.Random(seed))  # raises where nothing keeps the budget
    stem = re.sub(r"[^\w.,+-]+", "-", f"{dataset.split('/')[-1]}-{limits}").strip("-")
    return create(RUNS / name if name else free_name(RUNS, stem), plan), plan, where


def _resumed(path: Path, data: Path | None) -> "tuple[Run, Plan, Space]":
    """The run in folder `path`, fit to be gone on with."""
    from nas.runs import open_run, read_trials
    from nas.space import fitted
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

    from nas.evaluate import loaded

    if data:
        plan = replace(plan, data=str(data.expanduser().absolute()))
    images = loaded(plan.dataset, plan.data)
    now, then = (images.resolution, len(images.classes)), (plan.resolution, plan.classes)
    if now != then:
        raise ValueError(f"{path} was begun on (resolution, classes) {then}, dataset {plan.dataset} now has {now}")
    return folder, plan, where


def _named(table: dict[str, T], name: str, what: str) -> T:
    if name not in table:
        raise ValueError(f"{what} {name!r} is unknown; one of {', '.join(table)}")
    return table[name]


def _anchors(plan: "Plan") -> "list[Anchor]":
    """The anchors at the plan's resolution and classes, the baseline first."""
    from search_spaces import ANCHORS, BASELINE

    anchors = sorted(ANCHORS.values(), key=lambda anchor: anchor.name != BASELINE)
    return [replace(a, arch=replace(a.arch, resolution=plan.resolution, classes=plan.classes)) for a in anchors]


# ---- what is seen --------------------------------------------------------------------------------------------


@contextmanager
def _progress(quiet: bool, folder: "Run", plan: "Plan") -> Iterator[Any]:
    """A callback that shows where the search stands: a live line on a terminal, else a line a rung."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
        return
    rungs = len(plan.recipe.rungs)
    console.print(f"{folder.path}: {plan.dataset}, budget {plan.budget}, space {plan.space}, {plan.trials} trials")
    start: list[tuple[float, int]] = []  # the moment and the work at which training began in this process
    last: list[tuple[int, int]] = []

    def left(work: int, planned: int) -> str:
        now = time.monotonic()
        start[:] = start or [(now, work)]
        began, done_before = start[0]
        done = work - done_before
        if now - began < 5 or done <= 0:
            return "time left: wait"
        seconds = (now - began) / done * (planned - work)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"

    def line(progress: Any) -> str:
        top = progress.best
        so_far = f"best {top.top1:.2f} % ({top.anchor or top.arch_id})" if top else "best: none yet"
        step = f"wave {progress.wave}, trial {progress.trial} ({progress.name}), rung {progress.rung + 1}/{rungs}"
        return f"{step}, {so_far}, {left(progress.work, progress.planned)}"

    if not console.is_terminal:

        def plain(progress: Any) -> None:
            if last != [(progress.trial, progress.rung)]:
                last[:] = [(progress.trial, progress.rung)]
                share = 100 * progress.work // progress.planned
                print(f"{share:3d} %  {line(progress)}", file=sys.stderr, flush=True)

        yield plain
        return
    with Progress(BarColumn(20), TextColumn("{task.percentage:3.0f} %  {task.description}"), console=console) as bar:
        task = bar.add_task("loading")

        def live(progress: Any) -> None:
            bar.update(task, completed=progress.work, total=progress.planned, description=line(progress))

        yield live


def _print_result(folder: "Run", plan: "Plan", trials: "list[Trial]", json: bool) -> None:
    from search_spaces import ANCHORS, BASELINE

    baseline = next((t for t in trials if t.anchor == BASELINE), None)
    if json:
        print(jsonlib.dumps(_result_data(folder, plan, trials, baseline)))
        return
    from rich.console import Console
    from rich.table import Table

    complete = sorted((t for t in trials if t.state == "complete"), key=lambda t: (-(t.top1 or 0), t.cost.macs))
    found = [t for t in complete if t.anchor is None][:5]
    table = Table(title=f"{plan.dataset}, budget {plan.budget}, space {plan.space}, seed {plan.seed}")
    table.add_column("network", no_wrap=True)
    for heading in ("FLOPs", "params", "val top-1", "against Low-res MobileNet"):
        table.add_column(heading, justify="right")
    for trial in [*found, *(t for t in complete if t.anchor)]:
        name = (
            f"[bold]{trial.anchor or trial.arch_id}[/bold]" if trial is complete[0] else trial.anchor or trial.arch_id
        )
        table.add_row(name, *_cost_cells(trial), f"{trial.top1:.2f} %", _verdict(trial, baseline))
    for trial in trials:
        if trial.state == "refused" and trial.anchor in ANCHORS:
            table.add_row(trial.anchor, *_cost_cells(trial), "-", "over the budget")
        elif trial.state == "failed" and trial.anchor:
            table.add_row(trial.anchor, *_cost_cells(trial), "-", "failed")
    console = Console() if sys.stdout.isatty() else Console(width=110)
    console.print(table)
    counts = {state: sum(t.state == state for t in trials) for state in ("complete", "pruned", "failed", "refused")}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [f"{len(trials)} trials: {said}. {_effort(trials)}", _conditions(complete, plan), FLOPS_ARE]
    trained = len(trials) - counts["refused"]
    if trained < plan.trials:
        lines += [
            f"{trained} of {plan.trials} networks: the search has not ended (go on with --resume {folder.path}), "
            "or no further network keeps the budget."
        ]
    lines += [f"Files: {folder.path}/ (best network: {folder.best_arch if folder.best_arch.exists() else 'none yet'})"]
    for trial in [t for t in trials if t.state == "failed"][:3]:
        reason = (trial.error or "").strip().splitlines()[-1:]
        lines += [f"failed: {trial.anchor or trial.arch_id}: {''.join(reason)}"]
    for line in lines:  # wrapped at words on a terminal, left whole for a file
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _cost_cells(trial: "Trial") -> tuple[str, str]:
    return f"{trial.cost.macs / 1e6:.2f} M", f"{trial.cost.params / 1e6:.3f} M"


def _verdict(trial: "Trial", baseline: "Trial | None") -> str:
    if baseline is None or baseline.state != "complete":
        return "not trained"
    if trial is baseline:
        return "the baseline"
    gain = (trial.top1 or 0) - (baseline.top1 or 0)
    if gain == 0:
        return "equal"
    return f"{'beats it' if gain > 0 else 'behind'}, {gain:+.2f}"


def _effort(trials: "list[Trial]") -> str:
    """What the training of `trials` took."""
    scores = [score for trial in trials for score in trial.scores]
    images, seconds = sum(s.images for s in scores), sum(s.train_seconds for s in scores)
    if not images:
        return "Nothing has been trained yet."
    return f"Trained on {images:,} images in {seconds / 60:.1f} min, {images / seconds:.0f} images a second."


def _conditions(complete: "list[Trial]", plan: "Plan") -> str:
    """The conditions of the accuracies in the table, with how far chance alone moves a difference of two."""
    if not complete:
        return "No network has been trained to the last rung yet."
    score, images = complete[0].scores[-1], sum(s.images for s in complete[0].scores)
    share = score.top1 / 100
    error = 100 * (2 * share * (1 - share) / score.val_images) ** 0.5
    return (
        f"Accuracy: {score.val_images:,} validation images after {images:,} training images (recipe "
        f"{plan.recipe.name}, seed {plan.seed}, one training each; {score.device}, {score.threads} threads, "
        f"torch {score.torch}).\n"
        f"By the validation sample alone, a difference of two has a standard error of about {error:.1f} points; "
        "the noise of short trainings, often several points, comes on top."
    )


def _result_data(folder: "Run", plan: "Plan", trials: "list[Trial]", baseline: "Trial | None") -> dict[str, Any]:
    from nas.trial import best
    from nas.values import to_data

    top = best(trials)
    beats = None
    if top and baseline and baseline.state == "complete":
        beats = (top.top1 or 0) > (baseline.top1 or 0)
    return {
        "run": str(folder.path),
        "plan": to_data(plan),
        "flops": FLOPS_ARE,
        "best": to_data(top),
        "baseline": baseline and baseline.anchor,
        "beats_baseline": beats,
        "trials": to_data(trials),
    }
