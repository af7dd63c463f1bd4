"""Full trainings from the command line: killed and resumed, several seeds, what is refused."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.api.search import search
from nas.api.train import new_training, resumed_training
from nas.execution.workers import open_workers
from nas.models.weights import read
from nas.records import run_folder
from nas.records.recipes import TRAINING_RECIPES, TrainingPlan
from nas.records.results import TrainingResult
from nas.records.run_folder import Run, create, open_training, read_value
from nas.serialization import to_json
from nas.training import proxy
from nas.training.datasets import load
from nas.training.full_training import TrainSeed, teacher_from, train
from search_spaces import ANCHORS
from tests.cli.test_cli import nas_here
from tests.search_strategy.test_kill import ended, killed_at, start
from tests.training.test_datasets import make_folder
from tests.training.test_learner import TINY


def began(path: Path, seeds: int = 1, epochs: int = 2) -> tuple[Run, TrainingPlan]:
    training_plan = TrainingPlan(
        "tiny",
        "here",
        TINY,
        "digits",
        replace(TRAINING_RECIPES["quick"], epochs=epochs, batch=128),
        tuple(range(seeds)),
    )
    return create(path, training_plan), training_plan


def finish(path: Path, workers: int = 1) -> TrainingResult:
    run, training_plan = open_training(path)
    with open_workers(TrainSeed(training_plan, path.absolute()), workers) as pool:
        return train(run, training_plan, pool)


def tensors(path: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    return read(Run(path).weights(seed))[0]


@pytest.mark.slow
def test_killed_and_resumed_the_weights_are_bit_for_bit_the_same(here: Path) -> None:
    (here / "tiny.json").write_text(to_json(TINY))
    command = ["train", "tiny.json", "--epochs", "5", "--run"]
    ended(start(*command, "whole"))
    killed_at(start(*command, "killed"), "epoch 2/5")
    killed_at(start("train", "--resume", "runs/killed"), "epoch 4/5")
    ended(start("train", "--resume", "runs/killed"))
    whole, killed = (tensors(here / "runs" / name) for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    results = [
        json.loads((here / "runs" / name / "result.json").read_text())["tested"][0] for name in ("whole", "killed")
    ]
    assert results[0]["confusion"] == results[1]["confusion"] and sum(map(sum, results[0]["confusion"])) == 360
    left = {file.name for file in (here / "runs" / "killed").rglob("*") if file.is_file()}
    assert left == {
        "training.json",
        "arch.json",
        "epochs.json",
        "weights.safetensors",
        "result.json",
        ".lock",
        "sessions.jsonl",
    }


@pytest.mark.slow
def test_several_seeds_side_by_side_are_those_of_one_worker(here: Path) -> None:
    began(here / "one", seeds=2)
    began(here / "two", seeds=2)
    one, two = finish(here / "one"), finish(here / "two", workers=2)
    assert [a.confusion for a in one.tested] == [b.confusion for b in two.tested]
    mean, deviation = one.top1
    assert deviation is not None and min(a.top1 for a in one.tested) <= mean <= max(a.top1 for a in one.tested)
    assert one.chosen.val_top1 == max(a.val_top1 or 0 for a in one.tested)


def test_the_test_images_are_read_once_and_after_training(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = began(here / "run")
    looks: list[bool] = []
    from nas.training import full_training

    look = full_training.load_test

    def seen(*where: Any) -> object:
        looks.append(run.weights(0).exists())
        return look(*where)

    monkeypatch.setattr(full_training, "load_test", seen)
    first = finish(here / "run")
    assert looks == [True] and finish(here / "run") == first and looks == [True]
    assert read_value(run, "result", TrainingResult) == first


def test_a_full_disk_loses_no_whole_epoch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = began(here / "run", epochs=3)
    whole, _ = began(here / "whole", epochs=3)
    write, written = run_folder.put_whole, []

    def full(file: Path, content: bytes) -> None:
        if file.name == "checkpoint.pt":
            written.append(file)
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(file, content)

    monkeypatch.setattr(run_folder, "put_whole", full)
    with pytest.raises(OSError, match="No space left"):
        finish(run.path)
    assert len(run_folder.read_history(run, 0).epochs) == 1
    finish(run.path)
    monkeypatch.undo()
    finish(whole.path)
    ours, theirs = tensors(run.path), tensors(whole.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_truncated_checkpoint_is_one_line(here: Path) -> None:
    run, _ = began(here / "runs" / "cut", epochs=50)
    killed_at(start("train", "--resume", "runs/cut"), "epoch 2/50")
    file = run.checkpoint(0)
    file.write_bytes(file.read_bytes()[:1000])
    done = nas_here("train", "--resume", "runs/cut")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "seed-0/checkpoint.pt cannot be resumed" in line and "delete it" in line


def test_a_teacher_is_known_by_its_file(here: Path) -> None:
    run, training_plan = began(here / "teacher", epochs=1)
    finish(run.path)
    teacher = teacher_from(run.weights(0), load("digits"))
    student = replace(training_plan, teacher=teacher)
    for given in (run.path, run.weights(0)):  # as a user asks for it
        asked = new_training(
            "lowres-mobilenet", "digits", None, "quick", 1, None, 1, 0, False, given, here / f"by-{given.name}"
        )[1]
        assert asked.teacher == teacher
    create(here / "student", student)
    finish(here / "student")
    ours, theirs = tensors(here / "student"), tensors(run.path)
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    run.weights(0).write_bytes(b"something else")
    late = create(here / "late", student)
    from nas.training.full_training import load_teacher

    load_teacher.cache_clear()
    with pytest.raises(run_folder.RunFailed, match="teacher"):
        finish(late.path)


def test_a_teacher_of_other_images_is_refused(here: Path) -> None:
    run, _ = began(here / "teacher", epochs=1)
    finish(run.path)
    other = replace(load("digits"), classes=tuple("abcdefghij"))
    with pytest.raises(
        ValueError, match="was trained on digits at 32x32x3, which is not digits at 32x32x3 as it is here"
    ):
        teacher_from(run.weights(0), other)


def test_killed_between_checkpoint_and_history_it_still_ends(here: Path) -> None:
    run, _ = began(here / "run", epochs=1)
    first = finish(run.path)
    from nas.training.learner import new_learner, state, train_epoch

    training_plan = open_training(run.path)[1]
    learner = new_learner(training_plan, 0)
    train_epoch(learner, training_plan, load("digits"), 0)
    again, _ = began(here / "again", epochs=1)
    run_folder.write_checkpoint(again, 0, state(learner), learner.history)
    again.checkpoint(0).with_name("epochs.json").unlink()
    (again.path / "seed-0" / ".checkpoint.pt.12345").touch()
    assert finish(again.path).tested[0].confusion == first.tested[0].confusion
    assert not list(again.path.rglob(".checkpoint.pt.*"))


def test_show_tells_how_far_it_is(here: Path) -> None:
    run, _ = began(here / "run", epochs=1)
    assert "seed 0: 0 of 1 epochs" in nas_here("show", run.path).stdout
    assert json.loads(nas_here("show", run.path, "--json").stdout)["finished"] is None
    finish(run.path)
    assert "test images, read once" in nas_here("show", run.path).stdout
    assert json.loads(nas_here("show", run.path, "--json").stdout)["test_images"] == 360


def test_a_folder_of_few_images_has_small_batches_and_stays_as_it_was(here: Path) -> None:
    make_folder(here / "pets")
    asked = ("lowres-mobilenet", f"folder:{here / 'pets'}", None, "quick", 1, None, 1, 0, False, None, "runs/pets")
    proxy.loaded.cache_clear()
    run, training_plan = new_training(*asked)
    assert training_plan.training.batch == 3 and TRAINING_RECIPES["quick"].batch == 64  # 16 images
    assert resumed_training(run.path, None)[1] == training_plan
    assert training_plan.flip and proxy.images_for(training_plan).flip
    _, letters = new_training(*asked[:-1], "runs/letters", flip=False)
    assert not letters.flip and not proxy.images_for(letters).flip
    assert not new_training("runs/letters", None, *asked[2:-1], "runs/again")[1].flip  # as it was trained before
    found = search(budget="25MFLOPs", dataset=asked[1], flip=False, trials=1, anchors=(), workers=1, time_limit=1e-9)
    plan = found.plan
    assert not plan.flip and not proxy.images_for(plan).flip
    (here / "pets" / "train" / "cat" / "0.png").unlink()
    proxy.loaded.cache_clear()
    with pytest.raises(ValueError, match=r"was begun on other images: dataset folder:.* has been changed since"):
        resumed_training(run.path, None)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "name a network"),
        (("lowres-mobilnet",), "did you mean lowres-mobilenet?"),
        (("mobilenetv2",), "mobilenetv2 is for images of 224x224, digits has 32; did you mean mobilenetv2-32?"),
        (("wide.json",), "wide.json is for 100 classes, dataset digits has 10"),
        (("lowres-mobilenet", "--recipe", "slow"), "recipe 'slow' is unknown"),
        (("lowres-mobilenet", "--epochs", "0"), "epochs must be at least 1, got 0"),
        (("lowres-mobilenet", "--seeds", "0"), "seeds must be at least 1, got 0"),
        (("lowres-mobilenet", "--decay", "some"), "decay 'some' is unknown; one of all, kernels"),
        (("lowres-mobilenet", "--teacher", "w.safetensors"), "weights w.safetensors cannot be read"),
        (("lowres-mobilenet", "--teacher", "runs/begun"), "has not ended; go on with nas train --resume"),
        (("--resume", "runs/none"), "is no full training"),
        (("--resume", "runs/begun", "--epochs", "3"), "leave out --epochs"),
        (("lowres-mobilenet", "--resume", "runs/begun"), "leave out lowres-mobilenet"),
    ],
)
def test_bad_requests_get_one_line(here: Path, args: tuple[str, ...], message: str) -> None:
    (here / "wide.json").write_text(to_json(replace(ANCHORS["lowres-mobilenet"].arch, classes=100)))
    began(here / "runs" / "begun")
    before = set(here.rglob("*"))
    done = nas_here("train", *args)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert set(here.rglob("*")) == before
