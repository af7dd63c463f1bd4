"""Frozen values to plain data and back: one reader and one writer for all of them.

A value is a frozen dataclass of scalars, tuples, dicts and further values. A class with a `kind` is written
with it, and a union of such classes is read by it. Reading is strict: unknown, missing or foreign entries
raise, and the message starts with the path to the place.
"""

import dataclasses
import json
import types
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nas.errors import Error

T = TypeVar("T")


def to_data(value: Any) -> Any:
    """`value` as dicts, lists and scalars, ready for `json.dumps`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "kind", None)
        fields = {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return fields if kind is None else {"kind": kind, **fields}
    if isinstance(value, tuple | list):
        return [to_data(item) for item in value]
    if isinstance(value, dict):
        return {key: to_data(item) for key, item in value.items()}
    return value


def from_data(cls: type[T], data: Any, path: str = "") -> T:
    """The `cls` that `data` spells; the inverse of `to_data`.

    Raises Error with the path of the first entry that does not fit.
    """
    return _read(cls, data, path)  # type: ignore[no-any-return]


def to_json(value: Any, indent: int | None = None, own: Callable[[Any], str] | None = None) -> str:
    """`value` as JSON; on one line unless `indent` is given. `own` writes what JSON has no word for, such as candidates
    of a user's own; without it they raise TypeError."""
    return json.dumps(to_data(value), indent=indent, default=own)


def from_json(cls: type[T], text: str, path: str = "") -> T:
    """The `cls` that the JSON `text` spells. Raises Error, with `path` in front of the place."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise Error(f"{path or cls.__name__} is not JSON: {error}") from None
    return from_data(cls, data, path)


def _read(hint: Any, data: Any, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(args, data, path)
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(hint, data, path)
    if origin is tuple:
        if not isinstance(data, list):
            raise Error(f"{path or 'value'} must be a list, got {data!r}")
        return tuple(_read(args[0], item, _join(path, str(i))) for i, item in enumerate(data))
    if origin is dict:
        if not isinstance(data, dict):
            raise Error(f"{path or 'value'} must be an object, got {data!r}")
        return {key: _read(args[1], item, _join(path, key)) for key, item in data.items()}
    if origin is Literal:
        # `True == 1`: the type has to agree as well.
        if not any(type(data) is type(choice) and data == choice for choice in args):
            raise Error(f"{path or 'value'} must be one of {args}, got {data!r}")
        return data
    if hint is Any:
        return data
    if hint is float and type(data) is int and abs(data) < 1 << 1000:
        return float(data)
    if type(data) is not hint:
        name = "null" if hint is type(None) else hint.__name__
        raise Error(f"{path or 'value'} must be of type {name}, got {data!r}")
    return data


def _read_union(args: tuple[Any, ...], data: Any, path: str) -> Any:
    kinds = {arg.kind: arg for arg in args if hasattr(arg, "kind")}
    if kinds and isinstance(data, dict):
        if data.get("kind") not in kinds:
            raise Error(f"{_join(path, 'kind')} must be one of {tuple(kinds)}, got {data.get('kind')!r}")
        return _read(kinds[data["kind"]], data, path)
    refusals = []
    for arg in args:
        try:
            return _read(arg, data, path)
        except ValueError as error:
            refusals.append(str(error))
    raise Error("; or ".join(refusals))


def _read_dataclass(cls: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise Error(f"{path or cls.__name__} must be an object, got {data!r}")
    fields = dict(data)
    if hasattr(cls, "kind") and fields.pop("kind", None) != cls.kind:
        raise Error(f"{_join(path, 'kind')} must be {cls.kind!r}, got {data.get('kind')!r}")
    hints = _hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for name in fields:
        if name not in names:
            raise Error(f"{_join(path, name)} is unknown; {cls.__name__} has {', '.join(names)}")
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    for name in required:
        if name not in fields:
            raise Error(f"{_join(path, name)} is missing")
    values = {name: _read(hints[name], item, _join(path, name)) for name, item in fields.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise Error(_join(path, str(error))) from None


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
