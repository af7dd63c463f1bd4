"""What a run was asked to do: `Plan`, and the `Recipe` and `Meter` in it."""

import hashlib
import math
import re
import shlex
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

from nas.errors import Error, shown
from nas.networks.architecture import COLOUR, Anchor
from nas.networks.sizes import SMALL
from nas.records.budget import BUDGET_HELP, Budget
from nas.records.optimisers import Muon, Schedule


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
