"""Devices that networks are trained on: which there are, which is taken, and in what precision they compute.

A card (CUDA, or Apple's MPS) is given an epoch's images at once and its learning rate as a tensor, and is waited for
once an epoch: see `on_card`. On the CPU nothing of that pays.

TF32 is left as torch has it: convolutions may take it, matrix products do not. Under bf16 and fp16 that concerns the
iterations of Muon alone, which so compute in full fp32.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch

from nas.errors import Error
from nas.networks.architecture import Arch
from nas.records.plan import DEVICES

AMPERE = 8  # the first generation of cards that computes in bf16
FP16_SCALE = 1024.0  # of the loss under fp16, whose gradients would else vanish below 6e-8
SPARE = 0.1  # of a card's free memory that is left free
GROWTH = 2.0  # times the memory of the network that was measured: others of its search may need as much


def device(asked: str | None = None) -> torch.device:
    """The device called `asked`; None: CUDA where there is a card, else MPS, else the CPU.

    Raises Error where torch finds none of that name here.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = asked or next(name for name in DEVICES if there[name])
    if not there[name]:
        raise Error(f"device {name} is asked for, torch {torch.__version__} finds none here; leave it out, or take cpu")
    if name == "cuda":
        _settled()
    return torch.device(name)


@cache
def _settled() -> None:
    """Has cuDNN take algorithms that give the same twice: a rung trained again after a kill comes out the same."""
    torch.backends.cudnn.deterministic = True


def cards(asked: str | None = None) -> int:
    """How many CUDA cards trainings are spread over that `asked` for such a device."""
    return torch.cuda.device_count() if device(asked).type == "cuda" else 0


def on_card(where: torch.device) -> bool:
    """Whether a training on `where` draws an epoch at once, and is not waited for within it."""
    return where.type != "cpu"


@cache
def half(where: torch.device) -> torch.dtype | None:
    """What convolutions and matrix products compute in on `where`: bf16, on cards before Ampere fp16; None: fp32."""
    if where.type != "cuda":
        return None
    newer = torch.version.hip is not None or torch.cuda.get_device_capability(where)[0] >= AMPERE
    return torch.bfloat16 if newer else torch.float16


def precision(where: torch.device) -> Any:
    """The context networks are run in."""
    dtype = half(where)
    return nullcontext() if dtype is None else torch.autocast(where.type, dtype)


def loss_scale(where: torch.device) -> float:
    """What the loss is multiplied by for its gradients."""
    return FP16_SCALE if half(where) == torch.float16 else 1.0


def name_of(where: torch.device) -> str:
    """What a score says of the device: the card's name, or "cpu"."""
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type


def described(asked: str | None) -> str:
    """Where trainings run, in a line: the device, its precision, how many there are."""
    where = device(asked)
    if where.type != "cuda":
        return f"trains on {where.type}, fp32, {'one thread a training' if where.type == 'cpu' else 'untried'}"
    several = f"{cards()} x " if cards() > 1 else ""
    kind = "bf16" if half(where) == torch.bfloat16 else "fp16"
    return f"trains on cuda, {several}{name_of(where)}, {kind}, steps as CUDA graphs"


@contextmanager
def giving_back() -> Iterator[None]:
    """In which a training runs that shares a card: what it no longer holds is free for the others after it."""
    try:
        yield
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def fitting(free: int, used: int) -> int:
    """How many trainings have room in `free` bytes of a card, where a process that trained one holds `used`."""
    return max(1, int(free * (1 - SPARE) / (GROWTH * used)))


def room(arch: Arch, batch: int) -> int:
    """How many trainings of networks like `arch` a card has room for, each in a process of its own.

    Measured: two steps are trained, and what the card then holds, its context included, is one training's. What other
    processes hold counts as its too.
    """
    from nas.models.torch_model import build

    where = device("cuda")
    free_before, total = torch.cuda.mem_get_info(where)
    model = build(arch).to(where).to(memory_format=torch.channels_last).train()
    x = torch.rand(batch, arch.channels, arch.resolution, arch.resolution, device=where)
    for _ in range(2):
        with precision(where):
            loss = model(x.contiguous(memory_format=torch.channels_last)).float().square().mean()
        loss.backward()
    free, _ = torch.cuda.mem_get_info(where)
    del model, x, loss
    torch.cuda.empty_cache()
    return fitting(free_before, total - free)
