"""Which networks may be trained by their latency: each is measured, unless it is almost surely too slow.

Each network is measured once, and its latency is on disk before anything follows from it, so a search that is resumed
decides as it did. Nothing trains while something is measured.

Milliseconds are scaled: the reference network is measured first, and every other latency is its ratio to it times what
it took then, the doubt about that in its interval. So a machine that is slower an hour later refuses no network for it;
a limit in milliseconds holds for the machine as it was at the start. The reference is as slow as itself, exactly.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from nas.latency.predictor import ENOUGH, LatencyPredictor
from nas.networks.architecture import Arch
from nas.records.plan import Plan
from nas.records.run_folder import Run, RunFailed
from nas.records.search_files import Measured, append_measured, read_measured
from nas.records.timing import Latency
from nas.records.trial import identity
from nas.search_strategy.candidates import PredictLatency

Measure: TypeAlias = Callable[[Any], Latency]
"""The latency of a network, measured now."""
FIRST = -1  # the wave of the reference network's own measurement


class LatencyLimit:
    """The latencies of a run, and what follows from them under its plan. Needs the run's lock."""

    def __init__(self, run: Run, plan: Plan, measure: Measure, reference: Any) -> None:
        self.run, self.budget, self.measure = run, plan.budget, measure
        self.known: dict[str, Measured] = {}
        for item in read_measured(run):
            self.known.setdefault(item.arch_id, item)
        self.unit: Latency | None = None  # the reference network's own, as it was at the start
        if reference is not None:
            found = self.latency(FIRST, reference, identity(reference))
            self.unit = replace(found, ratio=1.0, ratio_low=1.0, ratio_high=1.0, reference_ms=found.median_ms)

    def has_measured(self, key: str) -> bool:
        """Whether the network of identity `key` was measured already."""
        return key in self.known

    def latency(self, wave: int, network: Any, key: str) -> Latency:
        """The latency of the network of identity `key`, from disk where it was measured already.

        Raises RunFailed where it was measured now, but on another device or runtime than those before.
        """
        if key not in self.known:
            latency = self.measure(network)
            if self.unit and (latency.device, latency.runtime) != (self.unit.device, self.unit.runtime):
                raise RunFailed(
                    f"latencies of {self.run.path} were measured with {self.unit.runtime} on {self.unit.device}, now "
                    f"it is {latency.runtime} on {latency.device}; go on where it was begun, or begin a new run"
                )
            self.known[key] = Measured(wave, key, latency, network)
            append_measured(self.run, self.known[key])
        found = self.known[key]
        return self.unit if self.unit and found.wave == FIRST else self._scaled(found.latency)

    def predictor(self, measured: Sequence[tuple[Any, Latency]]) -> tuple[PredictLatency, float] | None:
        """What networks and their latencies say about others, and its error as a share.

        None while they are few, or where networks are not ours.
        """
        if len(measured) < ENOUGH or not all(isinstance(network, Arch) for network, _ in measured):
            return None
        predictor = LatencyPredictor(
            [network for network, _ in measured], [latency.median_ms for _, latency in measured]
        )
        limit = self.budget.limit_ms(self.unit.median_ms if self.unit else None)

        @functools.cache
        def predict_latency(network: Arch) -> tuple[float, float]:
            if limit is None:
                return predictor.expected(network), 1.0
            return predictor.expected(network) / limit, predictor.chance(network, limit)

        return predict_latency, predictor.error

    def _scaled(self, latency: Latency) -> Latency:
        """`latency` in milliseconds of the start; its interval holds the doubt about those, too."""
        if not self.unit or latency.ratio is None or latency.ratio_low is None or latency.ratio_high is None:
            return latency
        return replace(
            latency,
            median_ms=self.unit.median_ms * latency.ratio,
            low_ms=self.unit.low_ms * latency.ratio_low,
            high_ms=self.unit.high_ms * latency.ratio_high,
            reference_ms=self.unit.median_ms,
        )
