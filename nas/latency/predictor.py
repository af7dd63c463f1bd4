"""How slow a network will be, from a run's own measurements: a sum of what its layers do, each at its price.

A layer takes time for its multiply-accumulates, at the speed of its kind, for the activations and weights that it
moves, and for being there. The prices are scikit-learn's least squares, none below zero, each network counting by its
relative error. A prediction never accepts a network: it only says which ones are almost surely too slow to be measured.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from nas.networks.architecture import Arch, Place, walk, wired
from nas.networks.graph import (
    Act,
    Add,
    Conv,
    Dropout,
    Graph,
    Input,
    Linear,
    Mean,
    Node,
    Norm,
    Pool,
    Scale,
    macs,
    params,
)

ENOUGH = 12  # networks measured, before anything is predicted
MOST = 200  # the newest are fitted to
LEAST_ERROR = 0.03  # of a few networks the error may seem smaller than it is
RIDGE = 0.01  # a price of which nothing is known is none


class LatencyPredictor:
    """Fitted to networks and how slow each was found to be, as a ratio to the reference or in milliseconds."""

    def __init__(self, networks: Sequence[Arch], slowness: Sequence[float]) -> None:
        rows = [features(network) for network in networks[-MOST:]]
        self.names = sorted({name for row in rows for name in row})
        x, y = self._table(rows), np.array(slowness[-MOST:])
        self.scale = x.max(0)
        self.prices = _prices(x / self.scale, y)
        others = (np.delete(np.arange(len(y)), i) for i in range(len(y)))
        missed = [
            math.log(max(1e-9, float(x[i] / self.scale @ _prices(x[rest] / self.scale, y[rest]))) / y[i])
            for i, rest in enumerate(others)
        ]
        self.error = max(LEAST_ERROR, math.sqrt(sum(m * m for m in missed) / len(missed)))
        """Standard deviation of a prediction, as a share: each network predicted from all others."""

    def expected(self, network: Arch) -> float:
        """How slow `network` will be."""
        return max(1e-9, float(self._table([features(network)])[0] / self.scale @ self.prices))

    def chance(self, network: Arch, limit: float) -> float:
        """How likely `network` is within `limit`."""
        return (1 + math.erf(math.log(limit / self.expected(network)) / self.error / math.sqrt(2))) / 2

    def _table(self, rows: Sequence[Counter[str]]) -> NDArray[np.float64]:
        return np.array([[row[name] for name in self.names] for row in rows], dtype=float)


def features(network: Arch) -> Counter[str]:
    """What the layers of `network` do once deployed: batch norm folded, activations part of convolutions."""
    found: Counter[str] = Counter()
    for layer in walk(network):
        found.update(_part(layer.place))
        if len(layer.reads) > 1:  # what it reads is concatenated
            found.update({"layers": 1, "moved, rearranged": 2 * layer.place.cin * layer.place.size**2})
    return found


@lru_cache(maxsize=1 << 16)
def _part(place: Place) -> dict[str, int]:
    found: Counter[str] = Counter()
    nodes = wired(place)[0]
    for node in nodes:
        if isinstance(node.op, Input | Norm | Dropout) or _fused(node, nodes):
            continue
        if isinstance(node.op, Conv | Linear):
            found[f"macs, {_kind(node)}"] += macs(node)
            found["weights"] += params(node)
        found["layers"] += 1
        found[f"moved, {_does(node)}"] += node.out.numel + sum(x.numel for x in node.reads)
    return dict(found)


def _kind(node: Node) -> str:
    if not isinstance(node.op, Conv):
        return "pointwise"
    if node.op.groups > 1:
        return "depthwise" if node.op.groups == node.out.channels else "grouped"
    return "pointwise" if node.op.kernel == (1, 1) else "dense"


def _does(node: Node) -> str:
    match node.op:
        case Conv() | Linear():
            return "conv"
        case Act() | Add():
            return "elementwise"
        case Scale():
            return "scale"
        case Pool() | Mean():
            return "pool"
    return "rearranged"


def _fused(node: Node, nodes: Graph) -> bool:
    """Whether `node` is an activation that a runtime computes with the convolution before it."""
    if not isinstance(node.op, Act) or node.op.name in ("hswish", "hsigmoid"):
        return False
    before = nodes[node.reads[0].at]
    if isinstance(before.op, Norm):
        before = nodes[before.reads[0].at]
    return isinstance(before.op, Conv)


def _prices(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices that make `x` times them `y`, by their relative errors."""
    rows = np.vstack([x / y[:, None], RIDGE * np.eye(x.shape[1])])
    goal = np.concatenate([np.ones(len(y)), np.zeros(x.shape[1])])
    found: NDArray[np.float64] = LinearRegression(positive=True, fit_intercept=False).fit(rows, goal).coef_
    return found
