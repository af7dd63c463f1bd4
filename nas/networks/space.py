"""A search space as a value: a network written down with choices in it, and the one walk that draws from it.

A network is an `Arch`, or whatever else a template spells: a tuple of names, a value of the user's own. The space does
not know who chooses: `draw` asks `pick(name, choices)` for every axis it meets, and sampling, encoding and decoding are
ways to answer. Names are the paths of the attributes they fill; an axis that does not exist in what has been drawn so
far is never asked.
"""

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from fractions import Fraction
from itertools import product
from typing import Any, TypeAlias

from nas.errors import Error
from nas.networks.architecture import COLOUR, Arch
from nas.networks.sizes import SMALL, for_images, halvings, strided
from nas.serialization import to_data

Label: TypeAlias = bool | int | float | str | None
Choices: TypeAlias = dict[str, Label]
Pick: TypeAlias = Callable[[str, tuple[Label, ...]], Label]


@dataclass(frozen=True, slots=True)
class OneOf:
    """An axis: one of `choices`, each a value or an `Of`. With a `name`, one choice fills every such place."""

    choices: tuple[Any, ...]
    name: str
    labels: tuple[Label, ...] = field(repr=False)
    """The scalars that stand for the choices in plans, trials and Optuna."""


@dataclass(frozen=True, slots=True)
class Of:
    """A value of class `cls` yet to be drawn; any of its fields may hold an axis."""

    cls: Any
    fields: tuple[tuple[str, Any], ...]


def one_of(*choices: Any, name: str = "") -> OneOf:
    """The axis over `choices`. Raises Error on fewer than one or on two that read the same."""
    labels = tuple(_label(choice) for choice in choices)
    if not choices or len(set(labels)) < len(labels):
        raise Error(f"an axis needs different choices, got {labels}")
    return OneOf(choices, name, labels)


def of(cls: type, **fields: Any) -> Of:
    """`cls(**fields)`, with axes for some of the values."""
    return Of(cls, tuple(fields.items()))


