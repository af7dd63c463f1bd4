"""What a latency is, and an energy: measured figures with their conditions."""

from dataclasses import dataclass

from nas.errors import Error
from nas.networks.architecture import Arch


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for a batch: the median and its 95 % interval; and as a multiple of a reference network's, the two
    measured in turn."""

    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    reference_ms: float | None
    runs: int
    rounds: int
    """Each with the graph opened anew; intervals are by resampling them."""
    steady: bool
    """Whether the interval became as narrow as was asked before the time was up."""
    runtime: str
    device: str
    threads: int
    batch: int
    reference: str = ""
    """Name of the reference network."""
    clocks: str = ""
    """Of a GPU, as it said after the last run."""

    def __post_init__(self) -> None:
        for name in ("median", "ratio"):
            ends = ("low_ms", "median_ms", "high_ms") if name == "median" else ("ratio_low", "ratio", "ratio_high")
            values = [getattr(self, end) for end in ends]
            if name == "ratio" and values == [None] * 3:
                continue
            if not all(isinstance(value, float) and 0 < value < 1e9 for value in values) or values != sorted(values):
                raise Error(f"{', '.join(ends)} must be positive and in order, got {values}")


@dataclass(frozen=True, slots=True)
class Energy:
    """What a network takes, as the machine's own counters say: of all that they count, idle draw included."""

    joules_per_image: float
    watts: float
    counters: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A network and what was measured of it."""

    name: str
    arch: Arch
    latency: Latency
    energy: Energy | str | None
    """Or why it is not available; None where it was not asked for."""
    whole_ms: float | None = None
    """What it took as a whole, where its latency is the sum of a table's layers and the table has it too."""


def exactly(ms: float) -> Latency:
    """A latency that is known, or was measured by someone else."""
    return Latency(ms, ms, ms, None, None, None, None, 1, 1, True, "", "", 0, 1)
