"""Training on tensors: what is drawn, what is learnt, what is refused."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from nas.models.torch_model import build
from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import Bottleneck
from nas.records.budget import Budget
from nas.records.optimisers import Muon
from nas.records.plan import Recipe, Rung
from nas.training.crops import augmented
from nas.training.datasets import load
from nas.training.images import Data, Images, resized
from nas.training.proxy import Proxy
from nas.training.step import Diverged, for_device, loss_of, normalised, optimiser_of, set_rate, step_of, top1, train
from tests.conftest import RECIPE, plan_for

ARCH = Arch(Stem(8), (Stage(Bottleneck(2.0), 8, 1), Stage(Bottleneck(2.0), 16, 1, 2)), Head(32))


def bright_or_dark(n: int) -> Data:
    """Images whose class is their brightness: learnt in a few steps."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    pixels = (torch.rand(n, 32, 32, 3, generator=rng) * 100 + 120 * labels[:, None, None, None]).to(torch.uint8)
    images = Images(pixels, labels)
    return Data("made", images, images, ("dark", "bright"), (0.5,) * 3, (0.25,) * 3, flip=True, resolution=images.side)


@pytest.mark.parametrize("flip", [False, True])
def test_augmented_images_are_windows_of_the_padded_ones(flip: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    padded = torch.arange(6 * 12 * 12 * 3).reshape(6, 12, 12, 3)
    index = torch.tensor([5, 0, 3, 3])
    batch = augmented(padded, index, 8, flip, rng)
    assert batch.shape == (4, 8, 8, 3)
    seen = set()
    for image, source in zip(batch, padded[index], strict=True):
        windows = {}
        for row in range(5):
            for column in range(5):
                window = source[row : row + 8, column : column + 8]
                windows[window.numpy().tobytes()] = "as it is"
                windows[window.flip(1).contiguous().numpy().tobytes()] = "mirrored"
        seen.add(windows[image.contiguous().numpy().tobytes()])
    assert seen == ({"as it is", "mirrored"} if flip else {"as it is"})


def test_normalised_is_channels_last_with_zero_mean() -> None:
    data = load("digits")
    x = normalised(data.train.pixels, data)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert abs(float(x.mean())) < 1e-3 and abs(float(x.std()) - 1) < 1e-2


def test_it_learns_and_a_seed_decides() -> None:
    data = bright_or_dark(256)
    outcomes = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = build(replace(ARCH, classes=2))
        before = top1(model, data, data.val)
        epochs = train(model, optimiser_of(model, RECIPE), data, data.train, 2, RECIPE, seed)
        outcomes.append((epochs.loss, before, top1(model, data, data.val)))
        assert epochs.images == 512
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != outcomes[2][0]
    assert outcomes[0][2] > 90


def test_one_cycle_spans_each_rung_or_all_up_to_one_that_begins_anew() -> None:
    data = bright_or_dark(64)
    each = replace(RECIPE, rungs=(Rung(64, 1, 32), Rung(64, 3, 32)))
    ladder = replace(each, cycle="ladder")
    assert [each.part(rung) for rung in (0, 1)] == [(0, 1), (0, 1)]
    assert [ladder.part(rung) for rung in (0, 1)] == [(0, 0.25), (0.25, 1)]
    anew = replace(ladder, rungs=(*ladder.rungs, Rung(64, 2, 32, anew=True), Rung(64, 6, 32)))
    assert [anew.part(rung) for rung in range(4)] == [(0, 0.25), (0.25, 1), (0, 0.25), (0.25, 1)]

    def rates(recipe: Recipe, epochs: int, part: tuple[float, float]) -> list[float]:
        model = build(replace(ARCH, classes=2))
        optimiser, seen = optimiser_of(model, recipe), list[float]()
        train(model, optimiser, data, data.train, epochs, recipe, 0, lambda _: seen.append(lr(optimiser)), part)
        return seen

    def lr(optimiser: torch.optim.Optimizer) -> float:
        return float(optimiser.param_groups[0]["lr"])

    whole = rates(ladder, 4, (0, 1))
    assert [*rates(ladder, 1, ladder.part(0)), *rates(ladder, 3, ladder.part(1))] == pytest.approx(whole)
    assert whole[0] == pytest.approx(0.04 * ladder.lr) and whole[-1] < 0.2 * ladder.lr < 0.8 * ladder.lr < max(whole)


def test_the_loss_is_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    data, losses = bright_or_dark(64), list[float]()
    entropy = torch.nn.functional.cross_entropy

    def noted(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        loss = entropy(logits, labels)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr("nas.training.step.functional.cross_entropy", noted)
    for tail, steps in ((1.0, 16), (0.25, 4), (0.01, 1)):
        recipe = replace(RECIPE, batch=8, tail=tail)
        model = build(replace(ARCH, classes=2))
        losses.clear()
        epochs = train(model, optimiser_of(model, recipe), data, data.train, 2, recipe, 0)
        assert len(losses) == 16 and epochs.loss == pytest.approx(sum(losses[-steps:]) / steps)


def test_networks_that_are_judged_by_their_loss_drop_nothing_out_in_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    data, dropping = bright_or_dark(64), list[bool]()
    model = build(replace(ARCH, classes=2, head=replace(ARCH.head, dropout=0.5)))
    (dropout,) = (module for module in model.modules() if isinstance(module, torch.nn.Dropout))
    dropout.register_forward_pre_hook(lambda module, _: dropping.append(module.training))
    for judge, tail in (("loss", 4), ("top1", 0)):
        recipe = replace(RECIPE, batch=8, tail=0.25, judge=judge)
        dropping.clear()
        train(model, optimiser_of(model, recipe), data, data.train, 2, recipe, 0)
        assert dropping == [True] * (16 - tail) + [False] * tail


def test_no_batch_has_a_single_image() -> None:  # of which batch norm would have no variance, at 1x1
    for images in (5, 9, 33):
        data, seen = bright_or_dark(images), list[int]()
        model = build(replace(ARCH, classes=2))
        recipe = replace(RECIPE, batch=4)
        train(model, optimiser_of(model, recipe), data, data.train, 1, recipe, 0, seen.append)
        assert sum(seen) == images and 2 <= min(seen) and max(seen) <= 4 and len(seen) == -(-images // 4)


def test_weight_decay_spares_norms_and_biases() -> None:
    model = build(ARCH)
    decayed, spared = optimiser_of(model, RECIPE).param_groups
    assert decayed["weight_decay"] == RECIPE.weight_decay and spared["weight_decay"] == 0
    assert {p.ndim for p in decayed["params"]} == {2, 4} and {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    data = bright_or_dark(64)
    model = build(replace(ARCH, classes=2))
    wild = replace(RECIPE, lr=1e30)
    with pytest.raises(Diverged, match="training loss is"):
        train(model, optimiser_of(model, wild), data, data.train, 4, wild, 0)


def test_top1_counts() -> None:
    data = bright_or_dark(30)

    class Always(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale * torch.tensor([[0.0, 1.0]]).repeat(len(x), 1)

    images = Images(data.val.pixels[:3], torch.tensor([1, 1, 0]))
    assert top1(Always(), data, images, batch=2) == pytest.approx(200 / 3)


def test_a_candidate_goes_on_from_its_own_state() -> None:
    proxy = Proxy(plan_for(Budget(macs=10**9)))
    first, state = proxy(ARCH, 0)
    second, end = proxy(ARCH, 1, state)
    # One that is asked for the second rung alone trains both.
    anew, _ = proxy(ARCH, 1)
    assert (anew.top1, anew.train_loss) == (second.top1, second.train_loss)
    assert first.images == 64 and first.val_images == 32
    assert state and end is None  # nothing comes after the last rung
    # The same images are dropped out of, however it came to the second rung.
    head = replace(ARCH, head=replace(ARCH.head, dropout=0.5))
    _, state = proxy(head, 0)
    torch.rand(7)
    assert proxy(head, 1, state)[0].train_loss == proxy(head, 1)[0].train_loss
    # One whose state is there and whose score was lost is trained all over again.
    again, _ = proxy(ARCH, 0, state)
    assert (again.top1, again.train_loss) == (first.top1, first.train_loss)


def test_a_rung_at_a_lower_resolution_goes_on_at_the_full_one() -> None:
    plan = plan_for(Budget(macs=10**9))
    rungs = (Rung(64, 1, 32, resolution=16), Rung(64, 1, 32))
    proxy = Proxy(replace(plan, recipe=replace(plan.recipe, rungs=rungs)))
    first, state = proxy(ARCH, 0)
    second, _ = proxy(ARCH, 1, state)
    whole, _ = Proxy(plan)(ARCH, 0)
    assert first.train_loss != whole.train_loss and second.images == 64


def test_smaller_images_are_means() -> None:
    data = bright_or_dark(8)
    half = resized(data, data.resolution // 2)
    assert half.resolution == data.resolution // 2 and torch.equal(half.train.labels, data.train.labels)
    corner = data.train.pixels[:, :2, :2].float().mean((1, 2)).round()
    assert torch.equal(half.train.pixels[:, 0, 0].float(), corner)
    assert resized(data, 5).train.all().shape[1:] == (5, 5, 3)


MUON = replace(RECIPE, muon=Muon())


@pytest.mark.usefixtures("as_on_card")
def test_it_learns_as_on_a_card_and_a_seed_decides() -> None:
    data, recipe = bright_or_dark(250), replace(RECIPE, judge="loss", tail=0.25)
    outcomes = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = build(replace(ARCH, classes=2, head=replace(ARCH.head, dropout=0.2)))
        optimiser, ticks = optimiser_of(model, recipe), list[int]()
        epochs = train(model, optimiser, data, data.train, 2, recipe, seed, ticks.append)
        outcomes.append((epochs.loss, top1(model, data, data.val)))
        assert len(set(ticks)) == 1 and len(ticks) == 16 and epochs.images == 500
        assert all(group["fused"] and isinstance(group["lr"], torch.Tensor) for group in optimiser.param_groups)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != outcomes[2][0]
    assert outcomes[0][1] > 90


@pytest.mark.usefixtures("as_on_card")
def test_a_loss_that_is_not_finite_ends_the_training_on_a_card_too() -> None:
    data, seen = bright_or_dark(64), list[int]()
    model = build(replace(ARCH, classes=2))
    wild = replace(RECIPE, lr=1e30)
    with pytest.raises(Diverged, match="training loss is"):
        train(model, optimiser_of(model, wild), data, data.train, 4, wild, 0, seen.append)
    assert sum(seen) == 4 * 64, "nothing is looked at before the end"


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["sgd", "muon"])
def test_steps_for_a_card_are_those_of_the_cpu(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused, by a learning rate that is a tensor, with or without a scaled loss; and there and back in between."""
    data, weights = bright_or_dark(96), dict[str, list[torch.Tensor]]()
    for way in ("cpu", "card", "scaled", "changed"):
        monkeypatch.setattr("nas.training.step.loss_scale", lambda _, way=way: 1024.0 if way == "scaled" else 1.0)
        torch.manual_seed(0)
        model = build(replace(ARCH, classes=2)).train()
        optimiser = optimiser_of(model, recipe)

        def loss(x: torch.Tensor, labels: torch.Tensor, of: torch.nn.Module = model) -> torch.Tensor:
            return loss_of(of(x), labels, None)

        for number in range(4):
            card = way in ("card", "scaled") or (way == "changed" and number % 2 == 1)
            monkeypatch.setattr("nas.training.step.on_card", lambda _, card=card: card)
            for_device(optimiser, torch.device("cpu"))
            step = step_of(model, optimiser, loss)
            for group in optimiser.param_groups:
                set_rate(group, 0.01 * (number + 1))
            batch = slice(24 * number, 24 * number + 24)
            step(normalised(data.train.pixels[batch], data), data.train.labels[batch])
        weights[way] = [p.detach() for p in model.parameters()]
    for way in ("card", "scaled", "changed"):
        for mine, theirs in zip(weights[way], weights["cpu"], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["sgd", "muon"])
@pytest.mark.usefixtures("as_on_card")
def test_a_step_for_a_card_reads_nothing_back(recipe: Recipe) -> None:
    """On tensors without values, of which none can be read, as none may be where a step is captured."""
    with FakeTensorMode():
        model = build(replace(ARCH, classes=2, head=replace(ARCH.head, dropout=0.2))).train()
        optimiser = for_device(optimiser_of(model, recipe), torch.device("cpu"))
        step = step_of(model, optimiser, lambda x, y: loss_of(model(x), y, torch.ones(2), 0.1))
        x, labels = torch.empty(8, 3, 32, 32), torch.empty(8, dtype=torch.int64)
        for _ in range(2):
            for group in optimiser.param_groups:
                group["lr"] = torch.empty(())
            found = step(x, labels)
        with pytest.raises(DataDependentOutputException):
            float(found)
        optimiser.param_groups[0] |= {"foreach": True, "fused": None}  # as on the CPU, which reads the rate
        with pytest.raises(DataDependentOutputException):
            step(x, labels)
