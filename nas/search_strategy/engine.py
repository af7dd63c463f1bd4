"""The search: waves of candidates, refused on paper, trained rung by rung, recorded one by one.

In each step a new wave begins its first rung while the best of the waves before go through their next ones, all side
by side. A wave is proposed from what the steps before have shown and from nothing else, so the search does not depend
on who trains what, or when, or how many do. Wave 0 is the anchors.

trials.jsonl is the record from which all else follows. A search that was killed goes through its steps again: what is
on disk is taken from there, what is not is proposed and trained.
"""

import functools
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from nas.errors import Error
from nas.execution.environment import at_work
from nas.execution.jobs import Job, Stopped, Workers
from nas.networks.architecture import Anchor, cost_or_unbuildable
from nas.networks.space import Space, encode
from nas.records.pareto import point, ranks
from nas.records.plan import Plan
from nas.records.run_folder import (
    Restore,
    Run,
    RunFailed,
    append_tally,
    forget_all,
    read_tallies,
    read_work,
    write_best,
)
from nas.records.trial import Costs, Trial, identity, merit, restored
from nas.search_strategy.candidates import Candidate, PredictLatency, ScoredCandidate, candidate_of
from nas.search_strategy.latency_limit import LatencyLimit, Measure
from nas.search_strategy.progress import Halt, ProgressTracker, Watch, images_of
from nas.search_strategy.proposer import Proposer
from nas.search_strategy.study import Callback
from nas.search_strategy.study_proposer import MakeSampler, StudyProposer
from nas.search_strategy.trial_log import ActiveTrial, TrialLog

FAILURES = 3  # in a row, which end the search
ASKS = 12  # for more candidates of one wave, where those proposed turn out too slow


class SearchOutcome(NamedTuple):
    """The ended trials in the order asked, and the complete one of which most is to be expected."""

    trials: list[Trial]
    best: Trial | None


def search(
    plan: Plan,
    space: Space,
    anchors: Sequence[Anchor],
    run: Run,
    workers: Workers,
    watch: Watch = lambda _: None,
    halt: Halt | None = None,
    costs: Costs = cost_or_unbuildable,
    restore: Restore = restored,
    measure: tuple[Measure, Any] | None = None,
    own_sampler: MakeSampler | None = None,
    callbacks: Sequence[Callback] = (),
) -> SearchOutcome:
    """What the search that `plan` asks for comes to; trials on disk already are not run again.

    No network over the budget is trained, and none over a limit on paper is measured. A candidate that raises is a
    failed trial, with its traceback. Ends early where no new network keeps the budget, or where `halt` says so.
    `restore`: see `nas.records.run_folder.read_trials`. `measure`: what gives the latency of a network, and the network
    that latencies are scaled by; needed where the plan asks for latency. `own_sampler`: makes the sampler, where the
    plan names one of the user's own. `callbacks`: called as Optuna calls its own.

    Raises RunFailed after three failures in a row or where a latency cannot be had, Error where the first answer of all
    shows that what was asked is at fault, RunInUse where another process works in `run`, OSError where the disk
    refuses.
    """
    if plan.timed and not measure:
        raise Error("the plan asks for latency: say what measures it")
    halt = halt or Halt()
    with at_work(run):
        log = TrialLog(run, space, plan, restore, callbacks)
        tracker = ProgressTracker(plan, watch, halt, log)
        rungs, surrogate = len(plan.recipe.rungs), plan.sampler != "near-budget"
        proposer = Proposer(space, plan.budget, costs, plan.seed, rungs, plan.objective, surrogate)
        sampler = StudyProposer(run, log.study, proposer, plan.sampler, own_sampler)
        latency_limit = LatencyLimit(run, plan, *measure) if plan.timed and measure else None
        builder = _WaveBuilder(plan, log, sampler, latency_limit, tracker, halt)
        waves: list[list[ActiveTrial]] = []
        with suppress(Stopped):
            waves.append(builder.admitted(0, 0, _seeds(plan, space, anchors, costs)))
            tracker.begin(waves[0])
        left = plan.trials - sum(entry.state is None for wave in waves for entry in wave)
        in_time = True
        while waves:
            step = len(waves) - 1
            pairs = [(entry, step - wave) for wave, entries in enumerate(waves) for entry in entries if not entry.state]
            if pairs and not _trained(pairs, plan, log, tracker, workers, halt):
                break
            for wave, entries in enumerate(waves):
                _pruned(entries, step - wave, plan, log)
            entries = [entry for wave in waves for entry in wave]
            size = builder.size(step + 1, min(plan.wave, left))
            in_time = in_time and not halt.asked and tracker.in_time(size, waves)
            new: list[ActiveTrial] = []
            if size and in_time:
                try:
                    new = builder.wave(step + 1, size, entries)
                except Stopped:
                    break
                entering = sum(entry.state is None for entry in new)
                left = left - entering if entering else 0
            waves.append(new)
            if all(entry.state for wave in waves for entry in wave):
                break
        if waves and left == 0 and all(entry.state for wave in waves for entry in wave):
            forget_all(run)
        trials = [log.trials[index] for index in sorted(log.trials)]
        expected = proposer.estimates(
            [
                ScoredCandidate(candidate_of(trial), tuple(merit(s, plan.recipe.judge) for s in trial.scores))
                for trial in trials
            ]
        )
        top = _winner(trials, expected, plan)
        if top:
            write_best(run, top)
        return SearchOutcome(trials, top)


