"""Search spaces in plain Python: a dict, a list of candidates, a tuple of choices; as `Space` values."""

from collections.abc import Mapping
from typing import Any

from nas.errors import Error
from nas.networks.architecture import Arch
from nas.networks.space import Of, OneOf, Space, axes, one_of

SCALARS = (bool, int, float, str, type(None))


def plain_space(value: Any) -> Space:
    """The space that `value` spells.

    A dict has an axis for each entry that is a list, a tuple or a range, `{"width": [8, 16], "depth": range(1, 4)}`; a
    dict inside is a part of its own, all else stays as it is; its networks are dicts. A tuple of lists has an axis for
    each, and its networks are tuples. A list holds the candidates themselves, an `Arch` each, say; its one axis is
    called "candidate". Raises Error where there is nothing to choose, or where two choices read the same.
    """
    if isinstance(value, Space):
        return value
    if isinstance(value, Of):
        space = Space(getattr(value.cls, "__name__", "own").lower(), value)
    elif isinstance(value, Mapping):
        space = Space("dict", _part(value, "space"))
    elif isinstance(value, tuple):
        space = Space("tuple", tuple(_axis(item, f"space[{i}]") for i, item in enumerate(value)))
    elif isinstance(value, list):
        space = Space("list", _candidates(value))
    else:
        raise Error(
            "space must be a name, a Space, a dict of choices, a tuple of choices or a list of candidates, got "
            f"{value!r}"
        )
    if not axes(space):
        raise Error(
            f"space {value!r} has nothing to choose; give lists, as in {{'width': [8, 16], 'depth': [1, 2, 3]}}, or a "
            "list of candidates"
        )
    return space


def _part(value: Mapping[Any, Any], path: str) -> Of:
    for name in value:
        if not isinstance(name, str) or not name.isidentifier():
            raise Error(f"{path} must have names as keys, letters, digits and _, got {name!r}")
    return Of(dict, tuple((name, _axis(item, f"{path}[{name!r}]")) for name, item in value.items()))


def _axis(item: Any, path: str) -> Any:
    if hasattr(item, "tolist"):  # numpy's
        item = item.tolist()
    if isinstance(item, Mapping):
        return _part(item, path)
    if not isinstance(item, list | tuple | range):
        return item
    item = [one.tolist() if hasattr(one, "tolist") else one for one in item]
    choices = tuple(_part(one, path) if isinstance(one, Mapping) else one for one in item)
    if not all(isinstance(one, SCALARS) for one in choices):
        return OneOf(choices, "", tuple(range(len(choices))))  # each stands for its place
    try:
        return one_of(*choices)
    except Error as error:
        raise Error(f"{path}: {error}") from None


def _candidates(value: list[Any]) -> OneOf:
    """One axis over all candidates: scalars stand for themselves, others for their place in the list."""
    if not value:
        raise Error("space is an empty list; give the candidates, or a dict of choices")
    if all(isinstance(one, SCALARS) for one in value):
        return one_of(*value, name="candidate")
    if any(isinstance(one, Arch) for one in value) and not all(isinstance(one, Arch) for one in value):
        raise Error("space is a list of architectures and of other values; give candidates of one kind")
    return OneOf(tuple(value), "candidate", tuple(range(len(value))))
