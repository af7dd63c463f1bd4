"""Who is trained next: networks that are new, keep the budget and come near it. The only room with Optuna.

Optuna's TPE proposes; what it proposes over the budget, or a second time, is refused on paper and asked again. Its
study lives in memory and follows from the trials alone: a wave's sampler is seeded by the plan and the wave, so the
same trials before it give the same proposals. The journal beside it is a copy for Optuna's own tools.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.arch import Anchor, Arch, arch_id, cost
from nas.plan import Plan, derived_seed
from nas.runs import Run
from nas.space import Choices, Label, Space, draw, encode, least, sample, wander
from nas.trial import Trial
from nas.values import to_data

STARTUP = 12  # trials before TPE is asked; until then networks are drawn at random
NEAR = 0.6  # share of the budget that a candidate takes at least, where such can be found
ASKS = 40  # of TPE for one candidate; most of its answers are over the budget
DRAWS = 500  # at random for one candidate, before walking to one
WALKS, STEPS = 20, 100
optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it announces every study and trial on its own
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,  # TPE ranks these by the rung they reached, then by their score there
    "failed": TrialState.FAIL,
    "refused": TrialState.FAIL,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to be tried; `asked` is Optuna's trial, None for an anchor that is no seed."""

    arch: Arch
    choices: Choices
    anchor: str | None
    asked: optuna.Trial | None


class Proposals:
    """Waves of candidates for `plan` in `space`; told what became of them, in the order asked."""

    def __init__(self, plan: Plan, space: Space) -> None:
        self.plan, self.space = plan, space
        self.study = optuna.create_study(direction="maximize", sampler=_sampler(plan.seed % 2**32))
        self.seen: set[str] = set()
        self.told = 0  # trials with a score

    def seeds(self, anchors: Sequence[Anchor]) -> list[Candidate]:
        """`anchors` as the first wave. Those that keep the budget and lie in the space are its seeds."""
        candidates = []
        for anchor in anchors:
            try:
                choices = encode(self.space, anchor.arch)
            except ValueError:
                choices = {}  # outside the space: a row to beat, but no seed
            fits = self.plan.budget.keeps(cost(anchor.arch))
            asked = self._enqueued(choices) if choices and fits else None
            candidates.append(Candidate(anchor.arch, choices, anchor.name, asked))
        return candidates

    def wave(self, wave: int, size: int) -> list[Candidate]:
        """Up to `size` new networks under the budget; fewer, or none, where no more can be found."""
        rng = random.Random(derived_seed(self.plan.seed, f"wave {wave}"))
        self.study.sampler = _sampler(rng.randrange(2**32))
        candidates: list[Candidate] = []
        new = set(self.seen)
        while len(candidates) < size:
            candidate = self._by_tpe(new) if self.told >= STARTUP else None
            candidate = candidate or self._at_random(rng, new)
            if candidate is None:
                break
            new.add(arch_id(candidate.arch))
            candidates.append(candidate)
        return candidates

    def tell(self, candidate: Candidate, trial: Trial) -> None:
        """Learns what became of a candidate of the last wave."""
        if candidate.asked is not None:
            for score in trial.scores:
                candidate.asked.report(score.top1, score.rung)
            state = STATES[trial.state]
            self.study.tell(candidate.asked, trial.top1 if state == TrialState.COMPLETE else None, state)
        self._count(trial)

    def replay(self, trial: Trial) -> None:
        """Learns of a trial of an earlier process as `tell` would have."""
        if trial.choices and trial.state != "refused":
            self.study.add_trial(frozen(self.space, trial))
        self._count(trial)

    def _count(self, trial: Trial) -> None:
        self.seen.add(trial.arch_id)
        self.told += bool(trial.choices) and trial.state in ("complete", "pruned")

    def _by_tpe(self, seen: set[str]) -> Candidate | None:
        for _ in range(ASKS):
            asked = self.study.ask()
            arch = draw(self.space, _suggest(asked))
            if self._welcome(arch, seen, NEAR):
                return Candidate(arch, encode(self.space, arch), None, asked)
            self.study.tell(asked, state=TrialState.FAIL)  # TPE passes failed trials over
        return None

    def _at_random(self, rng: random.Random, seen: set[str]) -> Candidate | None:
        """A network drawn at random; where draws do not keep the budget, the end of a walk that does."""
        second_best: Arch | None = None
        for arch in self._random_networks(rng):
            if self._welcome(arch, seen, NEAR):
                return self._chosen(arch)
            if second_best is None and self._welcome(arch, seen, 0):
                second_best = arch
        return self._chosen(second_best) if second_best else None

    def _random_networks(self, rng: random.Random) -> Iterator[Arch]:
        for _ in range(DRAWS):
            yield sample(self.space, rng)
        start = cheapest(self.space, self.plan, rng)
        for _ in range(WALKS):
            yield wander(self.space, start, lambda arch: self.plan.budget.keeps(cost(arch)), STEPS, rng)

    def _chosen(self, arch: Arch) -> Candidate:
        choices = encode(self.space, arch)
        return Candidate(arch, choices, None, self._enqueued(choices))

    def _welcome(self, arch: Arch, seen: set[str], near: float) -> bool:
        spent = cost(arch)
        return self.plan.budget.keeps(spent) and self.plan.budget.use(spent) >= near and arch_id(arch) not in seen

    def _enqueued(self, choices: Choices) -> optuna.Trial:
        self.study.enqueue_trial(choices)
        asked = self.study.ask()
        draw(self.space, _suggest(asked))
        return asked


