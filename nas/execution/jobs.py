"""What workers are given, what they give back, and what every kind of workers does: values and one protocol."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from nas.records.trial import Score

ATTEMPTS = 2  # a job that fails, is lost with its worker or outlasts its limit is tried once more

Tick: TypeAlias = Callable[[int], None]
"""Called with how many more images have been trained on."""
Evaluate: TypeAlias = Callable[[Any, int, bytes | None, Tick], tuple[Score, bytes | None]]
"""Trains a network through a rung, from the state that the rung before left, and gives its score and its own state."""


@dataclass(frozen=True, slots=True)
class Job:
    """A network to be trained through a rung; `state` is what the rung before left of it."""

    key: int
    arch: Any
    rung: int
    state: Callable[[], bytes | None]
    weight: float
    """How long it takes, beside others: the longest are begun first."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """A score and the network's state; or the traceback of what went wrong."""

    score: Score | None
    state: bytes | None = None
    error: str = ""
    refused: bool = False
    """Whether it was an `Error`: what was asked is at fault, `error` says how, and to try again is of no use."""
    full: bool = False
    """Whether a GPU had no memory left for it, which those that ran beside it held."""


class Stopped(BaseException):
    """The time is up, in the middle of a job."""


Jobs: TypeAlias = Sequence[Job] | Iterator[Job | None]
"""What there is to run. A sequence is known from the start, so several workers begin its longest jobs first. An
iterator is asked whenever a worker is free, and says None where there is nothing for now."""


class Workers(Protocol):
    """Runs jobs and gives each one's outcome as it is there, until `stop` says that no more are to be begun."""

    number: int
    """How many jobs run side by side."""

    def run(
        self, jobs: Jobs, tick: Callable[[Job, int], None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Job, JobResult]]:
        """The outcome of each job that was started. `tick` is called with images trained on, where that can be seen."""
        ...
