"""All networks of a space that has few, one after the other."""

from collections.abc import Iterator
from math import prod
from typing import Any

from nas.networks.space import Choices, Label, Space, axes, draw

FEW = 1_000


def few(space: Space) -> bool:
    """Whether a space has so few networks that all of them can be looked at."""
    return prod(len(labels) for labels in axes(space).values()) <= FEW


def every(space: Space) -> Iterator[tuple[Choices, Any]]:
    """Each network once, with the choices that draw it."""
    turn: list[int] = []  # which choice is next at each axis, in the order asked
    while True:
        sizes: list[int] = []
        choices: Choices = {}

        def pick(name: str, labels: tuple[Label, ...], sizes: list[int] = sizes, choices: Choices = choices) -> Label:
            if len(sizes) == len(turn):
                turn.append(0)
            choices[name] = labels[turn[len(sizes)]]
            sizes.append(len(labels))
            return choices[name]

        network = draw(space, pick)
        yield choices, network
        del turn[len(sizes) :]
        while turn and turn[-1] == sizes[len(turn) - 1] - 1:
            turn.pop()
        if not turn:
            return
        turn[-1] += 1
