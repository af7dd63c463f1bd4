"""A network as a graph of primitive layers, and all that can be counted on it with integers alone.

Block kinds draw their part of the graph with a `Wiring`; cost, identity, layer tables and the torch module all follow
from what was drawn. Nothing here knows a block kind, and nothing here needs torch.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from nas.errors import Error

Activation: TypeAlias = Literal["linear", "relu", "relu6", "hswish", "hsigmoid", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs, for one image.

    `macs`: multiply-accumulates of convolutions and linear layers at the given resolution; this is what nas,
    like the papers, calls FLOPs. Batch norm (folded when deployed), bias, pooling, activations and additions
    are not counted. `params`: all learnable numbers, batch norm's weight and bias among them. `peak`: the most
    activations that are held at one time, see `peak()`; bytes in int8, four times as many in fp32. `arena` and `flash`,
    counted only where a budget limits them: bytes of TensorFlow Lite Micro's arena and of the int8 file, see
    nas.models.micro_memory.
    """

    macs: int
    params: int
    peak: int
    arena: int | None = None
    flash: int | None = None


UNBUILDABLE = Cost(10**15, 10**15, 10**15)
"""What stands for the cost of a network that cannot be built: its parts do not fit each other. It keeps no budget."""


class Map(NamedTuple):  # like all below a tuple, for speed: every candidate of a search is drawn
    """The output of node `at`: `channels` x `size` x `size`."""

    at: int
    channels: int
    size: int

    @property
    def numel(self) -> int:
        """Numbers in it, for one image."""
        return self.channels * self.size * self.size


# ---- primitive layers ----------------------------------------------------------------------------------------


class Input(NamedTuple):
    """The map that the graph is given."""


class Conv(NamedTuple):
    """Convolution; kernel and padding are (rows, columns)."""

    cout: int
    kernel: tuple[int, int]
    stride: int
    pad: tuple[int, int]
    groups: int
    bias: bool


class Linear(NamedTuple):
    """Fully connected layer over a map of size 1."""

    cout: int
    bias: bool


class Norm(NamedTuple):
    """Batch norm: a weight and a bias a channel, and two running statistics."""


class Act(NamedTuple):
    """Activation."""

    name: Activation


class Pool(NamedTuple):
    """Max or average pooling over windows."""

    mode: Literal["max", "avg"]
    kernel: int
    stride: int
    pad: int
    ceil: bool


class Mean(NamedTuple):
    """Mean over each whole channel."""


class Pad(NamedTuple):
    """One column of zeros on the right and one row below."""


class Cat(NamedTuple):
    """Concatenation of channels."""


class Slice(NamedTuple):
    """Channels `start` to `stop`."""

    start: int
    stop: int


class Shuffle(NamedTuple):
    """Channel shuffle: (groups, C / groups) transposed (ShuffleNet; eq. 7 of paper 004)."""

    groups: int


class Add(NamedTuple):
    """Sum of two maps."""


class Scale(NamedTuple):
    """Each channel of the first map times its number in the second, a map of size 1."""


class Gain(NamedTuple):
    """The map times one learnable number."""


class Dropout(NamedTuple):
    """Drops a share of the numbers in training."""

    share: float


Op: TypeAlias = (
    Input | Conv | Linear | Norm | Act | Pool | Mean | Pad | Cat | Slice | Shuffle | Add | Scale | Gain | Dropout
)
WEIGHTED = frozenset((Conv, Linear, Norm, Gain))
IN_PLACE = frozenset((Norm, Act, Add, Scale, Gain, Dropout))  # may write over what they read


class Node(NamedTuple):
    """A layer in its place; `name` is its path in the network."""

    name: str
    op: Op
    reads: tuple[Map, ...]
    out: Map
    module: str
    """The path of its module: the name, but for a module that is called in several places."""


Graph: TypeAlias = tuple[Node, ...]
"""Nodes in the order of the forward pass; the first is an `Input`, the last the output."""


def foldable(nodes: Graph) -> dict[int, Node]:
    """The batch norms that can be folded into the convolution before them, by that convolution's place."""
    readers = Counter(read.at for node in nodes for read in node.reads)
    return {
        node.reads[0].at: node
        for node in nodes
        if isinstance(node.op, Norm) and isinstance(nodes[node.reads[0].at].op, Conv) and readers[node.reads[0].at] == 1
    }


