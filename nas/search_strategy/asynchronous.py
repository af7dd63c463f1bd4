"""A search without waves: a worker that is free is given the next training at once, however many workers there are.

A network that is through a rung goes on to the next one where it is among the best of those that were through that rung
last, else it is pruned: successive halving as it happens (Li et al. 2020, "A System for Massively Parallel
Hyperparameter Tuning"), decided at once. Networks are proposed some at a time, from all that is known by then, so the
trials depend on who ended when. What was proposed is on disk in its order: a search that was killed goes on with what
had not ended.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby

from nas.execution.jobs import Job, Stopped, Workers
from nas.search_strategy.admission import ASKS, Admission
from nas.search_strategy.candidates import Candidate, Request
from nas.search_strategy.trainings import FAILURES, best_first, job_of, keep
from nas.search_strategy.trial_log import ActiveTrial

RIVALS = 64  # that were through a rung last, whom the next one is compared with
SHARE = 4  # As many networks are proposed at a time as one of so many workers: workers that become free meanwhile wait,
# and a proposal takes about as long for one network as for many, but knows less of the others.


def search_as_workers_are_free(admission: Admission, seeds: Sequence[Candidate], workers: Workers) -> bool:
    """Whether all networks of the plan were tried; what was is in the log. `seeds`: the anchors, tried first.

    Raises what `nas.search_strategy.trainings.keep` raises: as many failures in a row as there are workers end it, or
    as half of all networks.
    """
    log, tracker = admission.log, admission.tracker
    queue = _Queue(admission, max(admission.plan.wave, workers.number // SHARE))
    failures = max(FAILURES, min(workers.number, admission.plan.trials // 2))
    with suppress(Stopped):
        queue.begin(seeds)
        for job, outcome in workers.run(
            queue.jobs(), lambda job, images: tracker.tick(*queue.running[job.key], images), admission.halt
        ):
            entry, rung = queue.running.pop(job.key)
            keep(entry, rung, outcome, log, tracker, failures)
            queue.go_on(entry, rung)
    return not (queue.left or queue.waiting or queue.running)


class _Queue:
    """The trainings that wait and those under way; `batch` networks are proposed at a time."""

    def __init__(self, admission: Admission, batch: int) -> None:
        self.admission, self.batch = admission, batch
        self.plan, self.log, self.tracker = admission.plan, admission.log, admission.tracker
        self.waiting: deque[tuple[ActiveTrial, int]] = deque()
        self.running: dict[int, tuple[ActiveTrial, int]] = {}
        self.rivals = [deque[ActiveTrial](maxlen=RIVALS) for _ in self.plan.recipe.rungs]
        self.rungs: dict[str, int] = {}
        """Of how many rungs each network has a score that was tried so far, by its identity."""
        self.measured: list[ActiveTrial] = []
        self.tried = 0
        self.wave = 0  # of proposals; the anchors are wave 0
        self.left = self.plan.trials
        """Networks that are still to be trained for the first time."""

    def begin(self, seeds: Sequence[Candidate]) -> None:
        """Admits the anchors, and what was proposed before the search was stopped."""
        self.tracker.begin(self._admit(seeds, None))
        kept = sorted(self.admission.sampler.kept)
        for wave, of_wave in groupby(kept, key=lambda pair: pair[0]):
            self.wave = wave
            proposals = [self.admission.sampler.propose(Request(wave, 0, {}, again=again)) for _, again in of_wave]
            entries = self._admit(list(chain(*proposals)), self.left)
            if wave not in self.admission.tallies:  # the search was stopped before it was told
                self.admission.tell(wave, len(entries), entries)
        self.waiting = deque(sorted(self.waiting, key=lambda pair: (-pair[1], pair[0].index)))
        self.log.failures = 0  # those were of another process

    def jobs(self) -> Iterator[Job | None]:
        """The next training whenever one is asked for; None where there is none for now."""
        halt = self.admission.halt
        while True:
            if not self.waiting and self.left and not halt.asked and self.tracker.time_for(0):
                try:
                    self._propose()
                except Stopped:
                    if not halt.asked:  # but the time is up
                        raise
            if self.waiting and not halt.asked and self.tracker.time_for(self.waiting[0][1]):
                entry, rung = self.waiting.popleft()
                self.running[entry.index] = entry, rung
                yield job_of(entry, rung, self.plan, self.log)
            else:
                yield None

    def go_on(self, entry: ActiveTrial, rung: int) -> None:
        """Has a network that is through `rung` go on to the next one, or end."""
        self.rungs[entry.id] = len(entry.scores)
        if entry.state is None and self._among_best(entry, rung):
            self.waiting.appendleft((entry, rung + 1))
        elif entry.state is None:
            self.log.end(entry, "pruned")

    def _among_best(self, entry: ActiveTrial, rung: int) -> bool:
        if entry.index == 0:  # it goes through all rungs: it is the row to beat
            return True
        rivals = self.rivals[rung]
        rivals.append(entry)
        leading = best_first(rivals, rung, self.plan)[: math.ceil(len(rivals) * self.plan.recipe.keep)]
        return any(one is entry for one in leading)

    def _propose(self) -> None:
        """Admits new networks; where no more are to be had, the search ends with those that it has."""
        self.wave += 1
        entries: list[ActiveTrial] = []
        size = self.batch if self.admission.latency_limit else min(self.batch, self.left)
        for ask in range(ASKS):
            predict_latency = self.admission.latency_prediction(self.measured)
            polish = self.plan.polishes(self.plan.trials - self.left)
            request = Request(self.wave, size, self.rungs, predict_latency, ask, polish, believed=True)
            candidates = self.admission.sampler.propose(request)
            entries += self._admit(candidates, self.left)
            if not candidates or self.waiting:
                break
        if entries:
            self.admission.tell(self.wave, size, entries)
        self.admission.sampler.proposer.near_budget.tally.clear()
        self.left = self.left if self.waiting else 0

    def _admit(self, candidates: Sequence[Candidate], most: int | None) -> list[ActiveTrial]:
        """The entries of `candidates`, all of them or until `most` are to be trained.

        Those that are to be trained wait, from where an earlier process left them.
        """
        entries = self.admission.admitted(self.wave, self.tried, candidates, most)
        self.tried += len(entries)
        self.left -= sum(entry.state != "refused" for entry in entries)
        for entry in entries:
            rung = 0
            while not entry.state and (known := self.log.outcome(entry, rung)):
                self.log.keep(entry, known)
                self.tracker.done(entry, rung, trained=False)
                if entry.index and not entry.state:
                    self.rivals[rung].append(entry)
                rung += 1
            if not entry.state and entry.index in self.log.trials:
                self.log.end(entry, self.log.trials[entry.index].state)
            self.rungs[entry.id] = rung
            if not entry.state and rung:  # it went on, or was about to be looked at
                self.waiting.appendleft((entry, rung))
            elif not entry.state:
                self.waiting.append((entry, rung))
            if entry.latency:
                self.measured.append(entry)
        return entries
