"""The sampler of `nas search` as one of Optuna's: a Gaussian process that knows networks on paper, under a budget."""

import math
from collections.abc import Sequence
from threading import Lock
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.networks.space import Choices, Label, draw
from nas.records.trial import identity
from nas.search_strategy.candidates import Candidate, Request, ScoredCandidate
from nas.search_strategy.proposer import Proposer

MERITS = "merits"
"""Attribute of a trial: its scores, rung by rung, the higher the better."""
LEFT = "left"
"""Attribute of a study: the numbers of trials that were asked for and then left, as by a process that was killed."""


class ProposerSampler(BaseSampler):
    """Samples what `proposer` proposes, given the trials of the study so far.

    A trial is worth its intermediate values and its value, or the list in its attribute "merits"; one that runs is
    believed to come to what is expected of it. `batch`: networks that are proposed together, before the result of any
    is used.
    """

    def __init__(self, proposer: Proposer, batch: int = 1) -> None:
        self.proposer, self.batch = proposer, batch
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(labels) for name, labels in proposer.axes.items()
        }
        self.proposed: list[Candidate] = []
        self.request: Request | None = None
        """What a search asks for; None in a study of a user's own."""
        self.exhausted = False
        """Whether no new network that keeps the budget was found."""
        self._independent = RandomSampler(seed=proposer.seed)
        self._candidates: dict[int, Candidate | None] = {}  # of trials that were seen, by number
        self._pending: dict[int, Candidate] = {}  # of trials that may not have their parameters yet
        self._alone = Lock()

    def begin(self, request: Request) -> None:
        """Says what the next proposals are for."""
        self.request, self.batch, self.proposed = request, request.size, []

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All axes of the space; a network asks for some of them."""
        return self.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The choices of a network; none where no new one keeps the budget."""
        with self._alone:  # a study may ask from several threads
            return self._sampled(study, trial)

    def _sampled(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        if not self.proposed:
            known, seen = self._known(study, trial)
            if self.request is None:
                self.proposer.rungs = max((len(item.scores) for item in known), default=1) or 1
            request = self.request or Request(trial.number, self.batch, {})
            self.proposed = self.proposer.propose(request, known, seen)
        self.exhausted = not self.proposed
        if self.exhausted:
            return {}
        self._pending[trial.number] = self.proposed.pop(0)
        return dict(self._pending[trial.number].choices)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: what is no axis of the space, or of what no proposal was found for."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _known(self, study: Study, new: FrozenTrial) -> tuple[list[ScoredCandidate], set[str]]:
        """What was asked so far, in its order, and the identities of all that were tried."""
        known: list[tuple[int, ScoredCandidate]] = []
        rungs = self.request.rungs if self.request else None
        believed = self.request is None or self.request.believed
        seen, left = set(rungs or ()), set(study.user_attrs.get(LEFT, ()))
        sign = -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0
        for trial in study.get_trials(deepcopy=False):
            if trial.number == new.number or trial.state == TrialState.WAITING or trial.number in left:
                continue
            candidate = self._candidate(trial)
            if candidate is None:
                continue
            if rungs is not None and candidate.id not in rungs:
                continue
            seen.add(candidate.id)
            scores = _scores(trial, sign)[: None if rungs is None else rungs[candidate.id]]
            if scores or (trial.state == TrialState.RUNNING and believed):
                known.append((trial.user_attrs.get("index", trial.number), ScoredCandidate(candidate, scores)))
        return [item for _, item in sorted(known, key=lambda pair: pair[0])], seen

    def _candidate(self, trial: FrozenTrial) -> Candidate | None:
        """The network of a trial; None where its parameters draw none, as where they are of something else."""
        if trial.number not in self._candidates:
            if not trial.state.is_finished():  # its parameters may still be missing
                return self._pending.get(trial.number) or self._drawn(trial)
            self._candidates[trial.number] = self._drawn(trial)
            self._pending.pop(trial.number, None)
        return self._candidates[trial.number]

    def _drawn(self, trial: FrozenTrial) -> Candidate | None:
        choices: Choices = {}

        def pick(name: str, labels: Sequence[Label]) -> Label:
            choices[name] = within(trial.params[name], self.proposer.axes[name], labels)
            return choices[name]

        try:
            network = draw(self.proposer.space, pick)
        except KeyError:
            return None
        return Candidate(network, choices, self.proposer.costs(network), identity(network))


def within(value: Any, all_labels: Sequence[Label], labels: Sequence[Label]) -> Label:
    """`value`, one of `all_labels`, as one of the `labels` that this place has: Optuna knows one list for each name."""
    places = [i for i, label in enumerate(all_labels) if type(label) is type(value) and label == value]
    here = [label for label in labels if type(label) is type(value) and label == value]
    return here[0] if here else labels[(places or [0])[0] % len(labels)]


def _scores(trial: FrozenTrial, sign: float) -> tuple[float, ...]:
    if MERITS in trial.user_attrs:
        return tuple(trial.user_attrs[MERITS])
    values = [sign * trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    if trial.state == TrialState.COMPLETE and trial.values and (not values or values[-1] != sign * trial.values[0]):
        values.append(sign * trial.values[0])
    return tuple(value for value in values if math.isfinite(value))
