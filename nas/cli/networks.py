"""`nas anchors`, `profile`, `diagram` and `space`: argv -> the Python call of that name -> tables or JSON."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.errors import fail, refusing


def anchors(
    space: Annotated[
        str | None,
        typer.Option(help="Show which are points of this search space, and the nearest points of the others."),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Those for images of this side alone, as they are trained on such.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Print every published network: what its paper prints, what we count, and how they agree.

    Example: [bold]nas anchors[/bold]
    """
    import nas
    from nas.reports.tables import print_anchors, print_anchors_at, print_projections

    with refusing():
        if space is not None:
            print_projections(space, nas.projections(space, resolution), json)
        elif resolution is not None:
            print_anchors_at(resolution, nas.anchors(resolution), json)
        else:
            print_anchors(nas.anchors(), json)


def profile(
    network: Annotated[
        str, typer.Argument(help="An anchor (see nas anchors), an arch.json, a run's folder, or RUN/ID.")
    ],
    resolution: Annotated[int | None, typer.Option(help="Side of the images; by default the network's own.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes; by default the network's own.")] = None,
    channels: Annotated[int | None, typer.Option(help="Of the images: 3, or 1 for gray ones.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer, not block by block.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Build it and count again; thop as a second opinion.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print all layers and totals as JSON.")] = False,
) -> None:
    """Print a network layer by layer, with its totals under each counting convention.

    Example: [bold]nas profile lowres-mobilenet[/bold]
    """
    import nas
    from nas.reports.tables import print_profile

    with refusing():
        try:
            found = nas.profile(network, resolution, classes, channels, check=check)
        except ImportError as error:
            fail(f"--check needs thop: {error}; pip install thop setuptools", 1)
    print_profile(found, layers, json)
    if found.check and not found.check.agree:
        raise typer.Exit(1)


def diagram(
    network: Annotated[
        str, typer.Argument(help="An anchor (see nas anchors), an arch.json, a run's folder, or RUN/ID.")
    ],
    to: Annotated[Path | None, typer.Option(help="File to write, .svg or .png; by default NAME.svg here.")] = None,
) -> None:
    """Draw a network: a row for each block, with its widths, kernels, strides and share of the MACs.

    Example: [bold]nas diagram lowres-mobilenet --to lowres-mobilenet.png[/bold]
    """
    import nas

    with refusing():
        try:
            print(nas.diagram(network, to))
        except ImportError as error:
            fail(f"a .png needs resvg-py: {error}; pip install resvg-py, or take .svg", 1)
        except OSError as error:
            fail(f"{error.filename} cannot be written: {error.strerror}", 1)


def space(
    name: Annotated[
        str | None, typer.Argument(help="Search space, as in lightweight, FILE.py:NAME or package.module:NAME.")
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="Say which share of the space keeps this budget, as given to nas search.")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the images; 32 by default.")] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write an example of a space of your own into this new file, to be changed.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Print what a search space holds, and how much of it keeps a budget.

    Example: [bold]nas space lightweight --budget 25MFLOPs[/bold]
    """
    import nas
    from nas.reports.tables import print_space

    with refusing():
        found = nas.space(name, budget, resolution=resolution, write=write)
    if write:
        print(
            f"{write} is written; change it, then nas search --space {write}:SPACE --budget 10MFLOPs", file=sys.stderr
        )
    print_space(found.space, found.summary, found.budget, json)
