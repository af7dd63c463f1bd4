"""What only a card can show. `pytest -m cuda`; skipped where there is none.

With NAS_STAND_IN=cpu those tests that can run on the CPU do so: they show nothing, but that they run.
"""

import copy
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.latency.energy import energy_of
from nas.latency.measure import measured
from nas.models.torch_model import build
from nas.networks.architecture import Arch, Head, Stage, Stem, arch_id
from nas.networks.blocks import Block, Bottleneck
from nas.records.budget import Budget
from nas.records.optimisers import Muon
from nas.records.plan import Meter, Recipe
from nas.records.recipes import TRAINING_RECIPES, TrainingPlan
from nas.records.timing import Energy
from nas.training import captured, devices
from nas.training.captured import CapturedStep
from nas.training.datasets import load
from nas.training.learner import Learner, new_learner, restored_learner, state, train_epoch
from nas.training.proxy import Proxy
from nas.training.step import for_device, loss_of, normalised, optimiser_of, set_rate, step_of
from search_spaces import ANCHORS
from tests.conftest import RECIPE, plan_for
from tests.networks.test_blocks import MAKE, network

CARD, STAND_IN = torch.cuda.is_available(), os.environ.get("NAS_STAND_IN") == "cpu"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not (CARD or STAND_IN), reason="torch finds no CUDA device here"),
]
on_a_card = pytest.mark.skipif(not CARD, reason="torch finds no CUDA device here")
NAME = "cuda" if CARD else "cpu"
WHERE = torch.device(NAME)
SMALL = Arch(Stem(8), (Stage(Bottleneck(2.0), 8, 1), Stage(Bottleneck(2.0), 16, 1, 2)), Head(32))
LOWRES = ANCHORS["lowres-mobilenet"].arch
MUON = replace(RECIPE, muon=Muon())


