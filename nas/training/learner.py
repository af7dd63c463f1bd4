"""A full training, an epoch at a time, and what a trained network answers.

All that an epoch draws (order, crops, policies, mixing, dropout) follows from the seed, its number and the kind of
device. So the state after an epoch is weights, momenta and averages, and a training that was cut off and resumed ends
bit for bit like one that was not, on the CPU.
"""

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from nas.errors import Error
from nas.models.torch_model import build
from nas.networks.architecture import Arch
from nas.records.plan import derived_seed
from nas.records.recipes import Decay, Teacher, TrainingPlan
from nas.records.results import Epoch, History
from nas.serialization import from_data, to_data
from nas.training.augmentation import augmented_by_policy, mixed
from nas.training.captured import Step
from nas.training.crops import TrainingImages, training_images
from nas.training.devices import device, on_card
from nas.training.images import Data, Images
from nas.training.muon import sgd
from nas.training.picture_cache import Stored
from nas.training.step import (
    Diverged,
    Tick,
    for_device,
    keep_freed_memory,
    logits_of,
    loss_of,
    normalised,
    set_rate,
    step_of,
    trainable,
)


@dataclass(slots=True)
class Learner:
    """A network in training, and all that the next epoch needs."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    history: History
    step: Step | None = None
    """What trains it by a batch, once an epoch was begun here: what was captured serves all epochs."""

    @property
    def trained_model(self) -> nn.Module:
        """The network that is evaluated: the running average where there is one."""
        trained_model: nn.Module = self.average.module if self.average else self.model
        return trained_model


def new_learner(plan: TrainingPlan, seed: int, asked: str | None = None) -> Learner:
    """An untrained network of `plan`, on the device that is `asked` for."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(derived_seed(seed, "weights"))
    model = trainable(plan.arch, asked).to(memory_format=torch.channels_last)
    training = plan.training
    decayed, spared = _decayed(model, training.decay)
    parts = [(decayed, training.weight_decay), (spared, 0.0)]
    optimiser = sgd(model, parts, training.muon, training.lr, training.momentum, training.nesterov)
    average = None
    if training.average:
        average = AveragedModel(model, avg_fn=_averaging(training.average), use_buffers=True)
    return Learner(model, optimiser, average, History())


def _averaging(most: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How an average takes in the next weights, having taken in n: at most `most` of it stays."""

    def averaged(old: Tensor, new: Tensor, n: Tensor | int) -> Tensor:
        if not old.is_floating_point():  # how many batches a norm has seen
            return new
        return old.lerp(new, _new_share(most, int(n)))

    return averaged


def _new_share(most: float, n: int) -> float:
    """The share of the next weights in an average that has taken in `n`."""
    return 1 - min(most, (1 + n) / (10 + n))


@torch.no_grad()
def average_in(average: AveragedModel, model: nn.Module, most: float, n: int) -> None:
    """`average.update_parameters(model)`, which has taken in `n`, for cards: torch's reads that number back from the
    card at every step."""
    olds = [*average.module.parameters(), *average.module.buffers()]
    news = [*model.parameters(), *model.buffers()]
    if n:
        floats = [old.is_floating_point() for old in olds]
        torch._foreach_lerp_(list(compress(olds, floats)), list(compress(news, floats)), _new_share(most, n))
        olds, news = ([one for one in both if not one.is_floating_point()] for both in (olds, news))
    torch._foreach_copy_(olds, news)
    average.n_averaged += 1


def _decayed(model: nn.Module, decay: Decay) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that decay, and those that are spared."""
    if decay == "all":
        return list(model.parameters()), []
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    depthwise = {layer.weight for layer in convolutions if layer.groups == layer.in_channels > 1}
    parts: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []
    for parameter in model.parameters():
        parts[parameter.ndim < 2 or parameter in depthwise].append(parameter)
    return parts


def state(learner: Learner) -> bytes:
    """All of `learner` as the content of a file."""
    buffer = io.BytesIO()
    kept = {
        "model": learner.model.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "average": learner.average.state_dict() if learner.average else None,
        "history": json.dumps(to_data(learner.history)),
    }
    torch.save(kept, buffer)
    return buffer.getvalue()


def restored_learner(plan: TrainingPlan, seed: int, content: bytes, place: str, asked: str | None = None) -> Learner:
    """The learner whose `state` is `content`, read from `place`, on the device that is `asked` for; it may have been on
    another one before. Raises Error where it is of another training."""
    learner = new_learner(plan, seed, asked)
    try:
        kept = torch.load(io.BytesIO(content), map_location=device(asked), weights_only=True)
        learner.model.load_state_dict(kept["model"])
        learner.optimiser.load_state_dict(kept["optimiser"])
        if learner.average:
            learner.average.load_state_dict(kept["average"])
        learner.history = from_data(History, json.loads(kept["history"]))
    except Exception as error:  # of zip files, pickles and shapes: torch has no class of its own for them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise Error(
            f"{place} cannot be resumed, it is truncated or of another network ({reason}); delete it to begin "
            "this seed again"
        ) from None
    return learner


