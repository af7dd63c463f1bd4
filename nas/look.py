"""The commands that show what is there; heavy imports inside them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.guard import fail, refusing, written


def show(
    run: Annotated[Path, typer.Argument(help="Folder of the run: runs/NAME.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print the result of a search or a full training again, finished or not, or of a finished calibration.

    Example: [bold]nas show runs/cifar10-25MFLOPs[/bold]
    """
    from nas.compare import Calibrated
    from nas.outcome import Export, Outcome
    from nas.recall import compared, searched
    from nas.runs import Run, is_calibration, is_course, open_course, open_run, read_value
    from nas.screen import print_epochs, print_outcome, print_result
    from nas.verdict import print_calibration
    from search_spaces import BASELINE

    with refusing():
        if is_course(run):
            folder, course = open_course(run)
            outcome = read_value(folder, "result", Outcome)
            if outcome:
                print_outcome(folder, course, outcome, read_value(Run(folder.export), "export", Export), json)
            else:
                print_epochs(folder, course, json)
            return
        folder, plan = open_run(run)
        if is_calibration(run):
            taken = compared(run)
            assert isinstance(taken, Calibrated)
            print_calibration(taken.folder, taken.plan, taken.recipes, taken.found, json)
            return
        one, problems = searched(run)
    for problem in problems[:3]:
        print(f"nas: warning: {problem}", file=sys.stderr)
    if len(problems) > 3:
        print(f"nas: warning: {len(problems) - 3} more records cannot be read", file=sys.stderr)
    print_result(folder, plan, list(one.trials), one.best, BASELINE, json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches, calibrations and full trainings.")],
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Print runs beside each other: what searches spent and found, and trained networks by their test accuracy.

    Example: [bold]nas compare runs/*[/bold]
    """
    from nas.recall import compared
    from nas.verdict import print_compared
    from search_spaces import BASELINE

    with refusing():
        rows = [compared(run) for run in runs]
    print_compared(rows, BASELINE, json)


def importance(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches: runs/NAME; several beside each other.")],
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Print which knobs of the space mattered in searches, and which choices were worth something.

    Example: [bold]nas importance runs/cifar10-25MFLOPs[/bold]
    """
    from nas.compare import Searched
    from nas.knobs import knobs
    from nas.recall import compared
    from nas.verdict import print_knobs

    with refusing():
        rows = [compared(run) for run in runs]
        searches = [row for row in rows if isinstance(row, Searched)]
        spaces = dict.fromkeys(row.plan.space for row in searches)
        if len(searches) < len(rows) or len(spaces) > 1:
            raise ValueError(
                f"importance is told of searches of one space; these are of {', '.join(spaces) or 'none'}"
                + (", and some are no searches" if len(searches) < len(rows) else "")
                + "; leave out the others"
            )
        print_knobs([knobs(row, axes=json or len(rows) == 1) for row in searches], json)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches: runs/NAME; several are compared.")],
    to: Annotated[
        Path | None, typer.Option(help="File to write; by default report.html in the first run's folder.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Fetch plotly, 5 MB, when the page is opened: it then needs a network.")
    ] = False,
) -> None:
    """Write one page that shows a search, or several beside each other; it opens from the file, without a network.

    Example: [bold]nas report runs/cifar10-25MFLOPs[/bold]
    """
    from nas.recall import viewed
    from nas.report import page

    with refusing():
        views = [viewed(run) for run in runs]
    for problem in [problem for _, problems in views for problem in problems][:3]:
        print(f"nas: warning: {problem}", file=sys.stderr)
    written(to or runs[0] / "report.html", page([view for view, _ in views], not small).encode())


def diagram(
    network: Annotated[
        str, typer.Argument(help="An anchor (see nas anchors), an arch.json, a run's folder, or RUN/ID.")
    ],
    to: Annotated[Path | None, typer.Option(help="File to write, .svg or .png; by default NAME.svg here.")] = None,
) -> None:
    """Draw a network: a row for each block, with its widths, kernels, strides and share of the MACs.

    Example: [bold]nas diagram lowres-mobilenet --to lowres-mobilenet.png[/bold]
    """
    from nas.diagram import png, svg
    from nas.names import architecture

    with refusing():
        picture_of = architecture(network, None, None)
        name = Path(network).resolve().name.removesuffix(".json")
        picture = svg(picture_of, name)
        file = to or Path(f"{name}.svg")
        if file.suffix not in (".svg", ".png"):
            raise ValueError(f"--to {file} must end in .svg or .png")
    try:
        content = picture.encode() if file.suffix == ".svg" else png(picture)
    except ImportError as error:
        fail(f"a .png needs resvg-py: {error}; pip install resvg-py, or take .svg", 1)
    written(file, content)


def dashboard(
    run: Annotated[Path, typer.Argument(help="Folder of the search: runs/NAME.")],
    port: Annotated[int, typer.Option(help="Where it listens, on this machine only.")] = 8080,
) -> None:
    """Open a search in optuna-dashboard, also while it goes on; Ctrl-C ends it.

    Example: [bold]nas dashboard runs/cifar10-25MFLOPs[/bold]
    """
    from nas.runs import open_run

    with refusing():
        folder, _ = open_run(run)
        if not folder.study_log.exists():
            raise ValueError(f"{run} has no study.log yet; it comes with the first trial")
    beside = Path(sys.executable).parent
    program = shutil.which("optuna-dashboard", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        fail('the dashboard is not installed: pip install "nas[dashboard]", or pip install optuna-dashboard', 1)
    command = [program, "--host", "127.0.0.1", "--port", str(port), str(folder.study_log)]
    try:
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


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

    from nas.names import RESOLUTION, named
    from nas.space import fitted, nearest
    from nas.tables import print_anchors, print_projections
    from search_spaces import ANCHORS, SPACES

    if space is None:
        print_anchors(list(ANCHORS.values()), json)
        return
    with refusing():
        template = named(SPACES, space, "space")
    rows = []
    for anchor in ANCHORS.values():
        if anchor.arch.resolution == RESOLUTION and not anchor.reference:
            where = fitted(template, RESOLUTION, anchor.arch.classes)
            rows.append((anchor, nearest(where, anchor.arch, random.Random(0))))
    print_projections(space, rows, json)


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
    from nas.names import RESOLUTION, anchor_costs, named, on_paper
    from nas.plan import parse_budget
    from nas.space import fitted
    from nas.survey import survey
    from nas.tables import print_space
    from search_spaces import SPACES

    with refusing():
        where = fitted(named(SPACES, name, "space"), RESOLUTION, 10)
        limits = on_paper(parse_budget(budget, anchor_costs(RESOLUTION, 10))) if budget else None
    print_space(where, survey(where, cost, limits), limits, json)


def profile(
    network: Annotated[
        str, typer.Argument(help="An anchor (see nas anchors), an arch.json, a run's folder, or RUN/ID.")
    ],
    resolution: Annotated[int | None, typer.Option(help="Side of the images; by default the network's own.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes; by default the network's own.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer, not block by block.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Build it and count again; thop as a second opinion.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print all layers and totals as JSON.")] = False,
) -> None:
    """Print a network layer by layer, with its totals under each counting convention.

    Example: [bold]nas profile lowres-mobilenet[/bold]
    """
    from nas.names import architecture
    from nas.profile import MODULES
    from nas.profile import profile as profiled
    from nas.tables import print_profile
    from search_spaces import ANCHORS

    with refusing():
        arch = architecture(network, resolution, classes)
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
