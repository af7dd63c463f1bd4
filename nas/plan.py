"""What a run was asked to do: `Plan`, and the `Budget` and `Recipe` in it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nas.graph import Cost

PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
UNITS = {"flops": "macs", "macs": "macs", "params": "params"}
SHOWN = {"macs": "FLOPs", "params": "Params"}
BUDGET_HELP = "a budget is a number and a unit, as in 25MFLOPs, 25MMACs or 0.4MParams"


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits that every built network keeps; None is no limit. FLOPs are `Cost.macs`."""

    macs: int | None = None
    params: int | None = None

    def limits(self) -> dict[str, int]:
        """The limits that are set, by quantity."""
        limits = {"macs": self.macs, "params": self.params}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def keeps(self, cost: Cost) -> bool:
        """Whether `cost` is within every limit."""
        spent = {"macs": cost.macs, "params": cost.params}
        return all(spent[name] <= limit for name, limit in self.limits().items())

    def use(self, cost: Cost) -> float:
        """The largest share of a limit that `cost` takes: above 1 where a limit is broken."""
        spent = {"macs": cost.macs, "params": cost.params}
        return max(spent[name] / limit for name, limit in self.limits().items())

    def __str__(self) -> str:
        return ",".join(f"{quantity(limit)}{SHOWN[name]}" for name, limit in self.limits().items())


def quantity(number: int) -> str:
    """`number` exactly, as short as it goes: 25_000_000 is '25M'."""
    for prefix, factor in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= factor and number * 1000 % factor == 0:
            return f"{number / factor:.3f}".rstrip("0").rstrip(".") + prefix
    return str(number)


def parse_budget(texts: Sequence[str]) -> Budget:
    """The budget that `texts` spell, each a list joined by commas: `["25MFLOPs,0.4MParams"]`.

    Raises ValueError on an unknown unit, a limit that is not positive, or a quantity given twice.
    """
    limits: dict[str, int] = {}
    for text in ",".join(texts).split(","):
        match = re.fullmatch(r"\s*(-?\d+(?:_\d+)*(?:\.\d+)?)\s*([kmg]?)([a-z]+)\s*", text, re.IGNORECASE)
        unit = match and UNITS.get(match[3].lower())
        if not match or not unit or len(match[1]) > 30:
            raise ValueError(f"budget {text!r} is not understood; {BUDGET_HELP}")
        limit = round(float(match[1]) * PREFIXES[match[2].lower()])
        if limit <= 0:
            raise ValueError(f"budget {text!r} must be above 0; {BUDGET_HELP}")
        if unit in limits:
            raise ValueError(f"budget {text!r} limits {unit} a second time; give each quantity once")
        limits[unit] = limit
    return Budget(**limits)


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of a proxy training: `epochs` passes over the first `images` training images (or all there are),
    in one learning-rate cycle, then top-1 on the first `val_images` validation images."""

    images: int
    epochs: int
    val_images: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How candidates are trained: Nesterov SGD, a one-cycle learning rate in each rung, pad-crop and flip."""

    name: str
    rungs: tuple[Rung, ...]
    keep: float
    """Share of a wave that goes on from each rung to the next."""
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    pad: int


PROXY = Recipe(
    name="proxy",
    rungs=(Rung(4_000, 1, 2_000), Rung(8_000, 1, 2_000), Rung(16_000, 1, 5_000)),
    keep=0.5,
    batch=32,
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    pad=4,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a search; two runs of one plan propose and train the same networks."""

    budget: Budget
    dataset: str
    space: str
    space_digest: str
    trials: int
    """Networks to train, anchors among them."""
    seed: int
    recipe: Recipe
    resolution: int
    classes: int
    data: str | None = None
    """Folder of the dataset; None: the place where nas keeps downloads."""
    wave: int = 8
    """Candidates proposed before any of them is told."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")
        if self.wave < 1:
            raise ValueError(f"wave must be at least 1, got {self.wave}")
        if not self.budget.limits():
            raise ValueError(f"budget must set a limit; {BUDGET_HELP}")


def derived_seed(seed: int, name: str) -> int:
    """A seed for `name` in a run of `seed`: the same on every machine, whatever came before."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big")
