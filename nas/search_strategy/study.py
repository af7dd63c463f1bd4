"""The Optuna study of a search: its sampler is asked for networks, and it is told what became of each.

It lies in the run's study.log, an Optuna journal that optuna-dashboard and `optuna.load_study` open with nothing of
ours: states, intermediate values rung by rung, what a network costs and by how much it breaks a limit (constraints).
Where it is damaged, or was written by a version before 0.18, it is written anew from the run's trials.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.errors import Error
from nas.networks.space import Choices, Label, Space, axes, draw
from nas.records.budget import Budget
from nas.records.plan import Judge, Plan
from nas.records.run_folder import Run
from nas.records.trial import Score, Trial, merit
from nas.search_strategy.candidates import Candidate
from nas.search_strategy.gp_sampler import LEFT, MERITS, within
from nas.search_strategy.journal import Journal, RunStorage
from nas.serialization import to_data

optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it announces every study and trial on its own
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "refused": TrialState.FAIL,
}
OVER = "over the budget"
LAYOUT = "nas 0.18"
"""How trials are kept; a study without this mark is written anew."""


Callback: TypeAlias = Callable[[optuna.Study, FrozenTrial], None]
"""What Optuna calls after a trial: loggers of others."""


class Asked(NamedTuple):
    """A network that the study's sampler has proposed."""

    trial: optuna.Trial
    choices: Choices
    network: Any


class StudyLog:
    """The study of `run`, and the one way to ask and to tell it."""

    def __init__(self, run: Run, space: Space, plan: Plan, callbacks: Sequence[Callback] = ()) -> None:
        self.callbacks = callbacks
        self.space, self.budget, self.objective, self.judge = space, plan.budget, plan.objective, plan.recipe.judge
        self.axes = axes(space)
        self.running: dict[str, optuna.Trial] = {}
        """Trials that have not ended, by the network's identity."""
        try:
            self.study = _study(run, self.objective, self.judge)
            self.kept = self._left_behind()
        except Exception:  # whatever a damaged or an older journal makes Optuna raise
            run.study_log.unlink(missing_ok=True)
            self.study, self.kept = _study(run, self.objective, self.judge), set()
            self.study.set_user_attr("layout", LAYOUT)

    def ask(self) -> Asked:
        """The next network that the sampler proposes."""
        trial, choices = self.study.ask(), Choices()

        def pick(name: str, labels: Sequence[Label]) -> Label:
            value = trial.suggest_categorical(name, self.axes[name])
            choices[name] = within(value, self.axes[name], labels)
            return choices[name]

        return Asked(trial, choices, draw(self.space, pick))

    def take(self, asked: Asked, candidate: Candidate) -> None:
        """Says that a network that was asked for is going to be tried."""
        self.running[candidate.id] = asked.trial

    def refuse(self, trial: optuna.Trial, cost: Any, why: str) -> None:
        """Tells that a network is not tried, and why."""
        trial.set_user_attr("refused", why)
        self._constrain(trial, cost)
        # From a pruned one with constraints TPE learns the limit, and asks less often (see runs/README.md).
        self.study.tell(trial, state=TrialState.PRUNED if why == OVER else TrialState.FAIL)

    def begin(self, candidate: Candidate, index: int) -> None:
        """Says that a network is on its way, one that was asked for or, as an anchor, comes from elsewhere."""
        if not candidate.choices or index in self.kept:
            return
        if candidate.id not in self.running:
            self.study.enqueue_trial(candidate.choices)
            self.take(self.ask(), candidate)
        trial = self.running[candidate.id]
        for name, value in _attributes(candidate, index).items():
            trial.set_user_attr(name, value)
        self._constrain(trial, candidate.cost)

    def _constrain(self, trial: optuna.Trial, cost: Any) -> None:
        for name, value in constraints(self.budget, cost).items():
            trial.set_constraint(name, value)

    def drop(self, candidate: Candidate) -> None:
        """Tells that a network that was asked for is not needed."""
        if trial := self.running.pop(candidate.id, None):
            self.leave(trial)

    def leave(self, trial: "optuna.Trial | FrozenTrial") -> None:
        """Tells that a trial that was begun is not gone on with; it says nothing of its network."""
        self.study.set_user_attr(LEFT, [*self.study.user_attrs.get(LEFT, ()), trial.number])
        self.study.tell(trial.number, state=TrialState.FAIL)

    def report(self, arch_id: str, scores: Sequence[Score]) -> None:
        """Tells the score of a network's newest rung."""
        if trial := self.running.get(arch_id):
            if len(self.objective) == 1:  # Optuna knows no intermediate values of several objectives
                trial.report(value_of(scores[-1], self.judge), scores[-1].rung)
            trial.set_user_attr("top1", scores[-1].top1)
            trial.set_user_attr("train_loss", scores[-1].train_loss)
            trial.set_user_attr(MERITS, [merit(score, self.judge) for score in scores])

    def end(self, trial: Trial) -> None:
        """Tells what became of a network; anchors outside the space have no place here."""
        if trial.index in self.kept or not trial.choices:
            return
        running = self.running.pop(trial.arch_id, None)
        if running is None:
            self.study.add_trial(frozen(self.space, trial, self.objective, self.judge, self.budget))
        else:
            if trial.latency:
                running.set_user_attr("latency_ms", trial.latency.median_ms)
            state, values = _end(trial, self.objective, self.judge)
            self.study.tell(running, None if state == TrialState.PRUNED else values, state)
        self.kept.add(trial.index)
        for callback in self.callbacks:
            told = self.study.get_trials(deepcopy=False)
            ended = next(one for one in reversed(told) if one.user_attrs.get("index") == trial.index)
            try:
                callback(self.study, ended)
            except Exception as error:
                name = getattr(callback, "__qualname__", type(callback).__name__)
                raise Error(
                    f"callback {name} raised {type(error).__name__}: {error}; trial {trial.index} is kept"
                ) from error

    def _left_behind(self) -> set[int]:
        """The indices of all that have ended. What a killed process was at is told to have failed."""
        trials = self.study.get_trials(deepcopy=False)
        if self.study.user_attrs.get("layout") != LAYOUT:
            if trials:
                raise ValueError("written by a version before 0.18")
            self.study.set_user_attr("layout", LAYOUT)
        left = set(self.study.user_attrs.get(LEFT, ()))
        for trial in trials:
            if not trial.state.is_finished():
                self.leave(trial)
        ended = [trial for trial in trials if trial.state.is_finished() and trial.number not in left]
        return {trial.user_attrs["index"] for trial in ended if "index" in trial.user_attrs}


