"""Networks trained rung by rung: what workers are given, and what becomes of their answers."""

import functools
from collections.abc import Collection

from nas.errors import Error
from nas.execution.jobs import Job, JobResult
from nas.records.pareto import point, ranks
from nas.records.plan import Plan
from nas.records.run_folder import RunFailed, read_work
from nas.records.trial import merit
from nas.search_strategy.progress import ProgressTracker, images_of
from nas.search_strategy.trial_log import ActiveTrial, TrialLog

FAILURES = 3  # in a row, which end the search


def job_of(entry: ActiveTrial, rung: int, plan: Plan, log: TrialLog) -> Job:
    """The training of a network through `rung`, from what the rung before left."""
    assert plan.budget.keeps(entry.candidate.cost), "no network over the budget may be trained"
    assert not plan.budget.timed or (entry.latency and plan.budget.fast(entry.latency)), "nor one that is too slow"
    weight = entry.candidate.cost.macs * images_of(plan, rung)
    state = functools.partial(read_work, log.run, entry.id)
    return Job(entry.index, entry.candidate.arch, rung, state, weight)


def keep(
    entry: ActiveTrial, rung: int, outcome: JobResult, log: TrialLog, tracker: ProgressTracker, failures: int = FAILURES
) -> None:
    """Puts what a worker answered on disk.

    Raises Error where the very first answer of all shows that what was asked is at fault, RunFailed where it is the
    last of `failures` in a row.
    """
    if outcome.refused and not log.scored:
        raise Error(outcome.error)
    log.keep(entry, outcome)
    tracker.done(entry, rung, trained=True)
    if log.failures >= failures:
        folder = log.run.path
        raise RunFailed(
            f"{failures} candidates in a row failed, the last one with\n\n{outcome.error}\n"
            f"All trials are in {folder}; nas search --resume {folder} goes on after them"
        )


def best_first(entries: Collection[ActiveTrial], rung: int, plan: Plan) -> list[ActiveTrial]:
    """`entries` by what they came to at `rung`: by fronts where there are several objectives."""
    merits = [merit(entry.scores[rung], plan.recipe.judge) for entry in entries]
    points = [
        point(reached, entry.candidate.cost, plan.objective, entry.latency)
        for reached, entry in zip(merits, entries, strict=True)
    ]
    keys = {
        entry.index: (rank, -reached, entry.candidate.cost.macs, entry.index)
        for rank, reached, entry in zip(ranks(points), merits, entries, strict=True)
    }
    return sorted(entries, key=lambda entry: keys[entry.index])
