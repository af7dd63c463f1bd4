"""runs/NAME/: its files, and who reads and writes them: this module, and `search_files` the lines of a search.

    plan.json       what was asked; written again where a search is extended
    trials.jsonl    a line for each finished trial: the record of the run, from which everything else follows
    study.log       the same trials as an Optuna journal, for Optuna's own tools (written by search_strategy)
    best/arch.json  the best network so far
    warm_start.jsonl  the trials of an earlier search that the sampler knew from the beginning, if any
    space.py        a copy of the file that the space was read from, where it is of the user's own
    latencies.jsonl a line for each network that was measured, and one for the reference network before them
    proposals.jsonl of each wave: the choices of the networks that were proposed, before any of them is tried
    proposed.jsonl  of each wave: how many networks it is to train, then how many were drawn, and what refused them
    calibration.json, recipes.json   of a calibration: what it found, and the trainings that it compares
    sessions.jsonl  two lines for each process that was at work here: when it began, and when it ended; of one that
                    was killed, the second line is written when the run is resumed
    work/           scores and states of candidates between two rungs; gone when the search ends

    split.csv       which picture is in which part, where a folder of pictures came without a split

    training.json   of a full training, instead of plan.json: what was asked; course.json before 0.17
    seed-0/         epochs.json, what each epoch came to; checkpoint.pt, all that the next epoch needs, until the end;
                    weights.safetensors, once it is trained
    result.json     what came of it, on the test images
    export/         what is exported

What a process that is killed leaves behind: see atomic_files.py.
"""

import csv
import fcntl
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from nas.errors import Error
from nas.networks.architecture import COLOUR
from nas.records.atomic_files import append_line, drop_torn_line, lines_of, put_whole, values_of
from nas.records.plan import Plan
from nas.records.recipes import TrainingPlan
from nas.records.results import History, Session
from nas.records.trial import Trial
from nas.serialization import from_json, to_data, to_json

T = TypeVar("T")


PLAN_OF_TRAINING = ("training", "course")  # the second: before 0.17


class RunInUse(Error):
    """Another process is at work in the run."""


class RunFailed(RuntimeError):
    """The run cannot go on; all that is finished is on disk."""


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

    @property
    def warm_start(self) -> Path:
        """Where the trials lie of the search that it was begun with."""
        return self.path / "warm_start.jsonl"

    @property
    def space_file(self) -> Path:
        """Where a copy lies of the file that a space of the user's own was read from."""
        return self.path / "space.py"

    @property
    def export(self) -> Path:
        """Where the exported files lie."""
        return self.path / "export"

    def checkpoint(self, seed: int) -> Path:
        """Where all lies that the next epoch of `seed` needs."""
        return self.path / f"seed-{seed}" / "checkpoint.pt"

    def weights(self, seed: int) -> Path:
        """Where the weights of `seed` lie once it is trained."""
        return self.path / f"seed-{seed}" / "weights.safetensors"


def create(path: Path, asked: Plan | TrainingPlan, warm_start: Sequence[Trial] = ()) -> Run:
    """A new run in folder `path`, with what was asked on disk, and the trials that the sampler is to know from the
    beginning. Raises Error where `path` exists already."""
    if path.exists():
        raise Error(f"{path} exists already; resume it with --resume {path}, or choose another --run name")
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        making.mkdir(parents=True)
        if isinstance(asked, Plan):
            put_whole(making / "plan.json", (to_json(asked, indent=1) + "\n").encode())
            (making / "trials.jsonl").touch()
            if warm_start:
                lines = "".join(f"{to_json(trial, own=repr)}\n" for trial in warm_start)
                put_whole(making / "warm_start.jsonl", lines.encode())
        else:
            put_whole(making / "training.json", (to_json(asked, indent=1) + "\n").encode())
            (making / "best").mkdir()
            put_whole(making / "best" / "arch.json", (to_json(asked.arch, indent=1) + "\n").encode())
        making.rename(path)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise Error(f"{path} cannot be made: {error}") from None
    return Run(path)


def free_name(folder: Path, stem: str) -> Path:
    """The first of folder/stem, folder/stem-2, folder/stem-3 ... that does not exist."""
    path, number = folder / stem, 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}"
    return path


def open_run(path: Path) -> tuple[Run, Plan]:
    """The run in folder `path` and its plan. Raises Error where it is none or its plan cannot be read."""
    file = path / "plan.json"
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        raise Error(f"{path} is no run: it has no readable plan.json; runs lie in runs/NAME") from None
    return Run(path), from_json(Plan, _of_today(text), str(file))


def _of_today(text: str) -> str:
    """The plan of a search as it is written now: before 0.18 the sampler was called `proposals`."""
    with suppress(ValueError, AttributeError):
        data = json.loads(text)
        before = data.pop("proposals", None)
        if before is not None:
            data["sampler"] = {"surrogate": "gp", "random": "near-budget"}.get(before, before)
            return json.dumps(data)
    return text


def is_training(path: Path) -> bool:
    """Whether folder `path` is that of a full training."""
    return any((path / f"{name}.json").is_file() for name in PLAN_OF_TRAINING)


def is_calibration(path: Path) -> bool:
    """Whether folder `path` is that of a calibration."""
    return (path / "recipes.json").is_file()


