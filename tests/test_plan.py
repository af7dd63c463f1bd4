"""Budgets as quantities."""

import pytest

from nas.graph import Cost
from nas.plan import Budget, parse_budget


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        (["25MFLOPs"], Budget(macs=25_000_000)),
        (["25MMACs"], Budget(macs=25_000_000)),
        (["25mflops"], Budget(macs=25_000_000)),
        (["0.4MParams"], Budget(params=400_000)),
        (["25MFLOPs,0.4MParams"], Budget(25_000_000, 400_000)),
        (["25MFLOPs", "400KParams"], Budget(25_000_000, 400_000)),
        ([" 1.5GFLOPs "], Budget(macs=1_500_000_000)),
        (["24_084_544FLOPs"], Budget(macs=24_084_544)),
    ],
)
def test_parse(texts: list[str], budget: Budget) -> None:
    assert parse_budget(texts) == budget
    assert parse_budget([str(budget)]) == budget


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["25MFLOP5"], r"'25MFLOP5' is not understood; a budget is a number and a unit"),
        (["25"], r"'25' is not understood"),
        (["MFLOPs"], r"'MFLOPs' is not understood"),
        ([""], r"'' is not understood"),
        (["25MFLOPs,"], r"'' is not understood"),
        (["_25MFLOPs"], r"'_25MFLOPs' is not understood"),
        (["1__0MFLOPs"], r"'1__0MFLOPs' is not understood"),
        (["9" * 400 + "FLOPs"], r"is not understood"),
        (["nanFLOPs"], r"'nanFLOPs' is not understood"),
        (["-25MFLOPs"], r"'-25MFLOPs' must be above 0"),
        (["0FLOPs"], r"must be above 0"),
        (["25MFLOPs,30MMACs"], r"limits macs a second time"),
    ],
)
def test_refusals(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_budget(texts)


def test_keeps_is_exact_at_the_limit() -> None:
    budget = Budget(macs=24_084_544, params=364_138)
    assert budget.keeps(Cost(24_084_544, 364_138)) and budget.use(Cost(24_084_544, 1)) == 1
    assert not budget.keeps(Cost(24_084_545, 364_138))
    assert not budget.keeps(Cost(24_084_544, 364_139))
    assert Budget(macs=10).keeps(Cost(10, 10**12))