@dataclass(frozen=True, slots=True)
class Space:
    """A named search space; `template` is an `Of(Arch, ...)`, or any value with axes in it."""

    name: str
    template: Any
    about: str = ""
    anchors: tuple[str, ...] = ()
    """The published networks of its family, which are points of it; a search tries these first, and the baseline. Where
    none are named, it tries all."""
    source: str = ""
    """Digest of the file that it was read from, where it is a user's own: blocks may be written there too."""

    @property
    def digest(self) -> str:
        """Twelve hex digits of all that the space says; a run is resumed only in the space it began in."""
        return _hexdigits(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", _spelt(self.template)) + self.source)

    @property
    def old_digest(self) -> str:
        """The digest that plans of versions before 0.17 hold: it depended on the modules that classes lay in."""
        text = _spelt(self.template)
        for now, then in (("architecture", "arch"), ("published_blocks", "classics"), ("blocks", "blocks")):
            text = text.replace(f"'nas.networks.{now}.", f"'nas.{then}.")
        return _hexdigits(text)


def _spelt(template: Any) -> str:
    return repr(template).replace(f", channels={COLOUR})", ")")  # as it was before images could be gray


def _hexdigits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def fitted(space: Space, resolution: int, classes: int, channels: int = COLOUR) -> Space:
    """`space` for images of `resolution` x `resolution`, of `channels`, in `classes` classes, larger ones halved first
    as `nas.networks.sizes` says. Raises Error where its networks are no architectures."""
    template = space.template
    if type(template) is Of and template.cls is Arch:
        fields = dict(template.fields)
        if fields.get("resolution", SMALL) == SMALL:
            fields |= _halved(fields, halvings(resolution))
        fields |= {"classes": classes} if has_sides(space) else {"resolution": resolution, "classes": classes}
        if channels != COLOUR or "channels" in fields:  # else not: plans hold a digest of all that is in there
            fields["channels"] = channels
        return replace(space, template=Of(Arch, tuple(fields.items())))
    if type(template) is OneOf and all(isinstance(choice, Arch) for choice in template.choices):
        archs = tuple(for_images(arch, resolution, classes, channels) for arch in template.choices)
        return replace(space, template=replace(template, choices=archs))
    raise Error(
        f"networks of space {space.name!r} are no architectures of nas, which could be trained on a dataset; give "
        "evaluate=, which scores them"
    )


def sides(space: Space) -> tuple[int, ...]:
    """The resolutions that networks of a space of architectures may have, from small to large."""
    if type(space.template) is OneOf:
        return tuple(sorted({arch.resolution for arch in space.template.choices}))
    side = _field(space.template, "resolution")
    return tuple(sorted(side.choices)) if type(side) is OneOf else (side,)


def has_sides(space: Space) -> bool:
    """Whether the resolution is an axis of the space."""
    return type(space.template) is Of and type(_field(space.template, "resolution")) is OneOf


def _halved(fields: dict[str, Any], left: int) -> dict[str, Any]:
    """Stem and stages of the template of an architecture that halve larger images `left` times more."""
    stem, stages = fields["stem"], fields["stages"]
    if not left or not isinstance(stages, tuple):
        return {}
    strides = strided(left, _field(stem, "stride"), [_field(stage, "stride") for stage in stages])
    halved = [_with_field(part, "stride", stride) for part, stride in zip((stem, *stages), strides, strict=True)]
    return {"stem": halved[0], "stages": tuple(halved[1:])}


def _field(part: Any, name: str) -> Any:
    """A field of a value, or of one yet to be drawn; of a choice of several None."""
    if type(part) is Of:
        return dict(part.fields).get(name, _default(part.cls, name))
    return getattr(part, name, None)


def _default(cls: Any, name: str) -> Any:
    return next(field.default for field in dataclass_fields(cls) if field.name == name)


def _with_field(part: Any, name: str, value: Any) -> Any:
    if type(part) is Of:
        return replace(part, fields=tuple((dict(part.fields) | {name: value}).items()))
    return part if _field(part, name) == value else replace(part, **{name: value})


def draw(space: Space, pick: Pick) -> Any:
    """The network that `pick` chooses, axis by axis. `pick` must answer with one of the choices it is given."""
    return _draw(space.template, "", lambda name, _path, axis: pick(name, axis.labels), {})


def axes(space: Space) -> dict[str, tuple[Label, ...]]:
    """All axes of the space by name, those that come only with a choice among them, with all labels they may have."""
    found: dict[str, tuple[Label, ...]] = {}
    _find_axes(space.template, "", found)
    return found


def shared(space: Space) -> frozenset[str]:
    """The axes of which one choice fills several places."""
    named: dict[str, tuple[Label, ...]] = {}
    _find_named(space.template, named)
    return frozenset(named)


def in_order(labels: Sequence[Label]) -> list[Label] | None:
    """`labels` from the smallest number to the largest; None where some are no numbers, and so in no order."""
    if all(type(label) in (int, float) for label in labels):
        return sorted(labels)  # type: ignore[type-var]
    return None


def sample(space: Space, rng: random.Random) -> Any:
    """A network drawn with equal odds for the choices of each axis."""
    return draw(space, lambda _name, choices: rng.choice(choices))


def decode(space: Space, choices: Choices) -> Any:
    """The network that `choices` (axis name -> choice) spells.

    Raises Error where an axis is missing, unknown, or has a value outside the space.
    """
    asked = set()

    def pick(name: str, labels: tuple[Label, ...]) -> Label:
        if name not in choices:
            raise Error(f"{name} is missing; one of {labels} in space {space.name}")
        asked.add(name)
        return _checked(space, name, choices[name], labels)

    arch = draw(space, pick)
    if unknown := sorted(choices.keys() - asked):
        raise Error(f"{unknown[0]} is no axis of space {space.name} here; it has {', '.join(sorted(asked))}")
    return arch


def encode(space: Space, arch: Any) -> Choices:
    """The choices that draw `arch`: `decode(space, encode(space, arch)) == arch`.

    Raises Error with the path of the first place where `arch` lies outside the space.
    """
    choices: Choices = {}

    def pick(name: str, path: str, axis: OneOf) -> Label:
        choices[name] = _checked(space, path or name, _label_of(axis, _at(arch, path)), axis.labels)
        return choices[name]

    drawn = _draw(space.template, "", pick, {})
    if drawn != arch:
        path, inside, outside = next(_differences(to_data(drawn), to_data(arch), ""))
        raise Error(f"{path} is {inside} in space {space.name}, the architecture has {outside}")
    return choices


def size(space: Space) -> int:
    """How many combinations of choices the space holds."""
    named: dict[str, tuple[Label, ...]] = {}
    _find_named(space.template, named)
    total = Fraction()
    for labels in product(*named.values()):
        for used, ways in _count(space.template, dict(zip(named, labels, strict=True))).items():
            # Combinations that differ in an axis that is never asked are one.
            total += Fraction(ways, math.prod(len(named[name]) for name in named.keys() - used))
    return int(total)


def holds(space: Space, network: Any) -> bool:
    """Whether `network` is a point of `space`."""
    try:
        encode(space, network)
    except ValueError:
        return False
    return True


def varied(space: Space, choices: Choices, names: Sequence[str], rng: random.Random) -> tuple[Choices, Any]:
    """Choices and network that differ from `choices` in the axes `names`, drawn anew, and in what comes with them."""
    return _drawn(space, {name: label for name, label in choices.items() if name not in names}, rng)


def alike_by_place(space: Space, arch: Any) -> tuple[Choices, Any]:
    """Choices and the network that has at each place what `arch` has there; the nearest number, or the first choice,
    where it has something else."""
    choices: Choices = {}

    def pick(name: str, path: str, axis: OneOf) -> Label:
        try:
            label = _label_of(axis, _at(arch, path))
        except Error:  # it has no such place
            label = None
        numbers = in_order(axis.labels)
        if label in axis.labels:
            choices[name] = label
        elif numbers and type(label) in (int, float):
            choices[name] = min(numbers, key=lambda number: abs(number - label))  # type: ignore[operator]
        else:
            choices[name] = axis.labels[0]
        return choices[name]

    return choices, _draw(space.template, "", pick, {})


def _draw(node: Any, path: str, pick: Callable[[str, str, OneOf], Label], named: dict[str, Any]) -> Any:
    """The walk over a space, the only one: `pick` gets an axis' name, the path of its place, and the axis."""
    kind = type(node)
    if kind is OneOf:
        name = node.name or path
        if name not in named:
            named[name] = node.choices[node.labels.index(pick(name, path, node))]
        return _draw(named[name], path, pick, named) if type(named[name]) is Of else named[name]
    if kind is Of:
        values = {}
        for name, item in node.fields:
            inner = f"{path}.{name}" if path else name
            values[name] = _draw(item, inner, pick, named) if type(item) in _OPEN else item
        return node.cls(**values)
    if kind is tuple:
        return tuple(_draw(item, f"{path}.{i}" if path else str(i), pick, named) for i, item in enumerate(node))
    return node


_OPEN = (OneOf, Of, tuple)  # what may hold axes; all else is drawn already


def _find_axes(node: Any, path: str, found: dict[str, tuple[Label, ...]]) -> None:
    if isinstance(node, OneOf):
        name = node.name or path
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *node.labels)))
        for choice in node.choices:
            _find_axes(choice, path, found)
    elif isinstance(node, Of | tuple):
        fields = node.fields if isinstance(node, Of) else [(str(i), item) for i, item in enumerate(node)]
        for name, item in fields:
            _find_axes(item, f"{path}.{name}" if path else name, found)


