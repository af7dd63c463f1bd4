"""Proxy training of a candidate, one rung at a time. Picklable: a `Proxy` may be sent to another machine."""

import io
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from nas.networks.architecture import Arch, arch_id
from nas.records.plan import Plan, derived_seed
from nas.records.recipes import TrainingPlan
from nas.records.trial import Score
from nas.training.datasets import load, state_of
from nas.training.devices import device, giving_back, name_of
from nas.training.images import Data, resized
from nas.training.step import Tick, optimiser_of, top1, train, trainable

loaded = cache(load)  # a process reads its dataset once
_states: dict[str, str] = {}  # of the folders that were


def refresh(dataset: str) -> None:
    """Makes this process read a folder again that has changed since."""
    now = state_of(dataset)
    if _states.setdefault(dataset, now) != now:
        _states[dataset] = now
        loaded.cache_clear()


def images_for(asked: Plan | TrainingPlan) -> Data:
    """What a search or a full training may see of its dataset, mirrored or not as it was asked."""
    side = asked.resolution if isinstance(asked, Plan) else asked.arch.resolution
    data = loaded(asked.dataset, asked.data, side, asked.reading)
    return replace(data, flip=data.flip and asked.flip, balance=asked.balance)


@dataclass(frozen=True, slots=True)
class Proxy:
    """`proxy(arch, rung, state, tick)` trains a network through `rung` and gives its score and its state after it.

    `state` holds the weights and momenta that an earlier rung left, so a candidate that goes on continues its own
    training, in this process or in another one. Rungs that it lacks are trained first. On the CPU a training takes one
    thread: what comes out does not depend on how many run side by side.
    """

    plan: Plan
    device: str | None = None
    """One of `nas.records.plan.DEVICES`; None: the first of them that there is where it trains."""

    def __call__(
        self, arch: Arch, rung: int, state: bytes | None = None, tick: Tick = lambda _: None
    ) -> tuple[Score, bytes | None]:
        torch.set_num_threads(1)
        with giving_back():
            return self._through(arch, rung, state, tick)

    def _through(self, arch: Arch, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, bytes | None]:
        plan, recipe = self.plan, self.plan.recipe
        data = resized(images_for(plan), arch.resolution)
        name = arch_id(arch)
        torch.manual_seed(derived_seed(plan.seed, name))
        model = trainable(arch, self.device)
        optimiser = optimiser_of(model, recipe)
        for number in range(_restored(state, rung, model, optimiser), rung + 1):
            score = self._train(name, model, optimiser, data, number, tick)
        last = rung == len(recipe.rungs) - 1
        return score, None if last else _state(rung, model, optimiser)

    def _train(self, name: str, model: torch.nn.Module, optimiser: Any, data: Data, number: int, tick: Tick) -> Score:
        rung = self.plan.recipe.rungs[number]
        seed = derived_seed(self.plan.seed, f"{name}:{number}")
        data = resized(data, rung.side_of(data.resolution))
        recipe, images = self.plan.recipe, data.train.first(rung.images)
        part = recipe.part(number)
        torch.manual_seed(seed)  # of what is dropped out: the same, whether or not another rung went before it here
        epochs = train(model, optimiser, data, images, rung.epochs, recipe, seed, tick, part)
        started = time.perf_counter()
        val = data.val.first(rung.val_images)
        accuracy = top1(model, data, val)
        return Score(
            rung=number,
            top1=accuracy,
            train_loss=epochs.loss,
            images=epochs.images,
            val_images=len(val),
            train_seconds=epochs.seconds,
            val_seconds=time.perf_counter() - started,
            device=name_of(device(self.device)),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
        )


def _state(rung: int, model: torch.nn.Module, optimiser: Any) -> bytes:
    buffer = io.BytesIO()  # written by us: a full disk is then an OSError, not torch's RuntimeError
    torch.save({"rung": rung, "model": model.state_dict(), "optimiser": optimiser.state_dict()}, buffer)
    return buffer.getvalue()


def _restored(state: bytes | None, rung: int, model: torch.nn.Module, optimiser: Any) -> int:
    """The rung that comes next, once `model` and `optimiser` are as `state` says, if it comes before `rung`."""
    where = next(model.parameters()).device
    kept = torch.load(io.BytesIO(state), map_location=where, weights_only=True) if state else None
    if kept is None or kept["rung"] >= rung:  # its score was lost: all over again
        return 0
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    return int(kept["rung"]) + 1
