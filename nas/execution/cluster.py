"""Trainings side by side on Ray, and commands on another node."""

import logging
import math
import os
import pickle
import re
import socket
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from queue import Empty, Queue
from signal import SIGKILL
from subprocess import DEVNULL, Popen, TimeoutExpired
from tempfile import TemporaryFile
from threading import Thread
from typing import Any

from nas.errors import Notice
from nas.execution.command import commanded
from nas.execution.environment import cores
from nas.execution.jobs import ATTEMPTS, Evaluate, Job, JobResult, Jobs
from nas.records.run_folder import RunFailed

LIMIT = 3 * 3600.0  # seconds that a job may take on Ray
PAUSES = (5.0, 15.0, 30.0)  # seconds before a Ray that died is tried again
LOST = "Ray died while it ran"
SHARERS = 4  # workers that share a GPU, where nobody says otherwise


class RayWorkers:
    """Jobs side by side on Ray: on this machine, or on the cluster at `address`.

    `number`: how many at a time; None: as many as there is room for. `cpus`, `gpus`: what each takes; `gpus` None: its
    share of those there are, 0: it trains on the CPU. `limit`: seconds that a job may take; one that is ended then is
    tried again where it `retries`. `own_module`: one that workers cannot import, and are sent. Ray is talked to by a
    process of its own: where it dies, it is begun or joined again, and what was running runs again.

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
        retries: bool = True,
    ) -> None:
        if address and address != "auto":
            _reach(address)
        import ray

        if own_module:
            ray.cloudpickle.register_pickle_by_value(sys.modules[own_module])  # type: ignore[no-untyped-call]
        self.pickled: Callable[[object], bytes] = vars(ray.cloudpickle)["dumps"]  # it has no types
        self.limit, self.retries, self.sent = limit, retries, 0
        here = not address
        if here and ray.is_initialized():  # the user's own
            address = ray.get_runtime_context().gcs_address
        self.address, self.processors = address, math.ceil((number or cores()) * cpus)
        self.evaluate = self.pickled(evaluate)
        self.host, processors, cards = self._begun()
        if gpus is None:
            number, gpus = shared(cards, number, int(processors)) if cards else (number, 0.0)
        most = int(min(processors / cpus if cpus else 1e9, cards / gpus if gpus else 1e9))
        if not most and here:
            self.close()
            raise RunFailed(f"a worker is to take {cpus:g} CPUs and {gpus:g} GPUs, here are {processors:g} and {cards}")
        self.number = min(number or most, most) if here else number or max(1, most)
        self.takes = cpus, gpus
        self.host.pipe.send(self.takes)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        self.host.close()

    def run(
        self, jobs: Jobs, tick: Callable[[Job, int], None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Job, JobResult]]:
        """The outcome of each job, as they come."""
        new = iter(sorted(jobs, key=lambda job: -job.weight) if isinstance(jobs, Sequence) else jobs)
        again: list[tuple[Job, int]] = []  # and how often it failed
        running: dict[int, tuple[Job, int, float]] = {}  # by a number of their own: a job may run twice
        deaths: Counter[int] = Counter()  # of Ray, by the jobs that ran
        halved = -math.inf  # when it was last found that so many have no room on the GPUs
        try:
            while True:
                while len(running) < self.number and not stop():
                    job, failed = again.pop(0) if again else (next(new, None), 0)
                    if job is None:
                        break
                    tick(job, 0)
                    content = self.pickled((job.arch, job.rung, job.state()))
                    self.sent += 1
                    running[self.sent] = (job, failed, time.monotonic())
                    self.host.send("run", self.sent, content)
                if not running:
                    return
                try:
                    outcomes = self.host.outcomes()
                except EOFError:
                    self._again(len(running))
                    deaths.update(job.key for job, _, _ in running.values())
                    outcomes = [(key, JobResult(None, None, LOST)) for key in running]
                for key, outcome in outcomes:
                    if key not in running:  # it came as it was ended
                        continue
                    job, failed, begun = running.pop(key)
                    if outcome.full and self.number > 1:
                        if begun > halved:  # else it ran with those that were too many then
                            halved = time.monotonic()
                            self._halve()
                        again.append((job, failed))
                        continue
                    lost = outcome.error == LOST  # it need not be at fault
                    retried = deaths[job.key] < ATTEMPTS if lost else failed + 1 < ATTEMPTS and not outcome.refused
                    if outcome.score is None and retried:
                        again.append((job, failed + (not lost)))
                    else:
                        yield job, outcome
                for key, (job, failed, begun) in list(running.items()):
                    if time.monotonic() - begun > self.limit:
                        self.host.send("end", key, None)
                        del running[key]
                        if failed + 1 < ATTEMPTS and self.retries:
                            again.append((job, failed + 1))
                        else:
                            yield job, JobResult(None, None, f"TimeoutError: a rung took more than {self.limit:g} s")
                stop()  # raises where the time is up
        finally:
            for key in running:
                self.host.send("end", key, None)

    def _begun(self) -> tuple["_Host", float, int]:
        """The process that talks to Ray, and how many CPUs and GPUs there are."""
        host = _Host()
        try:
            host.pipe.send(((self.address, self.processors), self.evaluate))
            what, *told = host.pipe.recv()
        except (EOFError, OSError):
            what, told = "no", ["Exception", f"it ended at once: {host.last_words()}"]
        except BaseException:  # a Ctrl-C meanwhile
            host.close()
            raise
        if what == "ready":
            host.listen()
            return host, told[0], told[1]
        host.close()
        kind, said = told
        if kind == "ConnectionError":
            raise ConnectionError(f"no Ray cluster answers ({said.splitlines()[0]}); give HOST:PORT, or auto")
        raise RunFailed(f"Ray cannot be begun: {kind}: {said.splitlines()[0]}; --workers 1 needs none")

    def _halve(self) -> None:
        """Lets half as many share the GPUs, once their memory was not enough."""
        cpus, gpus = self.takes
        self.number, self.takes = self.number // 2, (cpus, min(1.0, 2 * gpus) if gpus < 1 else gpus)
        self.host.send("share", 0, self.takes[1])
        warnings.warn(f"out of GPU memory: {self.number} at a time from here on", GpuFull, stacklevel=4)

    def _again(self, running: int) -> None:
        """Begins or joins Ray once more, after it died. Raises RunFailed where it cannot be had."""
        said = self.host.last_words()
        self.host.close()
        where = f"the Ray cluster at {self.address}" if self.address else "Ray on this machine"
        trainings = f"{running} training{'s' * (running > 1)} begin{'s' * (running == 1)} anew"
        warnings.warn(f"{where} died ({said}); it is begun again, and {trainings}", RayDied, stacklevel=4)
        for pause in (*PAUSES, None):
            try:
                self.host, _, _ = self._begun()
                break
            except (ConnectionError, RunFailed) as error:
                if pause is None:
                    raise RunFailed(f"{where} died and cannot be had again: {error}") from None
                time.sleep(pause)
        self.host.pipe.send(self.takes)


class GpuFull(Notice):
    """Trainings that shared a GPU had no room on it; fewer share it now."""


class RayDied(Notice):
    """Ray died under a search, and was begun again."""


class _Host:
    """The process of `ray_host`, and the pipe to it."""

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        self.told: Queue[tuple[Any, ...] | None] = Queue()
        """What it sent; None: it is no more."""
        self.words = TemporaryFile()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # what is imported here is imported there
        with theirs:
            self.process = Popen(
                [sys.executable, "-m", "nas.execution.ray_host", str(theirs.fileno())],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=self.words,
                env=os.environ | {"PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is for nas
            )

    def listen(self) -> None:
        """Begins to take in what it sends, whatever happens meanwhile: else each might wait for the other to read."""
        Thread(target=self._take_in, daemon=True).start()

    def _take_in(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self.told.put(self.pipe.recv())
        self.told.put(None)

    def send(self, what: str, key: int, content: bytes | float | None) -> None:
        """Sends a message; that nobody is there is seen where outcomes are awaited."""
        with suppress(OSError):
            self.pipe.send((what, key, content))

    def outcomes(self) -> list[tuple[int, JobResult]]:
        """What came back within a second. Raises EOFError where the process is no more."""
        found: list[tuple[int, JobResult]] = []
        while not (found and self.told.empty()):
            try:
                message = self.told.get(timeout=1.0)
            except Empty:
                if self.process.poll() is not None:  # and others that it began hold its end of the pipe
                    raise EOFError from None
                break
            if message is None:  # no more will come
                self.told.put(None)
                if found:
                    break
                raise EOFError
            what, key, *told = message
            if what == "done":
                found.append((key, JobResult(*pickle.loads(told[0]))))
            else:
                found.append((key, JobResult(None, None, told[0], refused=told[1], full=told[2])))
        return found

    def last_words(self) -> str:
        """The last line that it wrote on standard error."""
        with suppress(TimeoutExpired):
            self.process.wait(5)
        self.words.seek(0)
        lines = [line for line in self.words.read().decode(errors="replace").splitlines() if line.strip()]
        if not lines:
            return f"no message, exit code {self.process.returncode}"
        return re.sub(r"^\[.*?\] \S+\.cc:\d+: +", "", lines[-1].strip())[:200]  # without its place in Ray's code

    def close(self) -> None:
        """Ends the process, and a Ray that it began."""
        self.send("leave", 0, None)
        try:
            self.process.wait(20)
        except TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, SIGKILL)
            self.process.wait()
        self.pipe.close()
        self.words.close()


def shared(cards: int, number: int | None, processors: int, sharers: int = SHARERS) -> tuple[int, float]:
    """How many workers there are, and what each takes of the GPUs, the `cards`, so that all have room.

    `number` workers, or by default one a processor and at most `sharers` a card.
    """
    number = number or min(processors, sharers * cards)
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