class _WaveBuilder:
    """How candidates become entries: proposed, measured where the plan asks for it, the slow ones refused."""

    def __init__(
        self,
        plan: Plan,
        log: TrialLog,
        sampler: StudyProposer,
        latency_limit: LatencyLimit | None,
        tracker: ProgressTracker,
        halt: Halt,
    ) -> None:
        self.plan, self.log, self.sampler = plan, log, sampler
        self.latency_limit, self.tracker, self.halt = latency_limit, tracker, halt
        self.tallies = read_tallies(log.run)
        self.error: float | None = None  # of the newest predictor

    def size(self, wave: int, size: int) -> int:
        """How many networks `wave` is to train: `size`, or fewer where it was the last one before there were more."""
        tally = self.tallies.get(wave, {})
        return min(size, round(tally.get("asked", tally.get("accepted", size))))

    def wave(self, wave: int, size: int, before: Sequence[ActiveTrial]) -> list[ActiveTrial]:
        """The entries of `wave`, of which `size` are to be trained, or fewer where no more keep the budget."""
        entries = self.admitted(wave, len(before), self.log.wave(wave, len(before), size), size)
        # before any of them is on disk: the search may be extended meanwhile
        if not entries and wave not in self.tallies:
            self._tell(wave, {"asked": size})
        rungs = {entry.id: len(entry.scores) for entry in before}
        for ask in range(ASKS if not entries else 0):
            missing = size - sum(entry.state is None for entry in entries)
            spare = missing if self.latency_limit else 0  # for those that turn out too slow
            if not missing:
                break
            predict_latency = self._latency_prediction([*before, *entries])
            candidates = self.sampler.propose(wave, missing + spare, rungs, predict_latency, ask)
            if not candidates:
                break
            new = self.admitted(wave, len(before) + len(entries), candidates, missing)
            for candidate in candidates[len(new) :]:
                self.log.study.drop(candidate)
            rungs |= {entry.id: 0 for entry in new}
            entries += new
        if "accepted" not in self.tallies.get(wave, {}) and entries:
            slow = sum(entry.state == "refused" for entry in entries)
            tally = {
                **self.sampler.proposer.tally,
                "asked": size,
                "measured_too_slow": slow,
                "accepted": len(entries) - slow,
            }
            self._tell(wave, tally | ({"predictor_error": self.error} if self.error else {}))
        self.sampler.proposer.tally.clear()
        return entries

    def _tell(self, wave: int, tally: dict[str, float]) -> None:
        self.tallies[wave] = tally
        append_tally(self.log.run, wave, tally)

    def admitted(
        self, wave: int, first: int, candidates: Sequence[Candidate], size: int | None = None
    ) -> list[ActiveTrial]:
        """`candidates` as entries, all of them or until `size` are to be trained.

        Refused: anchors that are over the budget on paper, and all that are too slow. Raises Stopped where one would
        have to be measured and nothing more is to be begun.
        """
        entries: list[ActiveTrial] = []
        for i, candidate in enumerate(candidates):
            if sum(entry.state is None for entry in entries) == size:
                break
            entry = ActiveTrial(candidate, first + i, wave)
            entries.append(entry)
            if not self.plan.budget.keeps(entry.candidate.cost):
                self.log.end(entry, "refused")
                continue
            self.log.study.begin(candidate, entry.index)
            if self.latency_limit:
                if not self.latency_limit.has_measured(entry.id):
                    if self.halt():
                        raise Stopped
                    self.tracker.measuring(entry)
                begun = time.monotonic()
                entry.latency = self.latency_limit.latency(wave, entry.candidate.arch, entry.id)
                self.tracker.measured += time.monotonic() - begun
                if not self.plan.budget.fast(entry.latency):
                    self.log.end(entry, "refused")
        return entries

    def _latency_prediction(self, entries: Sequence[ActiveTrial]) -> PredictLatency | None:
        """What the latencies so far, anchors aside, say about networks that are not measured."""
        measured = [(e.candidate.arch, e.latency) for e in entries if e.latency and not e.candidate.anchor]
        found = self.latency_limit.predictor(measured) if self.latency_limit else None
        if not found:
            return None
        predict_latency, self.error = found
        return predict_latency


