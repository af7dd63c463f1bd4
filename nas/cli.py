"""The command line: its commands, in the order in which help lists them.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the search could not go
on, 2 the request cannot be met, 130 interrupted. What was asked is understood in request.py, what is shown is in
screen.py, tables.py and verdict.py.
"""

from typing import Annotated

import typer

from nas import __version__, look, work

app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its traceback
    rich_markup_mode="rich",
    help="Neural architecture search over lightweight convolutional blocks, under budgets that are kept.",
)

for command in (
    work.search, work.calibrate, work.train, work.export, work.measure,
    look.show, look.compare, look.importance, look.report, look.dashboard,
    look.anchors, look.profile, look.diagram, look.space,
):  # fmt: skip
    app.command()(command)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Neural architecture search over lightweight convolutional blocks, under budgets that are kept."""
    if version:
        print(f"nas {__version__}")
        raise typer.Exit
