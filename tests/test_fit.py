"""Full trainings, an epoch at a time, on digits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas.arch import Arch, Head, Stage, Stem
from nas.blocks import Bottleneck
from nas.data import Data, load
from nas.fit import Learner, _decayed, begun, by_class, restored, right, state, train_epoch
from nas.model import build
from nas.recipes import TRAININGS, Course, Teacher, Training

TINY = Arch(Stem(8, stride=2), (Stage(Bottleneck(2), 8, 1, 2), Stage(Bottleneck(2), 16, 1, 2)), Head(16, dropout=0.1))
HARD = Training(
    "hard", "all at once", 3, 32, 0.05, "cosine",
    decay="kernels", warmup=1, augment="autoaugment", mix="both", label_smoothing=0.1, average=0.9,
)  # fmt: skip


def few(data: Data, number: int = 256) -> Data:
    return replace(data, train=data.train.first(number), val=data.val.first(64))


DATA = few(load("digits"))


def course(training: Training, teacher: Teacher | None = None) -> Course:
    return Course("tiny", "here", TINY, "digits", training, (0,), teacher=teacher)


def same(one: Learner, other: Learner) -> bool:
    pairs = zip(one.learnt.state_dict().values(), other.learnt.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("steps", [10, 997])
def test_the_learning_rate_peaks_at_lr_and_ends_near_0(name: str, steps: int) -> None:
    training = TRAININGS[name]
    rates = [training.lr_at(step, steps) for step in range(steps)]
    assert max(rates) <= training.lr * (1 + 1e-9) and max(rates) > 0.9 * training.lr
    assert min(rates) > 0 and rates[-1] < 0.1 * training.lr
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_one_cycle_is_torchs_own() -> None:
    training, steps = TRAININGS["quick"], 200
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.lr, total_steps=steps, pct_start=0.3)
    for step in range(steps - 1):
        assert training.lr_at(step, steps) == pytest.approx(cycle.get_last_lr()[0], abs=0.02 * training.lr)
        optimiser.step()
        cycle.step()


@pytest.mark.parametrize("training", [HARD, replace(TRAININGS["quick"], epochs=3)], ids=lambda one: one.name)
def test_cut_off_and_gone_on_with_it_ends_bit_for_bit_the_same(training: Training) -> None:
    asked = course(training)
    whole = begun(asked, 7)
    for _ in range(3):
        train_epoch(whole, asked, DATA, 7)
    cut = begun(asked, 7)
    for _ in range(3):
        train_epoch(cut, asked, DATA, 7)
        torch.manual_seed(123)  # whatever else the process draws
        cut = restored(asked, 7, state(cut), "checkpoint.pt")
    assert same(whole, cut)
    assert [epoch.train_loss for epoch in whole.history.epochs] == [epoch.train_loss for epoch in cut.history.epochs]
    other = begun(asked, 8)
    train_epoch(other, asked, DATA, 8)
    assert not same(whole, other)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_recipe_learns(name: str) -> None:
    asked = course(
        replace(TRAININGS[name], epochs=4, batch=32, warmup=0, lr=0.05, average=0.9 if name == "strong" else 0)
    )
    learner = begun(asked, 0)
    for _ in range(4):
        train_epoch(learner, asked, DATA, 0)
    losses = [epoch.train_loss for epoch in learner.history.epochs]
    assert losses[-1] < losses[0]


def test_the_average_is_what_is_evaluated() -> None:
    asked = course(HARD)
    learner = begun(asked, 0)
    train_epoch(learner, asked, DATA, 0)
    assert learner.average and learner.learnt is learner.average.module
    mine, averaged = learner.model.state_dict(), learner.learnt.state_dict()
    assert any(not torch.equal(mine[name], averaged[name]) for name in mine)


def test_a_teacher_is_listened_to() -> None:
    torch.manual_seed(0)
    taught = Teacher("t", "d", share=1.0)
    asked = course(replace(TRAININGS["quick"], epochs=6, crop=0), taught)
    always = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))  # says 3, whatever it sees
    nn.init.zeros_(always[1].weight)
    always[1].bias.data = 9.0 * torch.eye(10)[3]
    learner = begun(asked, 0)
    for _ in range(6):
        train_epoch(learner, asked, DATA, 0, always)
    from nas.train import answered

    answers = answered(learner.learnt, DATA, DATA.val).argmax(1)
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
    asked = replace(course(replace(TRAININGS["quick"], epochs=1)), all_images=True)
    learner = begun(asked, 0)
    train_epoch(learner, asked, DATA, 0)
    (epoch,) = learner.history.epochs
    assert epoch.images == len(DATA.train) + len(DATA.val) and epoch.val_top1 is None


@pytest.mark.parametrize("damage", [lambda whole: whole[:-200], lambda _: b"", lambda _: b"nonsense" * 9])
def test_a_damaged_checkpoint_is_said_with_its_place(damage: object) -> None:
    asked = course(HARD)
    learner = begun(asked, 0)
    with pytest.raises(ValueError, match=r"seed-0/checkpoint\.pt cannot be gone on from, .*; delete it to begin"):
        restored(asked, 0, damage(state(learner)), "seed-0/checkpoint.pt")  # type: ignore[operator]


def test_a_checkpoint_of_another_network_is_refused() -> None:
    asked = course(HARD)
    other = replace(asked, arch=replace(TINY, stem=Stem(16, stride=2)))
    with pytest.raises(ValueError, match="of another network"):
        restored(other, 0, state(begun(asked, 0)), "checkpoint.pt")


def test_a_checkpoint_that_would_run_code_is_not_run(here: Path) -> None:
    import pickle

    from tests.test_weights import Malicious

    with pytest.raises(ValueError, match="cannot be gone on from"):
        restored(course(HARD), 0, pickle.dumps(Malicious()), "checkpoint.pt")
    assert not (here / "ran").exists()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_figures_of_classes_follow_from_the_confusion_matrix(pairs: list[tuple[int, int]]) -> None:
    labels = torch.tensor([truth for truth, _ in pairs])
    logits = torch.eye(4)[[answer for _, answer in pairs]]
    precision, recall, f1, confusion = by_class(logits, labels)
    for i in range(4):
        for j in range(4):
            assert confusion[i][j] == pairs.count((i, j))
    hits = [confusion[i][i] for i in range(4)]
    said, true = [sum(row[i] for row in confusion) for i in range(4)], [sum(row) for row in confusion]
    assert precision == pytest.approx(25 * sum(h / n if n else 0 for h, n in zip(hits, said, strict=True)))
    assert recall == pytest.approx(25 * sum(h / n if n else 0 for h, n in zip(hits, true, strict=True)))
    assert f1 == pytest.approx(
        25 * sum(2 * h / (a + b) if a + b else 0 for h, a, b in zip(hits, said, true, strict=True))
    )
    assert right(logits, labels) == pytest.approx(100 * sum(hits) / len(pairs))
    assert right(logits, labels, 5) == 100


def test_of_equal_logits_the_first_counts_as_argmax_has_it() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([0, 2, 2, 1])
    assert right(logits, labels) == 100 * float((logits.argmax(1) == labels).float().mean()) == 50
    assert right(logits, labels, 2) == 100 == right(logits, labels, 5)


def test_images_stay_images() -> None:
    from nas.augment import mixed, varied

    torch.manual_seed(0)
    harder = varied(DATA.train.pixels[:20], HARD)
    assert harder.shape == (20, 32, 32, 3) and harder.dtype == torch.uint8
    images, shares = mixed(torch.randn(20, 3, 32, 32), DATA.train.labels[:20], 10, HARD)
    assert images.shape == (20, 3, 32, 32) and torch.allclose(shares.sum(1), torch.ones(20))
