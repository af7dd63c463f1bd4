"""How networks are trained in full: named recipes, and what a training was asked to do, as values."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from nas.errors import Error
from nas.networks.architecture import Arch
from nas.records.optimisers import Muon, fallen, share_of_lr
from nas.records.plan import READING, Reading, Recipe

Decay: TypeAlias = Literal["all", "kernels"]


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """A full training with SGD and momentum, or with Muon and SGD."""

    name: str
    about: str
    epochs: int
    batch: int
    lr: float
    """The highest; the schedule leads up to it and down to 0."""
    schedule: Literal["cosine", "onecycle", "linear"]
    weight_decay: float = 5e-4
    decay: Decay = "all"
    """What decays: all parameters; or kernels alone, neither those of depthwise layers nor batch norm nor biases."""
    nesterov: bool = True
    momentum: float = 0.9
    warmup: int = 0
    """Epochs in which a cosine schedule climbs to `lr`; a quarter of all at the most."""
    crop: int = 4
    """Zeros around an image of which a random crop is taken, and mirrored where that keeps its class; 0: neither."""
    augment: Literal["none", "autoaugment", "randaugment"] = "none"
    mix: Literal["none", "mixup", "cutmix", "both"] = "none"
    """"both": one or the other, by turns drawn for each batch."""
    label_smoothing: float = 0.0
    average: float = 0.0
    """Share that stays, a step, of a running average of the weights, which is then what is evaluated; 0: none. Less
    stays in the first steps, whose weights are soon no use."""
    muon: Muon | None = None
    """How whole convolutions are trained; None: as all else."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr"):
            if not getattr(self, name) > 0:
                raise Error(f"{name} of a training must be above 0, got {getattr(self, name)}")

    def lr_at(self, step: int, steps: int, lr: float | None = None) -> float:
        """The learning rate of step `step`, from 0, of `steps` in all; `lr`: another highest one than the recipe's."""
        return (self.lr if lr is None else lr) * self._share_at(step, steps)

    def _share_at(self, step: int, steps: int) -> float:
        done = step / steps
        if self.schedule != "cosine":
            return share_of_lr(self.schedule, done)
        climb = min(self.warmup / self.epochs, 0.25)
        if done < climb:
            return min(1.0, (done + 1 / steps) / climb)
        return fallen((done - climb) / (1 - climb))


def in_batches(training: TrainingRecipe, batch: int) -> TrainingRecipe:
    """`training` in batches of `batch` images, with as many epochs, and steps the larger the fewer they are: SGD's
    learning rate grows as the batch (Goyal et al. 2017, arXiv 1706.02677), Muon's, whose steps are of one size whatever
    the gradient, as its square root."""
    times = batch / training.batch
    muon = training.muon and replace(training.muon, lr=training.muon.lr * times**0.5)
    return replace(training, batch=batch, lr=training.lr * times, muon=muon)


TRAINING_RECIPES = {
    training.name: training
    for training in (
        TrainingRecipe("quick", "one cycle of few epochs, for CPUs", 10, 64, 0.1, "onecycle"),
        TrainingRecipe(
            "quick-muon", "as long, whole convolutions by Muon",
            10, 64, 0.1, "linear", decay="kernels", muon=Muon(),
        ),
        TrainingRecipe(
            "paper",
            "paper 000: SGD, lr 0.1, cosine, batch 64, no augmentation; momentum and weight decay, which it does not "
            "print, are ours",
            200, 64, 0.1, "cosine", nesterov=False, crop=0,
        ),
        TrainingRecipe(
            "paper-augmented", "the same with crops and flips", 200, 64, 0.1, "cosine", nesterov=False,
        ),
        TrainingRecipe(
            "plain", "as published tables of CIFAR: Nesterov SGD, batch 256, crops and flips", 200, 256, 0.1, "cosine"
        ),
        TrainingRecipe(
            "strong",
            "AutoAugment, mixup or cutmix, label smoothing, averaged weights",
            300, 128, 0.1, "cosine",
            decay="kernels", warmup=5, augment="autoaugment", mix="both", label_smoothing=0.1, average=0.999,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network whose answers are learnt as well (distillation)."""

    weights: str
    """Its weights.safetensors, which hold its architecture too."""
    digest: str
    """Of that file."""
    share: float = 0.5
    """Of the loss that is the distance from the teacher's answers."""
    temperature: float = 4.0


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """All that decides a full training."""

    network: str
    """What it was called."""
    found: str
    """Where it comes from, in words."""
    arch: Arch
    dataset: str
    training: TrainingRecipe
    seeds: tuple[int, ...]
    """A training each, from scratch."""
    data: str | None = None
    """Folder of the dataset; None: the place where nas keeps downloads."""
    all_images: bool = False
    """Whether the validation images are trained on too; nothing is validated then."""
    teacher: Teacher | None = None
    images_digest: str = ""
    """Of the dataset's images; none where it was not kept (before 0.15.0)."""
    flip: bool = True
    """Whether images are mirrored where they are cropped; those of digits never are."""
    reading: Reading = READING
    balance: bool = False
    """Whether each class counts alike in the loss, however many images it has."""

    @property
    def drawn(self) -> str:
        """How images are drawn and counted, where that is not as usual; goes on a sentence."""
        return ", none mirrored" * (not self.flip) + ", each class counting alike" * self.balance

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise Error(f"seeds must be different and at least one, got {list(self.seeds)}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A network that was trained in full before."""

    run: str
    """Folder of its training."""
    name: str
    """An anchor's own, of others their identity."""
    arch: Arch
    top1: tuple[float, ...]
    """On the validation images, after the last epoch, in percent; a seed each."""


@dataclass(frozen=True, slots=True)
class References:
    """Networks that were trained in full before, all alike, for proxies to be compared with."""

    training: TrainingRecipe
    train_images: int
    val_images: int
    networks: tuple[Reference, ...]

    @property
    def images(self) -> int:
        """That each was trained on, repeats counted."""
        return self.train_images * self.training.epochs


@dataclass(frozen=True, slots=True)
class Recipes:
    """The trainings that a calibration compares."""

    recipes: tuple[Recipe, ...]
    """The proxies; where there are no goals the last one is the longer training that they are compared with."""
    goals: References | None = None
