"""A search by many workers, without waves: how long do they wait for the one process that proposes and records?

Trainings are simulated: each takes a minute on average, the longest three times as long as the shortest, by a clock
that is put forward to the end of the next one; what the search itself takes is measured and added to it. So 1,000
workers need no cluster, and no time is left out.

NAS_SCALE=1000,3000,lightweight pytest -s -n 0 tests/benchmarks/bench_scale.py

Workers, trials, space; "layers": plain tuples of sixteen layers, which are proposed and read sooner.
"""

import functools
import hashlib
import heapq
import itertools
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas import cost
from nas.api.resolve import redrawn
from nas.execution.jobs import Job, JobResult, Jobs
from nas.networks.architecture import Arch
from nas.networks.graph import Cost
from nas.networks.space import Space, one_of
from nas.records.budget import Budget
from nas.records.plan import PROXY, Plan, Rung
from nas.records.run_folder import create
from nas.records.trial import Score, identity, restored
from nas.search_strategy.engine import search
from search_spaces import SPACES

WORKERS, TRIALS, NAME = os.environ.get("NAS_SCALE", "1000,3000,lightweight").split(",")
SECONDS = (30.0, 90.0)  # of a training
LAYERS = Space("layers", tuple(one_of("skip", "small", "large", "wide") for _ in range(16)))
WORTH = {"skip": 0, "small": 2, "large": 3, "wide": 4}
SPACE = LAYERS if NAME == "layers" else SPACES[NAME]


class SimulatedWorkers:
    """`number` workers on a clock of their own, and how long they were at work."""

    def __init__(self, number: int) -> None:
        self.number, self.now, self.at_work, self.last_begun, self.busy_then = number, 0.0, 0.0, 0.0, 0.0

    def run(
        self, jobs: Jobs, tick: Callable[[Job, int], None], stop: Callable[[], bool]
    ) -> Iterator[tuple[Job, JobResult]]:
        jobs, ends, count, rng = iter(jobs), list[tuple[float, int, float, Job]](), itertools.count(), random.Random(0)
        real = time.perf_counter()
        while True:
            while len(ends) < self.number and (job := next(jobs, None)):
                tick(job, 0)
                job.state()
                self.now += time.perf_counter() - real
                real = time.perf_counter()
                seconds = rng.uniform(*SECONDS)
                heapq.heappush(ends, (self.now + seconds, next(count), seconds, job))
                self.at_work += seconds
                if not job.rung:  # the end, when no new network is left, is not held against them
                    self.last_begun, self.busy_then = self.now, self.at_work - sum(e[0] - self.now for e in ends)
            if not ends:
                return
            end, _, _, job = heapq.heappop(ends)
            self.now = max(self.now, end)
            yield job, JobResult(scored(job), b"")
            self.now += time.perf_counter() - real
            real = time.perf_counter()


def costs(network: Any) -> Cost:
    """What a network costs; of sixteen layers, a made-up number."""
    return (
        cost(network) if isinstance(network, Arch) else Cost(10**6 * (1 + sum(map(WORTH.__getitem__, network))), 0, 0)
    )


def scored(job: Job) -> Score:
    macs = costs(job.arch).macs / 1e6
    noise = int(hashlib.sha256(f"{identity(job.arch)}{job.rung}".encode()).hexdigest()[:4], 16) / 2**16
    loss = 2.0 - 0.03 * macs - 0.3 * job.rung + 0.2 * noise
    return Score(job.rung, 100 - 30 * loss, loss, 1, 1, 60.0, 0.0, "cpu", 1, "simulated")


def test_many_workers_seldom_wait(tmp_path: Path) -> None:
    number, trials = int(WORKERS), int(TRIALS)
    restore = functools.partial(redrawn, SPACE) if SPACE is LAYERS else restored
    recipe = replace(PROXY, rungs=(Rung(1, 1, 0),) * 3)
    plan = Plan(
        Budget(macs=25_000_000), "", SPACE.name, SPACE.digest, trials, 0, recipe, 32, 10, wave=8, asynchronous=True
    )
    run, workers = create(tmp_path / "run", plan), SimulatedWorkers(number)
    begun = time.perf_counter()
    found = search(plan, SPACE, (), run, workers, costs=costs, restore=restore)
    took = time.perf_counter() - begun
    busy = workers.busy_then / (number * workers.last_begun)
    size = {file.name: file.stat().st_size / 2**20 for file in sorted(run.path.iterdir()) if file.is_file()}
    print(
        f"\n{number:,} workers, {trials:,} networks of {NAME}: {100 * busy:.1f} % busy until "
        f"the last network was begun, over {workers.now:,.0f} simulated s; {took:,.0f} s of the search's own, "
        f"{1000 * took / trials:.0f} ms a network; "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB; "
        + ", ".join(f"{name} {mib:,.1f} MiB" for name, mib in size.items() if mib >= 0.1)
    )
    begun = time.perf_counter()
    again = search(plan, SPACE, (), run, workers, costs=costs, restore=restore)
    print(f"opened again in {time.perf_counter() - begun:,.0f} s")
    assert [trial.arch_id for trial in again.trials] == [trial.arch_id for trial in found.trials]
    assert len({trial.arch_id for trial in found.trials}) == len(found.trials) == trials
    assert busy >= 0.95
