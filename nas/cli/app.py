"""The command line: its commands, in the order in which help lists them.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the search could not go
on, 2 the request cannot be met, 130 interrupted. Each command calls the Python function of its name in `nas.api`, and
prints what comes of it by `nas.reports`.
"""

import sys
import warnings
from typing import Annotated, TextIO

import typer

from nas import __version__
from nas.cli import networks, predict, search, show, train
from nas.errors import Notice

app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its traceback
    rich_markup_mode="rich",
    help="Neural architecture search over lightweight convolutional blocks, under budgets that are kept.",
)

for command in (
    search.search, search.calibrate, train.train, train.export, predict.predict, train.measure,
    show.show, show.compare, show.importance, show.report, show.dashboard,
    networks.anchors, networks.profile, networks.diagram, networks.space,
):  # fmt: skip
    app.command()(command)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Neural architecture search over lightweight convolutional blocks, under budgets that are kept."""
    warnings.showwarning = _shown
    if version:
        print(f"nas {__version__}")
        raise typer.Exit


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours as a line; those of others as Python shows them."""
    if issubclass(category, Notice):
        print(f"nas: warning: {message}", file=sys.stderr)
    else:
        _shown_by_python(message, category, filename, lineno, file, line)


_shown_by_python = warnings.showwarning
