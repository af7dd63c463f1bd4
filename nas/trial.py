"""What became of one candidate: the `Trial` record, one line of a run's trials.jsonl."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nas.arch import Arch, arch_id, cost
from nas.graph import Cost

State: TypeAlias = Literal["complete", "pruned", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Score:
    """The outcome of one rung, with its conditions."""

    rung: int
    top1: float
    """Share of the validation images that were classified rightly, in percent."""
    train_loss: float
    """Mean over the rung's training steps."""
    images: int
    """Training images seen in this rung, repeats counted."""
    val_images: int
    train_seconds: float
    val_seconds: float
    device: str
    threads: int
    torch: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and its end.

    `complete`: trained through the last rung. `pruned`: not among its wave's best at some rung. `failed`: raised;
    `error` has the traceback. `refused`: an anchor over the budget, not built.
    """

    index: int
    """Place in the order in which candidates were asked."""
    wave: int
    arch_id: str
    cost: Cost
    state: State
    arch: Arch
    choices: dict[str, bool | int | float | str | None]
    anchor: str | None = None
    scores: tuple[Score, ...] = ()
    error: str | None = None

    def __post_init__(self) -> None:
        if (arch_id(self.arch), cost(self.arch)) != (self.arch_id, self.cost):
            raise ValueError(
                f"arch is not {self.arch_id} of {self.cost}: it is {arch_id(self.arch)} of {cost(self.arch)}"
            )

    @property
    def top1(self) -> float | None:
        """Validation top-1 at the last rung reached; None where none was."""
        return self.scores[-1].top1 if self.scores else None


def best(trials: list[Trial]) -> Trial | None:
    """The complete trial with the highest top-1; the cheaper one where two are equal."""
    complete = [t for t in trials if t.state == "complete"]
    return max(complete, key=lambda t: (t.top1 or 0.0, -t.cost.macs, -t.index), default=None)