def open_training(path: Path) -> tuple[Run, TrainingPlan]:
    """The full training in folder `path`, and what was asked. Raises Error where it is none, or unreadable."""
    for name in PLAN_OF_TRAINING:
        if plan := read_value(Run(path), name, TrainingPlan):
            return Run(path), plan
    raise Error(f"{path} is no full training: it has no training.json; nas train makes one")


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
        lines = (
            "trials.jsonl",
            "latencies.jsonl",
            "proposals.jsonl",
            "proposed.jsonl",
            "sessions.jsonl",
            "work/scores.jsonl",
        )
        for file in (*(run.path / name for name in lines), run.study_log):
            drop_torn_line(file)
        for left in run.path.rglob(".*.*"):  # what a process was killed over while it wrote
            if left.suffix[1:].isdecimal() and left.is_file():
                left.unlink(missing_ok=True)
        yield


def append_session(run: Run, session: Session) -> None:
    """Puts on disk that a process is at work in the run, or, with its end, that it has been."""
    append_line(run.path / "sessions.jsonl", to_json(session))


def end_killed(run: Run) -> None:
    """Puts on disk when processes that were killed ended: when the run was last written to. Needs the run's lock."""
    killed = [session for session in read_sessions(run) if session.ended is None]
    if killed:
        written = (path.stat().st_mtime for kind in ("*.jsonl", "work/*", "seed-*/*") for path in run.path.glob(kind))
        last = datetime.fromtimestamp(max(written), UTC).isoformat(timespec="seconds")
        for session in killed:
            append_session(run, replace(session, ended=last))


def read_sessions(run: Run) -> list[Session]:
    """The processes that were at work in the run, in the order they began."""
    found = {}
    for session in (session for line in lines_of(run.path / "sessions.jsonl") for session in values_of(Session, line)):
        found[session.began] = session  # the line with its end comes last
    return [found[began] for began in sorted(found)]


def write_best(run: Run, trial: Trial) -> None:
    """Makes the network of `trial` the run's best."""
    run.best_arch.parent.mkdir(exist_ok=True)
    put_whole(run.best_arch, (to_json(trial.arch, indent=1, own=repr) + "\n").encode())


def write_value(run: Run, name: str, value: object) -> None:
    """Puts a value of the run on disk, as NAME.json."""
    put_whole(run.path / f"{name}.json", (to_json(value, indent=1) + "\n").encode())


def write_split(run: Run, split: Sequence[tuple[str, str]]) -> None:
    """Puts on disk which file of a dataset is in which part, as split.csv; "" are those that were left out."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "part"), *split])
    put_whole(run.path / "split.csv", text.getvalue().encode())


def read_value(run: Run, name: str, cls: type[T]) -> T | None:
    """The value NAME.json of the run, None where there is none. Raises Error where it cannot be read."""
    file = run.path / f"{name}.json"
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"{file} cannot be read: {error}") from None
    return from_json(cls, text, str(file))


def read_best(run: Run, trials: Sequence[Trial]) -> Trial | None:
    """The trial of `trials` whose network lies in the run as its best."""
    try:
        network = json.loads(run.best_arch.read_text())
    except (OSError, ValueError):
        return None
    if isinstance(network, dict) and "stages" in network:
        network = {"channels": COLOUR, **network}  # not said before images could be gray
    return next((trial for trial in trials if trial.state == "complete" and to_data(trial.arch) == network), None)


def write_checkpoint(run: Run, seed: int, content: bytes, history: History) -> None:
    """Puts all that the next epoch of `seed` needs on disk, and what its epochs came to."""
    file = run.checkpoint(seed)
    file.parent.mkdir(exist_ok=True)
    put_whole(file, content)
    write_history(run, seed, history)


def write_history(run: Run, seed: int, history: History) -> None:
    """Puts on disk what the epochs of `seed` came to."""
    put_whole(run.checkpoint(seed).with_name("epochs.json"), (to_json(history, indent=1) + "\n").encode())


def read_checkpoint(run: Run, seed: int) -> bytes | None:
    """What `write_checkpoint` put on disk; None where there is nothing yet."""
    try:
        return run.checkpoint(seed).read_bytes()
    except FileNotFoundError:
        return None


def read_history(run: Run, seed: int) -> History:
    """What the epochs of `seed` came to so far."""
    return read_value(Run(run.checkpoint(seed).parent), "epochs", History) or History()


def write_weights(run: Run, seed: int, content: bytes) -> None:
    """Puts trained weights on disk."""
    run.weights(seed).parent.mkdir(exist_ok=True)
    put_whole(run.weights(seed), content)


def forget_checkpoint(run: Run, seed: int) -> None:
    """Removes what the next epoch of `seed` would need; there is none."""
    run.checkpoint(seed).unlink(missing_ok=True)


def write_work(run: Run, arch_id: str, content: bytes) -> None:
    """Puts a candidate's state between two rungs on disk, whole or not at all."""
    file = _work(run, arch_id)
    file.parent.mkdir(exist_ok=True)
    put_whole(file, content)


def read_work(run: Run, arch_id: str) -> bytes | None:
    """A candidate's state after its last rung, None where there is none."""
    try:
        return _work(run, arch_id).read_bytes()
    except FileNotFoundError:
        return None


def forget(run: Run, arch_id: str) -> None:
    """Removes the state of a candidate that goes no further."""
    _work(run, arch_id).unlink(missing_ok=True)


def forget_all(run: Run) -> None:
    """Removes all that lay between rungs; the search has ended."""
    shutil.rmtree(run.path / "work", ignore_errors=True)


def _work(run: Run, arch_id: str) -> Path:
    return run.path / "work" / f"{arch_id}.pt"
