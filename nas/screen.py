"""What the commands show: live progress on standard error, tables on standard output. The only room with Rich."""

import json as jsonlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from nas.arch import Anchor, Arch, cost
from nas.plan import Plan
from nas.profile import Check, Row, Totals, cells, published_totals, status
from nas.runs import Run
from nas.trial import Trial, best
from nas.values import to_data

FLOPS_ARE = "FLOPs are multiply-accumulates of convolutions and linear layers, one image."
WIDTH = 110  # of tables that go to a file


# ---- a search ------------------------------------------------------------------------------------------------


@contextmanager
def progress(quiet: bool, folder: Run, plan: Plan) -> Iterator[Any]:
    """A callback that shows where the search stands: a live line on a terminal, else a line a rung."""
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


def print_result(folder: Run, plan: Plan, trials: list[Trial], baseline_name: str, json: bool) -> None:
    """Prints what a search found so far, beside the anchors."""
    baseline = next((t for t in trials if t.anchor == baseline_name), None)
    if json:
        print(jsonlib.dumps(_result_data(folder, plan, trials, baseline)))
        return
    complete = sorted((t for t in trials if t.state == "complete"), key=lambda t: (-(t.top1 or 0), t.cost.macs))
    found = [t for t in complete if t.anchor is None][:5]
    rows = []
    for trial in [*found, *(t for t in complete if t.anchor)]:
        name = trial.anchor or trial.arch_id
        shown = f"[bold]{name}[/bold]" if trial is complete[0] else name
        rows.append((shown, *_cost_cells(trial), f"{trial.top1:.2f} %", _verdict(trial, baseline)))
    stopped = [t for t in trials if t.anchor and t.state == "pruned"]
    for trial in sorted(stopped, key=lambda t: (-len(t.scores), -(t.top1 or 0))):
        seen = sum(score.images for score in trial.scores)
        rows.append((str(trial.anchor), *_cost_cells(trial), f"{trial.top1:.2f} %", f"stopped at {seen:,} images"))
    for trial in (t for t in trials if t.anchor and t.state == "failed"):
        rows.append((str(trial.anchor), *_cost_cells(trial), "-", "failed"))
    console = _console()
    title = f"{plan.dataset}, budget {plan.budget}, space {plan.space}, seed {plan.seed}"
    headings = ("network", "FLOPs", "params", "peak", "val top-1", "against Low-res MobileNet")
    _print_table(console, title, headings, rows, ("peak", "params"))
    counts = {state: sum(t.state == state for t in trials) for state in ("complete", "pruned", "failed", "refused")}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    lines = [f"{len(trials)} trials: {said}. {_effort(trials)}", _conditions(complete, plan)]
    over = [trial.anchor for trial in trials if trial.state == "refused" and trial.anchor]
    if over:
        lines += [f"Over the budget, not trained: {', '.join(over)}."]
    lines += [f"{FLOPS_ARE} Peak: activations held at once, bytes in int8."]
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
    _say(console, lines)


def _cost_cells(trial: Trial) -> tuple[str, str, str]:
    spent = trial.cost
    return f"{spent.macs / 1e6:.2f} M", f"{spent.params / 1e6:.3f} M", f"{spent.peak / 1024:.0f} KB"


def _verdict(trial: Trial, baseline: Trial | None) -> str:
    if baseline is None or baseline.state != "complete":
        return "not trained"
    if trial is baseline:
        return "the baseline"
    gain = (trial.top1 or 0) - (baseline.top1 or 0)
    if gain == 0:
        return "equal"
    return f"{'beats it' if gain > 0 else 'behind'}, {gain:+.2f}"


def _effort(trials: list[Trial]) -> str:
    """What the training of `trials` took."""
    scores = [score for trial in trials for score in trial.scores]
    images, seconds = sum(s.images for s in scores), sum(s.train_seconds for s in scores)
    if not images:
        return "Nothing has been trained yet."
    return f"Trained on {images:,} images in {seconds / 60:.1f} min, {images / seconds:.0f} images a second."


def _conditions(complete: list[Trial], plan: Plan) -> str:
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


def _result_data(folder: Run, plan: Plan, trials: list[Trial], baseline: Trial | None) -> dict[str, Any]:
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


# ---- networks ------------------------------------------------------------------------------------------------


