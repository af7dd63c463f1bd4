"""Who is trained: candidates proposed, refused on paper, measured where the plan asks for it, the slow ones refused."""

import time
from collections.abc import Sequence

from nas.execution.jobs import Stopped
from nas.records.plan import Plan
from nas.records.search_files import append_tally, read_tallies
from nas.search_strategy.candidates import Candidate, PredictLatency
from nas.search_strategy.latency_limit import LatencyLimit
from nas.search_strategy.progress import Halt, ProgressTracker
from nas.search_strategy.study_proposer import StudyProposer
from nas.search_strategy.trial_log import ActiveTrial, TrialLog

ASKS = 12  # for more candidates of one wave, where those proposed turn out too slow


class Admission:
    """Admits what keeps the budget, and keeps count of what was looked at for each wave."""

    def __init__(
        self,
        plan: Plan,
        log: TrialLog,
        sampler: StudyProposer,
        latency_limit: LatencyLimit | None,
        tracker: ProgressTracker,
        halt: Halt,
    ) -> None:
        self.plan, self.log, self.sampler = plan, log, sampler
        self.latency_limit, self.tracker, self.halt = latency_limit, tracker, halt
        self.tallies = read_tallies(log.run)
        self.error: float | None = None  # of the newest predictor

    def admitted(
        self, wave: int, first: int, candidates: Sequence[Candidate], size: int | None = None
    ) -> list[ActiveTrial]:
        """`candidates` as entries, all of them or until `size` are to be trained; the first has index `first`.

        Refused: anchors that are over the budget on paper, and all that are too slow. Raises Stopped where one would
        have to be measured and nothing more is to be begun.
        """
        entries: list[ActiveTrial] = []
        for i, candidate in enumerate(candidates):
            if sum(entry.state is None for entry in entries) == size:
                break
            entry = ActiveTrial(candidate, first + i, wave)
            entries.append(entry)
            if not self.plan.budget.keeps(entry.candidate.cost):
                self.log.end(entry, "refused")
                continue
            self.log.study.begin(candidate, entry.index)
            if self.latency_limit:
                if not self.latency_limit.has_measured(entry.id):
                    if self.halt():
                        raise Stopped
                    self.tracker.measuring(entry)
                begun = time.monotonic()
                entry.latency = self.latency_limit.latency(wave, entry.candidate.arch, entry.id)
                self.tracker.measured += time.monotonic() - begun
                if not self.plan.budget.fast(entry.latency):
                    self.log.end(entry, "refused")
        for candidate in candidates[len(entries) :]:
            self.log.study.drop(candidate)
        return entries

    def latency_prediction(self, measured: Sequence[ActiveTrial]) -> PredictLatency | None:
        """What the latencies of `measured`, anchors aside, say about networks that are not measured."""
        latencies = [(e.candidate.arch, e.latency) for e in measured if e.latency and not e.candidate.anchor]
        found = self.latency_limit.predictor(latencies) if self.latency_limit else None
        if not found:
            return None
        predict_latency, self.error = found
        return predict_latency

    def tell(self, wave: int, asked: int, entries: Sequence[ActiveTrial]) -> None:
        """Puts on disk how many networks were looked at for `wave`, of which `asked` were to be trained."""
        slow = sum(entry.state == "refused" for entry in entries)
        looked_at = {**self.sampler.proposer.near_budget.tally, "asked": asked, "measured_too_slow": slow}
        tally = looked_at | {"accepted": len(entries) - slow}
        self.note(wave, tally | ({"predictor_error": self.error} if self.error else {}))

    def note(self, wave: int, tally: dict[str, float]) -> None:
        """Puts a tally of `wave` on disk."""
        self.tallies[wave] = tally
        append_tally(self.log.run, wave, tally)
