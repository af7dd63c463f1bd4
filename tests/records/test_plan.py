"""Budgets as quantities."""

import pytest

from nas.networks.graph import Cost
from nas.records.budget import Budget, parse_budget
from nas.records.timing import Latency, exactly

COSTS = {"small": lambda: Cost(10, 20, 30), "wide": lambda: Cost(100, 2, 300)}


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        (["25MFLOPs"], Budget(macs=25_000_000)),
        (["25MMACs"], Budget(macs=25_000_000)),
        (["24084544MACs"], Budget(macs=24_084_544)),  # as nas profile prints it
        (["25mflops"], Budget(macs=25_000_000)),
        (["0.4MParams"], Budget(params=400_000)),
        (["25MFLOPs,0.4MParams"], Budget(25_000_000, 400_000)),
        (["25MFLOPs", "400KParams"], Budget(25_000_000, 400_000)),
        ([" 1.5GFLOPs "], Budget(macs=1_500_000_000)),
        (["24_084_544FLOPs"], Budget(macs=24_084_544)),
        (["128KBpeak"], Budget(peak=131_072)),
        (["128kbPeak32"], Budget(peak=32_768)),
        (["0.5MBpeak,25MFLOPs"], Budget(25_000_000, peak=524_288)),
        (["small"], Budget(10, 20, 30)),
        (["small,15FLOPs"], Budget(15, 20, 30)),
        (["small", "wide"], Budget(10, 2, 30)),
        (["25MFLOPs,1.5ms"], Budget(25_000_000, latency_ms=1.5)),
        (["800us"], Budget(latency_ms=0.8)),
        (["wide:ms"], Budget(latency_ratio=1.0, reference="wide")),
        (["25MFLOPs,0.8xwide:ms,2 ms"], Budget(25_000_000, latency_ms=2.0, latency_ratio=0.8, reference="wide")),
        (["small,small:ms"], Budget(10, 20, 30, latency_ratio=1.0, reference="small")),
    ],
)
def test_parse(texts: list[str], budget: Budget) -> None:
    assert parse_budget(texts, COSTS) == budget
    assert parse_budget([str(budget)], COSTS) == budget


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["25MFLOP5"], r"'25MFLOP5' is not understood; a budget is a number and a unit"),
        (["25"], r"'25' is not understood"),
        (["MFLOPs"], r"'MFLOPs' is not understood"),
        ([""], r"budget '' has an empty item"),
        (["25MFLOPs,"], r"budget '25MFLOPs,' has an empty item"),
        (["_25MFLOPs"], r"'_25MFLOPs' is not understood"),
        (["1__0MFLOPs"], r"'1__0MFLOPs' is not understood"),
        (["9" * 400 + "FLOPs"], r"is not understood"),
        (["nanFLOPs"], r"'nanFLOPs' is not understood"),
        (["-25MFLOPs"], r"'-25MFLOPs' must allow at least 1"),
        (["0FLOPs"], r"must allow at least 1"),
        (["25MFLOPs,30MMACs"], r"limits macs a second time"),
        (["smal"], r"'smal' is not understood; did you mean small\? a budget is"),
        (["3Bpeak32"], r"must allow at least 1"),
        (["0ms"], r"'0ms' must be above 0"),
        (["-1ms"], r"'-1ms' must be above 0"),
        (["1ms,2us"], r"'2us' limits latency a second time"),
        (["smal:ms"], r"'smal:ms' names no anchor; did you mean small:ms\?"),
        (["small:ms,wide:ms"], r"'wide:ms' limits latency by an anchor a second time"),
    ],
)
def test_refusals(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_budget(texts, COSTS)


def test_keeps_is_exact_at_the_limit() -> None:
    budget = Budget(macs=24_084_544, params=364_138)
    assert budget.keeps(Cost(24_084_544, 364_138, 10**9)) and budget.use(Cost(24_084_544, 1, 1)) == 1
    assert not budget.keeps(Cost(24_084_545, 364_138, 1))
    assert not budget.keeps(Cost(24_084_544, 364_139, 1))
    assert Budget(macs=10).keeps(Cost(10, 10**12, 1))
    assert Budget(peak=10).keeps(Cost(1, 1, 10)) and not Budget(peak=10).keeps(Cost(1, 1, 11))


def test_latency_is_kept_by_the_upper_end_of_its_interval() -> None:
    latency = Latency(1.0, 0.9, 1.1, 0.5, 0.45, 0.55, 2.0, 80, 8, True, "", "", 1, 1)
    assert Budget(latency_ms=1.1).fast(latency) and not Budget(latency_ms=1.09).fast(latency)
    by_ratio = Budget(latency_ratio=0.55, reference="small")
    assert by_ratio.fast(latency) and not Budget(latency_ratio=0.54, reference="small").fast(latency)
    assert not by_ratio.fast(exactly(1.0))  # no ratio, no promise
    assert not Budget(latency_ms=1.0, latency_ratio=0.6, reference="small").fast(latency)
