"""What a search may spend: `Budget`, upper limits of what a network costs, and how one is spelt."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from nas.errors import Error, shown
from nas.networks.graph import UNBUILDABLE, Cost
from nas.records.timing import Latency

PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}  # as memory is sold: 128 KB are 131,072 bytes
UNITS = {
    "flops": ("macs", PREFIXES, 1),
    "macs": ("macs", PREFIXES, 1),
    "params": ("params", PREFIXES, 1),
    "bpeak": ("peak", BYTES, 1),  # an activation is a byte in int8
    "bpeak32": ("peak", BYTES, 4),  # and four in fp32
    "barena": ("arena", BYTES, 1),
    "bflash": ("flash", BYTES, 1),
}
BUDGET_HELP = (
    "a budget is a number and a unit, as in 25MFLOPs, 25MMACs, 0.4MParams, 128KBpeak (activations held at once, int8; "
    "128KBpeak32: fp32), 128KBarena (what TensorFlow Lite Micro takes for the int8 file), 256KBflash (that file), "
    "1.5ms, 800us (measured latency), or the name of an anchor, whose cost it then is; "
    "lowres-mobilenet:ms: no slower than it, 0.8xlowres-mobilenet:ms: at most 0.8 times as slow"
)
ON_PAPER = "macs", "params", "peak", "arena", "flash"  # what a budget may limit before anything is built
NUMBER = r"-?\d+(?:_\d+)*(?:\.\d+)?"


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits that every trained network keeps; None is no limit. Those in ON_PAPER are of `Cost`, known before
    anything is built; latency is measured, and the upper end of its interval has to keep its limit."""

    macs: int | None = None
    params: int | None = None
    peak: int | None = None
    latency_ms: float | None = None
    latency_ratio: float | None = None
    """Latency as a multiple of that of `reference`, the two measured in turn."""
    reference: str | None = None
    """The anchor that `latency_ratio` is a multiple of."""
    arena: int | None = None
    flash: int | None = None

    def __post_init__(self) -> None:
        whole = [(name, int) for name in ON_PAPER]
        for name, kinds in (*whole, ("latency_ms", float | int)):
            limit = getattr(self, name)
            if limit is not None and (not isinstance(limit, kinds) or isinstance(limit, bool) or not limit > 0):
                raise Error(f"{name} of a budget must be a {'whole ' * (kinds is int)}number above 0, got {limit!r}")
        if (self.latency_ratio is None) != (self.reference is None):
            raise Error(f"latency_ratio needs reference, the anchor it is a multiple of, got {self.latency_ratio!r}")

    @property
    def timed(self) -> bool:
        """Whether latency is limited."""
        return self.latency_ms is not None or self.latency_ratio is not None

    def fast(self, latency: Latency) -> bool:
        """Whether the upper end of `latency` is within every limit."""
        return (self.latency_ms is None or latency.high_ms <= self.latency_ms) and (
            self.latency_ratio is None or (latency.ratio_high is not None and latency.ratio_high <= self.latency_ratio)
        )

    def limit_ms(self, reference_ms: float | None) -> float | None:
        """The limit of latency where `reference` takes so long; None where none is known."""
        ratio = None if reference_ms is None or self.latency_ratio is None else self.latency_ratio * reference_ms
        return min((limit for limit in (self.latency_ms, ratio) if limit is not None), default=None)

    def limits(self) -> dict[str, int]:
        """The limits on paper that are set, by quantity."""
        limits = {name: getattr(self, name) for name in ON_PAPER}
        return {name: limit for name, limit in limits.items() if limit is not None}

    @property
    def on_device(self) -> bool:
        """Whether what a microcontroller needs is limited: arena or flash."""
        return self.arena is not None or self.flash is not None

    def keeps(self, cost: Cost) -> bool:
        """Whether `cost` is within every limit."""
        return cost != UNBUILDABLE and all(_of(cost, name) <= limit for name, limit in self.limits().items())

    def use(self, cost: Cost) -> float:
        """The largest share of a limit on paper that `cost` takes, above 1 where one is broken; 1 without a limit."""
        if cost == UNBUILDABLE:
            return math.inf
        return max((_of(cost, name) / limit for name, limit in self.limits().items()), default=1.0)

    def __str__(self) -> str:
        shown = {"macs": (PREFIXES, "FLOPs"), "params": (PREFIXES, "Params"), "peak": (BYTES, "Bpeak")}
        shown |= {"arena": (BYTES, "Barena"), "flash": (BYTES, "Bflash")}
        parts = [quantity(limit, shown[name][0]) + shown[name][1] for name, limit in self.limits().items()]
        if self.latency_ms is not None:
            parts.append(f"{self.latency_ms:g}ms")
        if self.latency_ratio is not None:
            parts.append(f"{self.latency_ratio:g}x{self.reference}:ms")
        return ",".join(parts)