class Wiring:
    """A graph being drawn. Each method adds nodes and returns the map that leaves them."""

    def __init__(self, channels: int, size: int) -> None:
        self.nodes: list[Node] = []
        self._path = ""
        self.input = self._add("input", Input(), (), channels, size)

    @property
    def graph(self) -> Graph:
        """What has been drawn."""
        return tuple(self.nodes)

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Nodes added inside have names that begin with `name`."""
        before = self._path
        self._path = f"{before}{name}."
        yield
        self._path = before

    def conv(
        self,
        name: str,
        x: Map,
        cout: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        pad: bool = True,
    ) -> Map:
        """Convolution, padded by half its kernel unless `pad` is off. Raises Error where it does not fit."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        if cout < 1 or rows < 1 or columns < 1:
            raise Error(f"{name} must have a width and a kernel of at least 1, got {cout} and {rows}x{columns}")
        around = (rows // 2, columns // 2) if pad else (0, 0)
        if x.channels % groups or cout % groups:
            raise Error(f"{groups} groups must divide the channels of {name}, got {x.channels} to {cout}")
        size = _windows(x.size, rows, stride, around[0])
        if size < 1 or (rows != columns and _windows(x.size, columns, stride, around[1]) != size):
            raise Error(f"{name} ({rows}x{columns}, stride {stride}) does not fit a map of {x.size}x{x.size}")
        return self._add(name, Conv(cout, (rows, columns), stride, around, groups, bias), (x,), cout, size)

    def conv_bn(
        self,
        name: str,
        x: Map,
        cout: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        groups: int = 1,
        act: Activation = "linear",
        bias: bool = False,
        pad: bool = True,
        norm: bool = True,
    ) -> Map:
        """Convolution, batch norm, activation: `name`.conv, `name`.norm, `name`.act."""
        x = self.conv(f"{name}.conv", x, cout, kernel, stride, groups, bias, pad)
        return self.act(f"{name}.act", self.norm(f"{name}.norm", x) if norm else x, act)

    def depthwise_bn(
        self, name: str, x: Map, kernel: int, stride: int = 1, act: Activation = "linear", bias: bool = False
    ) -> Map:
        """Depthwise convolution, batch norm, activation."""
        return self.conv_bn(name, x, x.channels, kernel, stride, x.channels, act, bias)

    def linear(self, name: str, x: Map, cout: int) -> Map:
        """Linear layer with bias over a map of size 1."""
        if cout < 1:
            raise Error(f"{name} must have a width of at least 1, got {cout}")
        return self._add(name, Linear(cout, True), (x,), cout, 1)

    def norm(self, name: str, x: Map) -> Map:
        """Batch norm."""
        return self._add(name, Norm(), (x,), x.channels, x.size)

    def act(self, name: str, x: Map, act: Activation) -> Map:
        """Activation; "linear" adds nothing."""
        return x if act == "linear" else self._add(name, Act(act), (x,), x.channels, x.size)

    def pool(
        self,
        name: str,
        x: Map,
        mode: Literal["max", "avg"],
        kernel: int,
        stride: int,
        pad: int = 0,
        ceil: bool = False,
        module: str = "",
    ) -> Map:
        """Pooling; with `ceil` windows may hang over the edge. Raises Error where it does not fit.

        `module`: the one module that all nodes which name it call; by default each has its own.
        """
        if kernel < 1 or not 0 <= 2 * pad <= kernel:
            raise Error(f"{name} must have a kernel of at least 1 and at most half of it as padding, got {kernel}")
        size = _windows(x.size + ceil * (stride - 1), kernel, stride, pad)
        if ceil and (size - 1) * stride >= x.size + pad:
            size -= 1  # a window has to begin inside
        if size < 1:
            raise Error(f"{name} ({mode} pool {kernel}, stride {stride}) does not fit a map of {x.size}x{x.size}")
        return self._add(name, Pool(mode, kernel, stride, pad, ceil), (x,), x.channels, size, module)

    def mean(self, name: str, x: Map) -> Map:
        """Global average pooling."""
        return self._add(name, Mean(), (x,), x.channels, 1)

    def pad(self, name: str, x: Map) -> Map:
        """One column and one row of zeros at the right and at the bottom."""
        return self._add(name, Pad(), (x,), x.channels, x.size + 1)

    def cat(self, name: str, maps: Sequence[Map]) -> Map:
        """Concatenation of channels; of one map, the map. Raises Error on none, or where their sizes differ."""
        if len({m.size for m in maps}) != 1:
            raise Error(f"{name} must join maps of one size, got {', '.join(_said(m) for m in maps) or 'none'}")
        if len(maps) == 1:
            return maps[0]
        return self._add(name, Cat(), tuple(maps), sum(m.channels for m in maps), maps[0].size)

    def slice(self, name: str, x: Map, start: int, stop: int) -> Map:
        """Channels `start` to `stop`; of all channels, the map."""
        if (start, stop) == (0, x.channels):
            return x
        return self._add(name, Slice(start, stop), (x,), stop - start, x.size)

    def shuffle(self, name: str, x: Map, groups: int) -> Map:
        """Channel shuffle; of one group, the map."""
        if x.channels % groups:
            raise Error(f"{groups} groups must divide the channels of {name}, got {x.channels}")
        return x if groups == 1 else self._add(name, Shuffle(groups), (x,), x.channels, x.size)

    def add(self, name: str, x: Map, y: Map) -> Map:
        """Sum. Raises Error where the shapes differ."""
        if x[1:] != y[1:]:
            raise Error(f"{name} must add maps of one shape, got {_said(x)} and {_said(y)}")
        return self._add(name, Add(), (x, y), x.channels, x.size)

    def gain(self, name: str, x: Map) -> Map:
        """One learnable factor for the map."""
        return self._add(name, Gain(), (x,), x.channels, x.size)

    def dropout(self, name: str, x: Map, share: float) -> Map:
        """Dropout; a share of 0 adds nothing."""
        if not 0 <= share < 1:
            raise Error(f"{name} must be at least 0 and below 1, got {share}")
        return self._add(name, Dropout(share), (x,), x.channels, x.size) if share else x

    def gate(
        self, name: str, x: Map, squeeze: int, act: Activation = "hsigmoid", layer: Literal["conv", "linear"] = "conv"
    ) -> Map:
        """Squeeze and excitation: each channel times a share that is computed from all channels' means."""
        with self.within(name):
            share = self.mean("mean", x)
            if layer == "conv":
                share = self.act("relu", self.conv("reduce", share, squeeze, bias=True), "relu")
                share = self.conv("expand", share, x.channels, bias=True)
            else:
                share = self.act("relu", self.linear("reduce", share, squeeze), "relu")
                share = self.linear("expand", share, x.channels)
            return self._add("scale", Scale(), (x, self.act("act", share, act)), x.channels, x.size)

    def _add(self, name: str, op: Op, reads: tuple[Map, ...], channels: int, size: int, module: str = "") -> Map:
        out = Map(len(self.nodes), channels, size)
        path = self._path + name
        self.nodes.append(Node(path, op, reads, out, module or path))
        return out


def _said(x: Map) -> str:
    return f"{x.channels}x{x.size}x{x.size}"


def _windows(size: int, kernel: int, stride: int, pad: int) -> int:
    return (size + 2 * pad - kernel) // stride + 1


# ---- what is counted -----------------------------------------------------------------------------------------


def params(node: Node) -> int:
    """Learnable numbers of `node`."""
    op = node.op
    if isinstance(op, Conv):
        taps = op.kernel[0] * op.kernel[1] * (node.reads[0].channels // op.groups)
        return (taps + op.bias) * op.cout
    if isinstance(op, Linear):
        return (node.reads[0].channels + op.bias) * op.cout
    if isinstance(op, Norm):
        return 2 * node.out.channels
    return int(isinstance(op, Gain))


def macs(node: Node) -> int:
    """Multiply-accumulates of `node` if it is a convolution or a linear layer, else 0."""
    op = node.op
    if isinstance(op, Conv):
        taps = op.kernel[0] * op.kernel[1] * (node.reads[0].channels // op.groups)
        return taps * node.out.numel
    if isinstance(op, Linear):
        return node.reads[0].channels * op.cout
    return 0


def peak(graph: Graph, input_stays: bool = False) -> int:
    """The most activations held at one time when `graph` runs in its order, for one image.

    A map is held from when it is made until it has been read for the last time; so shortcuts and maps that wait for a
    concatenation are held all the while. Layers that work element by element (batch norm, activation, addition,
    scaling) write over an input that nobody reads any more; every other layer, concatenation, channel split and
    shuffle among them, holds its inputs and its output at once. Padding is read past the edge and takes nothing.
    `input_stays`: someone outside the graph reads its input again.
    """
    sizes: list[int] = []
    unpadded: dict[int, int] = {}  # what a padded map was before
    last: dict[int, int] = {}  # by whom each map is read for the last time
    for at, (_, op, reads, out, _) in enumerate(graph):
        sizes.append(out.channels * out.size * out.size)
        for read in reads:
            last[unpadded.get(read.at, read.at)] = at
        if type(op) is Pad:
            unpadded[at] = unpadded.get(reads[0].at, reads[0].at)
    if input_stays:
        last[0] = len(graph)
    held = most = sizes[0]
    for at, (_, op, reads, _, _) in enumerate(graph):
        if not reads or type(op) is Pad:
            continue
        made, freed, over = sizes[at], 0, False  # over: there is a map that may be written over
        for source in {unpadded.get(read.at, read.at) for read in reads}:
            if last[source] == at:
                freed += sizes[source]
                over |= sizes[source] == made
        if held + made > most and not (over and type(op) in IN_PLACE):
            most = held + made
        held += made - freed
    return most


def cost_of(graph: Graph) -> Cost:
    """Cost of a whole graph."""
    weighted = [node for node in graph if type(node.op) in WEIGHTED]
    return Cost(sum(map(macs, weighted)), sum(map(params, weighted)), peak(graph))


def fingerprint(graph: Graph) -> str:
    """Sixteen hex digits of what the graph computes: its layers and wires, not their names."""
    nodes = [(repr(node.op), [read.at for read in node.reads], node.out.channels, node.out.size) for node in graph]
    return hashlib.sha256(repr(nodes).encode()).hexdigest()[:16]
