"""A search in waves: the same trials for the same seed, whoever trains what, or when, or how many do.

In each step a new wave begins its first rung while the best of the waves before go through their next ones, all side
by side. A wave is proposed from what the steps before have shown and from nothing else. Wave 0 is the anchors. A
search that was killed goes through its steps again: what is on disk is taken from there, what is not is proposed and
trained.
"""

import math
from collections.abc import Sequence
from contextlib import suppress

from nas.execution.jobs import Job, Stopped, Workers
from nas.search_strategy.admission import ASKS, Admission
from nas.search_strategy.candidates import Candidate, Request
from nas.search_strategy.trainings import best_first, job_of, keep
from nas.search_strategy.trial_log import ActiveTrial


def search_in_waves(admission: Admission, seeds: Sequence[Candidate], workers: Workers) -> bool:
    """Whether all networks of the plan were tried; all that were are in the log. `seeds`: those of wave 0.

    Raises what `nas.search_strategy.trainings.keep` raises.
    """
    plan, tracker, halt = admission.plan, admission.tracker, admission.halt
    waves: list[list[ActiveTrial]] = []
    with suppress(Stopped):
        waves.append(admission.admitted(0, 0, seeds))
        tracker.begin(waves[0])
    left = plan.trials - sum(entry.state is None for wave in waves for entry in wave)
    in_time = True
    while waves:
        step = len(waves) - 1
        pairs = [(entry, step - wave) for wave, entries in enumerate(waves) for entry in entries if not entry.state]
        if pairs and not _trained(pairs, admission, workers):
            break
        for wave, entries in enumerate(waves):
            _prune(entries, step - wave, admission)
        entries = [entry for wave in waves for entry in wave]
        size = _size(step + 1, min(plan.wave, left), admission)
        in_time = in_time and not halt.asked and tracker.in_time(size, waves)
        new: list[ActiveTrial] = []
        if size and in_time:
            try:
                new = _wave(step + 1, size, entries, plan.polishes(plan.trials - left), admission)
            except Stopped:
                break
            entering = sum(entry.state is None for entry in new)
            left = left - entering if entering else 0
        waves.append(new)
        if all(entry.state for wave in waves for entry in wave):
            break
    return bool(waves) and left == 0 and all(entry.state for wave in waves for entry in wave)


def _size(wave: int, size: int, admission: Admission) -> int:
    """How many networks `wave` is to train: `size`, or fewer where it was the last one before there were more."""
    tally = admission.tallies.get(wave, {})
    return min(size, round(tally.get("asked", tally.get("accepted", size))))


def _wave(wave: int, size: int, before: Sequence[ActiveTrial], polish: bool, admission: Admission) -> list[ActiveTrial]:
    """The entries of `wave`, of which `size` are to be trained, or fewer where no more keep the budget."""
    log = admission.log
    entries = admission.admitted(wave, len(before), log.wave(wave, len(before), size), size)
    # before any of them is on disk: the search may be extended meanwhile
    if not entries and wave not in admission.tallies:
        admission.note(wave, {"asked": size})
    rungs = {entry.id: len(entry.scores) for entry in before}
    for ask in range(ASKS if not entries else 0):
        missing = size - sum(entry.state is None for entry in entries)
        spare = missing if admission.latency_limit else 0  # for those that turn out too slow
        if not missing:
            break
        predict_latency = admission.latency_prediction([*before, *entries])
        request = Request(wave, missing + spare, rungs, predict_latency, ask, polish)
        candidates = admission.sampler.propose(request)
        if not candidates:
            break
        new = admission.admitted(wave, len(before) + len(entries), candidates, missing)
        rungs |= {entry.id: 0 for entry in new}
        entries += new
    if "accepted" not in admission.tallies.get(wave, {}) and entries:
        admission.tell(wave, size, entries)
    admission.sampler.proposer.near_budget.tally.clear()
    return entries


def _trained(pairs: Sequence[tuple[ActiveTrial, int]], admission: Admission, workers: Workers) -> bool:
    """Whether each entry got the score of its rung, from disk or from training, or ended in failure."""
    plan, log, tracker = admission.plan, admission.log, admission.tracker
    jobs: list[Job] = []
    entries: dict[int, tuple[ActiveTrial, int]] = {}
    for entry, rung in pairs:
        known = log.outcome(entry, rung)
        if known:
            log.keep(entry, known)
            tracker.done(entry, rung, trained=False)
        else:
            entries[entry.index] = (entry, rung)
            jobs.append(job_of(entry, rung, plan, log))
    try:
        for job, outcome in workers.run(
            jobs, lambda job, images: tracker.tick(*entries[job.key], images), admission.halt
        ):
            entry, rung = entries.pop(job.key)
            keep(entry, rung, outcome, log, tracker)
    except Stopped:
        return False
    return not entries


def _prune(entries: Sequence[ActiveTrial], rung: int, admission: Admission) -> None:
    """Ends those of a wave that are not among its best at `rung`.

    The very first candidate goes through all rungs: it is the row to beat.
    """
    plan = admission.plan
    if not 0 <= rung < len(plan.recipe.rungs) - 1:
        return
    rivals = [entry for entry in entries if not entry.state and (entry.wave or entry.index)]
    leaving = best_first(rivals, rung, plan)[math.ceil(len(rivals) * plan.recipe.keep) :]
    for entry in sorted(leaving, key=lambda entry: entry.index):
        admission.log.end(entry, "pruned")
