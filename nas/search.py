"""The search: waves of candidates, proposed by Optuna, refused on paper, trained in rungs. The only room with Optuna.

Wave 0 is the anchors. A wave is asked before any of it is told, and told in the order asked, so the search does not
depend on who trains what, or when. The record is trials.jsonl; a wave's proposals follow from the plan and the trials
of the waves before it, so a search that was killed is resumed by telling the whole waves on disk and proposing the
broken one again: what it had finished is found on disk, what it had not is trained.
"""

import math
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from nas.arch import Anchor, Arch, arch_id, cost
from nas.plan import Plan, derived_seed
from nas.runs import Run, append_trial, forget, locked, read_trials, write_best
from nas.space import Choices, Label, Space, draw, encode, least, sample, wander
from nas.trial import Score, State, Trial, best

STARTUP = 12  # trials before the sampler is asked; until then candidates are drawn at random
NEAR = 0.6  # candidates take at least this share of the budget, where such can be found
ASKS = 40  # of the sampler, for one candidate; most answers are over the budget
DRAWS = 2_000  # at random, for one candidate
FAILURES = 3  # in a row, which end the run

Evaluate: TypeAlias = Callable[[Arch, int, Callable[[int], None]], Score]
"""Trains a network through a rung and scores it; called for the rungs in order, told how far training has come."""


class SearchFailed(RuntimeError):
    """The search cannot go on; all finished trials are on disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a search stands. `work` and `planned` are training images, done and in all."""

    wave: int
    trial: int
    name: str
    rung: int
    work: int
    planned: int
    best: Trial | None


Watch: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network on its way through a wave."""

    index: int
    wave: int
    arch: Arch
    choices: Choices
    anchor: str | None
    asked: optuna.Trial | None

    def trial(self, state: State, scores: tuple[Score, ...] = (), error: str | None = None) -> Trial:
        """The record of this candidate's end."""
        return Trial(
            index=self.index,
            wave=self.wave,
            arch_id=arch_id(self.arch),
            cost=cost(self.arch),
            state=state,
            arch=self.arch,
            choices=self.choices,
            anchor=self.anchor,
            scores=scores,
            error=error,
        )


def search(
    plan: Plan,
    space: Space,
    anchors: Sequence[Anchor],
    run: Run,
    evaluate: Evaluate,
    watch: Watch = lambda _: None,
) -> list[Trial]:
    """All trials of the search that `plan` asks for, in the order asked; those on disk already are not run again.

    No network over the budget is built. A candidate that raises is a failed trial, with its traceback. Raises
    SearchFailed after three failures in a row, ValueError where another process works in `run`, OSError where the
    disk refuses a trial.
    """
    with locked(run):
        return Search(plan, space, anchors, run, evaluate, watch).to_end()


