"""What a run was asked to do: `Plan`, and the `Budget` and `Recipe` in it."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from nas.graph import Cost

PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}  # as memory is sold: 128 KB are 131,072 bytes
UNITS = {
    "flops": ("macs", PREFIXES, 1),
    "macs": ("macs", PREFIXES, 1),
    "params": ("params", PREFIXES, 1),
    "bpeak": ("peak", BYTES, 1),  # an activation is a byte in int8
    "bpeak32": ("peak", BYTES, 4),  # and four in fp32
}
BUDGET_HELP = (
    "a budget is a number and a unit, as in 25MFLOPs, 25MMACs, 0.4MParams, 128KBpeak (activations held at once, int8; "
    "128KBpeak32: fp32), or the name of an anchor, whose cost it then is"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits that every built network keeps; None is no limit. Quantities are those of `Cost`."""

    macs: int | None = None
    params: int | None = None
    peak: int | None = None

    def limits(self) -> dict[str, int]:
        """The limits that are set, by quantity."""
        limits = {"macs": self.macs, "params": self.params, "peak": self.peak}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def keeps(self, cost: Cost) -> bool:
        """Whether `cost` is within every limit."""
        return all(getattr(cost, name) <= limit for name, limit in self.limits().items())

    def use(self, cost: Cost) -> float:
        """The largest share of a limit that `cost` takes: above 1 where a limit is broken."""
        shares: list[float] = [getattr(cost, name) / limit for name, limit in self.limits().items()]
        return max(shares)

    def __str__(self) -> str:
        shown = {"macs": (PREFIXES, "FLOPs"), "params": (PREFIXES, "Params"), "peak": (BYTES, "Bpeak")}
        return ",".join(quantity(limit, shown[name][0]) + shown[name][1] for name, limit in self.limits().items())


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
    number, the number holds. Raises ValueError on an unknown unit, a limit that is not positive, or one given twice.
    """
    limits: dict[str, int] = {}
    implied: dict[str, int] = {}
    for text in (item.strip() for item in ",".join(texts).split(",")):
        if not text:
            raise ValueError(f"budget {','.join(texts)!r} has an empty item; {BUDGET_HELP}")
        if text in costs:
            cost = costs[text]()
            for name, spent in (("macs", cost.macs), ("params", cost.params), ("peak", cost.peak)):
                implied[name] = min(spent, implied.get(name, spent))
            continue
        match = re.fullmatch(r"(-?\d+(?:_\d+)*(?:\.\d+)?)\s*([kmg]?)([a-z]+(?:32)?)", text, re.IGNORECASE)
        if not match or match[3].lower() not in UNITS or len(match[1]) > 30:
            meant = "".join(f"did you mean {name}? " for name in get_close_matches(text, costs, n=1))
            raise ValueError(f"budget {text!r} is not understood; {meant}{BUDGET_HELP}")
        name, prefixes, size = UNITS[match[3].lower()]
        limit = round(float(match[1]) * prefixes[match[2].lower()]) // size
        if limit < 1:
            raise ValueError(f"budget {text!r} must allow at least 1; {BUDGET_HELP}")
        if name in limits:
            raise ValueError(f"budget {text!r} limits {name} a second time; give each quantity once")
        limits[name] = limit
    return Budget(**{**implied, **limits})


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of a proxy training: `epochs` passes over the first `images` training images (or all there are), shrunk to
    `resolution`, in one learning-rate cycle, then top-1 on the first `val_images` validation images."""

    images: int
    epochs: int
    val_images: int
    resolution: int | None = None
    """None: the images' own."""


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


PROXIES = {
    recipe.name: recipe
    for recipe in (
        PROXY,
        replace(
            PROXY, name="half", rungs=(Rung(12_000, 1, 2_000, 16), Rung(24_000, 1, 2_000, 16), Rung(16_000, 1, 5_000))
        ),
        replace(PROXY, name="long", rungs=(Rung(8_000, 1, 2_000), Rung(16_000, 1, 2_000), Rung(32_000, 1, 5_000))),
    )
}
"""What `nas calibrate` can compare: PROXY is the one that searches use."""
COMPARED = ("proxy", "half")  # where nothing else is asked
LONGER = "longer"


def longer(recipe: Recipe, images: int, epochs: int, val_images: int) -> Recipe:
    """The training that proxies are held against: `epochs` over `images` in one learning-rate cycle."""
    return replace(recipe, name=LONGER, rungs=(Rung(images, epochs, val_images),))


@dataclass(frozen=True, slots=True)
class Recipes:
    """The trainings that a calibration compares; the last one is the longer one."""

    recipes: tuple[Recipe, ...]


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
    objective: tuple[str, ...] = ("accuracy",)
    """What is sought: the best accuracy, or a front of it against some of "macs", "params", "peak"."""
    data: str | None = None
    """Folder of the dataset; None: the place where nas keeps downloads."""
    wave: int = 8
    """Candidates proposed before any of them is told."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")
        if self.wave < 1:
            raise ValueError(f"wave must be at least 1, got {self.wave}")
        unknown = [name for name in self.objective if name not in OBJECTIVES]
        if unknown or self.objective[:1] != ("accuracy",) or len(set(self.objective)) < len(self.objective):
            raise ValueError(
                f"objective must be accuracy, alone or followed by some of {', '.join(OBJECTIVES[1:])}, got "
                f"{','.join(self.objective)!r}"
            )
        if not self.budget.limits():
            raise ValueError(f"budget must set a limit; {BUDGET_HELP}")


OBJECTIVES = ("accuracy", "macs", "params", "peak")


def derived_seed(seed: int, name: str) -> int:
    """A seed for `name` in a run of `seed`: the same on every machine, whatever came before."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big")