class Journal:
    """A run's trials as an Optuna journal file, which optuna-dashboard and Optuna's plots open as it is."""

    def __init__(self, run: Run, space: Space) -> None:
        self.space = space
        try:
            self.study = _journal_study(run)
            self.kept = {trial.user_attrs["index"] for trial in self.study.get_trials(deepcopy=False)}
        except Exception:  # whatever a damaged journal makes Optuna raise: it is a copy, and is begun anew
            run.study_log.unlink(missing_ok=True)
            self.study, self.kept = _journal_study(run), set()

    def add(self, trial: Trial) -> None:
        """Puts `trial` into the journal unless it is there; anchors outside the space have no place in it."""
        if trial.index not in self.kept and trial.choices:
            self.study.add_trial(frozen(self.space, trial))
            self.kept.add(trial.index)


def cheapest(space: Space, plan: Plan, rng: random.Random) -> Arch:
    """The network of `space` that takes the smallest share of the budget; of equal ones, that with the fewest MACs.

    Raises ValueError where even that one is over it. It is found by descent: exact for one limit, and as far as a
    descent sees for several at once.
    """
    arch = least(space, lambda a: (plan.budget.use(cost(a)), cost(a).macs), rng)
    smallest = cost(arch)
    if not plan.budget.keeps(smallest):
        spent = {
            "macs": f"{smallest.macs:,} FLOPs (multiply-accumulates)",
            "params": f"{smallest.params:,} params",
            "peak": f"{smallest.peak:,} activations held at once",
        }
        raise ValueError(
            f"no network of space {space.name} keeps the budget {plan.budget}: the smallest has "
            f"{' and '.join(spent[name] for name in plan.budget.limits())} at {plan.resolution}x{plan.resolution}; "
            "raise --budget or take another --space"
        )
    return arch


def frozen(space: Space, trial: Trial) -> FrozenTrial:
    """`trial` as Optuna keeps finished ones."""
    distributions: dict[str, BaseDistribution] = {}

    def pick(name: str, labels: tuple[Label, ...]) -> Label:
        distributions[name] = CategoricalDistribution(labels)
        return trial.choices[name]

    draw(space, pick)
    attributes = {"index": trial.index, "arch_id": trial.arch_id, **to_data(trial.cost)}
    return create_trial(
        state=STATES[trial.state],
        value=trial.top1 if trial.state in ("complete", "pruned") else None,
        params=trial.choices,
        distributions=distributions,
        user_attrs=attributes | ({"anchor": trial.anchor} if trial.anchor else {}),
        intermediate_values={score.rung: score.top1 for score in trial.scores},
    )


def _suggest(asked: optuna.Trial) -> Callable[[str, tuple[Label, ...]], Label]:
    return lambda name, labels: asked.suggest_categorical(name, labels)


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed)


def _journal_study(run: Run) -> optuna.Study:
    file = str(run.study_log)
    # The run's own lock keeps other writers out, so a lock that lies there was left by a killed process.
    backend = JournalFileBackend(file, JournalFileSymlinkLock(file, grace_period=3))
    return optuna.create_study(
        storage=JournalStorage(backend), study_name="nas", direction="maximize", load_if_exists=True
    )
