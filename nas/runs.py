"""runs/NAME/: the only reader and writer of a run's folder.

    plan.json       what was asked, written once
    trials.jsonl    a line for each finished trial: the record of the run, from which everything else follows
    study.log       the same trials as an Optuna journal, for Optuna's own tools (written by propose.py)
    best/arch.json  the best network so far
    work/           weights of candidates between two rungs; gone when the search ends

A line is appended and forced to disk in one go, files are replaced whole: a process killed at any moment
leaves at most one torn last line, which the next reader drops.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas.plan import Plan
from nas.trial import Trial
from nas.values import from_json, to_json


class RunInUse(ValueError):
    """Another process is at work in the run."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder."""

    path: Path

    @property
    def study_log(self) -> Path:
        """Where the Optuna journal lies."""
        return self.path / "study.log"

    @property
    def best_arch(self) -> Path:
        """Where the best network lies."""
        return self.path / "best" / "arch.json"


def create(path: Path, plan: Plan) -> Run:
    """A new run in folder `path`, its plan on disk. Raises ValueError where `path` exists already."""
    if path.exists():
        raise ValueError(f"{path} exists already; resume it with --resume {path}, or choose another --run name")
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        making.mkdir(parents=True)
        _replace(making / "plan.json", (to_json(plan, indent=1) + "\n").encode())
        (making / "trials.jsonl").touch()
        making.rename(path)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise ValueError(f"{path} cannot be made: {error}") from None
    return Run(path)


def free_name(folder: Path, stem: str) -> Path:
    """The first of folder/stem, folder/stem-2, folder/stem-3 ... that does not exist."""
    path, number = folder / stem, 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}"
    return path


def open_run(path: Path) -> tuple[Run, Plan]:
    """The run in folder `path` and its plan. Raises ValueError where it is none or its plan cannot be read."""
    file = path / "plan.json"
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{path} is no run: it has no readable plan.json; runs lie in runs/NAME") from None
    return Run(path), from_json(Plan, text, str(file))


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Holds the run for this process alone, which may then append to it.

    Raises RunInUse where another process is at work in it.
    """
    with (run.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunInUse(f"{run.path} is in use by another nas process; wait for it or end it") from None
        for file in (run.path / "trials.jsonl", run.study_log):
            _drop_torn_line(file)
        yield


def read_trials(run: Run) -> tuple[list[Trial], list[str]]:
    """The trials on disk by index, and a line for each record that cannot be read.

    A torn last line, which is what a killed process leaves, is passed over in silence.
    """
    file = run.path / "trials.jsonl"
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        return [], [f"{file} cannot be read: {error.strerror}"]
    found: dict[int, Trial] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        try:
            trial = from_json(Trial, line.decode())
        except ValueError as error:
            if number == len(lines):  # what follows the last newline is empty, or torn
                break
            problems.append(f"{file} line {number} is no trial: {error}")
            continue
        if trial.index in found:
            problems.append(f"{file} line {number} repeats trial {trial.index}")
        found.setdefault(trial.index, trial)
    return [found[index] for index in sorted(found)], problems


def append_trial(run: Run, trial: Trial) -> None:
    """Puts `trial` on disk. Needs the run's lock."""
    with (run.path / "trials.jsonl").open("ab") as handle:
        handle.write(to_json(trial).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())


def write_best(run: Run, trial: Trial) -> None:
    """Makes the network of `trial` the run's best."""
    run.best_arch.parent.mkdir(exist_ok=True)
    _replace(run.best_arch, (to_json(trial.arch, indent=1) + "\n").encode())


def work_file(run: Run, arch_id: str) -> Path:
    """Where a candidate's weights lie between two rungs."""
    return run.path / "work" / f"{arch_id}.pt"


def write_work(run: Run, arch_id: str, content: bytes | memoryview) -> None:
    """Puts a candidate's weights on disk, whole or not at all."""
    file = work_file(run, arch_id)
    file.parent.mkdir(exist_ok=True)
    _replace(file, content)


def forget(run: Run, arch_id: str) -> None:
    """Removes the weights of a candidate that goes no further."""
    work_file(run, arch_id).unlink(missing_ok=True)


def forget_all(run: Run) -> None:
    """Removes all that lay between rungs; the search has ended."""
    shutil.rmtree(run.path / "work", ignore_errors=True)


def _drop_torn_line(file: Path) -> None:
    """Cuts off a last line that is half a record, left by a process that was killed while writing.

    A whole record that only lacks its newline, as editors leave it, gets one.
    """
    if not file.exists():
        return
    with file.open("rb+") as handle:
        content = handle.read()
        start = content.rfind(b"\n") + 1
        try:
            json.loads(content[start:])
            handle.write(b"\n")
        except ValueError:
            handle.truncate(start)


def _replace(file: Path, content: bytes | memoryview) -> None:
    """Writes `content` to `file` whole or not at all."""
    making = file.with_name(f".{file.name}.{os.getpid()}")
    with making.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    making.replace(file)
