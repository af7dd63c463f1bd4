"""Training and measuring accuracy on tensors in memory."""

import ctypes
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.models.torch_model import build
from nas.networks.architecture import Arch
from nas.records.optimisers import share_of_lr
from nas.records.plan import Recipe
from nas.training.crops import seen, training_images
from nas.training.depthwise import with_fast_gradients
from nas.training.images import Data, Images
from nas.training.muon import sgd

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


def device() -> torch.device:
    """The device networks are trained on: CUDA where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.deterministic = True  # a rung trained again after a kill has to come out the same
    return torch.device("cuda")


def cards() -> int:
    """How many GPUs there are."""
    return torch.cuda.device_count()


def trainable(arch: Arch) -> nn.Module:
    """The untrained module of `arch`, on the device, made to be trained fast."""
    return with_fast_gradients(build(arch)).to(device())


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


def precision(where: torch.device) -> Any:
    """The context networks are run in: bf16 on CUDA, fp32 on the CPU."""
    return torch.autocast("cuda", torch.bfloat16) if where.type == "cuda" else nullcontext()


def normalised(pixels: Tensor, data: Data) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float in channels_last, zero mean and unit variance over `data`."""
    mean = torch.tensor(data.mean, device=pixels.device) * 255
    std = torch.tensor(data.std, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


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
    Raises Diverged where the loss is not finite: at once on the CPU, at the end on CUDA.
    """
    keep_freed_memory()
    where = next(model.parameters()).device
    model.train().to(memory_format=torch.channels_last)
    ready = training_images(images, data, recipe.pad, where)
    rng = torch.Generator().manual_seed(seed)
    batches = -(-len(images) // recipe.batch)
    begin, end = part
    steps = epochs * batches
    tail = max(1, round(recipe.tail * steps))
    weights = data.class_weights(images, where)
    total, start = torch.zeros((), device=where), time.perf_counter()
    for epoch in range(epochs):
        for i, index in enumerate(torch.randperm(len(images), generator=rng).tensor_split(batches)):
            step = epoch * batches + i
            if step == steps - tail and recipe.judge == "loss":
                for dropout in (module for module in model.modules() if isinstance(module, nn.Dropout)):
                    dropout.eval()
            for group in optimiser.param_groups:
                share = share_of_lr(recipe.schedule, begin + (end - begin) * step / steps)
                group["lr"] = group.get("highest_lr", recipe.lr) * share
            batch = ready.drawn(index, rng)
            with precision(where):
                loss = loss_of(model(normalised(batch, data)), ready.labels[index.to(where)], weights)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if step >= steps - tail:
                total += loss.detach()
            if where.type == "cpu":  # on CUDA this would wait for the device in every step
                _check_finite(loss.detach(), recipe)
            tick(len(index))
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
    parts = []
    for index in torch.arange(len(images)).split(batch):
        pixels = seen(images.take(index), data)
        with precision(where):
            parts.append(model(normalised(pixels.to(where), data)).float().cpu())
    return torch.cat(parts)


def top1(model: nn.Module, data: Data, images: Images, batch: int = 100) -> float:
    """Share of `images` whose class `model` ranks first, in percent."""
    right = int((logits_of(model, data, images, batch).argmax(1) == images.labels).sum())
    return 100 * right / len(images)
