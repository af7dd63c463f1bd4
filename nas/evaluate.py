"""Proxy training of a candidate, one rung at a time. Picklable: a `Proxy` may be sent to another process."""

import io
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from nas.arch import Arch, arch_id
from nas.data import Data, load
from nas.model import build
from nas.plan import Plan, derived_seed
from nas.runs import Run, work_file, write_work
from nas.train import Tick, device, sgd, top1, train
from nas.trial import Score
from nas.values import from_data, to_data

loaded = cache(load)  # a process reads its dataset once


@dataclass(frozen=True, slots=True)
class Proxy:
    """`proxy(arch, rung)` trains a network up to and through `rung` and gives that rung's score.

    Between rungs a network's weights and momenta lie in the run's folder: a candidate that goes on continues from its
    own state, in this process or in another one, and a rung finished before a kill is not trained again.
    """

    plan: Plan
    run: Run

    def __call__(self, arch: Arch, rung: int, tick: Tick = lambda _: None) -> Score:
        plan, recipe = self.plan, self.plan.recipe
        data = loaded(plan.dataset, plan.data)
        name = arch_id(arch)
        torch.manual_seed(derived_seed(plan.seed, name))
        model = build(arch).to(device())
        optimiser = sgd(model, recipe)
        scores = self._restore(name, model, optimiser)
        for number in range(len(scores), rung + 1):
            score = self._train(name, model, optimiser, data, number, tick)
            scores.append(score)
            self._keep(name, model, optimiser, scores)
        return scores[rung]

    def _train(self, name: str, model: torch.nn.Module, optimiser: Any, data: Data, number: int, tick: Tick) -> Score:
        rung, where = self.plan.recipe.rungs[number], device()
        seed = derived_seed(self.plan.seed, f"{name}:{number}")
        images = data.train.first(rung.images)
        epochs = train(model, optimiser, data, images, rung.epochs, self.plan.recipe, seed, tick)
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
            device=torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
        )

    def _keep(self, name: str, model: torch.nn.Module, optimiser: Any, scores: list[Score]) -> None:
        if len(scores) == len(self.plan.recipe.rungs):
            return
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "scores": to_data(scores)}
        buffer = io.BytesIO()  # written by us: a full disk is then an OSError, not torch's RuntimeError
        torch.save(state, buffer)
        write_work(self.run, name, buffer.getbuffer())

    def _restore(self, name: str, model: torch.nn.Module, optimiser: Any) -> list[Score]:
        try:
            state = torch.load(work_file(self.run, name), map_location=device(), weights_only=True)
        except FileNotFoundError:
            return []
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return [from_data(Score, score) for score in state["scores"]]
