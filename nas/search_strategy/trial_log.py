"""The candidates of a search on their way, and the run's records of them: the one way to add to those."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nas.errors import Error
from nas.execution.jobs import JobResult
from nas.networks.space import Space
from nas.records.plan import Plan
from nas.records.run_folder import Run, RunFailed, forget, locked, open_run, write_best, write_value, write_work
from nas.records.search_files import Restore, append_score, append_trial, read_scores, read_trials
from nas.records.timing import Latency
from nas.records.trial import Score, State, Trial, best
from nas.search_strategy.candidates import Candidate, candidate_of
from nas.search_strategy.study import Callback, StudyLog


@dataclass(slots=True)
class ActiveTrial:
    """A candidate on its way; `state` is None until it has ended."""

    candidate: Candidate
    index: int
    wave: int
    scores: list[Score] = field(default_factory=list)
    state: State | None = None
    error: str | None = None
    latency: Latency | None = None

    @property
    def id(self) -> str:
        """The network's identity."""
        return self.candidate.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self.candidate.anchor or self.id


class TrialLog:
    """The run's trials and scores on disk, and the one way to add to them."""

    def __init__(
        self, run: Run, space: Space, plan: Plan, restore: Restore, callbacks: Sequence[Callback] = ()
    ) -> None:
        self.run, self.plan, self.study = run, plan, StudyLog(run, space, plan, callbacks)
        self.trials = {trial.index: trial for trial in read_trials(run, restore)[0]}
        self.ended = Counter(trial.state for trial in self.trials.values())
        self.scores = read_scores(run)
        self.scored = bool(self.scores) or any(trial.scores for trial in self.trials.values())
        """Whether any network has a score."""
        self.failures = 0  # in a row
        self.waves: dict[int, list[Trial]] = {}  # as earlier processes left them
        for index in sorted(self.trials):
            self.waves.setdefault(self.trials[index].wave, []).append(self.trials[index])
            self.study.end(self.trials[index])
        self.best = best(list(self.trials.values()), plan.recipe.judge)
        if self.best:
            write_best(run, self.best)

    def wave(self, wave: int, first: int, size: int) -> list[Candidate]:
        """The candidates of `wave`, of which `first` is the first, where all of them have ended on disk, else none.

        All: `size` that were not refused, with no line taken out between them.
        """
        trials = self.waves.get(wave, [])
        if sum(trial.state != "refused" for trial in trials) < size:
            return []
        if [trial.index for trial in trials] != list(range(first, first + len(trials))):
            return []
        return [candidate_of(trial) for trial in trials]

    def outcome(self, entry: ActiveTrial, rung: int) -> JobResult | None:
        """What an earlier process found of this network at this rung."""
        known = self.trials.get(entry.index)
        if known and known.arch_id == entry.id:
            if len(known.scores) > rung:
                return JobResult(known.scores[rung])
            if known.error is not None:
                return JobResult(None, None, known.error)
        score = self.scores.get((entry.index, entry.id, rung))
        return JobResult(score) if score else None

    def keep(self, entry: ActiveTrial, outcome: JobResult) -> None:
        """Puts the outcome of a rung on disk before anything follows from it; a whole trial at once where it is one."""
        if outcome.score is None:
            self.failures += 1
            entry.error = outcome.error
            self.end(entry, "failed")
            return
        self.failures, self.scored = 0, True
        last = outcome.score.rung == len(self.plan.recipe.rungs) - 1
        if (
            not last
            and entry.index not in self.trials
            and (entry.index, entry.id, outcome.score.rung) not in self.scores
        ):
            append_score(self.run, entry.index, entry.id, outcome.score)
            if outcome.state is not None:
                write_work(self.run, entry.id, outcome.state)
        entry.scores.append(outcome.score)
        if entry.index not in self.trials:
            self.study.report(entry.id, entry.scores)
        if last:
            self.end(entry, "complete")

    def end(self, entry: ActiveTrial, state: State) -> None:
        """Ends an entry, on disk. Raises RunFailed where another end is there."""
        entry.state = state
        trial = self.trial(entry)
        known = self.trials.get(trial.index)
        if known is None:
            append_trial(self.run, trial)
            forget(self.run, trial.arch_id)
            self.trials[trial.index] = trial
            self.ended[trial.state] += 1
            top = best([trial, self.best] if self.best else [trial], self.plan.recipe.judge)
            if top is trial:
                self.best = trial
                write_best(self.run, trial)
            self.study.end(trial)
        elif (known.arch_id, known.state) != (trial.arch_id, trial.state):
            raise RunFailed(
                f"trial {trial.index} on disk is {known.arch_id} ({known.state}), the plan leads to {trial.arch_id} "
                f"({trial.state}): {self.run.path} was edited, or started with another version of nas or on "
                "another kind of device; go on where it was begun, or begin anew"
            )

    def trial(self, entry: ActiveTrial) -> Trial:
        """The record of an entry that has ended."""
        assert entry.state
        candidate = entry.candidate
        return Trial(
            index=entry.index,
            wave=entry.wave,
            arch_id=entry.id,
            cost=candidate.cost,
            state=entry.state,
            arch=candidate.arch,
            choices=candidate.choices,
            anchor=candidate.anchor,
            scores=tuple(entry.scores),
            error=entry.error,
            latency=entry.latency,
        )


def extend_run(run: Run, trials: int, rivals: int) -> None:
    """Makes a search train `trials` networks in all; `rivals` is how many anchors keep its budget.

    Raises Error where it was to have more, or was to train some of the anchors only: those would come before
    what it has trained. RunInUse where another process is at work in it.
    """
    with locked(run):
        _, plan = open_run(run.path)
        if trials < plan.trials:
            raise Error(
                f"{run.path} is to train {plan.trials} networks, {trials} are fewer; give more, or leave it out"
            )
        if plan.trials < rivals and trials > plan.trials:
            raise Error(f"{run.path} was to train {plan.trials} of {rivals} anchors only; begin a new run")
        write_value(run, "plan", replace(plan, trials=trials))
