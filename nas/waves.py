"""The search: waves of candidates, refused on paper, trained rung by rung, recorded one by one.

In each step a new wave begins its first rung while the better halves of the waves before go through their next ones,
all side by side. A wave is proposed from what the steps before have shown and from nothing else, so the search does not
depend on who trains what, or when, or how many do. Wave 0 is the anchors.

trials.jsonl is the record from which all else follows. A search that was killed goes through its steps again: what is
on disk is taken from there, what is not is proposed and trained.
"""

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from nas.arch import Anchor, cost
from nas.gate import Gate, Measure
from nas.journal import Journal
from nas.pareto import point, ranks
from nas.plan import Plan
from nas.propose import Candidate, Foretold, Known, Proposer
from nas.runs import (
    Restore,
    Run,
    RunFailed,
    append_score,
    append_tally,
    append_trial,
    forget,
    forget_all,
    locked,
    read_scores,
    read_tallies,
    read_trials,
    read_work,
    write_best,
    write_work,
)
from nas.space import Space, encode
from nas.timing import Latency
from nas.trial import Costs, Score, State, Trial, best, identity, restored
from nas.workers import Job, Outcome, Stopped, Workers

FAILURES = 3  # in a row, which end the search
ASKS = 12  # for more candidates of one wave, where those proposed turn out too slow


@dataclass(frozen=True, slots=True)
class Running:
    """A training under way; `top1`: at the rung before, if any."""

    name: str
    wave: int
    trial: int
    rung: int
    top1: float | None


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
    measuring: bool = False
    """Whether its latency is being measured; else it is trained."""
    running: tuple[Running, ...] = ()
    """All trainings under way."""
    ended: tuple[tuple[State, int], ...] = ()
    """How many trials ended how."""
    baseline: Trial | None = None
    """The first trial, where it has ended."""


Watch: TypeAlias = Callable[[Progress], None]


@dataclass(slots=True)
class Halt:
    """When to stop before the end: as soon as `asked`, or so that all is over at `deadline`, a time.monotonic()."""

    asked: bool = False
    deadline: float = math.inf

    def __call__(self) -> bool:
        """Whether nothing more is to be begun. Raises Stopped where the time is up."""
        if time.monotonic() >= self.deadline:
            raise Stopped
        return self.asked


class Found(NamedTuple):
    """The ended trials in the order asked, and the complete one of which most is to be expected."""

    trials: list[Trial]
    best: Trial | None


@dataclass(slots=True)
class Entry:
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


def search(
    plan: Plan,
    space: Space,
    anchors: Sequence[Anchor],
    run: Run,
    workers: Workers,
    watch: Watch = lambda _: None,
    halt: Halt | None = None,
    costs: Costs = cost,
    restore: Restore = restored,
    measure: tuple[Measure, Any] | None = None,
) -> Found:
    """What the search that `plan` asks for comes to; trials on disk already are not run again.

    No network over the budget is trained, and none over a limit on paper is measured. A candidate that raises is a
    failed trial, with its traceback. Ends early where no new network keeps the budget, or where `halt` says so.
    `restore`: see `nas.runs.read_trials`. `measure`: what gives the latency of a network, and the network that
    latencies are scaled by; needed where the plan asks for latency. Raises RunFailed after three failures in a row or
    where a latency cannot be had, RunInUse where another process works in `run`, OSError where the disk refuses.
    """
    if plan.timed and not measure:
        raise ValueError("the plan asks for latency: say what measures it")
    halt = halt or Halt()
    with locked(run):
        book = _Book(run, space, plan, restore)
        account = _Account(plan, watch, halt, book)
        proposer = Proposer(plan, space, costs)
        gate = Gate(run, plan, *measure) if plan.timed and measure else None
        door = _Door(plan, book, proposer, gate, account, halt)
        waves: list[list[Entry]] = []
        with suppress(Stopped):
            waves.append(door.entered(0, 0, _seeds(plan, space, anchors, costs)))
            account.begin(waves[0])
        left = plan.trials - sum(entry.state is None for wave in waves for entry in wave)
        in_time = True
        while waves:
            step = len(waves) - 1
            pairs = [(entry, step - wave) for wave, entries in enumerate(waves) for entry in entries if not entry.state]
            if pairs and not _trained(pairs, plan, book, account, workers, halt):
                break
            for wave, entries in enumerate(waves):
                _pruned(entries, step - wave, plan, book)
            entries = [entry for wave in waves for entry in wave]
            size = min(plan.wave, left)
            in_time = in_time and not halt.asked and account.in_time(size, waves)
            new: list[Entry] = []
            if size and in_time:
                try:
                    new = door.wave(step + 1, size, entries)
                except Stopped:
                    break
                entering = sum(entry.state is None for entry in new)
                left = left - entering if entering else 0
            waves.append(new)
            if all(entry.state for wave in waves for entry in wave):
                break
        if waves and left == 0 and all(entry.state for wave in waves for entry in wave):
            forget_all(run)
        trials = [book.trials[index] for index in sorted(book.trials)]
        expected = proposer.estimates(
            [Known(_candidate(trial), tuple(s.top1 for s in trial.scores)) for trial in trials]
        )
        top = _winner(trials, expected)
        if top:
            write_best(run, top)
        return Found(trials, top)