def train_epoch(
    learner: Learner,
    plan: TrainingPlan,
    data: Data,
    seed: int,
    teacher: nn.Module | None = None,
    tick: Tick = lambda _: None,
) -> None:
    """Trains `learner` through its next epoch, which joins its history.

    Raises Diverged where the loss is not finite: at once on the CPU, at the epoch's end on a card.
    """
    training, number = plan.training, len(learner.history.epochs)
    model, where = learner.model.train(), next(learner.model.parameters()).device
    images = images_of(data, plan)
    ready = _ready(images, data, training.crop, where)
    torch.manual_seed(derived_seed(seed, f"epoch {number}"))  # dropout, policies and mixing draw from torch's own
    rng = torch.Generator(where).manual_seed(derived_seed(seed, f"order {number}"))
    if learner.step is None:
        optimiser, weights = for_device(learner.optimiser, where), data.class_weights(images, where)
        learner.step = step_of(model, optimiser, _loss(model, plan, weights, teacher))
    batches = ready.batches(training.batch)
    steps, total, begun_at, lr = batches * training.epochs, torch.zeros((), device=where), time.perf_counter(), 0.0
    for step, (pixels, labels) in enumerate(ready.epoch(training.batch, rng), number * batches):
        lr = training.lr_at(step, steps)
        for group in learner.optimiser.param_groups:
            set_rate(group, training.lr_at(step, steps, group.get("highest_lr")))
        x = normalised(augmented_by_policy(pixels, training), data)
        x, answers = mixed(x, labels, len(data.classes), training)
        total += learner.step(x, answers)
        if learner.average and on_card(where):
            average_in(learner.average, model, training.average, step)
        elif learner.average:
            learner.average.update_parameters(model)
        if not on_card(where) and not total.isfinite():  # a card would be waited for in every step
            break
        tick(len(labels))
    if not total.isfinite():
        raise Diverged(f"the training loss is {float(total)} in epoch {number + 1} at lr {lr:g}: it does not train so")
    seconds, now = time.perf_counter() - begun_at, time.perf_counter()
    accuracy = (
        None if plan.all_images else topk_accuracy(logits_of(learner.trained_model, data, data.val), data.val.labels)
    )
    epoch = Epoch(number, lr, float(total) / batches, accuracy, len(images), seconds, time.perf_counter() - now)
    learner.history = History((*learner.history.epochs, epoch))


def _loss(model: nn.Module, plan: TrainingPlan, weights: Tensor | None, teacher: nn.Module | None) -> Step:
    """The loss of `model` on a batch, by the classes or by a teacher's answers too."""

    def loss(x: Tensor, answers: Tensor) -> Tensor:
        logits = model(x)
        found = loss_of(logits, answers, weights, plan.training.label_smoothing)
        if teacher and plan.teacher:
            found = _distilled(found, logits, _teacher_logits(teacher, x), plan.teacher)
        return found

    return loss


def images_of(data: Data, plan: TrainingPlan) -> Images:
    """The images that `plan` trains on."""
    return _joined(data) if plan.all_images else data.train


@lru_cache(maxsize=1)
def _joined(data: Data) -> Images:
    both = data.train, data.val
    labels = torch.cat([part.labels for part in both])
    if isinstance(data.train.pixels, Stored):
        return Images(data.train.pixels, labels, torch.cat([part.rows for part in both if part.rows is not None]))
    return Images(torch.cat([part.all() for part in both]), labels)


@lru_cache(maxsize=1)
def _ready(images: Images, data: Data, pad: int, where: torch.device) -> TrainingImages:
    """The images made ready for training: every epoch needs the same."""
    return training_images(images, data, pad, where)


def _teacher_logits(teacher: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        answer: Tensor = teacher(x)
    return answer


def _distilled(loss: Tensor, logits: Tensor, teacher_logits: Tensor, teacher: Teacher) -> Tensor:
    """Hinton, Vinyals and Dean (2015): `loss` and the distance from the teacher's softened answers."""
    temperature = teacher.temperature
    distance = functional.kl_div(
        (logits / temperature).log_softmax(1),
        (teacher_logits / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - teacher.share) * loss + teacher.share * temperature**2 * distance


def topk_accuracy(logits: Tensor, labels: Tensor, first: int = 1) -> float:
    """Share of the images whose class is among the `first` answers, in percent; of equal logits the first counts."""
    hits = (logits.argsort(dim=1, descending=True, stable=True)[:, :first] == labels[:, None]).any(1)
    return 100 * int(hits.sum()) / len(labels)


def class_metrics(logits: Tensor, labels: Tensor) -> tuple[float, float, float, tuple[tuple[int, ...], ...]]:
    """Precision, recall and F1, each the mean over the classes that `labels` hold, in percent, and the confusion
    matrix. That recall is balanced accuracy."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, answer, classes = labels.numpy(), logits.argmax(1).numpy(), list(range(logits.shape[1]))
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, answer, labels=labels.unique().numpy(), average="macro", zero_division=0
    )
    counts: Sequence[Sequence[int]] = confusion_matrix(truth, answer, labels=classes).tolist()
    return 100 * float(precision), 100 * float(recall), 100 * float(f1), tuple(tuple(row) for row in counts)


def network(arch: Arch, asked: str | None = None) -> nn.Module:
    """`arch` as a module on the device that is `asked` for, to be given weights."""
    return build(arch).to(device(asked)).eval()
