"""Muon: steps are orthogonal, as torch's own takes them; what it does not train is trained by SGD as ever."""

import io
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas.models.torch_model import build
from nas.records.optimisers import Muon, linear, one_cycle
from nas.records.recipes import TRAINING_RECIPES, in_batches
from nas.serialization import from_json, to_json
from nas.training.muon import MuonSGD, orthogonal, sgd, whole_kernels
from nas.training.step import optimiser_of
from search_spaces import ANCHORS
from tests.conftest import RECIPE

ARCH = ANCHORS["lowres-mobilenet"].arch


@pytest.mark.parametrize("shape", [(8, 8), (40, 7), (7, 40)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    found = orthogonal(matrix, 5)
    assert found.shape == matrix.shape
    values = torch.linalg.svdvals(found)
    assert 0.5 < values.min() and values.max() < 1.3
    torch.testing.assert_close(orthogonal(100 * matrix, 5), found)  # of any size


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_it_steps_as_torchs_own() -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(24, 10, generator=generator)
    theirs = nn.Parameter(start.clone())
    conv = nn.Conv2d(10, 24, 1, bias=False)
    conv.weight.data = start.clone()[:, :, None, None]
    own = sgd(conv, [(list(conv.parameters()), 5e-4)], Muon(lr=0.1, momentum=0.6, steps=3), 0.5, 0.9, True)
    own.param_groups[-1]["lr"] = 0.1
    other = torch.optim.Muon([theirs], lr=0.1, momentum=0.6, weight_decay=0.0, ns_steps=3, nesterov=True)
    for _ in range(4):
        gradient = torch.randn(24, 10, generator=generator)
        theirs.grad, conv.weight.grad = gradient.clone(), gradient.clone()[:, :, None, None]
        other.step()
        own.step()
    moved = (conv.weight.detach().flatten(1) - start, theirs.detach() - start)
    assert (moved[0] - moved[1]).norm() < 0.02 * moved[1].norm()  # theirs is in bf16


def test_whole_convolutions_alone_are_trained_so() -> None:
    model = build(ARCH)
    plain, ours = optimiser_of(model, RECIPE), optimiser_of(model, replace(RECIPE, muon=Muon()))
    assert type(plain) is torch.optim.SGD and isinstance(ours, MuonSGD)
    kernels = whole_kernels(model)
    assert kernels and all(kernel.ndim == 4 and kernel.shape[1] > 3 for kernel in kernels)
    assert {id(p) for p in ours.param_groups[-1]["params"]} == {id(p) for p in kernels}
    everything = [id(p) for group in ours.param_groups for p in group["params"]]
    assert len(everything) == len(set(everything)) == len(list(model.parameters()))
    assert ours.param_groups[-1]["weight_decay"] == 0


def test_its_state_is_kept() -> None:
    def saved(content: object) -> io.BytesIO:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        buffer.seek(0)
        return buffer

    def model_and_optimiser() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6))
        return model, sgd(model, [(list(model.parameters()), 0.0)], Muon(), 0.1, 0.9, True)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        model(x).square().mean().add(model(x).sum()).backward()
        optimiser.step()

    whole = model_and_optimiser()
    step(*whole, 1)
    kept = [torch.load(saved(one.state_dict()), weights_only=True) for one in whole]
    step(*whole, 2)
    again = model_and_optimiser()
    again[0].load_state_dict(kept[0])
    again[1].load_state_dict(kept[1])
    step(*again, 2)
    for one, other in zip(whole[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_recipes_with_it_are_read_back() -> None:
    for recipe in (*TRAINING_RECIPES.values(), replace(RECIPE, muon=Muon(), schedule="linear")):
        assert from_json(type(recipe), to_json(recipe)) == recipe
    assert TRAINING_RECIPES["quick-muon"].muon == Muon() and TRAINING_RECIPES["quick"].muon is None


def test_schedules_end_at_nothing() -> None:
    for schedule in (one_cycle, linear):
        shares = [schedule(i / 1000) for i in range(1001)]
        assert shares[0] == pytest.approx(0.04) and max(shares) == pytest.approx(1) and shares[-1] == pytest.approx(0)
    assert linear(0.1) == pytest.approx(1) and linear(0.55) == pytest.approx(0.5)


def test_larger_batches_take_larger_steps() -> None:
    """SGD's rate as the batch, Muon's as its square root; nothing else changes, and a recipe's own batch is itself."""
    quick, muon = TRAINING_RECIPES["quick"], TRAINING_RECIPES["quick-muon"]
    assert in_batches(quick, quick.batch) == quick and in_batches(muon, muon.batch) == muon
    larger = in_batches(muon, 4 * muon.batch)
    assert larger.muon == replace(muon.muon, lr=2 * muon.muon.lr)
    assert larger == replace(muon, batch=4 * muon.batch, lr=4 * muon.lr, muon=larger.muon)