class _Book:
    """The run's trials and scores on disk, and the one way to add to them."""

    def __init__(self, run: Run, space: Space, plan: Plan, restore: Restore) -> None:
        self.run, self.plan, self.journal = run, plan, Journal(run, space, plan.objective)
        self.trials = {trial.index: trial for trial in read_trials(run, restore)[0]}
        self.ended = Counter(trial.state for trial in self.trials.values())
        self.scores = read_scores(run)
        self.failures = 0  # in a row
        self.waves: dict[int, list[Trial]] = {}  # as earlier processes left them
        for index in sorted(self.trials):
            self.waves.setdefault(self.trials[index].wave, []).append(self.trials[index])
            self.journal.add(self.trials[index])
        self.best = best(list(self.trials.values()))
        if self.best:
            write_best(run, self.best)

    def wave(self, wave: int, size: int) -> list[Candidate]:
        """The candidates of `wave` where `size` that were not refused have ended on disk, else none."""
        trials = self.waves.get(wave, [])
        if sum(trial.state != "refused" for trial in trials) < size:
            return []
        return [_candidate(trial) for trial in trials]

    def outcome(self, entry: Entry, rung: int) -> Outcome | None:
        """What an earlier process found of this network at this rung."""
        known = self.trials.get(entry.index)
        if known and len(known.scores) > rung:
            return Outcome(known.scores[rung])
        if known and known.error is not None:
            return Outcome(None, None, known.error)
        score = self.scores.get((entry.index, entry.id, rung))
        return Outcome(score) if score else None

    def keep(self, entry: Entry, outcome: Outcome) -> None:
        """Puts the outcome of a rung on disk before anything follows from it; a whole trial at once where it is one."""
        if outcome.score is None:
            self.failures += 1
            entry.error = outcome.error
            self.end(entry, "failed")
            return
        self.failures = 0
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
        if last:
            self.end(entry, "complete")

    def end(self, entry: Entry, state: State) -> None:
        """Ends an entry, on disk. Raises RunFailed where another end is there."""
        entry.state = state
        trial = self.trial(entry)
        known = self.trials.get(trial.index)
        if known is None:
            append_trial(self.run, trial)
            forget(self.run, trial.arch_id)
            self.trials[trial.index] = trial
            self.ended[trial.state] += 1
            self.journal.add(trial)
            top = best([trial, self.best] if self.best else [trial])
            if top is trial:
                self.best = trial
                write_best(self.run, trial)
        elif (known.arch_id, known.state) != (trial.arch_id, trial.state):
            raise RunFailed(
                f"trial {trial.index} on disk is {known.arch_id} ({known.state}), the plan leads to {trial.arch_id} "
                f"({trial.state}): {self.run.path} was changed by hand, or begun with another version of nas or on "
                "another kind of device; go on where it was begun, or begin anew"
            )

    def trial(self, entry: Entry) -> Trial:
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


