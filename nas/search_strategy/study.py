"""A run's trials as an Optuna study, which optuna-dashboard and Optuna's plots open. The only module with Optuna.

The study is a copy of trials.jsonl, written trial by trial: nothing is read back from it, and it is begun anew where it
is damaged.
"""

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.networks.space import Label, Space, draw
from nas.records.run_folder import Run
from nas.records.trial import Trial
from nas.serialization import to_data

optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it announces every study and trial on its own
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "refused": TrialState.FAIL,
}


class StudyLog:
    """The study of `run`, and the one way to add to it."""

    def __init__(self, run: Run, space: Space, objective: Sequence[str] = ("accuracy",)) -> None:
        self.space, self.objective = space, tuple(objective)
        try:
            self.study = _study(run, self.objective)
            self.kept = {trial.user_attrs["index"] for trial in self.study.get_trials(deepcopy=False)}
        except Exception:  # whatever a damaged journal makes Optuna raise
            run.study_log.unlink(missing_ok=True)
            self.study, self.kept = _study(run, self.objective), set()

    def add(self, trial: Trial) -> None:
        """Puts `trial` into the study unless it is there; anchors outside the space have no place in it."""
        if trial.index not in self.kept and trial.choices:
            self.study.add_trial(frozen(self.space, trial, self.objective))
            self.kept.add(trial.index)


def frozen(space: Space, trial: Trial, objective: Sequence[str]) -> FrozenTrial:
    """`trial` as Optuna keeps finished ones."""
    distributions: dict[str, BaseDistribution] = {}

    def pick(name: str, labels: tuple[Label, ...]) -> Label:
        distributions[name] = CategoricalDistribution(labels)
        return trial.choices[name]

    draw(space, pick)
    attributes = {"index": trial.index, "arch_id": trial.arch_id, **to_data(trial.cost)}
    if trial.latency:
        attributes["latency_ms"] = trial.latency.median_ms
    if trial.scores:
        attributes["train_loss"] = trial.scores[-1].train_loss
    scored = trial.state in ("complete", "pruned")
    latency = trial.latency.median_ms if trial.latency else None
    known = {"accuracy": trial.score or 0.0, "latency": latency, **to_data(trial.cost)}
    values = [float(known[name]) for name in objective] if scored else None
    pruned = trial.state == "pruned" and len(objective) > 1  # Optuna knows no intermediate values of several objectives
    return create_trial(
        state=TrialState.COMPLETE if pruned else STATES[trial.state],
        values=values,
        params=trial.choices,
        distributions=distributions,
        user_attrs=attributes | ({"anchor": trial.anchor} if trial.anchor else {}),
        intermediate_values={score.rung: score.top1 for score in trial.scores} if len(objective) == 1 else None,
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


def _study(run: Run, objective: Sequence[str]) -> optuna.Study:
    file = str(run.study_log)
    # The run's own lock keeps other writers out, so a lock that lies there was left by a killed process.
    backend = JournalFileBackend(file, JournalFileSymlinkLock(file, grace_period=3))
    return optuna.create_study(
        storage=JournalStorage(backend),
        study_name="nas",
        directions=["maximize" if name == "accuracy" else "minimize" for name in objective],
        load_if_exists=True,
    )
