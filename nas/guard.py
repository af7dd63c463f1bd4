"""What stands between a command and the terminal: errors as lines and exit codes, Ctrl-C, files as asked."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from nas.account import Halt
    from nas.runs import Run

N = TypeVar("N", bound=str)


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


@contextmanager
def interruptible(halt: "Halt") -> Iterator[None]:
    """Makes the first Ctrl-C ask `halt`, so that what is being trained comes to its end; the second stops at once."""

    def interrupted(_number: int, _frame: object) -> None:
        if halt.asked:
            raise KeyboardInterrupt
        halt.asked = True
        print("nas: finishing the trainings in hand; Ctrl-C again stops now", file=sys.stderr)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def keeping(command: str, folder: "Run") -> Iterator[None]:
    """Turns what ends a run early into an error line that says how it is gone on with."""
    from nas.runs import RunFailed, RunInUse

    kept = f"what is finished is kept: nas {command} --resume {folder.path}"
    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; {kept}", 130)
    except (RunInUse, ConnectionError) as error:
        fail(str(error))
    except RunFailed as error:
        fail(str(error) if "--resume" in str(error) else f"{error}; {kept}", 1)
    except OSError as error:
        fail(f"{error}; {kept}", 1)


def at_least_one(workers: int | None) -> None:
    """Raises ValueError where fewer workers than one were asked for, before a run is made for them."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")


def given(context: typer.Context) -> set[str]:
    """The options that were typed."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def only_how(context: typer.Context, allowed: set[str], rule: str = "--resume takes its plan from the run") -> None:
    """Raises ValueError where a run that takes what it does from elsewhere, as the `rule` says, is also told what."""
    if clash := sorted(given(context) - allowed):
        option = {p.name: p.opts[0] for p in context.command.params if p.param_type_name == "option"}
        what = option.get(clash[0]) or str(context.params[clash[0]])  # an argument is left out as it was typed
        raise ValueError(f"{rule}; leave out {what}")


def one_of(names: Sequence[N], name: str | None, what: str) -> N | None:
    """`name`, which is one of `names`; None where nothing was asked."""
    found = next((one for one in names if one == name), None)
    if name is not None and found is None:
        raise ValueError(f"{what} {name!r} is unknown; one of {', '.join(names)}")
    return found


def written(file: Path, content: bytes) -> None:
    """Writes a file that was asked for, and says so."""
    try:
        file.write_bytes(content)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}", 1)
    print(file)
