"""What a run was asked to do: `Plan`, and the `Budget` and `Recipe` in it."""

import hashlib
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Literal, TypeAlias

from nas.errors import Error, shown
from nas.networks.architecture import COLOUR, Anchor
from nas.networks.graph import UNBUILDABLE, Cost
from nas.networks.sizes import SMALL
from nas.records.optimisers import Muon, Schedule
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


@dataclass(frozen=True, slots=True)
class Meter:
    """How latency is measured: on what, beside which network, until when."""

    reference: str
    """The anchor that runs in turn with each network."""
    device: str = "here"
    """This machine; "ray:NAME", a Ray node that offers the resource NAME; else what `command` reaches."""
    command: str | None = None
    """Takes a graph on standard input and prints what nas/execution/agent.py prints; or, where it holds "{tflite}", the
    name of an int8 LiteRT file in that place, and prints milliseconds."""
    runtime: str = "onnxruntime"
    """Or "torch", "compiled" (torch.compile), "cuda", "cuda-compiled", in this process."""
    threads: int = 1
    batch: int = 1
    seconds: float = 10.0
    """For a network and its reference at the most."""
    precision: float = 0.01
    """Half the width of the 95 % interval, as a share, that is narrow enough."""
    timeout: float = 120.0
    """Seconds beyond those of measuring after which a device is given up."""

    def __post_init__(self) -> None:
        for name in ("threads", "batch", "seconds", "precision", "timeout"):
            if not getattr(self, name) > 0:
                raise Error(f"{name} of a measurement must be above 0, got {getattr(self, name)}")
        if self.runtime not in RUNTIMES:
            raise Error(f"runtime {self.runtime!r} is unknown; one of {', '.join(RUNTIMES)}")
        try:
            words = shlex.split(self.command) if self.command is not None else ["python"]
        except ValueError as error:
            raise Error(f"--measure-command {self.command!r} cannot be read: {error}") from None
        if not words:
            raise Error("--measure-command is empty; as in 'ssh pi python3 agent.py'")
        elsewhere = self.device != "here"
        if elsewhere and self.runtime != "onnxruntime":
            raise Error(f"runtime {self.runtime} measures on this machine only, not on {self.device!r}")
        if self.on_board and (self.threads, self.batch) != (1, 1):
            raise Error(f"a command with {TFLITE} measures one image on one core; leave out --threads and --batch")
        if self.command is not None and not elsewhere:
            raise Error(
                "--measure-command needs a name that its figures are recorded under: --measure-device of nas search, "
                "--device of nas measure"
            )
        if elsewhere and self.command is None and not re.fullmatch(r"ray:[\w.-]+", self.device):
            raise Error(
                f'device {self.device!r} is reached by --measure-command (as in "ssh {self.device} python3 agent.py"), '
                "or is ray:NAME, a Ray node with the resource NAME"
            )

    @property
    def on_board(self) -> bool:
        """Whether the command takes a LiteRT file: a board, on which no reference network runs in turn."""
        return TFLITE in (self.command or "")


TFLITE = "{tflite}"  # in a command: the name of a file is put there
MEASURED_SECONDS = 4.0  # for a candidate of a search
RUNTIMES = ("onnxruntime", "torch", "compiled", "cuda", "cuda-compiled")
DEVICES = ("cuda", "mps", "cpu")  # that networks are trained on; the first that there is, where none is asked for


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of a proxy training: `epochs` passes over the first `images` training images (or all there are), brought
    to `resolution`, then top-1 on the first `val_images` validation images."""

    images: int
    epochs: int
    val_images: int
    resolution: int | None = None
    """Of images of 32x32, of others the same share; None: the images' own."""
    anew: bool = False
    """Whether a learning-rate cycle begins with it, where they span several rungs."""

    def side_of(self, resolution: int) -> int:
        """The side that images of `resolution` are brought to."""
        return resolution if self.resolution is None else max(1, round(resolution * self.resolution / SMALL))


Judge: TypeAlias = Literal["top1", "loss"]
"""What a search goes by, in promoting and in proposing: top-1 on validation images after a rung; or the mean training
loss in its `tail`. Where each image is seen once, that is the loss on images not seen before."""


