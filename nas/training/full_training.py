"""A full training from its first epoch to the one look at the test images: all its seeds, each from its last
checkpoint, side by side where there are workers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import Error
from nas.execution.environment import at_work, versions
from nas.execution.jobs import Job, Workers
from nas.models.weights import put, read, to_bytes
from nas.networks.architecture import arch_id, cost
from nas.records.recipes import Teacher, TrainingPlan
from nas.records.results import TestResult, TrainingResult, WeightsInfo
from nas.records.run_folder import (
    Run,
    RunFailed,
    forget_checkpoint,
    read_checkpoint,
    read_history,
    read_value,
    write_checkpoint,
    write_history,
    write_value,
    write_weights,
)
from nas.records.trial import Score
from nas.training.datasets import load_test
from nas.training.devices import device, giving_back, name_of
from nas.training.images import Data
from nas.training.learner import (
    class_metrics,
    images_of,
    network,
    new_learner,
    restored_learner,
    state,
    topk_accuracy,
    train_epoch,
)
from nas.training.proxy import images_for, refresh
from nas.training.step import Tick, logits_of


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a full training is."""

    seed: int
    """The one that was heard of last."""
    epoch: int
    """The one that it is in, from 1."""
    val_top1: float | None
    """After the last whole epoch."""
    images: int
    """Trained on so far, over all seeds."""
    planned: int


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network with its weights, and where they come from."""

    name: str
    found: str
    """Where the network comes from, in words."""
    tensors: dict[str, Tensor]
    info: WeightsInfo
    training_plan: TrainingPlan | None
    """Of nas train, as is `outcome`; None for weights that were given."""
    outcome: TrainingResult | None
    data: str | None
    """Folder of the dataset."""
    export: Path
    """The folder that it is exported to."""


Watch = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True)
class TrainSeed:
    """`train_seed(seed)` trains a seed of a training to its end and leaves its weights in the run. Picklable."""

    plan: TrainingPlan
    path: Path
    device: str | None = None
    """One of `nas.records.plan.DEVICES`; None: the first of them that there is."""

    def __call__(self, seed: int, _rung: int, _state: bytes | None, tick: Tick) -> tuple[Score, None]:
        with giving_back():
            return self._trained(seed, tick), None

    def _trained(self, seed: int, tick: Tick) -> Score:
        plan, run = self.plan, Run(self.path)
        data, teacher = images_for(plan), load_teacher(plan.teacher, self.device)
        content = read_checkpoint(run, seed)
        learner = new_learner(plan, seed, self.device)
        if content is not None:
            learner = restored_learner(plan, seed, content, str(run.checkpoint(seed)), self.device)
        while len(learner.history.epochs) < plan.training.epochs:
            train_epoch(learner, plan, data, seed, teacher, tick)
            write_checkpoint(run, seed, state(learner), learner.history)
        write_history(run, seed, learner.history)  # a process may have been killed between the two files
        write_weights(run, seed, to_bytes(learner.trained_model, info_of(plan, data)))
        last, epochs = learner.history.epochs[-1], learner.history.epochs
        return Score(
            rung=0,
            top1=last.val_top1 or 0.0,
            train_loss=last.train_loss,
            images=sum(epoch.images for epoch in epochs),
            val_images=0 if plan.all_images else len(data.val),
            train_seconds=sum(epoch.train_seconds for epoch in epochs),
            val_seconds=sum(epoch.val_seconds for epoch in epochs),
            device=_named(self.device),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
        )


def info_of(plan: TrainingPlan, data: Data) -> WeightsInfo:
    """What weights trained in `plan` say of themselves."""
    return WeightsInfo(plan.arch, plan.dataset, data.classes, data.mean, data.std, data.share, plan.reading)


def train(
    run: Run, plan: TrainingPlan, workers: Workers, watch: Watch = lambda _: None, asked: str | None = None
) -> TrainingResult:
    """What came of `plan`, whose folder is `run`: all seeds trained by `workers`, then the test images read once, on
    the device that is `asked` for.

    A training that has ended is not trained, nor its test images read, again. Raises Error where a checkpoint
    cannot be resumed, RunFailed where a seed's training fails.
    """
    with at_work(run):
        if done := read_value(run, "result", TrainingResult):
            return done
        data = images_for(plan)
        for seed in plan.seeds:
            if (content := read_checkpoint(run, seed)) is not None:
                restored_learner(plan, seed, content, str(run.checkpoint(seed)), "cpu")
        _train_all(run, plan, len(images_of(data, plan)), workers, watch)
        outcome = _tested(run, plan, data, asked)
        for seed in plan.seeds:
            forget_checkpoint(run, seed)
        write_value(run, "result", outcome)
    return outcome


def _train_all(run: Run, plan: TrainingPlan, images: int, workers: Workers, watch: Watch) -> None:
    fresh: dict[int, int] = dict.fromkeys(plan.seeds, 0)  # images of the epoch under way, where they can be seen
    epochs = {seed: read_history(run, seed).epochs for seed in plan.seeds}

    def tell(seed: int) -> None:
        done = sum(len(of) for of in epochs.values()) * images + sum(fresh.values())
        planned = len(plan.seeds) * plan.training.epochs * images
        last = epochs[seed][-1].val_top1 if epochs[seed] else None
        number = min(len(epochs[seed]) + 1, plan.training.epochs)
        watch(TrainingProgress(seed, number, last, min(done, planned), planned))

    def grown(seed: int) -> bool:
        before, epochs[seed] = len(epochs[seed]), read_history(run, seed).epochs
        if len(epochs[seed]) == before:
            return False
        fresh[seed] = 0
        return True

    def ticked(job: Job, more: int) -> None:
        if fresh[job.arch] in (0, images):  # an epoch begins: the one before may be on disk
            grown(job.arch)
        fresh[job.arch] = min(fresh[job.arch] + more, images)
        tell(job.arch)

    def looked() -> bool:  # called every second where seeds are trained in other processes
        for seed in plan.seeds:
            if grown(seed):
                tell(seed)
        return False

    todo = [seed for seed in plan.seeds if not run.weights(seed).exists()]
    jobs = [Job(seed, seed, 0, lambda: None, 1.0) for seed in todo]
    for job, outcome in workers.run(jobs, ticked, looked):
        if outcome.score is None:
            reason = "".join(outcome.error.strip().splitlines()[-1:])
            raise RunFailed(f"seed {job.key} failed twice: {reason}")
        grown(job.arch)
        tell(job.arch)


def _tested(run: Run, plan: TrainingPlan, data: Data, asked: str | None) -> TrainingResult:
    """Every seed on the test images, which are read here and nowhere before."""
    torch.set_num_threads(1)  # as in training, which may have been in other processes
    refresh(plan.dataset)
    if plan.images_digest not in ("", images_for(plan).digest):
        raise Error(
            f"dataset {plan.dataset} has been changed since the training began; put back what it was, then --resume"
        )
    test = load_test(plan.dataset, plan.data, plan.arch.resolution, plan.reading)
    model, tested = network(plan.arch, asked), []
    for seed in plan.seeds:
        file = run.weights(seed)
        put(model, read(file)[0], f"weights {file}")
        logits, epochs = logits_of(model, data, test), read_history(run, seed).epochs
        seconds = sum(epoch.train_seconds for epoch in epochs)
        top1, top5 = topk_accuracy(logits, test.labels), topk_accuracy(logits, test.labels, 5)
        of_classes, last = class_metrics(logits, test.labels), epochs[-1]
        speed = sum(epoch.images for epoch in epochs) / seconds
        tested.append(TestResult(seed, top1, top5, *of_classes, last.val_top1, last.train_loss, seconds, speed))
    return TrainingResult(
        arch_id=arch_id(plan.arch),
        cost=cost(plan.arch),
        train_images=len(images_of(data, plan)),
        val_images=0 if plan.all_images else len(data.val),
        test_images=len(test),
        classes=data.classes,
        tested=tuple(tested),
        device=_named(asked),
        threads=torch.get_num_threads(),
        versions=versions(("torch", "torchvision")),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _named(asked: str | None) -> str:
    where = device(asked)
    if where.type != "cpu":
        return name_of(where)
    from nas.execution.agent import device as processor

    return processor()


def teacher_from(file: Path, data: Data) -> Teacher:
    """The teacher whose weights lie in `file`, for students on `data`.

    Raises Error where they do not say of which network they are, or it was trained for other images.
    """
    tensors, info = read(file)
    if info is None:
        raise Error(f"teacher {file} does not hold its architecture; take weights that nas train has made")
    put(network(info.arch), tensors, f"weights {file}")
    theirs = info.classes, info.arch.resolution, info.mean, info.std
    if theirs != (data.classes, data.resolution, data.mean, data.std):
        side, ours = info.arch.resolution, f"{data.resolution}x{data.resolution}x{data.channels}"
        raise Error(
            f"teacher {file} was trained on {info.dataset} at {side}x{side}x{info.arch.channels}, which is not "
            f"{data.name} at {ours} as it is here"
        )
    return Teacher(str(file.absolute()), _digest(file))


@cache
def load_teacher(teacher: Teacher | None, asked: str | None = None) -> nn.Module | None:
    """The teacher, ready to answer on the device that is `asked` for. Raises Error where its file is no longer what it
    was."""
    if teacher is None:
        return None
    file = Path(teacher.weights)
    tensors, info = read(file)
    if _digest(file) != teacher.digest or info is None:
        raise Error(f"teacher {file} is not the file any more that this training was begun with")
    model = network(info.arch, asked)
    put(model, tensors, f"weights {file}")
    return model.requires_grad_(False)


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()[:16]