class _Door:
    """How candidates become entries: proposed, measured where the plan asks for it, the slow ones refused."""

    def __init__(
        self, plan: Plan, book: _Book, proposer: Proposer, gate: Gate | None, account: "_Account", halt: Halt
    ) -> None:
        self.plan, self.book, self.proposer = plan, book, proposer
        self.gate, self.account, self.halt = gate, account, halt
        self.tallies = read_tallies(book.run)
        self.error: float | None = None  # of the newest forecast

    def wave(self, wave: int, size: int, before: Sequence[Entry]) -> list[Entry]:
        """The entries of `wave`, of which `size` are to be trained, or fewer where no more keep the budget."""
        entries = self.entered(wave, len(before), self.book.wave(wave, size), size)
        known, seen = [_known(entry) for entry in before], {entry.id for entry in before}
        for ask in range(ASKS if not entries else 0):
            missing = size - sum(entry.state is None for entry in entries)
            spare = missing if self.gate else 0  # for those that turn out too slow
            if not missing:
                break
            foretold = self._foretold([*before, *entries])
            candidates = self.proposer.proposed(wave, missing + spare, known, seen, foretold, ask)
            if not candidates:
                break
            new = self.entered(wave, len(before) + len(entries), candidates, missing)
            seen.update(entry.id for entry in new)
            entries += new
        if wave not in self.tallies and entries:
            slow = sum(entry.state == "refused" for entry in entries)
            self.tallies[wave] = {**self.proposer.tally, "too slow": slow, "let in": len(entries) - slow}
            if self.error:
                self.tallies[wave]["forecast error"] = self.error
            append_tally(self.book.run, wave, self.tallies[wave])
        self.proposer.tally.clear()
        return entries

    def entered(self, wave: int, first: int, candidates: Sequence[Candidate], size: int | None = None) -> list[Entry]:
        """`candidates` as entries, all of them or until `size` are to be trained.

        Refused: anchors that are over the budget on paper, and all that are too slow. Raises Stopped where one would
        have to be measured and nothing more is to be begun.
        """
        entries: list[Entry] = []
        for i, candidate in enumerate(candidates):
            if sum(entry.state is None for entry in entries) == size:
                break
            entry = Entry(candidate, first + i, wave)
            entries.append(entry)
            if not self.plan.budget.keeps(entry.candidate.cost):
                self.book.end(entry, "refused")
            elif self.gate:
                if not self.gate.knows(entry.id):
                    if self.halt():
                        raise Stopped
                    self.account.measuring(entry)
                begun = time.monotonic()
                entry.latency = self.gate.latency(wave, entry.candidate.arch, entry.id)
                self.account.measured += time.monotonic() - begun
                if not self.plan.budget.fast(entry.latency):
                    self.book.end(entry, "refused")
        return entries

    def _foretold(self, entries: Sequence[Entry]) -> Foretold | None:
        """What the latencies so far, anchors aside, tell of networks that are not measured."""
        measured = [(e.candidate.arch, e.latency) for e in entries if e.latency and not e.candidate.anchor]
        found = self.gate.forecast(measured) if self.gate else None
        if not found:
            return None
        foretold, self.error = found
        return foretold


class _Account:
    """The training images spent, and what is told of them."""

    def __init__(self, plan: Plan, watch: Watch, halt: Halt, book: _Book) -> None:
        self.plan, self.watch, self.halt, self.book = plan, watch, halt, book
        self.work = self.trained = 0
        self.planned = 1  # until the anchors are known
        self.begun = time.monotonic()
        self.measured = 0.0  # seconds of measuring
        self.partly: dict[int, tuple[Entry, int, int]] = {}  # what runs now: its rung, its images so far

    def begin(self, anchors: Sequence[Entry]) -> None:
        """Takes in how many of the anchors are trained."""
        fitting = sum(entry.state is None for entry in anchors)
        first = bool(anchors) and anchors[0].state is None
        whole = sum(_images(self.plan, rung) for rung in range(len(self.plan.recipe.rungs)))
        waves = range(0, self.plan.trials - fitting, self.plan.wave)
        sizes = [fitting - first, *(min(self.plan.wave, self.plan.trials - fitting - begun) for begun in waves)]
        self.planned = first * whole + sum(self.wave(size) for size in sizes)

    def wave(self, size: int, first: int = 0) -> int:
        """Training images of a wave of which `size` begin rung `first`, from there to the last rung."""
        images = 0
        for rung in range(first, len(self.plan.recipe.rungs)):
            images += size * _images(self.plan, rung)
            size = math.ceil(size * self.plan.recipe.keep)
        return images

    def in_time(self, size: int, waves: Sequence[Sequence[Entry]]) -> bool:
        """Whether another wave, and what is under way, are likely to end before the deadline."""
        if self.halt.deadline == math.inf or not self.trained:
            return True
        now, images = time.monotonic(), self.wave(size)
        for wave, entries in enumerate(waves):
            images += self.wave(sum(entry.state is None for entry in entries), len(waves) - wave)
        measuring = self.measured / len(waves)  # of a wave
        rate = (now - self.begun - self.measured) / self.trained
        return now + measuring + images * rate <= self.halt.deadline

    def measuring(self, entry: Entry) -> None:
        """Hears that a network is being measured."""
        self._tell(entry, len(entry.scores), True)

    def tick(self, entry: Entry, rung: int, images: int) -> None:
        """Hears of images that were trained on. Raises Stopped where the time is up."""
        if time.monotonic() >= self.halt.deadline:
            raise Stopped
        most = _images(self.plan, rung)
        seen = self.partly[entry.index][2] if entry.index in self.partly else 0
        self.partly[entry.index] = entry, rung, min(seen + images, most)
        self._tell(entry, rung)

    def done(self, entry: Entry, rung: int, trained: bool) -> None:
        """Hears that a rung is done."""
        self.partly.pop(entry.index, None)
        self.work += _images(self.plan, rung)
        self.trained += trained * _images(self.plan, rung)
        if trained:
            self._tell(entry, rung)

    def _tell(self, entry: Entry, rung: int, measuring: bool = False) -> None:
        work = min(self.work + sum(images for _, _, images in self.partly.values()), self.planned)
        running = tuple(
            Running(one.name, one.wave, one.index, at, one.scores[-1].top1 if one.scores else None)
            for one, at, _ in self.partly.values()
        )
        self.watch(
            Progress(
                entry.wave,
                entry.index,
                entry.name,
                rung,
                work,
                self.planned,
                self.book.best,
                measuring,
                running,
                tuple(self.book.ended.items()),
                self.book.trials.get(0),
            )
        )


