"""Errors of commands as lines and exit codes, Ctrl-C, and which options may stand together."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from nas.api.resolve import RUNS
from nas.errors import Error

if TYPE_CHECKING:
    from nas.search_strategy.progress import Halt


def fail(message: str, code: int = 2) -> NoReturn:
    """Ends the process with one line on standard error."""
    print(f"nas: error: {message}", file=sys.stderr)
    raise typer.Exit(code)


@contextmanager
def refusing() -> Iterator[None]:
    """Turns an Error about the request into an error line and exit code 2."""
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
        print("nas: finishing the trainings under way; Ctrl-C again stops now", file=sys.stderr)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def keeping(command: str, refuses: bool = False) -> Iterator[list[Path]]:
    """Turns what ends a command early into an error line and an exit code.

    What it gives takes the folder of the run once that is on disk: from then on the line says how the run is gone on
    with, and a ValueError that is no Error is a bug of ours, which keeps its traceback, unless the command still
    `refuses`.
    """
    from nas.records.run_folder import RunFailed, RunInUse

    folder: list[Path] = []

    def kept() -> str:
        return f"; what is finished is kept: nas {command} --resume {folder[0]}" if folder else ""

    try:
        yield folder
    except KeyboardInterrupt:
        fail(f"interrupted{kept()}", 130)
    except (RunInUse, ConnectionError) as error:
        fail(str(error))
    except ValueError as error:
        if folder and not refuses and not isinstance(error, Error):
            raise
        fail(str(error))
    except RunFailed as error:
        fail(str(error) if "--resume" in str(error) else f"{error}{kept()}", 1)
    except OSError as error:
        fail(f"{error}{kept()}", 1)


def named_run(name: str | None) -> Path | None:
    """The folder in runs/ of a new run called `name`. Raises Error where no run can be called so."""
    if name is None:
        return None
    if not re.fullmatch(r"[\w][\w.,+-]*", name):
        raise Error(f"run {name!r} must be a plain name of letters, digits, '.', '-' and '_'; it lies in {RUNS}/")
    if (RUNS / name).exists():
        raise Error(f"{RUNS / name} exists already; go on with --resume {RUNS / name}, or take another --run")
    return RUNS / name


def given(context: typer.Context) -> set[str]:
    """The options that were typed."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def only_how(context: typer.Context, allowed: set[str], rule: str = "--resume takes its plan from the run") -> None:
    """Raises Error where options of a new run are given to one that takes its plan from elsewhere, see `rule`."""
    if clash := sorted(given(context) - allowed):
        options = [p for p in context.command.params if p.param_type_name == "option"]
        option = {p.name: "/".join([p.opts[0], *p.secondary_opts]) for p in options}
        what = option.get(clash[0]) or str(context.params[clash[0]])  # an argument is left out as it was typed
        raise Error(f"{rule}; leave out {what}")


def written(file: Path, content: bytes, message: str) -> None:
    """Writes a file that was asked for, and says so on standard error."""
    try:
        file.write_bytes(content)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", 1)
    print(message, file=sys.stderr)
