"""Tables on standard output: networks, spaces, and what all tables share."""

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nas.networks.architecture import Anchor, Arch, cost
from nas.networks.profile import Profile, Row, Totals, cells, published_totals, status
from nas.networks.sizes import said
from nas.networks.space import Space, sides
from nas.networks.space_summary import SpaceSummary
from nas.records.budget import Budget
from nas.records.plan import Recipe
from nas.serialization import to_data

FLOPS_ARE = "FLOPs are multiply-accumulates of convolutions and linear layers, one image."
WIDTH = 110  # of tables that go to a file


def print_table(
    console: Console,
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    dropped: Sequence[str],
    best: int | None = None,
) -> None:
    """Prints a table whose cells stay whole: where it is too wide, columns `dropped` go, one after the other. Row
    `best` is bold."""
    shown = list(range(len(headings)))
    for name in (None, *dropped):
        shown = [i for i in shown if headings[i] != name]
        table = Table(title=escape(title))
        for i in shown:
            table.add_column(
                Text(headings[i]), justify="left" if i == 0 or headings[i] == "what" else "right", no_wrap=True
            )
        for number, row in enumerate(rows):
            table.add_row(*(Text(row[i]) for i in shown), style="bold" if number == best else None)
        if Measurement.get(console, console.options.update(max_width=1000), table).maximum <= console.width:
            break
    console.print(table)


def console_of(width: int = WIDTH) -> Console:
    """The terminal; where output goes to a file, one of `width`."""
    return Console() if sys.stdout.isatty() else Console(width=width)


def say(console: Console, lines: Sequence[str]) -> None:
    """Prints sentences."""
    for line in lines:  # wrapped at words on a terminal, left whole for a file
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def ending(recipe: Recipe) -> str:
    """What of a rung its loss is of: "the last 25 % of ", or nothing where it is of all."""
    return f"the last {100 * recipe.tail:.0f} % of " if recipe.judge == "loss" and recipe.tail < 1 else ""


def print_anchors(anchors: Sequence[Anchor], json: bool) -> None:
    """Prints each published network: what its paper prints, and what we count."""
    if json:
        print(jsonlib.dumps({"flops": FLOPS_ARE, "anchors": [_anchor_data(anchor) for anchor in anchors]}))
        return
    console = console_of(155)
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
    print_table(console, "published networks", headings, rows, dropped)
    say(
        console,
        [
            "input: resolution / classes. Our FLOPs are counted by the convention of the paper; torchstat counts batch",
            "norm too and, where they were modules in the code measured, activations and pools.",
            "MACs: multiply-accumulates of convolutions and linear layers, one image: what nas calls FLOPs.",
            "top-1: datasets and recipes differ from paper to paper, and from table to table (--json has them).",
            *(f"{anchor.name}: {anchor.note}." for anchor in anchors if anchor.note and _needs_word(anchor)),
        ],
    )


def print_anchors_at(resolution: int, anchors: Sequence[Anchor], json: bool) -> None:
    """Prints what each published network for such images costs, as it is trained on them."""
    costs = [(anchor, cost(anchor.arch)) for anchor in anchors]
    if json:
        data = [{"name": one.name, "arch": to_data(one.arch), "cost": asdict(spent)} for one, spent in costs]
        print(jsonlib.dumps({"flops": FLOPS_ARE, "resolution": resolution, "anchors": data}))
        return
    console = console_of(110)
    rows = [
        (
            one.name,
            f"{one.arch.classes}",
            f"{spent.macs / 1e6:,.2f} M",
            f"{spent.params / 1e6:,.3f} M",
            f"{spent.peak / 1024:,.0f} KB",
            one.source,
        )
        for one, spent in costs
    ]
    headings = ("anchor", "classes", "FLOPs", "params", "peak", "source")
    print_table(console, f"published networks at {resolution}x{resolution}", headings, rows, ("source", "classes"))
    say(console, [*([halving] if (halving := said(resolution)) else []), FLOPS_ARE])


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
    console = console_of(125)
    headings = ("anchor", "in the space", "MACs", "nearest", "by MACs", "params", "nearest has", "by params")
    print_table(console, f"anchors in space {space}", headings, lines, ("nearest has", "nearest"))
    say(
        console,
        [
            "projected: no point of the space. Its nearest point, as far as a short descent found, is most like it in",
            "MACs, params and layers at each resolution, and in the kinds of blocks; --json holds its architecture.",
        ],
    )


