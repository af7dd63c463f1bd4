"""What is shown while something goes on: on standard error, live on a terminal, plain lines in a file.

What a command is about is known once its run is on disk: each display gets that first, then the progress.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.records.plan import Plan
from nas.records.recipes import TrainingPlan
from nas.search_strategy.progress import SearchProgress
from nas.training.devices import described
from nas.training.full_training import TrainingProgress

EVERY = 5.0  # seconds between two lines about pictures that are read


class Display(NamedTuple):
    """What a command reports: that its run is on disk, with its plan; then how far it is."""

    started: Callable[[Path, Any], None]
    watch: Callable[..., None]


@contextmanager
def search_progress(
    quiet: bool, folder: list[Path], device: str | None = None, cluster: str | None = None
) -> Iterator[Display]:
    """Shows where a search stands: a live line on a terminal, else a line a rung. `folder` takes that of the run;
    `device`: what was asked to be trained on, here or on a Ray `cluster`."""
    console = Console(stderr=True)
    plans: list[Plan] = []
    begun: list[tuple[float, int]] = []  # the moment at which training began in this process, and what was done of it
    last: list[tuple[int, int]] = []

    def started(path: Path, plan: Plan) -> None:
        folder.append(path)
        plans.append(plan)
        if not quiet:
            asked = f"{plan.dataset}, budget {plan.budget}, space {plan.space}, {plan.trials} trials"
            console.print(f"{path}: {asked}", soft_wrap=True, markup=False)
            where = f"trains on the Ray cluster at {cluster}" if cluster else described(device)
            console.print(where, soft_wrap=True, markup=False)
            for begins in begun_with(plan):
                console.print(begins, soft_wrap=True, markup=False)

    def left(progress: SearchProgress) -> str:
        now = time.monotonic()
        begun[:] = begun or [(now, progress.here)]
        began, done_before = begun[0]
        done = progress.here - done_before
        if now - began < 5 or done <= 0:
            return "time left: wait"
        seconds = (now - began) / done * (progress.planned - progress.work)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"

    def plain(progress: SearchProgress) -> None:
        at = (progress.trial, -1 if progress.measuring else progress.rung)
        if last != [at]:
            last[:] = [at]
            top = progress.best
            so_far = f"best {top.score:.2f} % ({top.anchor or top.arch_id})" if top else "best: none yet"
            doing = "measuring" if progress.measuring else f"rung {progress.rung + 1}/{len(plans[0].recipe.rungs)}"
            step = f"wave {progress.wave}, trial {progress.trial} ({progress.name}), {doing}"
            share = 100 * progress.work // progress.planned
            print(f"{share:3d} %  {step}, {so_far}, {left(progress)}", file=sys.stderr, flush=True)

    if quiet:
        yield Display(started, lambda _: None)
        return
    if not console.is_terminal:
        yield Display(started, plain)
        return
    heard: list[SearchProgress] = []

    def shown() -> Group:
        if not heard:
            return Group(Text("loading"))
        progress = heard[0]
        doing = f"measuring {progress.name}" if progress.measuring else f"wave {progress.wave}"
        return stage(progress, len(plans[0].recipe.rungs), doing, left(progress))

    def hear(progress: SearchProgress) -> None:
        heard[:] = [progress]

    with Live(get_renderable=shown, console=console, transient=True, refresh_per_second=4):
        yield Display(started, hear)


def begun_with(plan: Plan) -> list[str]:
    """What a search begins with beside the published networks, a line each."""
    lines = [start.note or f"{start.name} is tried first" for start in plan.starts]
    return lines + [f"warm start: what {plan.warm_start.rpartition(' ')[0]} learnt is known"] * bool(plan.warm_start)


def stage(progress: SearchProgress, rungs: int, doing: str, left: str) -> Group:
    """What a terminal shows of a search under way."""
    head = Table.grid(padding=(0, 1))
    bar = ProgressBar(progress.planned, progress.work, width=24)
    head.add_row(Text(f"{100 * progress.work // progress.planned:3d} %"), bar, Text(f"{doing}, {left}"))
    best, baseline = Text("best: none yet"), progress.baseline
    if top := progress.best:
        best = Text.assemble("best ", (f"{top.score:.2f} %", "bold"), f" {top.anchor or top.arch_id}")
        if baseline and baseline.state == "complete" and baseline.index != top.index:
            best.append(f", {(top.score or 0) - (baseline.score or 0):+.2f} against {baseline.anchor}")
    counts = dict(progress.ended)
    states = [f"{counts[state]} {state}" for state in ("complete", "pruned", "refused", "failed") if counts.get(state)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("training", "wave", "rung", "so far"):
        table.add_column(heading, justify="left" if heading == "training" else "right", no_wrap=True)
    for one in progress.running:
        so_far = "" if one.top1 is None else f"{one.top1:.2f} %"
        table.add_row(one.name, str(one.wave), f"{one.rung + 1}/{rungs}", so_far)
    if (more := progress.side_by_side - len(progress.running)) > 0:
        table.add_row(f"and {more} more", "", "", "")
    return Group(head, best, Text(", ".join(states) or "no trial has ended yet", style="dim"), table)


def pictures_read(quiet: bool) -> Callable[[str, int, int], None]:
    """What hears of pictures that are read: a line about them, and one every EVERY seconds while they are."""
    begun: list[tuple[float, int]] = []
    last = [time.monotonic()]

    def tell(about: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not total:
            print(about, file=sys.stderr, flush=True)
            return
        begun[:] = begun or [(now, done)]
        since, before = begun[0]
        if done > before and (now - last[0] > EVERY or (done == total and now - since > EVERY)):
            last[0] = now
            seconds = (now - since) / (done - before) * (total - done)
            left = f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
            print(f"{done:,} of {total:,} {about}, {left}", file=sys.stderr, flush=True)

    return (lambda *_: None) if quiet else tell


@contextmanager
def calibration_progress(quiet: bool, folder: list[Path], device: str | None = None) -> Iterator[Display]:
    """Shows how far a calibration is: a live line on a terminal, else a line a training. `folder` takes that of the
    run."""
    console = Console(stderr=True)
    begun = time.monotonic()
    first: list[int] = []  # the images that were done before this process began

    def line(name: str, done: int, planned: int) -> str:
        first[:] = first or [done]
        now = time.monotonic() - begun
        left = (
            f"{now / (done - first[0]) * (planned - done) / 60:.0f} min left" if done > first[0] else "time left: wait"
        )
        return f"{100 * done // planned:3d} %  {name}, {left}"

    if quiet:
        yield Display(lambda path, _: folder.append(path), lambda *_: None)
    elif not console.is_terminal:

        def started(path: Path, _: Plan) -> None:
            folder.append(path)
            console.print(f"{path}: calibration, {described(device)}", soft_wrap=True, markup=False)

        yield Display(started, lambda *at: print(line(*at), file=sys.stderr, flush=True))
    else:
        with console.status("loading") as status:

            def shown(path: Path, _: Plan) -> None:
                folder.append(path)
                status.update(f"{path}: calibration")

            yield Display(shown, lambda *at: status.update(line(*at)))


@contextmanager
def training_progress(quiet: bool, folder: list[Path], device: str | None = None) -> Iterator[Display]:
    """Shows how far a full training is: a live line on a terminal, else a line an epoch. `folder` takes that of the
    run."""
    console = Console(stderr=True)
    plans: list[TrainingPlan] = []
    first: list[tuple[float, int]] = []

    def started(path: Path, plan: TrainingPlan) -> None:
        folder.append(path)
        plans.append(plan)
        if not quiet:
            seeds = f", {len(plan.seeds)} seeds" * (len(plan.seeds) > 1)
            asked = f"{plan.network} on {plan.dataset}, recipe {plan.training.name}{seeds}"
            console.print(f"{path}: {asked}", soft_wrap=True, markup=False)
            console.print(described(device), soft_wrap=True, markup=False)

    def line(at: TrainingProgress) -> str:
        first[:] = first or [(time.monotonic(), at.images)]
        seconds, done = time.monotonic() - first[0][0], at.images - first[0][1]
        left = "time left: wait"
        if done > 0 and seconds > 5:
            minutes = seconds / done * (at.planned - at.images) / 60
            left = f"{done / seconds:.0f} images/s, " + (f"{minutes:.0f} min left" if minutes >= 1.5 else "1 min left")
        accuracy = "" if at.val_top1 is None else f", val top-1 {at.val_top1:.2f} %"
        seed = f"seed {at.seed}, " * (len(plans[0].seeds) > 1)
        return f"{seed}epoch {at.epoch}/{plans[0].training.epochs}{accuracy}, {left}"

    if quiet:
        yield Display(started, lambda _: None)
        return
    if console.is_terminal:
        with Progress(
            BarColumn(20), TextColumn("{task.percentage:3.0f} %  {task.description}"), console=console
        ) as bar:
            task = bar.add_task("loading")
            yield Display(
                started, lambda at: bar.update(task, completed=at.images, total=at.planned, description=line(at))
            )
        return
    shown: set[tuple[int, int]] = set()

    def plain(at: TrainingProgress) -> None:
        now = line(at)  # also where it is not printed: it keeps the time
        if (at.seed, at.epoch) not in shown:
            shown.add((at.seed, at.epoch))
            print(f"{100 * at.images // at.planned:3d} %  {now}", file=sys.stderr, flush=True)

    yield Display(started, plain)


@contextmanager
def measurement_progress(quiet: bool, number: Sequence[int]) -> Iterator[Callable[[str], None]]:
    """A callback that takes which network is measured next; `number`: of how many, once that is known."""
    console = Console(stderr=True)
    begun: list[str] = []

    def text(name: str) -> str:
        begun.append(name)
        return f"{len(begun)} of {sum(number)}: {name}"

    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        yield lambda name: print(text(name), file=sys.stderr, flush=True)
    else:
        with console.status("measuring") as status:
            yield lambda name: status.update(f"measuring {text(name)}")


@contextmanager
def export_progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A callback that takes what is being made."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        yield lambda name: print(f"making and verifying {name}", file=sys.stderr, flush=True)
    else:
        with console.status("loading") as status:
            yield lambda name: status.update(f"making and verifying {name}")