def _of(cost: Cost, name: str) -> int:
    """A quantity of `cost`. Raises Error where it is not counted: arena and flash are only where they are asked for."""
    number: int | None = getattr(cost, name)
    if number is None:
        raise Error(f"the budget limits {name}, which {cost} does not say; nas.models.micro_memory.cost_on_device does")
    return number


def quantity(number: int, prefixes: Mapping[str, int] = PREFIXES) -> str:
    """`number` exactly, as short as it goes: 25_000_000 is '25M'."""
    for prefix in ("g", "m", "k"):
        factor = prefixes[prefix]
        if number >= factor and number * 1000 % factor == 0:
            return f"{number / factor:.3f}".rstrip("0").rstrip(".") + prefix.upper()
    return str(number)


def parse_budget(texts: Sequence[str], costs: Mapping[str, Callable[[], Cost]]) -> Budget:
    """The budget that `texts` spell, each a list joined by commas: `["25MFLOPs,0.4MParams"]`.

    `costs`: networks whose name stands for what they cost. Where a quantity is limited by such a network and by a
    number, the number holds. Raises Error on an unknown unit, a limit that is not positive, or one given twice.
    """
    limits: dict[str, int] = {}
    implied: dict[str, int] = {}
    latency: dict[str, float] = {}
    reference: str | None = None
    for text in (item.strip() for item in ",".join(texts).split(",")):
        if not text:
            raise Error(f"budget {shown(','.join(texts))} has an empty item; {BUDGET_HELP}")
        if text in costs:
            cost = costs[text]()
            for name, spent in (("macs", cost.macs), ("params", cost.params), ("peak", cost.peak)):
                implied[name] = min(spent, implied.get(name, spent))
            continue
        if timed := re.fullmatch(rf"({NUMBER})\s*(ms|us)", text, re.IGNORECASE):
            if "latency_ms" in latency:
                raise Error(f"budget {text!r} limits latency a second time; give each quantity once")
            latency["latency_ms"] = float(timed[1]) / (1 if timed[2].lower() == "ms" else 1000)
        elif timed := re.fullmatch(rf"(?:({NUMBER})x)?([\w.+-]+):ms", text, re.IGNORECASE):
            if timed[2] not in costs:
                meant = "".join(f"did you mean {name}:ms? " for name in get_close_matches(timed[2], costs, n=1))
                raise Error(f"budget {text!r} names no anchor; {meant}{BUDGET_HELP}")
            if reference:
                raise Error(f"budget {text!r} limits latency by an anchor a second time; give each quantity once")
            costs[timed[2]]()  # raises where it was made for other images
            reference, latency["latency_ratio"] = timed[2], float(timed[1] or 1)
        if timed:
            if min(latency.values()) <= 0:
                raise Error(f"budget {text!r} must be above 0; {BUDGET_HELP}")
            continue
        match = re.fullmatch(rf"({NUMBER})\s*([kmg]?)({'|'.join(UNITS)})", text, re.IGNORECASE)
        if not match or len(match[1]) > 30:
            meant = "".join(f"did you mean {name}? " for name in get_close_matches(text, costs, n=1))
            raise Error(f"budget {shown(text)} is not understood; {meant}{BUDGET_HELP}")
        name, prefixes, size = UNITS[match[3].lower()]
        limit = round(float(match[1]) * prefixes[match[2].lower()]) // size
        if limit < 1:
            raise Error(f"budget {text!r} must allow at least 1; {BUDGET_HELP}")
        if name in limits:
            raise Error(f"budget {text!r} limits {name} a second time; give each quantity once")
        limits[name] = limit
    on_paper = {**implied, **limits}
    return Budget(
        on_paper.get("macs"),
        on_paper.get("params"),
        on_paper.get("peak"),
        latency.get("latency_ms"),
        latency.get("latency_ratio"),
        reference,
        on_paper.get("arena"),
        on_paper.get("flash"),
    )