def _trained(
    pairs: Sequence[tuple[Entry, int]], plan: Plan, book: _Book, account: _Account, workers: Workers, halt: Halt
) -> bool:
    """Whether each entry got the score of its rung, from disk or from training, or ended in failure."""
    jobs: list[Job] = []
    entries: dict[int, tuple[Entry, int]] = {}
    for entry, rung in pairs:
        assert plan.budget.keeps(entry.candidate.cost), "no network over the budget may be trained"
        assert not plan.budget.timed or (entry.latency and plan.budget.fast(entry.latency)), "nor one that is too slow"
        known = book.outcome(entry, rung)
        if known:
            book.keep(entry, known)
            account.done(entry, rung, trained=False)
        else:
            entries[entry.index] = (entry, rung)
            weight = entry.candidate.cost.macs * _images(plan, rung)
            state = functools.partial(read_work, book.run, entry.id)
            jobs.append(Job(entry.index, entry.candidate.arch, rung, state, weight))
    try:
        for job, outcome in workers.run(jobs, lambda job, images: account.tick(*entries[job.key], images), halt):
            entry, rung = entries.pop(job.key)
            book.keep(entry, outcome)
            account.done(entry, rung, trained=True)
            if book.failures >= FAILURES:
                folder = book.run.path
                raise RunFailed(
                    f"{FAILURES} candidates in a row failed, the last one with\n\n{outcome.error}\n"
                    f"All trials are in {folder}; nas search --resume {folder} goes on after them"
                )
    except Stopped:
        return False
    return not entries


def _pruned(entries: Sequence[Entry], rung: int, plan: Plan, book: _Book) -> None:
    """Ends those of a wave that are not among its better part at `rung`.

    The very first candidate goes through all rungs: it is the row to beat.
    """
    if not 0 <= rung < len(plan.recipe.rungs) - 1:
        return
    rivals = [entry for entry in entries if not entry.state and (entry.wave or entry.index)]
    points = [point(entry.scores[rung].top1, entry.candidate.cost, plan.objective, entry.latency) for entry in rivals]
    rank = dict(zip((entry.index for entry in rivals), ranks(points), strict=True))
    rivals.sort(key=lambda e: (rank[e.index], -e.scores[rung].top1, e.candidate.cost.macs, e.index))
    leaving = rivals[math.ceil(len(rivals) * plan.recipe.keep) :]
    for entry in sorted(leaving, key=lambda entry: entry.index):
        book.end(entry, "pruned")


def _candidate(trial: Trial) -> Candidate:
    return Candidate(trial.arch, trial.choices, trial.cost, trial.arch_id, trial.anchor)


def _known(entry: Entry) -> Known:
    return Known(entry.candidate, tuple(score.top1 for score in entry.scores))


def _winner(trials: Sequence[Trial], expected: Sequence[float | None]) -> Trial | None:
    """The complete trial of which most is expected; where nothing is, its score counts."""
    complete = [(t, e if e is not None else t.score or 0.0) for t, e in zip(trials, expected, strict=True)]
    complete = [(trial, value) for trial, value in complete if trial.state == "complete"]
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


def _images(plan: Plan, rung: int) -> int:
    return plan.recipe.rungs[rung].images * plan.recipe.rungs[rung].epochs
