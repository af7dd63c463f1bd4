"""Networks in LiteRT's operators, from the graph they are drawn as: no tracing, no TensorFlow, no weights yet.

Maps are NHWC, batch norm after a convolution is folded into it, ReLU and ReLU6 are fused. A convolution with a stride
pads by SAME where that is where torch pads. Else a depthwise one, whose maps are often the largest, has a kernel that
is larger by a row and a column of zeros: a padded copy of the map would double what a microcontroller has to hold. Of
others, whose kernels weigh more, the map is padded. The batch is 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.errors import Error
from nas.models.onnx_graph import EPS
from nas.networks.graph import (
    Act,
    Add,
    Cat,
    Conv,
    Dropout,
    Gain,
    Graph,
    Input,
    Linear,
    Mean,
    Node,
    Norm,
    Pad,
    Pool,
    Scale,
    Shuffle,
    Slice,
    foldable,
)

Array: TypeAlias = NDArray[Any]
Weights: TypeAlias = Mapping[str, Array]
FUSED = {"relu": "RELU", "relu6": "RELU6"}  # activations that a layer before takes along
FUSED_AS = {"": 0, "relu": 1, "relu6": 3}  # the schema's numbers of them
LEAST = float(np.finfo(np.float32).min)  # what a maximum is taken over where there is nothing
WEIGHTED = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"  # whose second input is what they multiply by
SYMMETRIC = 1  # how MIRROR_PAD goes on beyond the edge: the edge itself is repeated
JOINED = 10  # maps that TensorFlow Lite Micro concatenates at once
INPUT, OUTPUT = "image", "logits"


@dataclass(slots=True)
class Tensor:
    """What an operator reads or writes; of a constant, how it follows from the weights."""

    name: str
    shape: tuple[int, ...]
    value: Callable[[Weights], Array] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """One of LiteRT's: its kind, which tensors it reads and writes, its options by class and fields."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    options: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layers:
    """A network in LiteRT's operators, in the order in which they run; nothing is known of its weights."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    source: int
    target: int


def layers(nodes: Graph) -> Layers:
    """The operators of a network. Raises Error, naming the layer, where LiteRT has none like it."""
    writer = _Writer(nodes)
    for node in nodes:
        writer.write(node)
    return writer.written()


@dataclass(slots=True)
class _Writer:
    """The operators written so far; a map of ours is the tensor `of[map.at]`."""

    nodes: Graph
    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    of: dict[int, int] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    folded: dict[int, Node] = field(default_factory=dict)
    readers: dict[int, list[Node]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    taken_along: set[int] = field(default_factory=set)
    """Places of activations that the layer before has fused."""

    def __post_init__(self) -> None:
        self.folded = foldable(self.nodes)
        for node in self.nodes:
            for at in {read.at for read in node.reads}:
                self.readers.setdefault(at, []).append(node)

    def tensor(self, name: str, shape: Sequence[int]) -> int:
        """A tensor that an operator writes; ai-edge-quantizer knows tensors by their names."""
        taken = name in self.names
        self.names.add(name)
        self.tensors.append(Tensor(f"{name}.{len(self.tensors)}" if taken else name, tuple(map(int, shape))))
        return len(self.tensors) - 1

    def weight(self, name: str, shape: Sequence[int], value: Callable[[Weights], Array]) -> int:
        """A constant that follows from the weights, written once."""
        if name not in self.constants:
            self.tensors.append(Tensor(name, tuple(shape), value))
            self.constants[name] = len(self.tensors) - 1
        return self.constants[name]

    def constant(self, name: str, *values: Any, kind: Any = np.int32) -> int:
        """A constant that is the same for all weights, written once."""
        value = np.array(values, kind)
        return self.weight(name, value.shape, lambda _: value)

    def operator(
        self, kind: str, inputs: Sequence[int], name: str, shape: Sequence[int], options: str = "", **fields: Any
    ) -> int:
        """An operator with one output; its tensor."""
        out = self.tensor(name, shape)
        self.operators.append(Operator(kind, tuple(inputs), out, options, fields))
        return out

    def shape(self, node: Node) -> tuple[int, int, int, int]:
        """Of what leaves `node`."""
        return 1, node.out.size, node.out.size, node.out.channels

    def write(self, node: Node) -> None:
        """Writes `node`, whose inputs are written."""
        at = node.out.at
        x = [self.of[read.at] for read in node.reads]
        match node.op:
            case Input():
                self.of[at] = self.tensor(INPUT, self.shape(node))
            case Dropout():
                self.of[at] = x[0]
            case Norm() if node.reads[0].at in self.folded:
                self.of[at] = x[0]
            case Act() if at in self.taken_along:
                self.of[at] = x[0]
            case Pad() if self._padded_by_reader(node):
                self.of[at] = x[0]  # who reads it pads
            case Conv():
                self.of[at] = self._conv(node, node.op, x[0])
            case Linear():
                self.of[at] = self._linear(node, node.op, x[0])
            case Pool():
                self.of[at] = self._pool(node, node.op, x[0])
            case Act(name):
                self.of[at] = self._act(node, name, x[0])
            case _:
                self.of[at] = self._other(node, x)

    def _fused(self, node: Node) -> int:
        """The activation that `node` takes along: the one that alone reads it, or the norm that is folded into it."""
        after = self.readers.get(self.folded.get(node.out.at, node).out.at, [])
        if len(after) == 1 and isinstance(after[0].op, Act) and after[0].op.name in FUSED:
            self.taken_along.add(after[0].out.at)
            return FUSED_AS[after[0].op.name]
        return FUSED_AS[""]

    def _padded_by_reader(self, node: Node) -> bool:
        """Whether all who read a padded map are convolutions whose SAME padding is just that."""
        return all(
            isinstance(one.op, Conv) and one.op.kernel == (2, 2) and one.op.stride == 1 and one.op.pad == (0, 0)
            for one in self.readers.get(node.out.at, [])
        )

    def _conv(self, node: Node, op: Conv, x: int) -> int:
        before, outs = node.reads[0], node.out.size
        padded = self.nodes[before.at].op
        given, grown = self.tensors[x].shape[1], (0, 0)
        if isinstance(padded, Pad) and given == before.size - 1:  # its padding is SAME
            same = True
        else:
            same, grown = _where_torch_pads(node.name, op, given, outs)
        depthwise = op.groups == before.channels == op.cout and op.groups > 1
        if any(grown) and not depthwise and len({*op.kernel}) == len({*op.pad}) == 1:
            after = (outs - 1) * op.stride + op.kernel[0] - given - op.pad[0]
            x, same, grown = self._padded(x, f"{node.name}.padded", op.pad[0], max(after, 0)), False, (0, 0)
        rows, columns = (side + more for side, more in zip(op.kernel, grown, strict=True))
        turned = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        norm, each = self.folded.get(node.out.at), before.channels // op.groups
        around = [(0, 0), (0, 0), *((0, more) for more in grown)]

        def kernel(weights: Weights) -> Array:
            return np.pad(_folded(weights, node, op, norm)[0], around).transpose(turned)

        def bias(weights: Weights) -> Array:
            return _folded(weights, node, op, norm)[1]

        held = [
            self.weight(
                f"{node.module}.weight",
                (1, rows, columns, op.cout) if depthwise else (op.cout, rows, columns, each),
                kernel,
            ),
            self.weight(f"{node.module}.bias", (op.cout,), bias),
        ]
        fields = {"padding": 0 if same else 1, "strideH": op.stride, "strideW": op.stride}
        fields |= {"dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": self._fused(node)}
        if depthwise:
            kind, options, fields["depthMultiplier"] = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 1
        else:
            kind, options = "CONV_2D", "Conv2DOptions"
        return self.operator(kind, [x, *held], node.name, self.shape(node), options, **fields)

    def _linear(self, node: Node, op: Linear, x: int) -> int:
        def part(name: str) -> Callable[[Weights], Array]:
            return lambda weights: weights[name].astype(np.float32)

        shapes = {"weight": (op.cout, node.reads[0].channels), "bias": (op.cout,)}
        names = {f"{node.module}.{name}": shape for name, shape in shapes.items()}
        held = [self.weight(name, shape, part(name)) for name, shape in names.items()]
        fields = {"fusedActivationFunction": self._fused(node), "keepNumDims": False, "weightsFormat": 0}
        return self.operator("FULLY_CONNECTED", [x, *held], node.name, (1, op.cout), "FullyConnectedOptions", **fields)

    def _pool(self, node: Node, op: Pool, x: int) -> int:
        size, outs = node.reads[0].size, node.out.size
        beyond = (outs - 1) * op.stride + op.kernel - size  # rows that are read outside the map
        after = beyond - op.pad
        if op.mode == "avg" and op.ceil and after > op.pad:
            raise Error(f"{node.name}: LiteRT has no average over windows that hang over the edge")
        same = op.mode == "max" and outs == -(-size // op.stride) and 0 < beyond and beyond // 2 == op.pad
        if not same and (op.pad or after > 0):
            x = self._padded(x, f"{node.name}.padded", op.pad, max(after, 0), op.mode == "max")
        fields = {"padding": 0 if same else 1, "strideH": op.stride, "strideW": op.stride}
        fields |= {"filterHeight": op.kernel, "filterWidth": op.kernel, "fusedActivationFunction": self._fused(node)}
        kind = "MAX_POOL_2D" if op.mode == "max" else "AVERAGE_POOL_2D"
        return self.operator(kind, [x], node.name, self.shape(node), "Pool2DOptions", **fields)

    def _padded(self, x: int, name: str, before: int, after: int, for_maximum: bool = False) -> int:
        """Tensor `x` with rows and columns beside it: zeros, or what changes no maximum."""
        around = self.constant(f"pad{before}{after}", [0, 0], [before, after], [before, after], [0, 0])
        _, rows, columns, channels = self.tensors[x].shape
        shape = (1, rows + before + after, columns + before + after, channels)
        if for_maximum and not self._is_positive(x):
            if max(before, after) <= 1:  # the row at the edge, which the window has anyway, once more
                return self.operator("MIRROR_PAD", [x, around], name, shape, "MirrorPadOptions", mode=SYMMETRIC)
            least = self.constant("least", LEAST, kind=np.float32)
            return self.operator("PADV2", [x, around, least], name, shape, "PadV2Options")
        return self.operator("PAD", [x, around], name, shape, "PadOptions")

    def _is_positive(self, x: int) -> bool:
        """Whether nothing in tensor `x` is below 0: zeros beside it change no maximum."""
        made = next((one for one in self.operators if one.output == x), None)
        return made is not None and made.fields.get("fusedActivationFunction", 0) in (1, 3)

    def _act(self, node: Node, name: str, x: int) -> int:
        shape = self.tensors[x].shape
        match name:
            case "relu" | "relu6":
                return self.operator(FUSED[name], [x], node.name, shape)
            case "hswish":
                return self.operator("HARD_SWISH", [x], node.name, shape, "HardSwishOptions")
            case "sigmoid":
                return self.operator("LOGISTIC", [x], node.name, shape)
            case "hsigmoid":  # relu6(x + 3) / 6
                three = self.constant("three", 3, kind=np.float32)
                sixth = self.constant("sixth", 1 / 6, kind=np.float32)
                relu6 = {"fusedActivationFunction": FUSED_AS["relu6"]}
                up = self.operator("ADD", [x, three], f"{node.name}.up", shape, "AddOptions", **relu6)
                none = {"fusedActivationFunction": 0}
                return self.operator("MUL", [up, sixth], node.name, shape, "MulOptions", **none)
        raise Error(f"{node.name}: LiteRT has no {name}")

    def _other(self, node: Node, x: list[int]) -> int:
        shape = self.shape(node)
        match node.op:
            case Norm():
                channels = (node.out.channels,)
                scale = self.weight(f"{node.module}.factor", channels, lambda weights: _norm(weights, node)[0])
                added = self.weight(f"{node.module}.shift", channels, lambda weights: _norm(weights, node)[1])
                none = {"fusedActivationFunction": 0}
                y = self.operator("MUL", [x[0], scale], f"{node.name}.scaled", shape, "MulOptions", **none)
                fused = self._fused(node)
                return self.operator("ADD", [y, added], node.name, shape, "AddOptions", fusedActivationFunction=fused)
            case Gain():
                name = f"{node.module}.weight"
                gain = self.weight(name, (1,), lambda weights: weights[name].reshape(1))
                return self._element_by_element("MUL", [x[0], gain], node)
            case Scale():
                gate = x[1]
                if len(self.tensors[gate].shape) == 2:
                    gate = self._reshaped(gate, f"{node.name}.gate", (1, 1, 1, node.out.channels))
                return self._element_by_element("MUL", [x[0], gate], node)
            case Add():
                return self._element_by_element("ADD", x, node)
            case Mean():
                axes = self.constant("rows and columns", 1, 2)
                return self.operator("MEAN", [x[0], axes], node.name, shape, "ReducerOptions", keepDims=True)
            case Pad():
                return self._padded(x[0], node.name, 0, 1)
            case Cat():
                while len(x) > JOINED:
                    first, x = x[:JOINED], x[JOINED:]
                    x = [self._joined(first, f"{node.name}.first{len(x)}"), *x]
                return self._joined(x, node.name)
            case Slice(start, stop):
                begin = self.constant(f"from {start}", 0, 0, 0, start)
                size = self.constant(f"{shape}", *shape[:3], stop - start)
                return self.operator("SLICE", [x[0], begin, size], node.name, shape, "SliceOptions")
            case Shuffle(groups):
                rows, each = node.out.size**2, node.out.channels // groups
                apart = self._reshaped(x[0], f"{node.name}.apart", (rows, groups, each))
                order = self.constant("0 2 1", 0, 2, 1)
                turned = (rows, each, groups)
                y = self.operator("TRANSPOSE", [apart, order], f"{node.name}.turned", turned, "TransposeOptions")
                return self._reshaped(y, node.name, shape)
        raise Error(f"{node.name}: {type(node.op).__name__} cannot be written for LiteRT")

    def _joined(self, x: Sequence[int], name: str) -> int:
        shapes = [self.tensors[one].shape for one in x]
        shape = (*shapes[0][:3], sum(one[3] for one in shapes))
        fields = {"axis": 3, "fusedActivationFunction": 0}
        return self.operator("CONCATENATION", x, name, shape, "ConcatenationOptions", **fields)

    def _element_by_element(self, kind: str, x: Sequence[int], node: Node) -> int:
        options = {"ADD": "AddOptions", "MUL": "MulOptions"}[kind]
        fused = self._fused(node)
        return self.operator(kind, x, node.name, self.shape(node), options, fusedActivationFunction=fused)

    def _reshaped(self, x: int, name: str, shape: tuple[int, ...]) -> int:
        wanted = self.constant(f"shape {shape}", *shape)
        return self.operator("RESHAPE", [x, wanted], name, shape, "ReshapeOptions", newShape=list(shape))

    def written(self) -> Layers:
        """What is written, with the logits of the last map as its answer."""
        logits = self.of[self.nodes[-1].out.at]
        if len(self.tensors[logits].shape) != 2:
            logits = self._reshaped(logits, OUTPUT, (1, math.prod(self.tensors[logits].shape)))
        self.tensors[logits].name = OUTPUT
        return Layers(tuple(self.tensors), tuple(self.operators), self.of[0], logits)


def _where_torch_pads(name: str, op: Conv, size: int, outs: int) -> tuple[bool, tuple[int, int]]:
    """Whether SAME pads as torch does, and by how many rows and columns of zeros the kernel has to grow for it."""
    if op.pad == (0, 0):
        return False, (0, 0)
    grown = []
    for side, pad in zip(op.kernel, op.pad, strict=True):
        total = (outs - 1) * op.stride + side - size  # rows that are read beyond the map
        grown.append(max(0, 2 * pad - total))
        if outs != -(-size // op.stride) or (max(0, total + grown[-1])) // 2 != pad:
            raise Error(f"{name}: LiteRT does not pad a {side}-wide kernel by {pad} at a stride of {op.stride}")
    return True, (grown[0], grown[1])


def _folded(weights: Weights, node: Node, op: Conv, norm: Node | None) -> tuple[Array, Array]:
    """Kernel and bias of a convolution with the norm after it."""
    kernel = weights[f"{node.module}.weight"]
    bias = weights[f"{node.module}.bias"] if op.bias else np.zeros(op.cout, np.float32)
    if norm:
        factor, shift = _norm(weights, norm)
        kernel, bias = kernel * factor[:, None, None, None], bias * factor + shift
    return kernel.astype(np.float32), bias.astype(np.float32)


def _norm(weights: Weights, node: Node) -> tuple[Array, Array]:
    """What a batch norm multiplies by, and what it adds."""
    parts = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, variance = (weights[f"{node.module}.{part}"] for part in parts)
    factor = weight / np.sqrt(variance + EPS)
    return factor.astype(np.float32), (bias - mean * factor).astype(np.float32)
