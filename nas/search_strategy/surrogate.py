"""What the scores so far say of networks that have not been trained: a Gaussian process over what is known on paper.

scikit-learn's, with a Matern and a linear kernel. A network is described by its choices and by what can be counted for
nothing: MACs, params and layers at each resolution, how often each choice was made. Under a budget of MACs, where they
are spent says more than how many they are.
"""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Kernel, Matern, WhiteKernel
from threadpoolctl import ThreadpoolController

from nas.networks.architecture import Arch, walk
from nas.networks.graph import Cost
from nas.networks.space import Choices, Label, in_order

Floats: TypeAlias = NDArray[np.float64]
CHOICES, COUNTS = 1.6, 1.2  # how far apart two random networks are, on average, by their choices and by what is counted
LEVELS = 6  # of a number in a description, at the most: where there are more choices, near ones are nearly alike
RUNGS = 0.7  # how far apart the first and the last rung of one network are
SMOOTH = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(1.0, (0.2, 20.0), nu=2.5)
LINEAR = ConstantKernel(0.3, (1e-3, 1e1)) * DotProduct(1.0, (1e-2, 1e1))
KERNEL = (SMOOTH + LINEAR) + WhiteKernel(0.1, (1e-4, 1.0))


class Description(NamedTuple):
    """What is known of a network on paper: its choices as zeros and ones, and what is counted on it, by name."""

    choices: Floats
    counts: dict[Any, float]


class Describer:
    """Describes networks of a space whose axes are `axes`."""

    def __init__(self, axes: Mapping[str, tuple[Label, ...]]) -> None:
        self.columns: dict[str, slice] = {}
        self.rows: dict[tuple[str, Label], Floats] = {}  # what stands there for a choice
        self.fine: set[str] = set()
        column = 0
        for name, labels in axes.items():
            ordered = in_order(labels)
            rows = _steps(ordered) if ordered else np.eye(len(labels))
            self.columns[name] = slice(column, column + rows.shape[1])
            self.rows |= {(name, label): row for label, row in zip(ordered or labels, rows, strict=True)}
            self.fine |= {name} if ordered and len(labels) > LEVELS else set()
            column += rows.shape[1]
        self.width = column

    def __call__(self, network: Any, choices: Choices, cost: Cost) -> Description:
        """The description of a network."""
        row = np.zeros(self.width)
        for name, label in choices.items():
            row[self.columns[name]] = self.rows[name, label]
        coarse = (label for name, label in choices.items() if name not in self.fine)
        counts: dict[Any, float] = dict(Counter((str(label), "chosen") for label in coarse))
        if isinstance(network, Arch):
            sums: Counter[Any] = Counter()
            for layer in walk(network):
                sums["macs", layer.place.size] += layer.drawn.cost.macs
                sums["params", layer.place.size] += layer.drawn.cost.params
                counts["layers", layer.place.size] = counts.get(("layers", layer.place.size), 0) + 1
            counts |= {name: math.log1p(number) for name, number in sums.items()}
        counts |= {name: math.log1p(getattr(cost, name)) for name in ("macs", "params", "peak")}
        return Description(row, counts)


class Surrogate:
    """A Gaussian process fitted to what trained networks scored, for asking about others.

    `scores` has a list for each of `trained`: its score at each rung that it reached. `others` only say, with the
    trained ones, how widely networks differ.
    """

    def __init__(
        self,
        trained: Sequence[Description],
        scores: Sequence[Sequence[float]],
        rungs: int,
        others: Sequence[Description] = (),
    ) -> None:
        self.scale = _Scale([*trained, *others])
        self.last = RUNGS if rungs > 1 else 0.0
        ends = aligned(scores, rungs)
        rows = [(i, rung) for i, reached in enumerate(scores) for rung in range(len(reached))]
        levels = [RUNGS * rung / max(1, rungs - 1) for _, rung in rows]
        self.x = np.column_stack([self.scale(trained)[[i for i, _ in rows]], levels])
        y = np.array([ends[i][rung] for i, rung in rows])
        self.middle, self.unit = y.mean(), y.std() or 1.0
        self.y = (y - self.middle) / self.unit
        self.process = _fitted(KERNEL, self.x, self.y, "fmin_l_bfgs_b")

    def mean_and_spread(self, networks: Sequence[Description]) -> tuple[Floats, Floats]:
        """The score at the last rung that is expected of each, and the standard deviation of that expectation."""
        return self.mean_and_spread_at(self.places(networks))

    def places(self, networks: Sequence[Description]) -> Floats:
        """Where each lies: a row of numbers."""
        return np.column_stack([self.scale(networks), np.full(len(networks), self.last)])

    def mean_and_spread_at(self, places: Floats) -> tuple[Floats, Floats]:
        """`mean_and_spread` of the networks that lie there."""
        mean, spread = self.process.predict(places, return_std=True)
        noise = self.process.kernel_.k2.noise_level
        return self.middle + self.unit * mean, self.unit * np.sqrt(np.maximum(spread**2 - noise, 1e-12))

    def believe(self, networks: Sequence[Description]) -> None:
        """Goes on as if the networks had been trained and had scored what is expected of them.

        What is expected of any network stays the same, and the spread of that does not grow.
        """
        at = self.places(networks)
        self.x, self.y = np.vstack([self.x, at]), np.append(self.y, self.process.predict(at))
        self.process = _fitted(self.process.kernel_, self.x, self.y, None)


