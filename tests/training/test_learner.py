"""Full trainings, an epoch at a time, on digits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nas.models.torch_model import build
from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import Bottleneck
from nas.records.recipes import TRAINING_RECIPES, Teacher, TrainingPlan, TrainingRecipe
from nas.training.datasets import load
from nas.training.images import Data
from nas.training.learner import (
    Learner,
    _averaging,
    _decayed,
    average_in,
    class_metrics,
    new_learner,
    restored_learner,
    state,
    topk_accuracy,
    train_epoch,
)

TINY = Arch(Stem(8, stride=2), (Stage(Bottleneck(2), 8, 1, 2), Stage(Bottleneck(2), 16, 1, 2)), Head(16, dropout=0.1))
HARD = TrainingRecipe(
    "hard", "all at once", 3, 32, 0.05, "cosine",
    decay="kernels", warmup=1, augment="autoaugment", mix="both", label_smoothing=0.1, average=0.9,
)  # fmt: skip


def few(data: Data, number: int = 256) -> Data:
    return replace(data, train=data.train.first(number), val=data.val.first(64))


DATA = few(load("digits"))


def training_plan(training: TrainingRecipe, teacher: Teacher | None = None) -> TrainingPlan:
    return TrainingPlan("tiny", "here", TINY, "digits", training, (0,), teacher=teacher)


def same(one: Learner, other: Learner) -> bool:
    pairs = zip(one.trained_model.state_dict().values(), other.trained_model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", TRAINING_RECIPES)
@pytest.mark.parametrize("steps", [10, 997])
def test_the_learning_rate_peaks_at_lr_and_ends_near_0(name: str, steps: int) -> None:
    training = TRAINING_RECIPES[name]
    rates = [training.lr_at(step, steps) for step in range(steps)]
    assert max(rates) <= training.lr * (1 + 1e-9) and max(rates) > 0.9 * training.lr
    assert min(rates) > 0 and rates[-1] < 0.12 * training.lr
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_one_cycle_is_torchs_own() -> None:
    training, steps = TRAINING_RECIPES["quick"], 200
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.lr, total_steps=steps, pct_start=0.3)
    for step in range(steps - 1):
        assert training.lr_at(step, steps) == pytest.approx(cycle.get_last_lr()[0], abs=0.02 * training.lr)
        optimiser.step()
        cycle.step()


@pytest.mark.parametrize("training", [HARD, replace(TRAINING_RECIPES["quick"], epochs=3)], ids=lambda one: one.name)
def test_cut_off_and_gone_on_with_it_ends_bit_for_bit_the_same(training: TrainingRecipe) -> None:
    asked = training_plan(training)
    whole = new_learner(asked, 7)
    for _ in range(3):
        train_epoch(whole, asked, DATA, 7)
    cut = new_learner(asked, 7)
    for _ in range(3):
        train_epoch(cut, asked, DATA, 7)
        torch.manual_seed(123)  # whatever else the process draws
        cut = restored_learner(asked, 7, state(cut), "checkpoint.pt")
    assert same(whole, cut)
    assert [epoch.train_loss for epoch in whole.history.epochs] == [epoch.train_loss for epoch in cut.history.epochs]
    other = new_learner(asked, 8)
    train_epoch(other, asked, DATA, 8)
    assert not same(whole, other)


@pytest.mark.parametrize("name", TRAINING_RECIPES)
def test_every_recipe_learns(name: str) -> None:
    asked = training_plan(
        replace(TRAINING_RECIPES[name], epochs=4, batch=32, warmup=0, lr=0.05, average=0.9 if name == "strong" else 0)
    )
    learner = new_learner(asked, 0)
    for _ in range(4):
        train_epoch(learner, asked, DATA, 0)
    losses = [epoch.train_loss for epoch in learner.history.epochs]
    assert losses[-1] < losses[0]


def test_the_average_is_what_is_evaluated() -> None:
    asked = training_plan(HARD)
    learner = new_learner(asked, 0)
    train_epoch(learner, asked, DATA, 0)
    assert learner.average and learner.trained_model is learner.average.module
    mine, averaged = learner.model.state_dict(), learner.trained_model.state_dict()
    assert any(not torch.equal(mine[name], averaged[name]) for name in mine)


def test_a_teacher_is_listened_to() -> None:
    torch.manual_seed(0)
    asked = training_plan(replace(TRAINING_RECIPES["quick"], epochs=6, crop=0), Teacher("t", "d", share=1.0))
    always = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))  # says 3, whatever it sees
    nn.init.zeros_(always[1].weight)
    always[1].bias.data = 9.0 * torch.eye(10)[3]
    learner = new_learner(asked, 0)
    for _ in range(6):
        train_epoch(learner, asked, DATA, 0, always)
    from nas.training.step import logits_of

    answers = logits_of(learner.trained_model, DATA, DATA.val).argmax(1)
    assert (answers == 3).float().mean() > 0.9


def test_kernels_alone_decay_where_asked() -> None:
    model = build(TINY)
    decayed, spared = _decayed(model, "kernels")
    shapes = [tuple(p.shape) for p in decayed]
    assert all(len(shape) > 1 and (len(shape) == 2 or shape[1] > 1) for shape in shapes)
    assert any(p.ndim == 4 and p.shape[1] == 1 for p in spared)
    everything = _decayed(model, "all")
    assert len(everything[0]) == len(decayed) + len(spared) and not everything[1]


def test_all_images_are_trained_on_where_asked() -> None:
    asked = replace(training_plan(replace(TRAINING_RECIPES["quick"], epochs=1)), all_images=True)
    learner = new_learner(asked, 0)
    train_epoch(learner, asked, DATA, 0)
    (epoch,) = learner.history.epochs
    assert epoch.images == len(DATA.train) + len(DATA.val) and epoch.val_top1 is None


@pytest.mark.parametrize("damage", [lambda whole: whole[:-200], lambda _: b"", lambda _: b"nonsense" * 9])
def test_a_damaged_checkpoint_is_said_with_its_place(damage: object) -> None:
    asked = training_plan(HARD)
    learner = new_learner(asked, 0)
    with pytest.raises(ValueError, match=r"seed-0/checkpoint\.pt cannot be resumed, .*; delete it to begin"):
        restored_learner(asked, 0, damage(state(learner)), "seed-0/checkpoint.pt")  # type: ignore[operator]


def test_a_checkpoint_of_another_network_is_refused() -> None:
    asked = training_plan(HARD)
    other = replace(asked, arch=replace(TINY, stem=Stem(16, stride=2)))
    with pytest.raises(ValueError, match="of another network"):
        restored_learner(other, 0, state(new_learner(asked, 0)), "checkpoint.pt")


def test_a_checkpoint_that_would_run_code_is_not_run(here: Path) -> None:
    import pickle

    from tests.models.test_weights import Malicious

    with pytest.raises(ValueError, match="cannot be resumed"):
        restored_learner(training_plan(HARD), 0, pickle.dumps(Malicious()), "checkpoint.pt")
    assert not (here / "ran").exists()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
@pytest.mark.filterwarnings("ignore::UserWarning")  # of few classes
def test_figures_of_classes_follow_from_the_confusion_matrix(pairs: list[tuple[int, int]]) -> None:
    labels = torch.tensor([truth for truth, _ in pairs])
    logits = torch.eye(4)[[answer for _, answer in pairs]]
    precision, recall, f1, confusion = class_metrics(logits, labels)
    for i in range(4):
        for j in range(4):
            assert confusion[i][j] == pairs.count((i, j))
    hits = [confusion[i][i] for i in range(4)]
    said, true = [sum(row[i] for row in confusion) for i in range(4)], [sum(row) for row in confusion]
    rows = [row for row in zip(hits, said, true, strict=True) if row[2]]  # of classes that there are images of
    assert precision == pytest.approx(100 / len(rows) * sum(h / n if n else 0 for h, n, _ in rows))
    assert recall == pytest.approx(100 / len(rows) * sum(h / n for h, _, n in rows))
    assert recall == pytest.approx(100 * balanced_accuracy_score(labels, logits.argmax(1)))
    assert f1 == pytest.approx(100 / len(rows) * sum(2 * h / (a + b) for h, a, b in rows))
    assert topk_accuracy(logits, labels) == pytest.approx(100 * sum(hits) / len(pairs))
    assert topk_accuracy(logits, labels, 5) == 100


def test_of_equal_logits_the_first_counts_as_argmax_has_it() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([0, 2, 2, 1])
    assert topk_accuracy(logits, labels) == 100 * float((logits.argmax(1) == labels).float().mean()) == 50
    assert topk_accuracy(logits, labels, 2) == 100 == topk_accuracy(logits, labels, 5)


def test_images_stay_images() -> None:
    from nas.training.augmentation import augmented_by_policy, mixed

    torch.manual_seed(0)
    harder = augmented_by_policy(DATA.train.pixels[:20], HARD)
    assert harder.shape == (20, 32, 32, 3) and harder.dtype == torch.uint8
    images, shares = mixed(torch.randn(20, 3, 32, 32), DATA.train.labels[:20], 10, HARD)
    assert images.shape == (20, 3, 32, 32) and torch.allclose(shares.sum(1), torch.ones(20))


def test_an_average_is_taken_in_on_a_card_as_torch_does() -> None:
    torch.manual_seed(0)
    model = build(TINY)
    usual, ours = (AveragedModel(model, avg_fn=_averaging(0.9), use_buffers=True) for _ in range(2))
    for number in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3, 32, 32))
        usual.update_parameters(model)
        average_in(ours, model, 0.9, number)
    for mine, theirs in zip(ours.state_dict().values(), usual.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    "training", [HARD, replace(TRAINING_RECIPES["quick-muon"], epochs=2)], ids=lambda one: one.name
)
def test_a_training_as_on_a_card_is_cut_off_and_gone_on_with(
    training: TrainingRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as one that was not; and one that was begun on the CPU goes on there, and back."""
    asked, learners = training_plan(training), list[Learner]()
    for ways in ((True, True), (True, True), (False, True), (True, False)):
        learner = new_learner(asked, 7)
        for card in ways:
            for module in ("step", "crops", "learner"):
                monkeypatch.setattr(f"nas.training.{module}.on_card", lambda where, card=card: card)
            if learners:  # the first is never cut off
                learner = restored_learner(asked, 7, state(learner), "checkpoint.pt")
            train_epoch(learner, asked, DATA, 7)
        learners.append(learner)
    whole, cut, there, back = learners
    assert same(whole, cut) and not same(whole, there) and not same(whole, back)
    losses = [[epoch.train_loss for epoch in one.history.epochs] for one in learners]
    assert losses[0] == losses[1] and all(last < 2.5 for _, last in losses)
