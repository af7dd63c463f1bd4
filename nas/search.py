"""The search: waves of candidates, refused on paper, trained in rungs, recorded one by one.

Wave 0 is the anchors. A wave is asked before any of it is told, and told in the order asked, so the search does not
depend on who trains what, or when. trials.jsonl is the record from which all else follows: a search that was killed is
resumed by replaying the whole waves on disk and proposing the broken one again; what had been finished of it is found
on disk, what had not is trained.
"""

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nas.arch import Anchor, Arch, arch_id, cost
from nas.plan import Plan
from nas.propose import Candidate, Journal, Proposals
from nas.runs import Run, append_trial, forget, forget_all, locked, read_trials, write_best
from nas.space import Space
from nas.trial import Score, State, Trial, best

FAILURES = 3  # in a row, which end the search

Evaluate: TypeAlias = Callable[[Arch, int, Callable[[int], None]], Score]
"""Trains a network through a rung and scores it; told where to report how many more images have been trained on.
Rungs come in order: when a rung is asked for, the ones before it have been."""


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


def search(
    plan: Plan,
    space: Space,
    anchors: Sequence[Anchor],
    run: Run,
    evaluate: Evaluate,
    watch: Watch = lambda _: None,
) -> list[Trial]:
    """All trials of the search that `plan` asks for, in the order asked; those on disk already are not run again.

    No network over the budget is built. A candidate that raises is a failed trial, with its traceback. Ends early where
    no new network keeps the budget. Raises SearchFailed after three failures in a row, RunInUse where another process
    works in `run`, OSError where the disk refuses a trial.
    """
    with locked(run):
        ledger = _Ledger(run, Journal(run, space), {trial.index: trial for trial in read_trials(run)[0]})
        proposals = Proposals(plan, space)
        seeds = _seeds(plan, anchors)
        training = _Training(plan, ledger, evaluate, watch, _planned(plan, seeds))
        trials: list[Trial] = []
        wave, left = 0, plan.trials
        while wave == 0 or left > 0:
            size = min(plan.wave, left) if wave else len(seeds)
            done = ledger.whole_wave(wave, size)
            if done:
                for trial in done:
                    proposals.replay(trial)
                training.skip(done)
            else:
                candidates = proposals.wave(wave, size) if wave else proposals.seeds(seeds)
                done = training.wave(wave, len(trials), candidates)
                for candidate, trial in zip(candidates, done, strict=True):
                    proposals.tell(candidate, trial)
            trials += done
            left -= sum(trial.state != "refused" for trial in done)
            if not done:
                break
            wave += 1
        forget_all(run)
        return trials


class _Ledger:
    """The run's trials on disk, and the one way to add to them."""

    def __init__(self, run: Run, journal: Journal, trials: dict[int, Trial]) -> None:
        self.run, self.journal, self.trials = run, journal, trials
        self.found = frozenset(trials)  # what earlier processes left
        self.best = best(list(trials.values()))
        self.waves: dict[int, list[Trial]] = {}
        for index in sorted(trials):
            self.waves.setdefault(trials[index].wave, []).append(trials[index])
            journal.add(trials[index])
        if self.best:
            write_best(run, self.best)

    def whole_wave(self, wave: int, size: int) -> list[Trial]:
        """The `size` trials of `wave` where all of them were on disk when the search began, else none."""
        trials = self.waves.get(wave, [])
        return trials if len(trials) == size else []

    def add(self, trial: Trial) -> Trial:
        """`trial`, on disk; or the one that is there in its place. Raises SearchFailed where they disagree."""
        known = self.trials.get(trial.index)
        if known is None:
            append_trial(self.run, trial)
            forget(self.run, trial.arch_id)
            self.trials[trial.index] = trial
            self.journal.add(trial)
            top = best([trial, self.best] if self.best else [trial])
            if top is trial:
                self.best = trial
                write_best(self.run, trial)
            return trial
        if (known.arch_id, known.state) != (trial.arch_id, trial.state):
            raise SearchFailed(
                f"trial {trial.index} on disk is {known.arch_id} ({known.state}), the plan leads to {trial.arch_id} "
                f"({trial.state}): {self.run.path} was changed by hand, or begun with another version of nas, "
                "device or number of threads; go on where it was begun, or begin anew"
            )
        return known