class Search:
    """The state of a search in this process; see `search`."""

    def __init__(
        self, plan: Plan, space: Space, anchors: Sequence[Anchor], run: Run, evaluate: Evaluate, watch: Watch
    ) -> None:
        self.plan, self.space, self.anchors = plan, space, anchors
        self.run, self.evaluate, self.watch = run, evaluate, watch
        self.on_disk = {trial.index: trial for trial in read_trials(run)[0]}
        self.trials: list[Trial] = []
        self.study = _new_study()
        self.mirror = _mirror(run)
        self.mirrored = {trial.user_attrs.get("index") for trial in self.mirror.get_trials(deepcopy=False)}
        self.failures = 0
        self.work, self.planned = 0, self._planned()

    def to_end(self) -> list[Trial]:
        """Wave after wave until the plan's trials are spent, or no new network keeps the budget."""
        wave = 0
        while wave == 0 or self._left() > 0:
            candidates = self._wave(wave)
            if not candidates:
                break
            trials = self._evaluated(candidates)
            for candidate, trial in zip(candidates, trials, strict=True):
                self._tell(candidate.asked, trial)
            wave += 1
        return self.trials

    def _left(self) -> int:
        return self.plan.trials - sum(trial.state != "refused" for trial in self.trials)

    # ---- proposing -------------------------------------------------------------------------------------------

    def _wave(self, wave: int) -> list[Candidate]:
        """The candidates of `wave`: the anchors, or networks that are new, keep the budget and come near it."""
        if wave == 0:
            return list(self._seeds())
        rng = random.Random(derived_seed(self.plan.seed, f"wave {wave}"))
        self.study.sampler = _sampler(rng.randrange(2**32))
        seen = {trial.arch_id for trial in self.trials}
        candidates: list[Candidate] = []
        while len(candidates) < min(self.plan.wave, self._left()):
            asked, arch = self._proposal(rng, seen)
            if arch is None:
                break
            seen.add(arch_id(arch))
            index = len(self.trials) + len(candidates)
            candidates.append(Candidate(index, wave, arch, encode(self.space, arch), None, asked))
        return candidates

    def _seeds(self) -> Iterator[Candidate]:
        room = self.plan.trials
        for index, anchor in enumerate(self.anchors):
            fits = self.plan.budget.keeps(cost(anchor.arch))
            if fits and room == 0:
                return
            room -= fits
            try:
                choices = encode(self.space, anchor.arch)
            except ValueError:
                choices = {}  # outside the space: a row to beat, but no seed
            asked = self._enqueued(choices)[0] if choices and fits else None
            yield Candidate(index, 0, anchor.arch, choices, anchor.name, asked)

    def _proposal(self, rng: random.Random, seen: set[str]) -> tuple[optuna.Trial | None, Arch | None]:
        if sum(trial.state in ("complete", "pruned") for trial in self.trials) >= STARTUP:
            for _ in range(ASKS):
                asked = self.study.ask()
                arch = draw(self.space, _suggest(asked))
                if self._welcome(arch, seen, NEAR):
                    return asked, arch
                self.study.tell(asked, state=TrialState.FAIL)  # TPE learns nothing from a failed trial
        drawn = self._at_random(rng, seen)
        return self._enqueued(encode(self.space, drawn)) if drawn else (None, None)

    def _at_random(self, rng: random.Random, seen: set[str]) -> Arch | None:
        """A welcome network, drawn; where draws do not find one, the end of a walk from the space's cheapest."""
        fallback: Arch | None = None
        for _ in range(DRAWS):
            arch = sample(self.space, rng)
            if self._welcome(arch, seen, NEAR):
                return arch
            if fallback is None and self._welcome(arch, seen, 0):
                fallback = arch
        if fallback:
            return fallback
        start = cheapest(self.space, self.plan, rng)
        for steps in range(1, 101):
            arch = wander(self.space, start, lambda a: self.plan.budget.keeps(cost(a)), steps, rng)
            if self._welcome(arch, seen, 0):
                return arch
        return None

    def _welcome(self, arch: Arch, seen: set[str], near: float) -> bool:
        spent = cost(arch)
        return self.plan.budget.keeps(spent) and self.plan.budget.use(spent) >= near and arch_id(arch) not in seen

    def _enqueued(self, choices: Choices) -> tuple[optuna.Trial, Arch]:
        self.study.enqueue_trial(choices)
        asked = self.study.ask()
        return asked, draw(self.space, _suggest(asked))

    # ---- evaluating ------------------------------------------------------------------------------------------

    def _evaluated(self, candidates: list[Candidate]) -> list[Trial]:
        """The trials of a wave: all train through the first rung, the best of them through the next, and so on.

        Anchors go through all rungs: they are the rows to beat.
        """
        ended: dict[int, Trial] = {}
        scores: dict[int, tuple[Score, ...]] = {c.index: () for c in candidates}

        def end(candidate: Candidate, state: State, error: str | None = None) -> None:
            known = self.on_disk.get(candidate.index)
            trial = known or candidate.trial(state, scores[candidate.index], error)
            if trial.arch_id != arch_id(candidate.arch) or trial.state != state:
                raise SearchFailed(
                    f"trial {trial.index} on disk is {trial.arch_id} ({trial.state}), this search has "
                    f"{arch_id(candidate.arch)} ({state}) there: {self.run.path} was made by another version of nas "
                    "or changed by hand; begin a new run"
                )
            ended[candidate.index] = trial
            self._record(trial, new=known is None)

        alive = []
        for candidate in candidates:
            if self.plan.budget.keeps(cost(candidate.arch)):
                alive.append(candidate)
            else:
                end(candidate, "refused")
        last = len(self.plan.recipe.rungs) - 1
        for rung in range(last + 1):
            for candidate in list(alive):
                outcome = self._scored(candidate, rung)
                if isinstance(outcome, Score):
                    scores[candidate.index] += (outcome,)
                else:
                    alive.remove(candidate)
                    end(candidate, "failed", outcome)
            going_on = alive if rung == last else self._best(alive, scores)
            for candidate in alive:
                if rung == last or candidate not in going_on:
                    end(candidate, "complete" if rung == last else "pruned")
            alive = going_on
        self.trials += [ended[c.index] for c in candidates]
        return [ended[c.index] for c in candidates]

    def _best(self, alive: list[Candidate], scores: dict[int, tuple[Score, ...]]) -> list[Candidate]:
        rivals = [c for c in alive if c.anchor is None]
        rivals.sort(key=lambda c: (-scores[c.index][-1].top1, cost(c.arch).macs, c.index))
        kept = rivals[: math.ceil(len(rivals) * self.plan.recipe.keep)]
        return [c for c in alive if c.anchor is not None or c in kept]

    def _scored(self, candidate: Candidate, rung: int) -> Score | str:
        """The score of a rung, from disk or from training; the traceback where training raised."""
        images = self._images(rung)
        known = self.on_disk.get(candidate.index)
        if known and (known.error is not None or len(known.scores) > rung):
            self.work += images
            return known.scores[rung] if len(known.scores) > rung else known.error or ""
        begun = self.work

        def tick(trained: int) -> None:
            self.work = min(self.work + trained, begun + images)
            self._show(candidate, rung)

        self._show(candidate, rung)
        assert self.plan.budget.keeps(cost(candidate.arch)), "no network over the budget may be built"
        try:
            score = self.evaluate(candidate.arch, rung, tick)
        except OSError:
            raise  # the disk, not the network
        except Exception:
            self.failures += 1
            return traceback.format_exc()
        finally:
            self.work = begun + images
        self.failures = 0
        return score

    def _show(self, candidate: Candidate, rung: int) -> None:
        name = candidate.anchor or arch_id(candidate.arch)
        top = best([*self.trials, *self.on_disk.values()])
        self.watch(Progress(candidate.wave, candidate.index, name, rung, self.work, self.planned, top))

    # ---- remembering -----------------------------------------------------------------------------------------

    def _record(self, trial: Trial, new: bool) -> None:
        if new:
            append_trial(self.run, trial)
            self.on_disk[trial.index] = trial
            if best(list(self.on_disk.values())) == trial:
                write_best(self.run, trial)
        forget(self.run, trial.arch_id)
        if trial.index not in self.mirrored and trial.choices:
            self.mirror.add_trial(_frozen(self.space, trial))
        if self.failures >= FAILURES:
            raise SearchFailed(
                f"{FAILURES} candidates in a row failed; the last one with\n{trial.error}\n"
                f"All trials are in {self.run.path}; nas search --resume {self.run.path} goes on from there"
            )

    def _tell(self, asked: optuna.Trial | None, trial: Trial) -> None:
        if asked is None:
            return
        for score in trial.scores:
            asked.report(score.top1, score.rung)
        state = _STATES[trial.state]
        self.study.tell(asked, trial.top1 if state == TrialState.COMPLETE else None, state)

    def _images(self, rung: int) -> int:
        return self.plan.recipe.rungs[rung].images * self.plan.recipe.rungs[rung].epochs

    def _planned(self) -> int:
        """Training images of the whole search."""
        everything = sum(self._images(rung) for rung in range(len(self.plan.recipe.rungs)))
        seeds = min(self.plan.trials, sum(self.plan.budget.keeps(cost(a.arch)) for a in self.anchors))
        planned, left = seeds * everything, self.plan.trials - seeds
        while left > 0:
            alive = min(left, self.plan.wave)
            left -= alive
            for rung in range(len(self.plan.recipe.rungs)):
                planned += alive * self._images(rung)
                alive = math.ceil(alive * self.plan.recipe.keep)
        return planned


