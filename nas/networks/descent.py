"""Networks of a space found step by step, an axis at a time: the least, the nearest to another, the end of a walk."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Set
from typing import Any

from nas.errors import Error
from nas.networks.architecture import Arch, walk
from nas.networks.space import Choices, Label, Space, alike_by_place, draw, encode, holds, varied

STARTS = 3  # descents in search of the nearest architecture, from random draws


def least(space: Space, measure: Callable[[Any], Any], rng: random.Random) -> Any:
    """A network with the smallest `measure`, found by descent, one axis at a time, from a random draw.

    Axes that come only with a choice are settled before that choice is made. It is the smallest of the space wherever
    each axis has a best choice whatever the others say, as MACs have in ours; params of the joint space come within a
    tenth of it.
    """
    choices, best = varied(space, {}, (), rng)
    return _descended(space, measure, choices, best, None, rng)[1]


def nearest(space: Space, arch: Arch, rng: random.Random, excess: Callable[[Arch], float] = lambda _: 0.0) -> Arch:
    """The architecture of `space` that is most like `arch`, which it is itself if it is in it, with the least `excess`.

    Alike are networks with the same MACs, params and layers at each resolution, of the same kinds of blocks. It is
    found by descent, from the one that has at each place what is nearest there, and from a few random draws.
    """
    if holds(space, arch) and excess(arch) <= 0:
        return arch
    features = _features(arch)

    def unlikeness(other: Arch) -> tuple[float, float]:
        try:
            return max(0.0, excess(other)), _unlikeness(_features(other), features)
        except Error:  # it cannot be built
            return math.inf, math.inf

    found: list[Arch] = [least(space, unlikeness, rng) for _ in range(STARTS)]
    found.append(_descended(space, unlikeness, *alike_by_place(space, arch), None, rng)[1])
    return min(found, key=unlikeness)


def wander(space: Space, start: Any, keeps: Callable[[Any], bool], steps: int, rng: random.Random) -> Any:
    """The end of a random walk from `start` through architectures that `keeps` holds for, one axis a step."""
    choices, arch = encode(space, start), start
    for _ in range(steps):
        name = rng.choice(list(choices))
        candidate_choices, candidate = rng.choice(list(_neighbours(space, choices, name, rng)))
        if keeps(candidate):
            choices, arch = candidate_choices, candidate
    return arch


def _descended(
    space: Space,
    measure: Callable[[Any], Any],
    choices: Choices,
    best: Any,
    names: Set[str] | None,
    rng: random.Random,
) -> tuple[Choices, Any]:
    """The end of a descent from `choices` along the axes `names`, or along all."""
    lowest = measure(best)
    while True:
        before = lowest
        for name in [name for name in choices if names is None or name in names]:
            for candidate_choices, candidate in _neighbours(space, choices, name, rng):
                if fresh := candidate_choices.keys() - choices.keys():
                    candidate_choices, candidate = _descended(space, measure, candidate_choices, candidate, fresh, rng)
                if (here := measure(candidate)) < lowest:
                    choices, best, lowest = candidate_choices, candidate, here
        if not lowest < before:
            return choices, best


def _neighbours(space: Space, choices: Choices, name: str, rng: random.Random) -> Iterator[tuple[Choices, Any]]:
    """All that differ from `choices` in axis `name` alone (and in axes that only come with the new choice)."""
    seen: dict[str, tuple[Label, ...]] = {}

    def pick(asked: str, labels: tuple[Label, ...]) -> Label:
        seen[asked] = labels
        return choices[asked]

    draw(space, pick)
    for label in seen.get(name, ()):
        yield varied(space, {**choices, name: label}, (), rng)


def _features(arch: Arch) -> Counter[tuple[str, Any]]:
    """What makes networks alike: MACs, params and layers at each resolution, MACs in each kind of block."""
    features: Counter[tuple[str, Any]] = Counter()
    for layer in walk(arch):
        place, cost = layer.place, layer.drawn.cost
        features["macs", place.size] += cost.macs
        features["params", place.size] += cost.params
        features["layers", place.size] += 1
        features["kinds", getattr(place.part, "kind", "end")] += cost.macs
    return features


def _unlikeness(ours: Counter[tuple[str, Any]], theirs: Counter[tuple[str, Any]]) -> float:
    """Sum over what is compared of the differences, each as a share of `theirs`."""
    sums: Counter[str] = Counter()
    for (what, _), number in theirs.items():
        sums[what] += number
    return sum(abs(ours[key] - theirs[key]) / (sums[key[0]] or 1) for key in ours.keys() | theirs.keys())