class _Training:
    """Successive halving of a wave, with an account of the training images spent."""

    def __init__(self, plan: Plan, ledger: _Ledger, evaluate: Evaluate, watch: Watch, planned: int) -> None:
        self.plan, self.ledger, self.evaluate, self.watch = plan, ledger, evaluate, watch
        self.work, self.planned, self.failures = 0, planned, 0

    def skip(self, trials: list[Trial]) -> None:
        """Counts trials of an earlier process as done."""
        self.work += sum(_images(self.plan, score.rung) for trial in trials for score in trial.scores)

    def wave(self, wave: int, first: int, candidates: list[Candidate]) -> list[Trial]:
        """The trials of a wave: all train through the first rung, the best of them through the next, and so on.

        The very first candidate goes through all rungs: it is the row to beat. Anchors over the budget are refused.
        """
        ended: dict[int, Trial] = {}
        scores: dict[int, tuple[Score, ...]] = {}

        def end(index: int, state: State, error: str | None = None) -> None:
            candidate = candidates[index - first]
            trial = Trial(
                index=index,
                wave=wave,
                arch_id=arch_id(candidate.arch),
                cost=cost(candidate.arch),
                state=state,
                arch=candidate.arch,
                choices=candidate.choices,
                anchor=candidate.anchor,
                scores=scores.get(index, ()),
                error=error,
            )
            ended[index] = self.ledger.add(trial)

        alive = []
        for index, candidate in enumerate(candidates, start=first):
            if self.plan.budget.keeps(cost(candidate.arch)):
                alive.append(index)
            else:
                end(index, "refused")
        last = len(self.plan.recipe.rungs) - 1
        for rung in range(last + 1):
            for index in list(alive):
                candidate = candidates[index - first]
                outcome = self._scored(wave, index, candidate, rung)
                if not isinstance(outcome, Score):
                    alive.remove(index)
                    end(index, "failed", outcome)
                    self._give_up(index, outcome)
                    continue
                scores[index] = (*scores.get(index, ()), outcome)
                if rung == last:
                    end(index, "complete")
            if rung == last:
                break
            rivals = [index for index in alive if wave or index]
            rivals.sort(key=lambda i: (-scores[i][-1].top1, cost(candidates[i - first].arch).macs, i))
            leaving = rivals[math.ceil(len(rivals) * self.plan.recipe.keep) :]
            for index in sorted(leaving):
                end(index, "pruned")
            alive = [index for index in alive if index not in leaving]
        return [ended[index] for index in sorted(ended)]

    def _scored(self, wave: int, index: int, candidate: Candidate, rung: int) -> Score | str:
        """The score of a rung, from disk or from training; the traceback where training raised."""
        begun, images = self.work, _images(self.plan, rung)
        known = self.ledger.trials.get(index)
        if known and len(known.scores) > rung:
            self.work, self.failures = begun + images, 0
            return known.scores[rung]
        if known and known.error is not None:
            self.failures += 1
            return known.error
        name = candidate.anchor or arch_id(candidate.arch)

        def tick(trained: int) -> None:
            self.work = min(self.work + trained, begun + images)
            self.watch(Progress(wave, index, name, rung, self.work, self.planned, self.ledger.best))

        tick(0)
        assert self.plan.budget.keeps(cost(candidate.arch)), "no network over the budget may be built"
        try:
            score = self.evaluate(candidate.arch, rung, tick)
        except OSError:
            raise  # the disk's fault, not the network's
        except Exception:
            self.failures += 1
            return traceback.format_exc()
        finally:
            self.work = begun + images
        self.failures = 0
        return score

    def _give_up(self, index: int, error: str) -> None:
        """Ends the search after a row of failures; resumed, it goes on after them."""
        if self.failures >= FAILURES and index not in self.ledger.found:
            folder = self.ledger.run.path
            raise SearchFailed(
                f"{FAILURES} candidates in a row failed, the last one with\n\n{error}\n"
                f"All trials are in {folder}; nas search --resume {folder} goes on after them"
            )


def _seeds(plan: Plan, anchors: Sequence[Anchor]) -> list[Anchor]:
    """The anchors of the first wave: as many that keep the budget as may be trained, and all that do not."""
    fitting = [anchor for anchor in anchors if plan.budget.keeps(cost(anchor.arch))]
    return [anchor for anchor in anchors if anchor not in fitting[plan.trials :]]


def _images(plan: Plan, rung: int) -> int:
    return plan.recipe.rungs[rung].images * plan.recipe.rungs[rung].epochs


def _waves(plan: Plan, trials: int) -> list[int]:
    """The sizes of the waves in which `trials` candidates are tried."""
    return [min(plan.wave, trials - begun) for begun in range(0, trials, plan.wave)]


def _planned(plan: Plan, seeds: Sequence[Anchor]) -> int:
    """Training images of the whole search."""
    rungs = range(len(plan.recipe.rungs))
    trained = sum(plan.budget.keeps(cost(anchor.arch)) for anchor in seeds)
    first = bool(seeds) and plan.budget.keeps(cost(seeds[0].arch))
    planned, left = first * sum(_images(plan, rung) for rung in rungs), plan.trials - trained
    for alive in [trained - first, *_waves(plan, left)]:
        for rung in rungs:
            planned += alive * _images(plan, rung)
            alive = math.ceil(alive * plan.recipe.keep)
    return planned