def cheapest(space: Space, plan: Plan, rng: random.Random) -> Arch:
    """The network of `space` that takes the smallest share of the budget.

    Raises ValueError where even that one is over it: then nothing in the space keeps the budget.
    """
    arch = least(space, lambda a: plan.budget.use(cost(a)), rng)
    smallest = cost(arch)
    if not plan.budget.keeps(smallest):
        raise ValueError(
            f"no network of space {space.name} keeps the budget {plan.budget}: the smallest has "
            f"{smallest.macs:,} FLOPs (multiply-accumulates) and {smallest.params:,} params at "
            f"{plan.resolution}x{plan.resolution}; raise --budget or take another --space"
        )
    return arch


_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def _suggest(asked: optuna.Trial) -> Callable[[str, tuple[Label, ...]], Label]:
    return lambda name, labels: asked.suggest_categorical(name, labels)


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(n_startup_trials=1, multivariate=True, constant_liar=True, seed=seed)


def _new_study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=_sampler(0))


def _frozen(space: Space, trial: Trial) -> optuna.trial.FrozenTrial:
    """`trial` as Optuna keeps it."""
    distributions: dict[str, Any] = {}

    def pick(name: str, labels: tuple[Label, ...]) -> Label:
        distributions[name] = CategoricalDistribution(labels)
        return trial.choices[name]

    draw(space, pick)
    attributes = {"index": trial.index, "arch_id": trial.arch_id, "macs": trial.cost.macs, "params": trial.cost.params}
    return create_trial(
        state=_STATES.get(trial.state, TrialState.FAIL),
        value=trial.top1 if trial.state in ("complete", "pruned") else None,
        params=trial.choices,
        distributions=distributions,
        user_attrs=attributes | ({"anchor": trial.anchor} if trial.anchor else {}),
        intermediate_values={score.rung: score.top1 for score in trial.scores},
    )


def _mirror(run: Run) -> optuna.Study:
    """The run's trials as an Optuna journal, for Optuna's dashboard and plots; begun anew where it is broken."""

    def opened() -> optuna.Study:
        storage = JournalStorage(JournalFileBackend(str(run.study_log)))
        return optuna.create_study(storage=storage, study_name=run.path.name, direction="maximize", load_if_exists=True)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return opened()
    except Exception:
        run.study_log.unlink(missing_ok=True)
        return opened()