def _find_named(node: Any, named: dict[str, tuple[Label, ...]]) -> None:
    if isinstance(node, OneOf) and node.name:
        named[node.name] = node.labels
    for part in node.choices if isinstance(node, OneOf) else _parts(node):
        _find_named(part, named)


def _count(node: Any, fixed: Choices) -> Counter[frozenset[str]]:
    """How many ways there are to draw `node` once the named axes are `fixed`, by the set of those it asks for."""
    if isinstance(node, OneOf) and node.name:
        chosen = _count(node.choices[node.labels.index(fixed[node.name])], fixed)
        return Counter({used | {node.name}: ways for used, ways in chosen.items()})
    if isinstance(node, OneOf):
        return sum((_count(choice, fixed) for choice in node.choices), Counter())
    total: Counter[frozenset[str]] = Counter({frozenset(): 1})
    for part in _parts(node):
        if not isinstance(part, _OPEN):
            continue
        extended: Counter[frozenset[str]] = Counter()
        for more, times in _count(part, fixed).items():
            for used, ways in total.items():
                extended[used | more] += ways * times
        total = extended
    return total


def _parts(node: Any) -> Sequence[Any]:
    return [item for _, item in node.fields] if isinstance(node, Of) else node if isinstance(node, tuple) else ()


def _label(choice: Any) -> Label:
    """The scalar that stands for `choice`: 3, "filled", "3+5" for (3, 5), "bottleneck" for a Bottleneck."""
    if isinstance(choice, bool | int | float | str | None):
        return choice
    if isinstance(choice, tuple):
        return "+".join(str(item) for item in choice)
    cls = choice.cls if isinstance(choice, Of) else type(choice)
    return str(getattr(cls, "kind", cls.__name__))


