"""Trainings side by side, and commands on another node: the only module with Ray."""

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nas.errors import Error
from nas.execution.command import commanded
from nas.execution.environment import cores
from nas.execution.jobs import ATTEMPTS, Evaluate, Job, JobResult
from nas.records.run_folder import RunFailed
from nas.records.trial import Score

LIMIT = 3 * 3600.0  # seconds that a job may take on Ray
SHARERS = 4  # workers that share a GPU, where nobody says otherwise


class RayWorkers:
    """Jobs side by side on Ray: on this machine, or on the cluster at `address`.

    `number`: how many at a time; None: as many as there is room for. `cpus`, `gpus`: what each takes; `gpus` None: its
    share of those there are, 0: it trains on the CPU. `own_module`: one that workers cannot import, and are sent.
    Raises ConnectionError where no cluster answers, RunFailed where this machine has not what a worker takes.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        number: int | None = None,
        address: str | None = None,
        cpus: float = 1,
        gpus: float | None = None,
        limit: float = LIMIT,
        own_module: str | None = None,
    ) -> None:
        if address and address != "auto":
            _reach(address)
        import ray

        self.ray, self.limit = ray, limit
        if own_module:
            ray.cloudpickle.register_pickle_by_value(sys.modules[own_module])  # type: ignore[no-untyped-call]
        self.begun = not ray.is_initialized()
        if self.begun:
            ray.init(
                address=address or "local",
                num_cpus=None if address else math.ceil((number or cores()) * cpus),
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        processors, cards = resources.get("CPU", 0), int(resources.get("GPU", 0))
        if gpus is None:
            number, gpus = shared(cards, number, int(processors)) if cards else (number, 0.0)
        most = int(min(processors / cpus if cpus else 1e9, cards / gpus if gpus else 1e9))
        if not most and not address:
            raise RunFailed(f"a worker is to take {cpus:g} CPUs and {gpus:g} GPUs, here are {processors:g} and {cards}")
        self.number = min(number or most, most) if not address else number or max(1, most)
        self.evaluate, self.sees_gpus = ray.put(evaluate), gpus > 0
        self.task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_evaluated)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        if self.begun:
            self.ray.shutdown()

    def run(
        self, jobs: Sequence[Job], tick: Callable[[Job, int], None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Job, JobResult]]:
        """The outcome of each job, as they come."""
        waiting = [(job, 1) for job in sorted(jobs, key=lambda job: -job.weight)]
        running: dict[Any, tuple[Job, int, float]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.number and not stop():
                    job, attempt = waiting.pop(0)
                    tick(job, 0)
                    task = self.task.remote(self.evaluate, job.arch, job.rung, job.state(), self.sees_gpus)
                    running[task] = (job, attempt, time.monotonic())
                if not running:
                    return
                ready, _ = self.ray.wait(list(running), timeout=1.0)
                for task in ready:
                    job, attempt, _ = running.pop(task)
                    outcome = self._outcome(task)
                    if outcome.score is None and not outcome.refused and attempt < ATTEMPTS:
                        waiting.insert(0, (job, attempt + 1))
                    else:
                        yield job, outcome
                for task, (job, attempt, begun) in list(running.items()):
                    if time.monotonic() - begun > self.limit:
                        self.ray.cancel(task, force=True)
                        del running[task]
                        if attempt < ATTEMPTS:
                            waiting.insert(0, (job, attempt + 1))
                        else:
                            yield job, JobResult(None, None, f"TimeoutError: a rung took more than {self.limit:.0f} s")
                stop()  # raises where the time is up
        finally:
            for task in running:
                self.ray.cancel(task, force=True)

    def _outcome(self, task: Any) -> JobResult:
        try:
            return JobResult(*self.ray.get(task))
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Error):
                return JobResult(None, None, str(error.cause), refused=True)
            return JobResult(None, None, str(error))
        except self.ray.exceptions.RayError as error:  # the worker was killed, its node lost, its memory short
            return JobResult(None, None, f"{type(error).__name__}: {error}")


def shared(cards: int, number: int | None, processors: int) -> tuple[int, float]:
    """How many workers there are, and what each takes of the GPUs, the `cards`, so that all have room.

    `number` workers, or by default one a processor and at most SHARERS a card.
    """
    number = number or min(processors, SHARERS * cards)
    return number, math.floor(10_000 / math.ceil(number / cards)) / 10_000  # Ray counts in ten thousandths


def commanded_on(resource: str, command: Sequence[str], content: bytes, timeout: float) -> bytes:
    """What `command` prints on a Ray node that offers `resource`; a leading "python" is that node's.

    Raises RunFailed where there is no such node in the cluster, and as `commanded` does.
    """
    import ray

    try:
        if not ray.is_initialized():
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise RunFailed(
            f"device ray:{resource} needs a running Ray cluster; start one, and give nas search its --ray-address"
        ) from None
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if not resources.get(resource):
        raise RunFailed(
            f"no node of the Ray cluster offers {resource!r} (nas search joins one by --ray-address); start one with "
            f"ray start --address=HEAD:6379 --resources='{{\"{resource}\": 1}}'"
        )
    task = ray.remote(num_cpus=0, resources={resource: 1}, max_retries=0)(_commanded)
    answer = task.remote(list(command), content, timeout)
    try:
        out: bytes = ray.get(answer, timeout=timeout + 30)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(answer, force=True)
        raise RunFailed(f"device ray:{resource} gave no answer within {timeout + 30:g} s; is its node there?") from None
    except ray.exceptions.RayTaskError as error:
        raise RunFailed(f"on device ray:{resource}: {error.cause}") from None
    except ray.exceptions.RayError as error:
        raise RunFailed(f"device ray:{resource} was lost: {type(error).__name__}") from None
    return out


def _commanded(command: list[str], content: bytes, timeout: float) -> bytes:
    return commanded([sys.executable if command[0] == "python" else command[0], *command[1:]], content, timeout)


def _reach(address: str) -> None:
    """Raises ConnectionError where nobody listens at `address`, which Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address!r} ({error}); give HOST:PORT, or auto") from None


def _evaluated(
    evaluate: Evaluate, arch: Any, rung: int, state: bytes | None, sees_gpus: bool
) -> tuple[Score, bytes | None]:
    if not sees_gpus:  # Ray hides those of other workers, but none from a worker that takes none
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return evaluate(arch, rung, state, lambda _: None)
