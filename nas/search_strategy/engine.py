"""The search: candidates, refused on paper, trained rung by rung, recorded one by one.

In `waves`, where the trials follow from the seed alone; or `asynchronous`, where no worker waits for another.
trials.jsonl is the record from which all else follows: a search that was killed takes from there what is on disk.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nas.errors import Error
from nas.execution.environment import at_work
from nas.execution.jobs import Workers
from nas.networks.architecture import Anchor
from nas.networks.space import Space, encode
from nas.records.plan import Plan
from nas.records.run_folder import Run, forget_all, write_best
from nas.records.search_files import Restore, read_warm_start
from nas.records.trial import Costs, Trial, identity, merit, restored
from nas.search_strategy.admission import Admission
from nas.search_strategy.asynchronous import search_as_workers_are_free
from nas.search_strategy.candidates import Candidate, ScoredCandidate, candidate_of, costs_for
from nas.search_strategy.latency_limit import LatencyLimit, Measure
from nas.search_strategy.progress import Halt, ProgressTracker, Watch
from nas.search_strategy.proposer import Proposer
from nas.search_strategy.study import Callback
from nas.search_strategy.study_proposer import MakeSampler, StudyProposer
from nas.search_strategy.trial_log import TrialLog
from nas.search_strategy.waves import search_in_waves


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
    costs: Costs | None = None,
    restore: Restore = restored,
    measure: tuple[Measure, Any] | None = None,
    own_sampler: MakeSampler | None = None,
    callbacks: Sequence[Callback] = (),
) -> SearchOutcome:
    """What the search that `plan` asks for comes to; trials on disk already are not run again.

    No network over the budget is trained, and none over a limit on paper is measured. A candidate that raises is a
    failed trial, with its traceback. Ends early where no new network keeps the budget, or where `halt` says so.
    `restore`: see `nas.records.search_files.read_trials`. `measure`: what gives the latency of a network, and the
    network that latencies are scaled by; needed where the plan asks for latency. `own_sampler`: makes the sampler,
    where the plan names one of the user's own. `callbacks`: called as Optuna calls its own.

    Raises RunFailed after three failures in a row or where a latency cannot be had, Error where the first answer of all
    shows that what was asked is at fault, RunInUse where another process works in `run`, OSError where the disk
    refuses.
    """
    if plan.timed and not measure:
        raise Error("the plan asks for latency: say what measures it")
    halt, costs = halt or Halt(), costs or costs_for(plan.budget)
    with at_work(run):
        log = TrialLog(run, space, plan, restore, callbacks)
        tracker = ProgressTracker(plan, watch, halt, log)
        rungs, surrogate = len(plan.recipe.rungs), plan.sampler != "near-budget"
        earlier = _scored(read_warm_start(run, plan, restore), plan)
        proposer = Proposer(space, plan.budget, costs, plan.seed, rungs, plan.objective, surrogate, earlier)
        sampler = StudyProposer(run, log.study, proposer, plan.sampler, own_sampler)
        latency_limit = LatencyLimit(run, plan, *measure) if plan.timed and measure else None
        admission = Admission(plan, log, sampler, latency_limit, tracker, halt)
        run_all = search_as_workers_are_free if plan.asynchronous else search_in_waves
        if run_all(admission, _seeds(plan, space, anchors, costs), workers):
            forget_all(run)
        trials = [log.trials[index] for index in sorted(log.trials)]
        top = _winner(trials, proposer.estimates(_scored(trials, plan)), plan)
        if top:
            write_best(run, top)
        return SearchOutcome(trials, top)


def _scored(trials: Sequence[Trial], plan: Plan) -> list[ScoredCandidate]:
    return [
        ScoredCandidate(candidate_of(trial), tuple(merit(score, plan.recipe.judge) for score in trial.scores))
        for trial in trials
    ]


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
