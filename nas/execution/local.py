"""Trainings in this process, one after the other."""

import functools
import traceback
from collections.abc import Callable, Iterator

from nas.errors import Error
from nas.execution.jobs import ATTEMPTS, Evaluate, Job, JobResult, Jobs, Tick


class LocalWorkers:
    """Jobs in this process, in the order given."""

    number = 1

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate

    def run(
        self, jobs: Jobs, tick: Callable[[Job, int], None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Job, JobResult]]:
        """The outcome of each job; an OSError is the disk's fault, and is raised."""
        new = iter(jobs)
        while not stop():
            job = next(new, None)
            if job is None:
                return
            tick(job, 0)
            yield job, self._outcome(job, functools.partial(tick, job))

    def _outcome(self, job: Job, tick: Tick) -> JobResult:
        error = ""
        for _ in range(ATTEMPTS):
            try:
                return JobResult(*self.evaluate(job.arch, job.rung, job.state(), tick))
            except OSError:
                raise
            except Error as refusal:
                return JobResult(None, None, str(refusal), refused=True)
            except Exception:
                error = traceback.format_exc()
        return JobResult(None, None, error)