def constraints(budget: Budget, cost: Any) -> dict[str, float]:
    """By which share each limit on paper is broken, above 0, or kept."""
    return {name: getattr(cost, name) / limit - 1 for name, limit in budget.limits().items()}


def value_of(score: Score, judge: Judge) -> float:
    """What the study goes by: the training loss, the lower the better, or top-1."""
    return score.top1 if judge == "top1" else score.train_loss


def _attributes(candidate: Candidate, index: int) -> dict[str, Any]:
    found = {"index": index, "arch_id": candidate.id, **to_data(candidate.cost)}
    return found | ({"anchor": candidate.anchor} if candidate.anchor else {})


def _end(trial: Trial, objective: Sequence[str], judge: Judge) -> tuple[TrialState, list[float] | None]:
    """A trial's state and values as Optuna has them."""
    latency = trial.latency.median_ms if trial.latency else None
    accuracy = value_of(trial.scores[-1], judge) if trial.scores else 0.0
    known = {"accuracy": accuracy, "latency": latency, **to_data(trial.cost)}
    values = [float(known[name]) for name in objective] if trial.state in ("complete", "pruned") else None
    pruned = trial.state == "pruned" and len(objective) > 1
    return TrialState.COMPLETE if pruned else STATES[trial.state], values


def frozen(space: Space, trial: Trial, objective: Sequence[str], judge: Judge, budget: Budget) -> FrozenTrial:
    """`trial` as Optuna keeps finished ones."""
    names, distributions = axes(space), dict[str, BaseDistribution]()

    def pick(name: str, labels: Sequence[Label]) -> Label:
        distributions[name] = CategoricalDistribution(names[name])
        return trial.choices[name]

    draw(space, pick)
    candidate = Candidate(trial.arch, trial.choices, trial.cost, trial.arch_id, trial.anchor)
    attributes = _attributes(candidate, trial.index)
    if trial.latency:
        attributes["latency_ms"] = trial.latency.median_ms
    if trial.scores:
        attributes |= {"top1": trial.scores[-1].top1, "train_loss": trial.scores[-1].train_loss}
        attributes[MERITS] = [merit(score, judge) for score in trial.scores]
    state, values = _end(trial, objective, judge)
    rungs = {score.rung: value_of(score, judge) for score in trial.scores} if len(objective) == 1 else None
    return create_trial(
        state=state,
        values=values,
        params=trial.choices,
        distributions=distributions,
        user_attrs=attributes,
        intermediate_values=rungs,
        constraints=constraints(budget, trial.cost),
    )


def importance(trials: Sequence[Trial], merits: Sequence[float]) -> dict[str, float]:
    """How much of the spread of `merits`, one a trial, each choice accounts for, by Optuna's fANOVA.

    Only choices that every network makes are covered. Empty where there are fewer than 8 networks.
    """
    if len(trials) < 8 or len(set(merits)) < 2:
        return {}
    common = set.intersection(*(set(trial.choices) for trial in trials))
    seen = {name: list(dict.fromkeys(trial.choices[name] for trial in trials)) for name in sorted(common)}
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(labels) for name, labels in seen.items() if len(labels) > 1
    }
    study = optuna.create_study(direction="maximize")
    for trial, value in zip(trials, merits, strict=True):
        params = {name: trial.choices[name] for name in distributions}
        study.add_trial(create_trial(value=value, params=params, distributions=distributions))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def _study(run: Run, objective: Sequence[str], judge: Judge) -> optuna.Study:
    best = StudyDirection.MAXIMIZE if judge == "top1" else StudyDirection.MINIMIZE
    return optuna.create_study(
        storage=RunStorage(Journal(run.study_log)),
        study_name="nas",
        directions=[best if name == "accuracy" else StudyDirection.MINIMIZE for name in objective],
        load_if_exists=True,
    )
