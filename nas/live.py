"""What is shown while something goes on: on standard error, live on a terminal, plain lines in a file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.account import Progress as Standing
from nas.course import Standing as Lessons
from nas.plan import Plan
from nas.recipes import Course
from nas.runs import Run


@contextmanager
def progress(quiet: bool, folder: Run, plan: Plan) -> Iterator[Any]:
    """A callback that shows where the search stands: a live line on a terminal, else a line a rung."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
        return
    rungs = len(plan.recipe.rungs)
    asked = f"{plan.dataset}, budget {plan.budget}, space {plan.space}, {plan.trials} trials"
    console.print(f"{folder.path}: {asked}", soft_wrap=True, markup=False)
    start: list[tuple[float, int]] = []  # the moment at which training began in this process, and what was done of it
    last: list[tuple[int, int]] = []

    def left(progress: Standing) -> str:
        now = time.monotonic()
        start[:] = start or [(now, progress.here)]
        began, done_before = start[0]
        done = progress.here - done_before
        if now - began < 5 or done <= 0:
            return "time left: wait"
        seconds = (now - began) / done * (progress.planned - progress.work)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"

    def line(progress: Standing) -> str:
        top = progress.best
        so_far = f"best {top.score:.2f} % ({top.anchor or top.arch_id})" if top else "best: none yet"
        doing = "measuring" if progress.measuring else f"rung {progress.rung + 1}/{rungs}"
        step = f"wave {progress.wave}, trial {progress.trial} ({progress.name}), {doing}"
        return f"{step}, {so_far}, {left(progress)}"

    if not console.is_terminal:

        def plain(progress: Standing) -> None:
            at = (progress.trial, -1 if progress.measuring else progress.rung)
            if last != [at]:
                last[:] = [at]
                share = 100 * progress.work // progress.planned
                print(f"{share:3d} %  {line(progress)}", file=sys.stderr, flush=True)

        yield plain
        return
    heard: list[Standing] = []

    def shown() -> Group:
        if not heard:
            return Group(Text("loading"))
        progress = heard[0]
        doing = f"measuring {progress.name}" if progress.measuring else f"wave {progress.wave}"
        return stage(progress, rungs, doing, left(progress))

    def hear(progress: Standing) -> None:
        heard[:] = [progress]

    with Live(get_renderable=shown, console=console, transient=True, refresh_per_second=4):
        yield hear


def stage(progress: Standing, rungs: int, doing: str, left: str) -> Group:
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
    said = [f"{counts[state]} {state}" for state in ("complete", "pruned", "refused", "failed") if counts.get(state)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("training", "wave", "rung", "so far"):
        table.add_column(heading, justify="left" if heading == "training" else "right", no_wrap=True)
    for one in progress.running:
        so_far = "" if one.top1 is None else f"{one.top1:.2f} %"
        table.add_row(one.name, str(one.wave), f"{one.rung + 1}/{rungs}", so_far)
    return Group(head, best, Text(", ".join(said) or "no trial has ended yet", style="dim"), table)


@contextmanager
def counting(quiet: bool, folder: Run) -> Iterator[Any]:
    """A callback that shows how far a calibration is: a live line on a terminal, else a line a training."""
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
        yield lambda *_: None
    elif not console.is_terminal:
        console.print(f"{folder.path}: calibration")
        yield lambda *said: print(line(*said), file=sys.stderr, flush=True)
    else:
        with console.status(f"{folder.path}: calibration") as status:
            yield lambda *said: status.update(line(*said))


@contextmanager
def measuring(quiet: bool, number: int) -> Iterator[Callable[[str], None]]:
    """A callback that is told which of `number` networks is measured next."""
    console = Console(stderr=True)
    begun: list[str] = []

    def said(name: str) -> str:
        begun.append(name)
        return f"{len(begun)} of {number}: {name}"

    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        yield lambda name: print(said(name), file=sys.stderr, flush=True)
    else:
        with console.status("measuring") as status:
            yield lambda name: status.update(f"measuring {said(name)}")


@contextmanager
def training(quiet: bool, folder: Run, course: Course) -> Iterator[Callable[[Lessons], None]]:
    """A callback that shows how far a full training is: a live line on a terminal, else a line an epoch."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
        return
    recipe = course.training
    seeds = f", {len(course.seeds)} seeds" * (len(course.seeds) > 1)
    asked = f"{course.network} on {course.dataset}, recipe {recipe.name}{seeds}"
    console.print(f"{folder.path}: {asked}", soft_wrap=True, markup=False)
    first: list[tuple[float, int]] = []

    def line(at: Lessons) -> str:
        first[:] = first or [(time.monotonic(), at.images)]
        seconds, done = time.monotonic() - first[0][0], at.images - first[0][1]
        left = "time left: wait"
        if done > 0 and seconds > 5:
            minutes = seconds / done * (at.planned - at.images) / 60
            left = f"{done / seconds:.0f} images/s, " + (f"{minutes:.0f} min left" if minutes >= 1.5 else "1 min left")
        accuracy = "" if at.val_top1 is None else f", val top-1 {at.val_top1:.2f} %"
        seed = f"seed {at.seed}, " * (len(course.seeds) > 1)
        return f"{seed}epoch {at.epoch}/{recipe.epochs}{accuracy}, {left}"

    if console.is_terminal:
        with Progress(
            BarColumn(20), TextColumn("{task.percentage:3.0f} %  {task.description}"), console=console
        ) as bar:
            task = bar.add_task("loading")
            yield lambda at: bar.update(task, completed=at.images, total=at.planned, description=line(at))
        return
    said: set[tuple[int, int]] = set()

    def plain(at: Lessons) -> None:
        now = line(at)  # also where it is not printed: it keeps the time
        if (at.seed, at.epoch) not in said:
            said.add((at.seed, at.epoch))
            print(f"{100 * at.images // at.planned:3d} %  {now}", file=sys.stderr, flush=True)

    yield plain


@contextmanager
def working(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A callback that is told what is being made."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
    elif not console.is_terminal:
        yield lambda name: print(f"making and verifying {name}", file=sys.stderr, flush=True)
    else:
        with console.status("loading") as status:
            yield lambda name: status.update(f"making and verifying {name}")
