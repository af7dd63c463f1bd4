"""What became of one candidate: the `Trial` record, one line of a run's trials.jsonl."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from nas.errors import Error
from nas.networks.architecture import Arch, arch_id, cost
from nas.networks.graph import Cost
from nas.networks.space import Choices
from nas.records.plan import Judge
from nas.records.timing import Latency
from nas.serialization import from_data

State: TypeAlias = Literal["complete", "pruned", "failed", "refused"]
Costs: TypeAlias = Callable[[Any], Cost]
"""What a network costs: `nas.networks.architecture.cost`, or a function of the user's own for networks of their own."""


@dataclass(frozen=True, slots=True)
class Score:
    """The outcome of one rung, with its conditions."""

    rung: int
    top1: float
    """Share of the validation images that were classified rightly, in percent; or what a user's own `evaluate` gave."""
    train_loss: float
    """Mean over the last of the rung's training steps: the recipe's `tail` of them."""
    images: int
    """Training images seen in this rung, repeats counted."""
    val_images: int
    train_seconds: float
    val_seconds: float
    device: str
    threads: int
    torch: str


def merit(score: Score, judge: Judge) -> float:
    """What a search goes by, the higher the better: points of top-1, or percent that the training loss is lower.

    By its logarithm: networks lie apart by about the same share of the loss at every rung.
    """
    return score.top1 if judge == "top1" else -100 * math.log(max(score.train_loss, 1e-9))


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and its end.

    `complete`: trained through the last rung. `pruned`: not among its wave's best at some rung. `failed`: raised, and
    again when tried once more; `error` has the traceback. `refused`: an anchor over the budget on paper, or a network
    that was measured to be too slow; not trained.
    """

    index: int
    """Place in the order in which candidates were asked."""
    wave: int
    arch_id: str
    cost: Cost
    state: State
    arch: Any
    """An `Arch`, or a network of the user's own."""
    choices: Choices
    """What draws it from the space; none for an anchor outside the space."""
    anchor: str | None = None
    scores: tuple[Score, ...] = ()
    error: str | None = None
    latency: Latency | None = None
    """Where it was measured; its milliseconds are scaled to one state of the machine (`latency_limit`)."""

    @property
    def score(self) -> float | None:
        """Validation top-1 at the last rung reached; None where none was."""
        return self.scores[-1].top1 if self.scores else None


def identity(network: Any) -> str:
    """Ten hex digits naming a network: `arch_id`, or of a user's own network what it reads like."""
    if isinstance(network, Arch):
        return arch_id(network)
    return hashlib.sha256(repr(network).encode()).hexdigest()[:10]


def restored(trial: Trial) -> Trial:
    """`trial` as read from disk, with plain data as its network, with its `Arch`.

    Raises Error where the network is none, or not that of the record.
    """
    trial = replace(trial, arch=from_data(Arch, trial.arch, "arch"))
    found = (arch_id(trial.arch), cost(trial.arch))
    if found != (trial.arch_id, replace(trial.cost, arena=None, flash=None)):
        raise Error(f"arch is not {trial.arch_id} of {trial.cost}: it is {found[0]} of {found[1]}")
    return trial


def best(trials: Sequence[Trial], judge: Judge) -> Trial | None:
    """The complete trial whose last score merits most; the cheaper one where two are equal."""
    complete = [t for t in trials if t.state == "complete"]
    return max(complete, key=lambda t: (merit(t.scores[-1], judge), -t.cost.macs, -t.index), default=None)
