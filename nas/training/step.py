"""Training and measuring accuracy on tensors in memory."""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.models.torch_model import build
from nas.networks.architecture import Arch
from nas.records.optimisers import share_of_lr
from nas.records.plan import Recipe
from nas.training.captured import CapturedStep, Step
from nas.training.crops import seen, training_images
from nas.training.depthwise import with_fast_gradients
from nas.training.devices import device, loss_scale, on_card, precision
from nas.training.images import PADDED, Data, Images
from nas.training.muon import sgd

CARD_BATCH = 1000  # images of PADDED pixels a side that a card evaluates at once; of larger ones as many pixels
Tick: TypeAlias = Callable[[int], None]
"""Called with how many more images have been trained on."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """What came of `train`: mean loss over the last steps, images seen, seconds."""

    loss: float
    images: int
    seconds: float


class Diverged(RuntimeError):
    """The training loss is no longer finite."""


def trainable(arch: Arch, asked: str | None = None) -> nn.Module:
    """The untrained module of `arch`, on the device that is `asked` for, made to be trained fast."""
    return with_fast_gradients(build(arch)).to(device(asked))


@cache
def keep_freed_memory() -> bool:
    """Whether glibc now keeps freed memory for the next step.

    Activations of some megabytes are otherwise mapped afresh and zeroed by the kernel in every step, which costs
    a fifth to a third of a small network's training time on a CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def normalised(pixels: Tensor, data: Data) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float in channels_last, zero mean and unit variance over `data`."""
    mean, std = _levels(data.mean, pixels.device), _levels(data.std, pixels.device)
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _levels(shares: tuple[float, ...], where: torch.device) -> Tensor:
    """`shares` of the highest level of a pixel, as levels (C,) on the device: a card would be waited for to make it."""
    return torch.tensor(shares, device=where) * 255


def loss_of(logits: Tensor, answers: Tensor, weights: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """The mean cross entropy of a batch; `answers`: classes (B,), or shares of them (B, classes). With `weights`
    (classes,) an image counts as much as its class does, whatever else is in the batch."""
    if weights is None:
        return functional.cross_entropy(logits, answers, label_smoothing=smoothing)
    each = functional.cross_entropy(logits, answers, label_smoothing=smoothing, reduction="none")
    return (each * (weights[answers] if answers.ndim == 1 else answers @ weights)).mean()


def optimiser_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of `recipe`; weight decay spares batch norm and biases."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    parts = [(matrices, recipe.weight_decay), (vectors, 0.0)]
    return sgd(model, parts, recipe.muon, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)


def for_device(optimiser: torch.optim.Optimizer, where: torch.device) -> torch.optim.Optimizer:
    """`optimiser` as it steps fastest on `where`, whatever device its state comes from.

    On a card that is fused: it alone takes a learning rate that is a tensor without reading it back, and a captured
    step follows the schedule by that tensor.
    """
    for group in optimiser.param_groups:
        rate, card = float(group["lr"]), on_card(where)
        group["foreach"], group["fused"] = (None, True) if card else (True, None)
        group["lr"] = torch.tensor(rate, device=where) if card else rate
    return optimiser


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Makes `rate` the learning rate of a group of parameters."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def step_of(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Step) -> Step:
    """What trains `model` by a batch, to a lower `loss`; on CUDA it is captured, see `nas.training.captured`."""
    where = next(model.parameters()).device
    scale = loss_scale(where)

    def step(x: Tensor, answers: Tensor) -> Tensor:
        with precision(where):
            found = loss(x, answers)
        optimiser.zero_grad(set_to_none=True)
        if scale == 1:
            found.backward()
        else:
            (found * scale).backward()
            torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], 1 / scale)
        optimiser.step()
        return found.detach()

    return CapturedStep(step) if where.type == "cuda" else step


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: Data,
    images: Images,
    epochs: int,
    recipe: Recipe,
    seed: int,
    tick: Tick = lambda _: None,
    part: tuple[float, float] = (0.0, 1.0),
) -> Epochs:
    """Trains `model` in place for `epochs` passes over `images`, through `part` of a learning-rate cycle.

    The loss is the mean over the last steps, `recipe.tail` of all. Order, crops and flips follow from `seed` alone,
    what is dropped out from torch's own generator; in the last steps nothing is, where networks are ranked by their
    loss: dropout would count against those that have it.
    Raises Diverged where the loss is not finite: at once on the CPU, at the end on a card.
    """
    keep_freed_memory()
    where = next(model.parameters()).device
    model.train().to(memory_format=torch.channels_last)
    ready = training_images(images, data, recipe.pad, where)
    rng = torch.Generator(where).manual_seed(seed)
    begin, end = part
    steps = epochs * ready.batches(recipe.batch)
    tail = max(1, round(recipe.tail * steps))
    weights = data.class_weights(images, where)

    def loss(x: Tensor, answers: Tensor) -> Tensor:
        return loss_of(model(x), answers, weights)

    step = step_of(model, for_device(optimiser, where), loss)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    total, start = torch.zeros((), device=where), time.perf_counter()
    batches = (batch for _ in range(epochs) for batch in ready.epoch(recipe.batch, rng))
    for number, (pixels, answers) in enumerate(batches):
        if number == steps - tail and recipe.judge == "loss" and dropouts:
            for dropout in dropouts:
                dropout.eval()
            step = step_of(model, optimiser, loss)  # captured anew
        share = share_of_lr(recipe.schedule, begin + (end - begin) * number / steps)
        for group in optimiser.param_groups:
            set_rate(group, group.get("highest_lr", recipe.lr) * share)
        found = step(normalised(pixels, data), answers)
        if number >= steps - tail:
            total += found
        if not on_card(where):  # which would be waited for in every step
            _check_finite(found, recipe)
        tick(len(answers))
    _check_finite(total, recipe)
    return Epochs(float(total) / tail, epochs * len(images), time.perf_counter() - start)


def _check_finite(loss: Tensor, recipe: Recipe) -> None:
    if not loss.isfinite():
        raise Diverged(f"the training loss is {float(loss)} at lr {recipe.lr}: this network does not train so")


@torch.no_grad()
def logits_of(model: nn.Module, data: Data, images: Images, batch: int = 100) -> Tensor:
    """Logits (N, classes) of `model` on `images`, fp32, on the CPU."""
    where = next(model.parameters()).device
    model.eval().to(memory_format=torch.channels_last)
    if on_card(where):
        batch = max(batch, CARD_BATCH * PADDED**2 // data.resolution**2)
    parts = []
    for index in torch.arange(len(images)).split(batch):
        pixels = seen(images.take(index), data)
        with precision(where):
            parts.append(model(normalised(pixels.to(where), data)).float())
    return torch.cat(parts).cpu()


def top1(model: nn.Module, data: Data, images: Images, batch: int = 100) -> float:
    """Share of `images` whose class `model` ranks first, in percent."""
    right = int((logits_of(model, data, images, batch).argmax(1) == images.labels).sum())
    return 100 * right / len(images)