def print_space(space: Space, found: SpaceSummary, budget: Budget | None, json: bool) -> None:
    """Prints a space in figures and its axes."""
    if json:
        print(jsonlib.dumps({"flops": FLOPS_ARE, "budget": to_data(budget), **to_data(found)}))
        return
    console = console_of()
    table = Table(title=f"axes of space {escape(space.name)}")
    table.add_column("axis", no_wrap=True)
    table.add_column("choices")
    for name, labels in _drawn_alike(found.axes).items():
        table.add_row(name, ", ".join(str(label) for label in labels))
    console.print(table)
    costs = [
        (which, f"{cost.macs / 1e6:,.2f} M", f"{cost.params / 1e6:,.3f} M", f"{cost.peak / 1024:,.0f} KB")
        for which, cost in (("smallest", found.smallest), ("median", found.median), ("largest", found.largest))
    ]
    side = sides(space)[-1]
    print_table(console, f"cost at {side}x{side}, 10 classes", ("", "FLOPs", "params", "peak"), costs, ())
    lines = [f"{found.size:.1e} combinations of choices: {space.about}."]
    lines += [halving] if (halving := said(side)) else []
    if budget and found.keeping is not None:
        lines += [
            f"{100 * found.keeping / found.draws:.1f} % of {found.draws:,} networks drawn at random keep {budget}; "
            f"{100 * (found.near or 0) / found.draws:.1f} % take at least 85 % of it."
        ]
    lines += [f"Smallest and largest are each quantity's own, found by descent. {FLOPS_ARE}"]
    say(console, lines)


def _drawn_alike(axes: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """`axes` with those of several stages that offer the same in one row: stages.0-4.width, stages.1,2,4.depth."""
    places: dict[tuple[str, Sequence[Any]], list[int]] = {}
    for name, labels in axes.items():
        stage, _, rest = name.removeprefix("stages.").partition(".")
        if name.startswith("stages."):
            places.setdefault((rest, labels), []).append(int(stage))
        else:
            places[name, labels] = []
    rows = {}
    for (name, labels), stages in places.items():
        run = len(stages) > 1 and stages == list(range(stages[0], stages[-1] + 1))
        numbers = f"{stages[0]}-{stages[-1]}" if run else ",".join(map(str, stages))
        rows[f"stages.{numbers}.{name}" if stages else name] = labels
    return rows


def print_profile(found: Profile, full: bool, json: bool) -> None:
    """Prints a network layer by layer (or block by block), and its totals under each convention."""
    name, arch, anchor, modules = found.name, found.arch, found.anchor, found.modules
    rows, totals, check = found.rows, found.totals, found.check
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
    console = console_of(125)
    title = f"{name} at {arch.resolution}x{arch.resolution}, {arch.classes} classes"
    headings = ("layer", "what", "output", "params", "MACs", "torchstat", "read + write")
    print_table(console, title, headings, cells, ("what", "read + write", "torchstat", "output"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right")
    grid.add_column()
    for number, what in _totals_lines(totals, modules, anchor):
        grid.add_row(number, what)
    console.print(grid)
    if check:
        for what, (ours, built) in check.totals.items():
            say(console, [f"{what}: {ours:,} in closed form, {built:,} counted on the built model"])
        say(console, [f"thop: {check.thop_agrees} of {check.thop_rows} convolutions and linear layers agree"])


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
            agreement = "equal" if cell.ours == cell.printed else f"{100 * cell.error:+.2g} %"
            lines.append((cell.printed, f"{cell.what} in {anchor.source}; ours {cell.ours}: {agreement}"))
        if anchor.note:
            lines.append((status(anchor), anchor.note))
    return lines


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
