"""The files of a search in its run's folder (see `nas.records.run_folder`): trials, scores, latencies, proposals.

What is appended needs the run's lock.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nas.errors import Error
from nas.networks.architecture import COLOUR
from nas.networks.space import Choices
from nas.records.atomic_files import append_line, lines_of, values_of
from nas.records.plan import Plan
from nas.records.run_folder import Run
from nas.records.timing import Latency
from nas.records.trial import Score, Trial, restored
from nas.serialization import from_data, from_json, to_data, to_json

Restore: TypeAlias = Callable[[Trial], Trial]
"""How a trial's network, plain data as read, becomes a network."""


def read_trials(run: Run, restore: Restore = restored) -> tuple[list[Trial], list[str]]:
    """The trials on disk by index, and a line for each record that cannot be read.

    `restore` gives a record, whose network is plain data as read, its network; it raises Error where that is not
    the record's. A torn last line, which is what a killed process leaves, is passed over in silence.
    """
    return _trials_in(run.path / "trials.jsonl", restore)


def _trials_in(file: Path, restore: Restore) -> tuple[list[Trial], list[str]]:
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        return [], [f"{file} cannot be read: {error.strerror}"]
    found: dict[int, Trial] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        try:
            trial = restore(from_json(Trial, line.decode()))
        except ValueError as error:
            if number == len(lines):  # what follows the last newline is empty, or torn
                break
            problems.append(f"{file} line {number} is no trial: {error}")
            continue
        if trial.index in found:
            problems.append(f"{file} line {number} repeats trial {trial.index}")
        found.setdefault(trial.index, trial)
    return [found[index] for index in sorted(found)], problems


def read_warm_start(run: Run, plan: Plan, restore: Restore = restored) -> list[Trial]:
    """The trials that the sampler knows from the beginning; none where the plan begins with nothing. Raises Error where
    they cannot be read, or are not those of the plan."""
    if not plan.warm_start:
        return []
    found, problems = _trials_in(run.warm_start, restore)
    if problems:
        raise Error(problems[0])
    if digest_of(found) != plan.warm_start.rpartition(" ")[2]:
        raise Error(f"{run.warm_start} is not what {run.path} was begun with; put it back, or begin a new run")
    return found


# What trials say since later versions where there is nothing to say: images in colour, memory not counted, no GPU.
ADDED = f', "channels": {COLOUR}}}', ', "arena": null, "flash": null}', ', "clocks": ""}'


def digest_of(trials: Sequence[Trial]) -> str:
    """Of what is known from an earlier search."""
    text = "".join(to_json(trial, own=repr) for trial in trials)
    for added in ADDED:
        text = text.replace(added, "}")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def append_trial(run: Run, trial: Trial) -> None:
    """Puts `trial` on disk. Needs the run's lock."""
    append_line(run.path / "trials.jsonl", to_json(trial, own=repr))


def append_score(run: Run, index: int, arch_id: str, score: Score) -> None:
    """Puts the score of a rung on disk, of a trial that has not ended. Needs the run's lock."""
    file = run.path / "work" / "scores.jsonl"
    file.parent.mkdir(exist_ok=True)
    append_line(file, json.dumps([index, arch_id, to_data(score)]))


def read_scores(run: Run) -> dict[tuple[int, str, int], Score]:
    """The scores of trials that had not ended, by index, arch_id and rung. What cannot be read is trained again."""
    found = {}
    for line in lines_of(run.path / "work" / "scores.jsonl"):
        with suppress(ValueError):
            index, arch_id, data = json.loads(line)
            score = from_data(Score, data)
            found[index, arch_id, score.rung] = score
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """A latency as it was measured, and of which network of which wave."""

    wave: int
    arch_id: str
    latency: Latency
    arch: Any


def append_measured(run: Run, measured: Measured) -> None:
    """Puts a latency on disk. Needs the run's lock."""
    append_line(run.path / "latencies.jsonl", to_json(measured, own=repr))


def read_measured(run: Run) -> list[Measured]:
    """The latencies on disk, in the order measured, networks as plain data. What cannot be read is measured anew."""
    return [measured for line in lines_of(run.path / "latencies.jsonl") for measured in values_of(Measured, line)]


def append_tally(run: Run, wave: int, tally: Mapping[str, float]) -> None:
    """Puts on disk how many networks `wave` is to train, or, once that is known, how many were looked at for it.

    Needs the run's lock.
    """
    append_line(run.path / "proposed.jsonl", json.dumps([wave, tally]))


def read_tallies(run: Run) -> dict[int, dict[str, float]]:
    """How many networks were looked at for each wave, and how many of them were refused, by why.

    Of a wave that was not proposed to its end, only how many were asked for.
    """
    found = {}
    for line in lines_of(run.path / "proposed.jsonl"):
        with suppress(ValueError):
            wave, tally = json.loads(line)
            found[int(wave)] = {_OLD_TALLIES.get(name, str(name)): number for name, number in tally.items()}
    return found


_OLD_TALLIES = {  # what runs of versions before 0.17 call them, which are read as they are: these words stay
    "over the budget": "over_budget",
    "hopeless": "predicted_too_slow",
    "too slow": "measured_too_slow",
    "let in": "accepted",
    "forecast error": "predictor_error",
}


def append_proposals(run: Run, wave: int, again: int, proposals: Sequence[Choices]) -> None:
    """Puts on disk which networks were proposed for `wave`, which had asked `again` times before. Needs the lock."""
    append_line(run.path / "proposals.jsonl", json.dumps([wave, again, proposals]))


def read_proposals(run: Run) -> dict[tuple[int, int], list[Choices]]:
    """The networks that were proposed, by wave and by how often it had asked before."""
    found = {}
    for line in lines_of(run.path / "proposals.jsonl"):
        with suppress(ValueError):
            wave, again, proposals = json.loads(line)
            found[int(wave), int(again)] = proposals
    return found