def print_anchors(anchors: Sequence[Anchor], json: bool) -> None:
    """Prints each published network: what its paper prints, and what we count."""
    if json:
        print(jsonlib.dumps({"flops": FLOPS_ARE, "anchors": [_anchor_data(anchor) for anchor in anchors]}))
        return
    console = _console(155)
    rows = []
    for anchor in anchors:
        printed, ours = anchor.published, {cell.what: cell.ours for cell in cells(anchor)}
        total = published_totals(anchor)
        row = (
            anchor.name,
            f"{anchor.arch.resolution}/{anchor.arch.classes}",
            printed.params or "-",
            ours.get("params", f"{total.params / 1e6:.2f}M"),
            printed.flops or "-",
            ours.get("FLOPs", "-"),
            {"torchstat": "torchstat", "macs": "MACs"}[printed.convention] if printed.flops else "-",
            f"{total.macs / 1e6:,.2f}M",
            printed.top1.partition(" (")[0].partition(",")[0] or "-",
            status(anchor),
        )
        rows.append(row)
    headings = (
        "anchor", "input", "paper: params", "our params", "paper: FLOPs", "our FLOPs", "by", "MACs", "paper: top-1",
        "status",
    )  # fmt: skip
    dropped = ("by", "paper: top-1", "input", "our FLOPs", "paper: FLOPs", "paper: params")
    _print_table(console, "published networks", headings, rows, dropped)
    _say(
        console,
        [
            "input: resolution / classes. Our FLOPs are counted by the convention of the paper; torchstat counts batch",
            "norm too and, where they were modules in the code measured, activations and pools.",
            "MACs: multiply-accumulates of convolutions and linear layers, one image: what nas calls FLOPs.",
            "top-1: datasets and recipes differ from paper to paper, and from table to table (--json has them).",
            *(f"{anchor.name}: {anchor.note}." for anchor in anchors if anchor.note and _needs_word(anchor)),
        ],
    )


def print_projections(space: str, rows: Sequence[tuple[Anchor, Arch]], json: bool) -> None:
    """Prints which anchors are points of a space, and for the others the nearest point and how it differs."""
    if json:
        data = [
            {
                "anchor": anchor.name,
                "in_space": "exact" if near == anchor.arch else "projected",
                "cost": asdict(cost(anchor.arch)),
                "nearest_cost": asdict(cost(near)),
                "nearest": to_data(near),
            }
            for anchor, near in rows
        ]
        print(jsonlib.dumps({"space": space, "flops": FLOPS_ARE, "anchors": data}))
        return
    lines = []
    for anchor, near in rows:
        ours, theirs = cost(near), cost(anchor.arch)
        parts: list[str] = []
        for here, there, digits in ((ours.macs, theirs.macs, 2), (ours.params, theirs.params, 3)):
            parts += [
                f"{there / 1e6:,.{digits}f} M",
                f"{here / 1e6:,.{digits}f} M",
                f"{100 * (here / there - 1):+.0f} %",
            ]
        lines.append((anchor.name, "exact" if near == anchor.arch else "projected", *parts))
    console = _console(125)
    headings = ("anchor", "in the space", "MACs", "nearest", "by MACs", "params", "nearest has", "by params")
    _print_table(console, f"anchors in space {space}", headings, lines, ("nearest has", "nearest"))
    _say(
        console,
        [
            "projected: no point of the space. Its nearest point, as far as a short descent found, is most like it in",
            "MACs, params and layers at each resolution, and in the kinds of blocks; --json holds its architecture.",
        ],
    )