Cycle: TypeAlias = Literal["rung", "ladder"]
"""What a learning-rate cycle spans: each rung; or all of them up to the next that begins anew, as parts of one
training."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How candidates are trained: Nesterov SGD, or Muon and SGD; a cycle of the learning rate, pad-crop and flip."""

    name: str
    rungs: tuple[Rung, ...]
    keep: float
    """Share of a wave that goes on from each rung to the next."""
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    pad: int
    judge: Judge = "top1"
    cycle: Cycle = "rung"
    tail: float = 1.0
    """Share of a rung's steps, of its last ones, over which the training loss is the mean."""
    schedule: Schedule = "onecycle"
    muon: Muon | None = None
    """How whole convolutions are trained; None: as all else."""

    @property
    def images(self) -> int:
        """Training images of a network that goes through all rungs."""
        return sum(rung.images * rung.epochs for rung in self.rungs)

    def part(self, rung: int) -> tuple[float, float]:
        """Where in its learning-rate cycle `rung` begins and ends, as shares of it."""
        if self.cycle == "rung":
            return 0.0, 1.0
        begins = [0, *(i for i, one in enumerate(self.rungs) if i and one.anew), len(self.rungs)]
        first, end = next((first, end) for first, end in pairwise(begins) if rung < end)
        images = [one.images * one.epochs for one in self.rungs[first:end]]
        before = sum(images[: rung - first])
        return before / sum(images), (before + images[rung - first]) / sum(images)


PROXY = Recipe(
    name="proxy",
    rungs=(Rung(32_000, 1, 5_000), Rung(24_000, 2, 10_000), Rung(40_000, 3, 10_000, anew=True)),
    keep=0.25,
    batch=64,
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    pad=4,
    judge="loss",
    cycle="ladder",
    tail=0.25,  # before, fast learners are ahead of those that come farther
)
FRONT_KEEP = 0.5  # its `keep` where a front is sought, which needs networks all along it
TRIALS, DIGITS_TRIALS = 64, 24  # networks that a search trains where nothing else is asked
PASSES = 8  # of a rung, at most: what has been seen more often is known by heart, which its loss would be praised for
RUNG_STEPS, SMALL_BATCH = 128, 8  # of a rung, at least: after fewer, most networks still answer by chance
POLISH_AFTER = 0.75  # of the networks of a search
WAVE = 8  # of them proposed before any result is used

_SHORT = replace(
    PROXY,
    name="short",
    rungs=(Rung(4_000, 1, 2_000), Rung(8_000, 1, 2_000), Rung(16_000, 1, 5_000)),
    batch=32,
    judge="top1",
    cycle="rung",
    tail=1.0,
)
_HALF = replace(
    _SHORT, name="half", rungs=(Rung(12_000, 1, 2_000, 16), Rung(24_000, 1, 2_000, 16), Rung(16_000, 1, 5_000))
)
PROXIES = {recipe.name: recipe for recipe in (PROXY, _SHORT, _HALF)}
"""What `nas calibrate` can compare: PROXY is the one that searches use."""
COMPARED = ("proxy", "short")  # where nothing else is asked
LONGER = "longer"


