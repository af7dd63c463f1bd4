"""Under which conditions figures come about: the machine, versions, and when a command was at work."""

import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output

from nas import __version__
from nas.execution.agent import device
from nas.records.results import Session
from nas.records.run_folder import Run, append_session, end_killed, locked


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python, nas and `packages`; "git": the commit of nas, with -dirty where it has been changed."""
    found = {"python": platform.python_version(), "nas": __version__}
    for package in packages:
        with suppress(PackageNotFoundError):  # Ray, say, where one worker does
            found[package] = version(package)
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
        with suppress(OSError, SubprocessError):  # no git, or a checkout that is not ours to read
            found["git"] = check_output(asked, stderr=DEVNULL, text=True, timeout=10).strip()
    return found


def cores() -> int:
    """The cores that this process may use; of a machine that does not say which (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def at_work(run: Run) -> Iterator[None]:
    """Holds the run for this process alone, and puts on disk when and under which conditions it was at work there.

    Raises RunInUse where another process is.
    """
    with locked(run):
        end_killed(run)
        here = session()
        append_session(run, here)
        try:
            yield
        finally:
            append_session(run, replace(here, ended=now()))


def session() -> Session:
    """This process, which has just begun."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    packages = ("torch", "torchvision", "ray", "optuna", "scikit-learn", "onnxruntime")
    return Session(command, now(), None, device(), cores(), versions(packages))