def _label_of(axis: OneOf, value: Any) -> Label:
    """The label of the choice that is `value`, or can be drawn so; of one that is none, what stands for `value`."""
    if axis.labels == tuple(range(len(axis.choices))) and axis.choices != axis.labels:  # by their places
        found = (label for label, choice in enumerate(axis.choices) if _can_be(choice, value))
        return next(found, _label(value))
    return _label(value)


def _can_be(node: Any, value: Any) -> bool:
    """Whether `node` can be drawn as `value`."""
    if type(node) is OneOf:
        return any(_can_be(choice, value) for choice in node.choices)
    if type(node) is Of and node.cls is dict:
        names = [name for name, _ in node.fields]
        return isinstance(value, dict) and list(value) == names and all(_can_be(i, value[n]) for n, i in node.fields)
    if type(node) is Of:
        return type(value) is node.cls and all(_can_be(item, getattr(value, name)) for name, item in node.fields)
    if type(node) is tuple:
        fits = isinstance(value, tuple) and len(value) == len(node)
        return fits and all(_can_be(one, other) for one, other in zip(node, value, strict=True))
    return bool(node == value)


def _checked(space: Space, name: str, value: Label, labels: tuple[Label, ...]) -> Label:
    for label in labels:
        if type(label) is type(value) and label == value:
            return label
    raise Error(f"{name}={value!r} is not one of {labels} in space {space.name}")


def _at(arch: Any, path: str) -> Any:
    value = arch
    for part in path.split(".") if path else ():
        try:
            if isinstance(value, tuple):
                value = value[int(part)]
            else:
                value = value[part] if isinstance(value, dict) else getattr(value, part)
        except (AttributeError, IndexError, KeyError):
            raise Error(f"{path} is an axis of the space, the architecture has no such place") from None
    return value


def _differences(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            yield from _differences(one[key], other.get(key), f"{path}.{key}" if path else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differences(left, right, f"{path}.{i}")
    elif one != other:
        yield path, one, other


def _drawn(space: Space, choices: Choices, rng: random.Random) -> tuple[Choices, Any]:
    """Choices and architecture: `choices` where the space asks for them, random ones elsewhere."""
    chosen: Choices = {}

    def pick(name: str, labels: tuple[Label, ...]) -> Label:
        chosen[name] = choices[name] if name in choices and choices[name] in labels else rng.choice(labels)
        return chosen[name]

    arch = draw(space, pick)
    return chosen, arch