def gradients(model: torch.nn.Module, x: torch.Tensor, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    """The logits, and the gradients of all parameters, in double precision; computed in `dtype` where that is given."""
    with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
        logits = model(x)
    logits = logits if dtype is None else logits.float()
    loss_of(logits, torch.arange(len(x), device=x.device) % logits.shape[1], None).backward()
    found = [logits, *(p.grad for p in model.parameters() if p.grad is not None)]
    return [one.detach().double().cpu() for one in found]


def off(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """How far from each other, all together, as a share of what is expected."""
    apart = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
    return float((apart / sum(float(b.square().sum()) for b in expected)) ** 0.5)


@pytest.mark.parametrize("kind", MAKE, ids=lambda kind: kind.kind)
def test_forward_and_backward_agree_with_the_cpu(kind: type[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five networks of every kind, how far from double precision: in fp32 the median within 1e-3 and all within
    0.1, in half precision 0.1 and 0.5; or, where the CPU's own fp32 and bf16 are farther off, five times as much. All,
    since an activation that lies at a kink may be rounded to its other side: on CPUs too, in another layout."""
    if CARD:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    rng, errors = random.Random(kind.kind), dict[bool, list[tuple[float, float]]]({False: [], True: []})
    for _ in range(5 if CARD else 1):
        arch = network(kind, rng)
        arch = replace(arch, head=replace(arch.head, dropout=0.0))
        torch.manual_seed(0)
        start = build(arch).train()
        x = torch.randn(8, arch.channels, arch.resolution, arch.resolution)
        expected = gradients(copy.deepcopy(start).double(), x.double())
        for half, mine, theirs in ((False, None, None), (True, devices.half(WHERE), torch.bfloat16)):
            usual = off(gradients(copy.deepcopy(start), x, theirs), expected)
            model = copy.deepcopy(start).to(WHERE).to(memory_format=torch.channels_last)
            found = gradients(model, x.to(WHERE).contiguous(memory_format=torch.channels_last), mine)
            errors[half].append((off(found, expected), usual))
    for half, middle, most in ((False, 1e-3, 0.1), (True, 0.1, 0.5)):
        found_off, usual_off = (sorted(each) for each in zip(*errors[half], strict=True))
        assert found_off[-1] < max(most, 5 * usual_off[-1]), errors
        if CARD:
            assert found_off[2] < max(middle, 5 * usual_off[2]), errors


def trained(recipe: Recipe, capture: bool, where: torch.device, steps: int = 8) -> list[torch.Tensor]:
    """The weights after some steps on one and the same batches, at a learning rate of their own each."""
    data = load("digits")
    torch.manual_seed(0)
    model = build(replace(SMALL, resolution=data.resolution)).to(where).to(memory_format=torch.channels_last).train()
    optimiser = for_device(optimiser_of(model, recipe), where)
    step = step_of(model, optimiser, lambda x, y: loss_of(model(x), y, None))
    assert isinstance(step, CapturedStep) == (where.type == "cuda")
    if isinstance(step, CapturedStep) and not capture:
        step = step.step
    for number in range(steps):
        for group in optimiser.param_groups:
            set_rate(group, 0.002 * (number + 1))
        batch = slice(32 * number, 32 * number + 32)
        pixels, labels = data.train.pixels[batch].to(where), data.train.labels[batch].to(where)
        assert step(normalised(pixels, data), labels).isfinite()
    if isinstance(step, CapturedStep):
        assert step.graph is not None and not captured._refused
        before = [p.detach().clone() for p in model.parameters()]
        for group in optimiser.param_groups:
            set_rate(group, 0.0)
        step(normalised(pixels, data), labels)
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), "the rate is followed"
    return [p.detach().double().cpu() for p in model.parameters()]


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["sgd", "muon"])
def test_a_captured_step_is_the_step(recipe: Recipe) -> None:
    """To 1e-5; and the CPU's, in fp32, to 0.05."""
    one, other = trained(recipe, True, WHERE), trained(recipe, False, WHERE)
    assert off(one, other) < 1e-5
    assert off(one, trained(recipe, False, torch.device("cpu"))) < 0.05


@on_a_card
def test_fp16_with_a_scaled_loss_trains_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(RECIPE, True, WHERE)
    monkeypatch.setattr(devices, "half", lambda where: torch.float16 if where.type == "cuda" else None)
    assert devices.loss_scale(WHERE) == devices.FP16_SCALE
    assert off(trained(RECIPE, True, WHERE), expected) < 0.05


def test_a_seed_decides_on_one_card() -> None:
    proxy = Proxy(plan_for(Budget(macs=10**9)), NAME)
    arch = replace(SMALL, head=replace(SMALL.head, dropout=0.2))
    scores = [proxy(arch, 0)[0] for _ in range(2)]
    assert scores[0].train_loss == scores[1].train_loss and scores[0].top1 == scores[1].top1
    _, left = proxy(arch, 0)
    assert proxy(arch, 1, left)[0].train_loss == proxy(arch, 1)[0].train_loss


@pytest.mark.parametrize("name", ["quick", "quick-muon", "strong"] if CARD else ["strong"])
def test_a_training_that_was_cut_off_ends_as_one_that_was_not(name: str) -> None:
    """Bit for bit on the CPU; on a card to 1e-3 of the loss."""
    data = load("digits")
    data = replace(data, train=data.train.first(512), val=data.val.first(64))
    training = replace(TRAINING_RECIPES[name], epochs=3, batch=32, warmup=0)
    plan = TrainingPlan("small", "here", SMALL, "digits", training, (0,))

    def epochs(cut: bool) -> Learner:
        learner = new_learner(plan, 0, NAME)
        for _ in range(3):
            train_epoch(learner, plan, data, 0)
            if cut:
                learner = restored_learner(plan, 0, state(learner), "checkpoint.pt", NAME)
        return learner

    whole, cut = epochs(False), epochs(True)
    losses = [[epoch.train_loss for epoch in one.history.epochs] for one in (whole, cut)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and losses[0][-1] < losses[0][0]


@on_a_card
def test_memory_says_how_many_share_a_card() -> None:
    free, total = torch.cuda.mem_get_info()
    number = devices.room(LOWRES, 64)
    assert 1 <= number <= total / 2**28, "a context alone takes more than 256 MB"
    if free > 20 * 2**30:
        assert number >= 4
    assert devices.room(replace(LOWRES, resolution=128), 256) <= number


@on_a_card
def test_after_a_card_was_full_it_trains() -> None:
    proxy = Proxy(plan_for(Budget(macs=10**9)), NAME)
    with pytest.raises(torch.OutOfMemoryError), devices.giving_back():
        torch.empty(4 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device=WHERE)
    assert proxy(SMALL, 0)[0].images == 64


@on_a_card
def test_trainings_that_share_a_card_come_out_the_same() -> None:
    pytest.importorskip("ray")
    from nas.execution.cluster import RayWorkers
    from nas.execution.jobs import Job

    proxy = Proxy(plan_for(Budget(macs=10**9)), NAME)
    jobs = [Job(key, replace(SMALL, head=Head(width)), 0, lambda: None, 1.0) for key, width in enumerate((16, 32, 48))]
    workers = RayWorkers(proxy, 2, gpus=0.25)
    try:
        found: dict[int, Any] = {job.key: of for job, of in workers.run(jobs, lambda *_: None, lambda: False)}
    finally:
        workers.close()
    for job in jobs:
        assert found[job.key].score is not None, found[job.key].error
        assert found[job.key].score.train_loss == proxy(job.arch, 0)[0].train_loss, arch_id(job.arch)


@on_a_card
@pytest.mark.parametrize("batch", [1, 64])
def test_latency_is_measured_with_its_conditions(batch: int) -> None:
    meter = Meter("lowres-mobilenet", runtime="cuda", batch=batch, seconds=0.5)
    found = measured(SMALL, LOWRES, meter)
    assert 0 < found.median_ms < 100 and found.ratio is not None and found.ratio < 1
    assert found.device == torch.cuda.get_device_name() and found.batch == batch
    assert found.clocks == "" or found.clocks.startswith("SM ")
    energy = energy_of(SMALL, meter, seconds=0.5)
    assert isinstance(energy, Energy | str)


@on_a_card
def test_what_is_kept_on_a_card_is_not_kept_twice(tmp_path: Path) -> None:
    """Trainings one after the other leave nothing of their memory behind."""
    proxy = Proxy(plan_for(Budget(macs=10**9)), NAME)
    held = []
    for _ in range(4):
        proxy(SMALL, 0)
        held.append(torch.cuda.memory_allocated())
    assert held[3] <= held[1], held