def print_profile(
    name: str,
    arch: Arch,
    anchor: Anchor | None,
    modules: Sequence[str],
    rows: Sequence[Row],
    totals: Totals,
    full: bool,
    json: bool,
    check: Check | None,
) -> None:
    """Prints a network layer by layer (or block by block), and its totals under each convention."""
    if json:
        data = {
            "name": name,
            "arch": to_data(arch),
            "anchor": anchor and _anchor_data(anchor),
            "flops": FLOPS_ARE,
            "modules": list(modules),
            "layers": [asdict(row) for row in rows],
            "totals": asdict(totals),
            "check": check and asdict(check),
        }
        print(jsonlib.dumps(data))
        return
    cells = [
        (
            layer,
            what,
            f"{row.channels}x{row.size}x{row.size}",
            f"{row.params:,}",
            f"{row.macs:,}",
            f"{row.flops:,}",
            f"{4 * (row.read + row.write) / 1024:,.1f} KB",
        )
        for row, layer, what in (_full_rows(rows) if full else _block_rows(rows))
    ]
    console = _console(125)
    title = f"{name} at {arch.resolution}x{arch.resolution}, {arch.classes} classes"
    headings = ("layer", "what", "output", "params", "MACs", "torchstat", "read + write")
    _print_table(console, title, headings, cells, ("what", "read + write", "torchstat", "output"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right")
    grid.add_column()
    for number, what in _totals_lines(totals, modules, anchor):
        grid.add_row(number, what)
    console.print(grid)
    if check:
        for what, (ours, built) in check.totals.items():
            _say(console, [f"{what}: {ours:,} in closed form, {built:,} counted on the built model"])
        _say(console, [f"thop: {check.thop_agrees} of {check.thop_rows} convolutions and linear layers agree"])


def _totals_lines(totals: Totals, modules: Sequence[str], anchor: Anchor | None) -> list[tuple[str, str]]:
    seen = ", ".join(modules) or "none"
    lines = [
        (f"{totals.macs:,}", "MACs of convolutions and linear layers: the FLOPs of nas, and of most papers"),
        (f"{totals.params:,}", f"params; {totals.params_bn:,} with batch norm's running statistics"),
        (f"{totals.torchstat:,}", f"FLOPs as torchstat 0.0.7 counts them; of the layers without weights: {seen}"),
        (f"{totals.memory / 2**20:.2f} MB", "memory read + write as torchstat counts it (MB: 2^20 bytes)"),
        (f"{totals.thop:,}", "FLOPs as thop counted them before 2022"),
        (
            f"{totals.peak:,}",
            f"activations held at once: {totals.peak / 1024:,.0f} KB in int8, four times that in fp32",
        ),
    ]
    if anchor:
        for cell in cells(anchor):
            verdict = "equal" if cell.ours == cell.printed else f"{100 * cell.error:+.2g} %"
            lines.append((cell.printed, f"{cell.what} in {anchor.source}; ours {cell.ours}: {verdict}"))
        if anchor.note:
            lines.append((status(anchor), anchor.note))
    return lines


def _print_table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], dropped: Sequence[str]
) -> None:
    """Prints a table whose cells stay whole: where it is too wide, columns `dropped` go, one after the other."""
    shown = list(range(len(headings)))
    for name in (None, *dropped):
        shown = [i for i in shown if headings[i] != name]
        table = Table(title=escape(title))
        for i in shown:
            table.add_column(headings[i], justify="left" if i == 0 or headings[i] == "what" else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(row[i] for i in shown))
        if Measurement.get(console, console.options.update(max_width=1000), table).maximum <= console.width:
            break
    console.print(table)


def _full_rows(rows: Sequence[Row]) -> list[tuple[Row, str, str]]:
    return [(row, row.name, f"{row.layer} {row.about}") for row in rows]


def _block_rows(rows: Sequence[Row]) -> list[tuple[Row, str, str]]:
    """One row a block: sums, the output of its last layer, its convolutions in words."""
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        first, *rest = row.name.split(".")
        blocks.setdefault(f"{first}.{rest[0]}" if first.startswith("stage") else first, []).append(row)
    shown = []
    for name, parts in blocks.items():
        last = parts[-1]
        gates = tuple(part.name.removesuffix("scale") for part in parts if part.layer == "scale")
        sums = {what: sum(getattr(part, what) for part in parts) for what in SUMMED}
        whole = Row(name, "", "", last.channels, last.size, **sums)
        kernels = [part.about for part in parts if part.about and not part.name.startswith(gates)]
        shown.append((whole, name, ", ".join(kernels)))
    return shown


SUMMED = ("macs", "params", "buffers", "flops", "read", "write", "thop")


def _anchor_data(anchor: Anchor) -> dict[str, Any]:
    return {
        "name": anchor.name,
        "source": anchor.source,
        "resolution": anchor.arch.resolution,
        "classes": anchor.arch.classes,
        "published": asdict(anchor.published),
        "totals": asdict(published_totals(anchor)),
        "cells": [asdict(cell) for cell in cells(anchor)],
        "status": status(anchor),
        "note": anchor.note,
        "reading": anchor.reading,
        "reference": anchor.reference,
        "arch": to_data(anchor.arch),
    }


def _needs_word(anchor: Anchor) -> bool:
    return anchor.reading or any(cell.ours != cell.printed for cell in cells(anchor))


def _console(width: int = WIDTH) -> Console:
    return Console() if sys.stdout.isatty() else Console(width=width)


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:  # wrapped at words on a terminal, left whole for a file
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)
