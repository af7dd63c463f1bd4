"""What arguments of the public functions may be: of their annotated types, and numbers within `RANGES`.

A wrong one is an `Error` with the rule, the value and the way out, before anything is done.
"""

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from nas.errors import Error, shown
from nas.networks.architecture import COLOUR
from nas.records.budget import BUDGET_HELP

P = ParamSpec("P")
R = TypeVar("R")

RANGES: dict[str, tuple[float, float]] = {
    "trials": (1, 10_000_000),
    "networks": (3, 1_000),
    "rungs": (1, 100),
    "wave": (1, 1_000_000),
    "seed": (0, 2**63 - 1),
    "seeds": (1, 1_000),
    "epochs": (1, 1_000_000),
    "images": (1, 1_000_000_000),
    "batch": (1, 1_000_000),
    "top": (1, 1_000_000),
    "workers": (1, 1_000_000),
    "threads": (1, 4_096),
    "measure_threads": (1, 4_096),
    "measure_batch": (1, 1_000_000),
    "cpus": (0, 4_096),
    "gpus": (0, 1_024),
    "resolution": (8, 512),
    "classes": (1, 1_000_000),
    "channels": (1, COLOUR),
    "port": (1, 65_535),
    "time_limit": (0, math.inf),
    "trial_timeout": (0, math.inf),
    "seconds": (0, 1_000_000),
    "timeout": (0, 1_000_000),
    "precision": (0, 1),
    "int8_loss": (0, 100),
}
"""The least and the most of each quantity, whichever function asks for it."""
LONGEST = 200  # letters that a part of a path may have: file systems take 255 bytes, and we put endings to it
HELP = {
    "budget": BUDGET_HELP,
    "space": "as in 'lightweight', 'my_space.py:SPACE', a Space, or plain Python: {'width': [8, 16], 'depth': [1, 2]}",
    "network": "as in 'lowres-mobilenet', the file of an architecture, a run's folder or RUN/ID",
    "evaluate": "as in evaluate=lambda network, rung: score",
    "cost": "as in cost=lambda network: macs",
    "latency": "as in latency=lambda network: milliseconds",
    "dataset": "as in 'digits', 'cifar10', 'folder:PATH'",
}
NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    bool: "True or False",
    type(None): "None",
    Mapping: "a dict",
    Callable: "a function",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which raises Error where an argument is not what its annotation and `RANGES` allow.

    Whole numbers of another library's type (numpy's, say) become Python's own.
    """
    signature = inspect.signature(function)
    called_nas = f"nas.{function.__qualname__.removesuffix('.__init__')}"

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [name for name in kwargs if name not in signature.parameters]
            near = get_close_matches(unknown[0], signature.parameters, n=1) if unknown else []
            meant = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{called_nas} {error}{meant}") from None
        hints = _hints(function)
        for name, value in given.arguments.items():
            if name in hints:
                given.arguments[name] = _checked(called_nas, name, value, hints[name])
        return function(*given.args, **given.kwargs)

    return call


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be read; those that are there for type checkers alone say only what is a function."""
    hints: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.annotation is parameter.empty:  # self
            continue
        holder = types.SimpleNamespace(__annotations__={name: parameter.annotation})
        try:
            hints |= get_type_hints(holder, vars(inspect.getmodule(function)))
        except NameError:
            if callable(parameter.default):
                hints[name] = Callable
    return hints


def _checked(function: str, name: str, value: Any, hint: Any) -> Any:
    if not _fits(value, hint):
        way_out = f"; {HELP[name]}" if name in HELP else ""
        raise Error(f"{name} of {function} must be {' or '.join(_described(hint))}, got {shown(value)}{way_out}")
    if isinstance(value, str) and not value.strip() and name not in ("budget", "space", "network"):
        raise Error(
            f"{name} of {function} must not be empty, got {value!r}"
        )  # of the three, an error names the choices
    texts = [value] if isinstance(value, str | Path) else value if isinstance(value, list | tuple) else []
    for text in (str(one) for one in texts if isinstance(one, str | Path)):
        if "\0" in text:
            raise Error(f"{name} of {function} must hold no zero byte, got {shown(text)}")
        if max(map(len, Path(text).parts), default=0) > LONGEST and name not in ("budget", "measure_command"):
            raise Error(f"{name} of {function} must have parts of at most {LONGEST} letters, got {shown(text)}")
    if isinstance(value, Integral) and not isinstance(value, bool):
        check_number(name, int(value))
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        check_number(name, float(value))
        return float(value)
    return value


def check_number(name: str, value: float) -> None:
    """Raises Error where the number called `name` is none, or outside its range."""
    least, most = RANGES.get(name, (-math.inf, math.inf))
    if math.isnan(value):
        raise Error(f"{name} must be a number, got nan")
    if value < least:
        raise Error(f"{name} must be at least {least:,}, got {value}")
    if value > most:
        raise Error(f"{name} must be at most {most:,}, got {value}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the annotated type, as far as that can be seen without using it."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if origin is Callable or hint is Callable:
        return callable(value)
    if origin is Sequence:
        return (
            isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(_fits(v, args[0]) for v in value)
        )
    if origin is Mapping:
        return isinstance(value, Mapping)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def _described(hint: Any) -> list[str]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return list(dict.fromkeys(text for one in args for text in _described(one)))
    if origin is Literal:
        return [repr(choice) for choice in args]
    if origin is Sequence:
        return [f"a list of {' or '.join(text.removeprefix('a ') for text in _described(args[0]))}"]
    if hint is Any:
        return ["anything"]
    return [NAMES.get(origin or hint) or f"a {getattr(hint, '__name__', hint)}"]
