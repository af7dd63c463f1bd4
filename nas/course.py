"""A full training from its first epoch to the one look at the test images: `train` goes through all seeds of a course,
each from its last checkpoint, side by side where there are workers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.arch import arch_id, cost
from nas.conditions import at_work, versions
from nas.data import Data, load_test
from nas.evaluate import images_for
from nas.fit import begun, by_class, network, restored, right, state, train_epoch, training_images
from nas.outcome import Made, Outcome, Tested
from nas.recipes import Course, Teacher
from nas.runs import (
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
from nas.train import Tick, answered, device
from nas.trial import Score
from nas.weights import put, read, to_bytes
from nas.workers import Job, Workers


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a course is."""

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
class Trained:
    """A network with its weights, and where they come from."""

    name: str
    found: str
    """Where the network comes from, in words."""
    tensors: dict[str, Tensor]
    made: Made
    course: Course | None
    """Of nas train, as is `outcome`; None for weights that were given."""
    outcome: Outcome | None
    data: str | None
    """Folder of the dataset."""
    export: Path
    """The folder in which it is taken home."""


Watch = Callable[[Standing], None]


@dataclass(frozen=True, slots=True)
class Lesson:
    """`lesson(seed)` trains a seed of a course to its end and leaves its weights in the run. Picklable."""

    course: Course
    path: Path

    def __call__(self, seed: int, _rung: int, _state: bytes | None, tick: Tick) -> tuple[Score, None]:
        course, run = self.course, Run(self.path)
        data, teacher = images_for(course), taught(course.teacher)
        content = read_checkpoint(run, seed)
        learner = begun(course, seed)
        if content is not None:
            learner = restored(course, seed, content, str(run.checkpoint(seed)))
        while len(learner.history.epochs) < course.training.epochs:
            train_epoch(learner, course, data, seed, teacher, tick)
            write_checkpoint(run, seed, state(learner), learner.history)
        write_history(run, seed, learner.history)  # a process may have been killed between the two files
        write_weights(run, seed, to_bytes(learner.learnt, made(course, data)))
        last, epochs = learner.history.epochs[-1], learner.history.epochs
        score = Score(
            rung=0,
            top1=last.val_top1 or 0.0,
            train_loss=last.train_loss,
            images=sum(epoch.images for epoch in epochs),
            val_images=0 if course.all_images else len(data.val),
            train_seconds=sum(epoch.train_seconds for epoch in epochs),
            val_seconds=sum(epoch.val_seconds for epoch in epochs),
            device=_device(),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
        )
        return score, None


def made(course: Course, data: Data) -> Made:
    """What weights trained in `course` say of themselves."""
    return Made(course.arch, course.dataset, data.classes, data.mean, data.std)


def train(run: Run, course: Course, workers: Workers, watch: Watch = lambda _: None) -> Outcome:
    """What came of `course`, whose folder is `run`: all seeds trained, then the test images read once.

    A course that has ended is not trained, nor its test images read, again. Raises ValueError where a checkpoint cannot
    be gone on from, RunFailed where a seed's training fails.
    """
    with at_work(run):
        if done := read_value(run, "result", Outcome):
            return done
        data = images_for(course)
        for seed in course.seeds:
            if (content := read_checkpoint(run, seed)) is not None:
                restored(course, seed, content, str(run.checkpoint(seed)))
        _train_all(run, course, len(training_images(data, course)), workers, watch)
        outcome = _tested(run, course, data)
        for seed in course.seeds:
            forget_checkpoint(run, seed)
        write_value(run, "result", outcome)
    return outcome


def _train_all(run: Run, course: Course, images: int, workers: Workers, watch: Watch) -> None:
    fresh: dict[int, int] = dict.fromkeys(course.seeds, 0)  # images of the epoch in hand, where they can be seen
    epochs = {seed: read_history(run, seed).epochs for seed in course.seeds}

    def tell(seed: int) -> None:
        done = sum(len(of) for of in epochs.values()) * images + sum(fresh.values())
        planned = len(course.seeds) * course.training.epochs * images
        last = epochs[seed][-1].val_top1 if epochs[seed] else None
        number = min(len(epochs[seed]) + 1, course.training.epochs)
        watch(Standing(seed, number, last, min(done, planned), planned))

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
        for seed in course.seeds:
            if grown(seed):
                tell(seed)
        return False

    todo = [seed for seed in course.seeds if not run.weights(seed).exists()]
    jobs = [Job(seed, seed, 0, lambda: None, 1.0) for seed in todo]
    for job, outcome in workers.run(jobs, ticked, looked):
        if outcome.score is None:
            reason = "".join(outcome.error.strip().splitlines()[-1:])
            raise RunFailed(f"seed {job.key} failed twice: {reason}")
        grown(job.arch)
        tell(job.arch)


def _tested(run: Run, course: Course, data: Data) -> Outcome:
    """Every seed on the test images, which are read here and nowhere before."""
    torch.set_num_threads(1)  # as in training, which may have been in other processes
    test = load_test(course.dataset, course.data)
    model, tested = network(course.arch), []
    for seed in course.seeds:
        file = run.weights(seed)
        put(model, read(file)[0], f"weights {file}")
        logits, epochs = answered(model, data, test), read_history(run, seed).epochs
        seconds = sum(epoch.train_seconds for epoch in epochs)
        top1, top5 = right(logits, test.labels), right(logits, test.labels, 5)
        of_classes, last = by_class(logits, test.labels), epochs[-1]
        speed = sum(epoch.images for epoch in epochs) / seconds
        tested.append(Tested(seed, top1, top5, *of_classes, last.val_top1, last.train_loss, seconds, speed))
    return Outcome(
        arch_id=arch_id(course.arch),
        cost=cost(course.arch),
        train_images=len(training_images(data, course)),
        val_images=0 if course.all_images else len(data.val),
        test_images=len(test),
        classes=data.classes,
        tested=tuple(tested),
        device=_device(),
        threads=torch.get_num_threads(),
        versions=versions(("torch", "torchvision")),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _device() -> str:
    where = device()
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    from nas.agent import device as processor

    return processor()


def teacher_of(file: Path, data: Data) -> Teacher:
    """The teacher whose weights lie in `file`, for students on `data`.

    Raises ValueError where they do not say of which network they are, or it was trained for other images.
    """
    tensors, made = read(file)
    if made is None:
        raise ValueError(f"teacher {file} does not hold its architecture; take weights that nas train has made")
    put(network(made.arch), tensors, f"weights {file}")
    theirs = made.classes, made.arch.resolution, made.mean, made.std
    if theirs != (data.classes, data.resolution, data.mean, data.std):
        raise ValueError(f"teacher {file} was trained on {made.dataset}, which is not {data.name} as it is here")
    return Teacher(str(file.absolute()), _digest(file))


@cache
def taught(teacher: Teacher | None) -> nn.Module | None:
    """The teacher, ready to answer. Raises ValueError where its file is no longer what it was."""
    if teacher is None:
        return None
    file = Path(teacher.weights)
    tensors, made = read(file)
    if _digest(file) != teacher.digest or made is None:
        raise ValueError(f"teacher {file} is not the file any more that this training was begun with")
    model = network(made.arch)
    put(model, tensors, f"weights {file}")
    return model.requires_grad_(False)


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()[:16]
