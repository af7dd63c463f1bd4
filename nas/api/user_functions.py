"""Functions of a user's own: `evaluate`, `cost`, `latency`; what they take and return is looked at."""

import copy
import inspect
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.api.arguments import HELP
from nas.errors import Error, shown
from nas.networks.architecture import Arch
from nas.networks.graph import Cost
from nas.records.budget import Budget
from nas.records.timing import Latency, exactly
from nas.records.trial import Costs, Score
from nas.search_strategy.candidates import costs_for

if TYPE_CHECKING:
    from nas.execution.jobs import Tick
    from nas.search_strategy.latency_limit import Measure

UserFunction: TypeAlias = Callable[[Any, int], float]
"""A user's `evaluate(network, rung)`: a score, the higher the better."""


@dataclass(frozen=True, slots=True)
class UserEvaluate:
    """A user's `evaluate` as workers call it."""

    evaluate: UserFunction

    def __call__(self, network: Any, rung: int, state: bytes | None, tick: "Tick") -> tuple[Score, bytes | None]:
        """The score of a rung, and no state."""
        begun = time.perf_counter()
        try:
            answer = self.evaluate(network if isinstance(network, Arch) else copy.deepcopy(network), rung)
        except OSError as error:  # of what it reaches for; those of workers are the run's, of a full disk
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        value = number_from(answer, "evaluate", self.evaluate, network)
        tick(1)
        return Score(rung, value, 0.0, 1, 0, time.perf_counter() - begun, 0.0, "", 0, ""), None


def priced(own: Callable[[Any], Cost | float] | None, budget: Budget, also: Collection[str] = ()) -> Costs:
    """What a network costs, by the user's `own` function where there is one: what `budget` limits, and `also`."""
    needed = {*budget.limits(), *also}
    if own is None:
        of_architecture = costs_for(budget)

        def on_paper(network: Any) -> Cost:
            if isinstance(network, Arch):
                return of_architecture(network)
            if needed:
                raise Error(
                    f"networks of your own need cost=, which says what they cost, where a budget limits that; got "
                    f"{network!r}"
                )
            return Cost(0, 0, 0)

        return on_paper

    check_takes(own, "cost", ("network",))

    def costs(network: Any) -> Cost:
        spent = answer_of(own, "cost", network)
        if isinstance(spent, Cost):
            if more := [name for name in needed if getattr(spent, name) is None]:
                raise Error(f"cost must return a nas.Cost with {more[0]}, which the budget limits, got {spent}")
            return spent
        if more := [name for name in needed if name != "macs"]:
            raise Error(f"cost must return a nas.Cost where {more[0]} is asked for; a number is one of MACs alone")
        return Cost(round(number_from(spent, "cost", own, network, least=0)), 0, 0)

    return costs


def timed(own: Callable[[Any], Latency | float]) -> "Measure":
    """What gives the latency of a network, by the user's `own` function."""
    check_takes(own, "latency", ("network",))

    def latency(network: Any) -> Latency:
        figure = answer_of(own, "latency", network)
        return figure if isinstance(figure, Latency) else exactly(number_from(figure, "latency", own, network, 0))

    return latency


def answer_of(function: Callable[[Any], Any], name: str, network: Any) -> Any:
    """What a user's `function`, given as `name`, returns for `network`. Raises Error, from what it raised."""
    try:
        return function(network)
    except (Error, OSError, MemoryError):
        raise
    except Exception as error:
        raise Error(
            f"{name} {called(function)} raised {type(error).__name__}: {error}, for {shown(network)}"
        ) from error


def check_takes(function: Callable[..., Any], name: str, takes: tuple[str, ...]) -> None:
    """Raises Error where a user's `function`, given as `name`, cannot be called with arguments `takes`."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a built-in, say, nothing is known
        return
    try:
        signature.bind(*takes)
    except TypeError as error:
        raise Error(
            f"{name} must take {' and '.join(takes)}, but {called(function)}{signature} does not: {error}; {HELP[name]}"
        ) from None


def number_from(value: Any, name: str, function: Callable[..., Any], network: Any, least: float = -math.inf) -> float:
    """`value`, which a user's `function`, given as `name`, returned for `network`, as a number.

    Raises Error where it is none, is not finite, or is below `least`.
    """
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of many numbers
        number = math.nan
    if math.isfinite(number) and number >= least:
        return number
    wanted = "a finite number" if least == -math.inf else f"a finite number of at least {least:g}"
    raise Error(f"{name} must return {wanted}, but {called(function)} returned {shown(value)} for {shown(network)}")


def called(function: Callable[..., Any]) -> str:
    """What a function is called, as an error shows it."""
    return getattr(function, "__qualname__", None) or type(function).__name__
