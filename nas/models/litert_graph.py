"""Architectures as LiteRT models (.tflite), written from the graph they are drawn as: no tracing, no TensorFlow.

Maps are NHWC, batch norm after a convolution is folded into it, ReLU and ReLU6 are fused. A convolution with a stride
pads by SAME where that is where torch pads, else with a kernel that is larger by a row and a column of zeros: a padded
copy of the map would double what a microcontroller has to hold. The batch is 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.errors import Error
from nas.models.onnx_graph import EPS, random_weights
from nas.networks.architecture import Arch, graph
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
FUSED = {"relu": "RELU", "relu6": "RELU6"}  # activations that a layer before takes along
LEAST = float(np.finfo(np.float32).min)  # what a maximum is taken over where there is nothing
JOINED = 10  # maps that TensorFlow Lite Micro concatenates at once
INPUT, OUTPUT, SIGNATURE = "image", "logits", "serving_default"


def litert_bytes(arch: Arch, weights: Mapping[str, Array] | None = None, seed: int = 0) -> bytes:
    """`arch` as the content of a .tflite file: "image" (1, resolution, resolution, channels), prepared, float32, to
    "logits" (1, classes).

    `weights`: the state dict of the built model, as arrays; by default drawn from `seed`. Raises Error, naming the
    layer, where LiteRT has none like it; ImportError where ai-edge-litert is not installed.
    """
    nodes = graph(arch)
    writer = _Writer(nodes, weights if weights is not None else random_weights(nodes, seed))
    for node in nodes:
        writer.write(node)
    return writer.model(nodes[-1].out.at)


@dataclass(slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    value: Array | None = None
    """Of a constant."""


@dataclass(slots=True)
class _Writer:
    """The operators written so far; a map of ours is the tensor `of[map.at]`."""

    nodes: Graph
    weights: Mapping[str, Array]
    tensors: list[_Tensor] = field(default_factory=list)
    operators: list[tuple[str, list[int], list[int], str, dict[str, Any]]] = field(default_factory=list)
    """Kind, inputs, outputs, and its options, by class and fields."""
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
        self.tensors.append(_Tensor(f"{name}.{len(self.tensors)}" if taken else name, tuple(map(int, shape))))
        return len(self.tensors) - 1

    def constant(self, name: str, value: Array) -> int:
        """A constant, written once."""
        if name not in self.constants:
            self.tensors.append(_Tensor(name, value.shape, np.ascontiguousarray(value)))
            self.constants[name] = len(self.tensors) - 1
        return self.constants[name]

    def operator(
        self, kind: str, inputs: Sequence[int], name: str, shape: Sequence[int], options: str = "", **fields: Any
    ) -> int:
        """An operator with one output; its tensor."""
        out = self.tensor(name, shape)
        self.operators.append((kind, list(inputs), [out], options, fields))
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
        from ai_edge_litert.schema_py_generated import ActivationFunctionType

        after = self.readers.get(self.folded.get(node.out.at, node).out.at, [])
        if len(after) == 1 and isinstance(after[0].op, Act) and after[0].op.name in FUSED:
            self.taken_along.add(after[0].out.at)
            return int(getattr(ActivationFunctionType, FUSED[after[0].op.name]))
        return int(ActivationFunctionType.NONE)

    def _padded_by_reader(self, node: Node) -> bool:
        """Whether all who read a padded map are convolutions whose SAME padding is just that."""
        return all(
            isinstance(one.op, Conv) and one.op.kernel == (2, 2) and one.op.stride == 1 and one.op.pad == (0, 0)
            for one in self.readers.get(node.out.at, [])
        )

    def _conv(self, node: Node, op: Conv, x: int) -> int:
        kernel, bias = self._folded_weights(node, op)
        before, outs = node.reads[0], node.out.size
        padded = self.nodes[before.at].op
        given = self.tensors[x].shape[1]
        if isinstance(padded, Pad) and given == before.size - 1:  # its padding is SAME
            same = True
        else:
            same, kernel = self._where_torch_pads(node.name, op, kernel, given, outs)
        depthwise = op.groups == before.channels == op.cout and op.groups > 1
        fields = {"padding": 0 if same else 1, "strideH": op.stride, "strideW": op.stride}
        fields |= {"dilationHFactor": 1, "dilationWFactor": 1, "fusedActivationFunction": self._fused(node)}
        if depthwise:
            kind, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
            kernel, fields["depthMultiplier"] = kernel.transpose(1, 2, 3, 0), 1
        else:
            kind, options = "CONV_2D", "Conv2DOptions"
            kernel = kernel.transpose(0, 2, 3, 1)
        held = [self.constant(f"{node.module}.weight", kernel), self.constant(f"{node.module}.bias", bias)]
        return self.operator(kind, [x, *held], node.name, self.shape(node), options, **fields)

    def _folded_weights(self, node: Node, op: Conv) -> tuple[Array, Array]:
        """Kernel and bias of a convolution with the norm after it."""
        kernel = self.weights[f"{node.module}.weight"]
        bias = self.weights[f"{node.module}.bias"] if op.bias else np.zeros(op.cout, np.float32)
        norm = self.folded.get(node.out.at)
        if norm:
            factor, shift = self._norm(norm)
            kernel, bias = kernel * factor[:, None, None, None], bias * factor + shift
        return kernel.astype(np.float32), bias.astype(np.float32)

    def _norm(self, node: Node) -> tuple[Array, Array]:
        """What a batch norm multiplies by, and what it adds."""
        parts = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (self.weights[f"{node.module}.{part}"] for part in parts)
        factor = weight / np.sqrt(variance + EPS)
        return factor, bias - mean * factor

    def _where_torch_pads(self, name: str, op: Conv, kernel: Array, size: int, outs: int) -> tuple[bool, Array]:
        """Whether SAME pads as torch does, and the kernel with which it does, zeros put to its end where need be."""
        if op.pad == (0, 0):
            return False, kernel
        grown = []
        for side, pad in zip(op.kernel, op.pad, strict=True):
            total = (outs - 1) * op.stride + side - size  # rows that are read beyond the map
            grown.append(max(0, 2 * pad - total))
            if outs != -(-size // op.stride) or (max(0, total + grown[-1])) // 2 != pad:
                raise Error(f"{name}: LiteRT does not pad a {side}-wide kernel by {pad} at a stride of {op.stride}")
        return True, np.pad(kernel, [(0, 0), (0, 0), (0, grown[0]), (0, grown[1])])

    def _linear(self, node: Node, op: Linear, x: int) -> int:
        held = [
            self.constant(f"{node.module}.{part}", self.weights[f"{node.module}.{part}"].astype(np.float32))
            for part in ("weight", "bias")
        ]
        fields = {"fusedActivationFunction": self._fused(node), "keepNumDims": False, "weightsFormat": 0}
        return self.operator("FULLY_CONNECTED", [x, *held], node.name, (1, op.cout), "FullyConnectedOptions", **fields)

    def _pool(self, node: Node, op: Pool, x: int) -> int:
        size, outs = node.reads[0].size, node.out.size
        after = (outs - 1) * op.stride + op.kernel - size - op.pad  # rows below that are read beyond the map
        if op.mode == "avg" and op.ceil and after > op.pad:
            raise Error(f"{node.name}: LiteRT has no average over windows that hang over the edge")
        if op.pad or after > 0:
            x = self._padded(x, f"{node.name}.padded", op.pad, max(after, 0), LEAST if op.mode == "max" else 0.0)
        fields = {"padding": 1, "strideH": op.stride, "strideW": op.stride}
        fields |= {"filterHeight": op.kernel, "filterWidth": op.kernel, "fusedActivationFunction": self._fused(node)}
        kind = "MAX_POOL_2D" if op.mode == "max" else "AVERAGE_POOL_2D"
        return self.operator(kind, [x], node.name, self.shape(node), "Pool2DOptions", **fields)

    def _padded(self, x: int, name: str, before: int, after: int, value: float) -> int:
        around = self.constant(
            f"pad{before}{after}", np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32)
        )
        _, rows, columns, channels = self.tensors[x].shape
        shape = (1, rows + before + after, columns + before + after, channels)
        if value and not self._is_positive(x):
            least = self.constant("least", np.array([value], np.float32))
            return self.operator("PADV2", [x, around, least], name, shape, "PadV2Options")
        return self.operator("PAD", [x, around], name, shape, "PadOptions")

    def _is_positive(self, x: int) -> bool:
        """Whether nothing in tensor `x` is below 0: zeros beside it change no maximum."""
        from ai_edge_litert.schema_py_generated import ActivationFunctionType

        made = next((one for one in self.operators if x in one[2]), None)
        return made is not None and made[4].get("fusedActivationFunction", 0) in (
            ActivationFunctionType.RELU,
            ActivationFunctionType.RELU6,
        )

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
                from ai_edge_litert.schema_py_generated import ActivationFunctionType

                three = self.constant("three", np.array([3], np.float32))
                sixth = self.constant("sixth", np.array([1 / 6], np.float32))
                relu6 = {"fusedActivationFunction": int(ActivationFunctionType.RELU6)}
                up = self.operator("ADD", [x, three], f"{node.name}.up", shape, "AddOptions", **relu6)
                none = {"fusedActivationFunction": 0}
                return self.operator("MUL", [up, sixth], node.name, shape, "MulOptions", **none)
        raise Error(f"{node.name}: LiteRT has no {name}")

    def _other(self, node: Node, x: list[int]) -> int:
        shape = self.shape(node)
        match node.op:
            case Norm():
                factor, shift = self._norm(node)
                scale = self.constant(f"{node.module}.factor", factor.astype(np.float32))
                added = self.constant(f"{node.module}.shift", shift.astype(np.float32))
                none = {"fusedActivationFunction": 0}
                y = self.operator("MUL", [x[0], scale], f"{node.name}.scaled", shape, "MulOptions", **none)
                fused = self._fused(node)
                return self.operator("ADD", [y, added], node.name, shape, "AddOptions", fusedActivationFunction=fused)
            case Gain():
                gain = self.constant(f"{node.module}.weight", self.weights[f"{node.module}.weight"].reshape(1))
                return self._element_by_element("MUL", [x[0], gain], node)
            case Scale():
                gate = x[1]
                if len(self.tensors[gate].shape) == 2:
                    gate = self._reshaped(gate, f"{node.name}.gate", (1, 1, 1, node.out.channels))
                return self._element_by_element("MUL", [x[0], gate], node)
            case Add():
                return self._element_by_element("ADD", x, node)
            case Mean():
                axes = self.constant("rows and columns", np.array([1, 2], np.int32))
                return self.operator("MEAN", [x[0], axes], node.name, shape, "ReducerOptions", keepDims=True)
            case Pad():
                return self._padded(x[0], node.name, 0, 1, 0.0)
            case Cat():
                while len(x) > JOINED:
                    first, x = x[:JOINED], x[JOINED:]
                    x = [self._joined(first, f"{node.name}.first{len(x)}"), *x]
                return self._joined(x, node.name)
            case Slice(start, stop):
                begin = self.constant(f"from {start}", np.array([0, 0, 0, start], np.int32))
                size = self.constant(f"{shape}", np.array([*shape[:3], stop - start], np.int32))
                return self.operator("SLICE", [x[0], begin, size], node.name, shape, "SliceOptions")
            case Shuffle(groups):
                rows, each = node.out.size**2, node.out.channels // groups
                apart = self._reshaped(x[0], f"{node.name}.apart", (rows, groups, each))
                order = self.constant("0 2 1", np.array([0, 2, 1], np.int32))
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
        wanted = self.constant(f"shape {shape}", np.array(shape, np.int32))
        return self.operator("RESHAPE", [x, wanted], name, shape, "ReshapeOptions", newShape=list(shape))

    def model(self, last: int) -> bytes:
        """The content of the file, whose output is map `last`."""
        logits = self.of[last]
        if len(self.tensors[logits].shape) != 2:
            logits = self._reshaped(logits, OUTPUT, (1, math.prod(self.tensors[logits].shape)))
        self.tensors[logits].name = OUTPUT
        return _packed(self.tensors, self.operators, self.of[0], logits)


def _packed(
    tensors: Sequence[_Tensor],
    operators: Sequence[tuple[str, list[int], list[int], str, dict[str, Any]]],
    source: int,
    target: int,
) -> bytes:
    """The flatbuffer of one subgraph with one signature."""
    import ai_edge_litert.schema_py_generated as schema
    import flatbuffers

    model = schema.ModelT()
    model.version, model.description = 3, "nas"
    buffers = [schema.BufferT()]  # the first is of all that holds nothing
    table, kinds = [], dict[str, int]()
    for one in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = one.name, list(one.shape), 0
        tensor.type = schema.TensorType.FLOAT32
        if one.value is not None:
            tensor.type = schema.TensorType.INT32 if one.value.dtype == np.int32 else schema.TensorType.FLOAT32
            held = schema.BufferT()
            held.data = np.frombuffer(one.value.tobytes(), np.uint8)
            tensor.buffer = len(buffers)
            buffers.append(held)
        table.append(tensor)
    model.operatorCodes, rows = [], []
    for kind, inputs, outputs, options, fields in operators:
        number = getattr(schema.BuiltinOperator, kind)
        if kind not in kinds:
            kinds[kind] = len(kinds)
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            model.operatorCodes.append(code)
        row = schema.OperatorT()
        row.opcodeIndex, row.inputs, row.outputs = kinds[kind], inputs, outputs
        if options:
            row.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            row.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in fields.items():
                setattr(row.builtinOptions, name, value)
        rows.append(row)
    body = schema.SubGraphT()
    body.name, body.tensors, body.operators = "main", table, rows
    body.inputs, body.outputs = [source], [target]
    model.subgraphs, model.buffers = [body], buffers
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    ends = []
    for name, at in ((INPUT, source), (OUTPUT, target)):
        end = schema.TensorMapT()
        end.name, end.tensorIndex = name, at
        ends.append(end)
    signature.inputs, signature.outputs = [ends[0]], [ends[1]]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