def longer(recipe: Recipe, images: int, epochs: int, val_images: int) -> Recipe:
    """The training that proxies are compared with: `epochs` over `images` in one learning-rate cycle."""
    return replace(recipe, name=LONGER, rungs=(Rung(images, epochs, val_images),))


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read, and the pictures of a folder split."""

    groups: str = ""
    """A pattern with one capture: pictures of which it captures the same are never on two sides of a split."""
    skip_bad: bool = False
    """Whether files that cannot be read are left out."""
    channels: int = COLOUR
    """Of the images as networks see them: 3, or 1 where they are gray; 0, in what is asked: as they are."""

    def __post_init__(self) -> None:
        if self.channels not in (0, 1, COLOUR):
            raise Error(f"channels must be 1 (gray) or {COLOUR} (colour), got {self.channels}; or leave it out")


READING = Reading()  # where nothing is said


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a search; two runs of one plan propose and train the same networks, if not `asynchronous`."""

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
    """What is sought: the best accuracy, or a front of it against some of "macs", "params", "peak", "latency"."""
    data: str | None = None
    """Folder of the dataset; None: the place where nas keeps downloads."""
    wave: int = WAVE
    """Candidates proposed before the result of any of them is used."""
    meter: Meter | None = None
    """How latency is measured; None where nothing asks for it, or where a function of the user's own gives it."""
    sampler: str = "gp"
    """Who says which networks are tried: one of SAMPLERS, or a sampler of the user's own, MODULE:NAME."""
    images_digest: str = ""
    """Of the dataset's images; none where there are none, or where it was not kept (before 0.15.0)."""
    flip: bool = True
    """Whether images are mirrored in training; those of digits never are."""
    starts: tuple[Anchor, ...] = ()
    """Networks of the user's own that are tried with the anchors, and the nearest points of the space to those that are
    none of it or over the budget."""
    warm_start: str = ""
    """The search whose trials the sampler knew from the beginning, and their digest; none where it knew nothing."""
    reading: Reading = READING
    balance: bool = False
    """Whether each class counts alike in the loss, however many images it has."""
    asynchronous: bool = False
    """Whether no worker waits for others, so that what is trained depends on who ended when."""

    @property
    def timed(self) -> bool:
        """Whether a limit or an objective asks for latency."""
        return self.budget.timed or "latency" in self.objective

    def polishes(self, begun: int) -> bool:
        """Whether what comes after `begun` networks is the last part, in which the best are polished."""
        return len(self.objective) == 1 and begun >= POLISH_AFTER * self.trials

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise Error(f"trials must be at least 1, got {self.trials}")
        if self.wave < 1:
            raise Error(f"wave must be at least 1, got {self.wave}")
        unknown = [name for name in self.objective if name not in OBJECTIVES]
        if unknown or self.objective[:1] != ("accuracy",) or len(set(self.objective)) < len(self.objective):
            raise Error(
                f"objective must be accuracy, alone or followed by some of {', '.join(OBJECTIVES[1:])}, got "
                f"{','.join(self.objective)!r}"
            )
        if self.sampler not in SAMPLERS and ":" not in self.sampler:
            raise Error(
                f"sampler {shown(self.sampler)} is unknown; one of {', '.join(SAMPLERS)}, or MODULE:NAME of your own"
            )
        if self.dataset and not self.budget.limits() and not self.budget.timed:
            raise Error(f"budget must set a limit; {BUDGET_HELP}")


SAMPLERS = {
    "gp": "ours: a Gaussian process that knows networks on paper (nas.GPSampler)",
    "tpe": "Optuna's TPE",
    "nsgaii": "Optuna's genetic algorithm",
    "random": "at random",
    "qmc": "Optuna's quasi-random sequences",
    "near-budget": "at random, near the budget",
}
OBJECTIVES = ("accuracy", "macs", "params", "peak", "latency")


def derived_seed(seed: int, name: str) -> int:
    """A seed for `name` in a run of `seed`: the same on every machine, whatever came before."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "big")


def default_trials(dataset: str) -> int:
    """Networks that a search trains where nobody says how many: of digits, which are there to try nas out, fewer."""
    return DIGITS_TRIALS if dataset == "digits" else TRIALS


def filled(recipe: Recipe, images: int, val_images: int) -> Recipe:
    """`recipe` with rungs that take no more images than there are; where these are few, in batches down to SMALL_BATCH,
    with a smaller step, and up to PASSES times until a rung has RUNG_STEPS of them."""
    fewest = min(min(rung.images, images) * rung.epochs for rung in recipe.rungs)
    batch = min(recipe.batch, max(SMALL_BATCH, fewest // RUNG_STEPS))
    rungs = []
    for rung in recipe.rungs:
        seen = min(rung.images, images)
        epochs = max(rung.epochs, min(PASSES, -(-RUNG_STEPS // -(-seen // batch))))
        rungs.append(replace(rung, images=seen, epochs=epochs, val_images=min(rung.val_images, val_images)))
    return replace(recipe, rungs=tuple(rungs), batch=batch, lr=recipe.lr * math.sqrt(batch / recipe.batch))