class _Scale:
    """Descriptions as rows in which random networks are about CHOICES and COUNTS apart."""

    def __init__(self, known: Sequence[Description]) -> None:
        self.names = {name: i for i, name in enumerate(dict.fromkeys(name for row in known for name in row.counts))}
        choices, counts = self._tables(known)
        # Counts of about equal spread; what only a few networks have does not outweigh the rest.
        each = np.maximum(counts.std(0), 0.25 * np.ptp(counts, axis=0))
        self.each = np.divide(1.0, each, out=np.zeros_like(each), where=each > 1e-6)
        self.middle = choices.mean(0), counts.mean(0)
        self.by = _apart(choices, CHOICES), _apart(counts * self.each, COUNTS)

    def __call__(self, rows: Sequence[Description]) -> Floats:
        choices, counts = self._tables(rows)
        counts = (counts - self.middle[1]) * self.each
        return np.hstack([(choices - self.middle[0]) * self.by[0], counts * self.by[1]])

    def _tables(self, rows: Sequence[Description]) -> tuple[Floats, Floats]:
        table = np.zeros((len(rows), len(self.names)))
        for i, row in enumerate(rows):
            for name, number in row.counts.items():
                if name in self.names:
                    table[i, self.names[name]] = number
        return np.array([row.choices for row in rows]), table


def levels(numbers: Sequence[Any]) -> Floats:
    """The place of each of the numbers, which rise: 0, 1, 2, ...; of many, among LEVELS by their logarithms."""
    if len(numbers) <= LEVELS:
        return np.arange(len(numbers), dtype=float)
    scale = np.log(numbers) if numbers[0] > 0 else np.array(numbers, float)
    places: Floats = (LEVELS - 1) * (scale - scale[0]) / (scale[-1] - scale[0])
    return places


def _steps(numbers: Sequence[Any]) -> Floats:
    """A row for each of the numbers, which rise: ones up to its place, so that near numbers are near."""
    steps: Floats = np.clip(levels(numbers)[:, None] + 1 - np.arange(min(len(numbers), LEVELS)), 0, 1)
    return steps


def _fitted(kernel: Kernel, x: Floats, y: Floats, optimizer: str | None) -> GaussianProcessRegressor:
    process = GaussianProcessRegressor(kernel, alpha=1e-6, optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is no fault
        return process.fit(x, y)


def one_thread() -> AbstractContextManager[object]:
    """While it is entered, linear algebra takes one thread: where others train on the cores, several are slower."""
    limited: AbstractContextManager[object] = ThreadpoolController().limit(limits=1, user_api="blas")
    return limited


def _apart(table: Floats, distance: float) -> float:
    """The factor that puts two rows of `table` about `distance` apart."""
    variance = table.var(0).sum()
    return distance / math.sqrt(2 * variance) if variance else 0.0


def aligned(scores: Sequence[Sequence[float]], rungs: int) -> list[list[float]]:
    """Scores at every rung as they would be at the last: shifted by the mean gain of those that went on."""
    shift = 0.0
    shifts = [0.0] * rungs
    for rung in reversed(range(rungs - 1)):
        gains = [reached[rung + 1] - reached[rung] for reached in scores if len(reached) > rung + 1]
        shift += sum(gains) / len(gains) if gains else 0.0
        shifts[rung] = shift
    return [[score + shifts[rung] for rung, score in enumerate(reached)] for reached in scores]