def _trained(
    pairs: Sequence[tuple[ActiveTrial, int]],
    plan: Plan,
    log: TrialLog,
    tracker: ProgressTracker,
    workers: Workers,
    halt: Halt,
) -> bool:
    """Whether each entry got the score of its rung, from disk or from training, or ended in failure."""
    jobs: list[Job] = []
    entries: dict[int, tuple[ActiveTrial, int]] = {}
    for entry, rung in pairs:
        assert plan.budget.keeps(entry.candidate.cost), "no network over the budget may be trained"
        assert not plan.budget.timed or (entry.latency and plan.budget.fast(entry.latency)), "nor one that is too slow"
        known = log.outcome(entry, rung)
        if known:
            log.keep(entry, known)
            tracker.done(entry, rung, trained=False)
        else:
            entries[entry.index] = (entry, rung)
            weight = entry.candidate.cost.macs * images_of(plan, rung)
            state = functools.partial(read_work, log.run, entry.id)
            jobs.append(Job(entry.index, entry.candidate.arch, rung, state, weight))
    try:
        for job, outcome in workers.run(jobs, lambda job, images: tracker.tick(*entries[job.key], images), halt):
            entry, rung = entries.pop(job.key)
            if outcome.refused and not log.scored:  # the very first answer: what was asked is at fault
                raise Error(outcome.error)
            log.keep(entry, outcome)
            tracker.done(entry, rung, trained=True)
            if log.failures >= FAILURES:
                folder = log.run.path
                raise RunFailed(
                    f"{FAILURES} candidates in a row failed, the last one with\n\n{outcome.error}\n"
                    f"All trials are in {folder}; nas search --resume {folder} goes on after them"
                )
    except Stopped:
        return False
    return not entries


def _pruned(entries: Sequence[ActiveTrial], rung: int, plan: Plan, log: TrialLog) -> None:
    """Ends those of a wave that are not among its best at `rung`.

    The very first candidate goes through all rungs: it is the row to beat.
    """
    if not 0 <= rung < len(plan.recipe.rungs) - 1:
        return
    rivals = [entry for entry in entries if not entry.state and (entry.wave or entry.index)]
    merits = {entry.index: merit(entry.scores[rung], plan.recipe.judge) for entry in rivals}
    points = [point(merits[entry.index], entry.candidate.cost, plan.objective, entry.latency) for entry in rivals]
    rank = dict(zip(merits, ranks(points), strict=True))
    rivals.sort(key=lambda e: (rank[e.index], -merits[e.index], e.candidate.cost.macs, e.index))
    leaving = rivals[math.ceil(len(rivals) * plan.recipe.keep) :]
    for entry in sorted(leaving, key=lambda entry: entry.index):
        log.end(entry, "pruned")


def _winner(trials: Sequence[Trial], expected: Sequence[float | None], plan: Plan) -> Trial | None:
    """The complete trial of which most is expected; where nothing is, its last score counts."""
    complete = [
        (trial, merit(trial.scores[-1], plan.recipe.judge) if value is None else value)
        for trial, value in zip(trials, expected, strict=True)
        if trial.state == "complete"
    ]
    return max(complete, key=lambda item: (item[1], -item[0].cost.macs, -item[0].index), default=(None, 0))[0]


def _seeds(plan: Plan, space: Space, anchors: Sequence[Anchor], costs: Costs) -> list[Candidate]:
    """The anchors of wave 0: as many that keep the budget as may be trained, and all that do not."""
    candidates = []
    for anchor in anchors:
        try:
            choices = encode(space, anchor.arch)
        except ValueError:
            choices = {}  # outside the space: a row to beat, but no seed
        candidates.append(Candidate(anchor.arch, choices, costs(anchor.arch), identity(anchor.arch), anchor.name))
    fitting = [candidate for candidate in candidates if plan.budget.keeps(candidate.cost)]
    return [candidate for candidate in candidates if candidate not in fitting[plan.trials :]]
