"""Architectures as ONNX graphs, written from the graph they are drawn as: no tracing, some milliseconds a network.

Batch norm after a convolution is folded into it, as any runtime would; dropout is gone; the batch is free. So what is
measured during a search is what is exported later.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

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

OPSET, IR = 17, 9  # old enough for the runtimes of small devices
EPS = 1e-5  # of torch's batch norm
Array = NDArray[np.float32]


def onnx_model(arch: Arch, weights: Mapping[str, Array] | None = None, seed: int = 0) -> onnx.ModelProto:
    """`arch` as an ONNX model: "image" (batch, channels, resolution, resolution) to "logits" (batch, classes).

    `weights`: the state dict of the built model, as arrays; by default drawn from `seed`, for measuring. Raises
    KeyError on a tensor that is missing.
    """
    nodes = graph(arch)
    writer = _Writer(nodes, weights if weights is not None else random_weights(nodes, seed))
    for node in nodes:
        writer.write(node)
    side = arch.resolution
    source = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", nodes[0].out.channels, side, side])
    logits = writer.flat(nodes[-1].out.at)
    writer.node("Identity", [logits], "logits")
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", arch.classes])
    body = helper.make_graph(writer.nodes, "network", [source], [target], writer.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nas", ir_version=IR)
    onnx.checker.check_model(model)
    return model


def onnx_bytes(
    arch: Arch, weights: Mapping[str, Array] | None = None, metadata: Mapping[str, str] | None = None
) -> bytes:
    """`onnx_model` as the content of a file, with `metadata`."""
    model = onnx_model(arch, weights)
    helper.set_model_props(model, dict(metadata or {}))
    content: bytes = model.SerializeToString()
    return content


def with_preparation(content: bytes, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """The graph of that file with what comes before and after it inside: uint8 "pixels" (batch, resolution, resolution,
    channels) to "scores" (batch, classes), which are shares of 1."""
    model = onnx.load_from_string(content)
    image, logits = model.graph.input.pop(), model.graph.output.pop()
    _, channels, side, _ = (dim.dim_value for dim in image.type.tensor_type.shape.dim)
    before = [helper.make_node("Cast", ["pixels"], ["pixels.float"], to=TensorProto.FLOAT)]
    for kind, name, value in (("Div", "scaled", [255]), ("Sub", "centred", mean), ("Div", "normalised", std)):
        constant, out = f"pixels.{name}.by", f"pixels.{name}"
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), constant))
        before.append(helper.make_node(kind, [before[-1].output[0], constant], [out]))
    before.append(helper.make_node("Transpose", [before[-1].output[0]], [image.name], perm=(0, 3, 1, 2)))
    after = helper.make_node("Softmax", [logits.name], ["scores"], axis=1)
    nodes = [*before, *model.graph.node, after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, channels])
    classes = logits.type.tensor_type.shape.dim[1].dim_value
    model.graph.input.append(pixels)
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes]))
    onnx.checker.check_model(model)
    whole: bytes = model.SerializeToString()
    return whole


def random_weights(nodes: Graph, seed: int) -> dict[str, Array]:
    """Weights by the names of the built model's state dict, of a size that keeps activations near 1."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for node in nodes:
        name, channels = node.module, node.out.channels
        match node.op:
            case Conv(cout, kernel, _, _, groups, bias):
                shape: tuple[int, ...] = (cout, node.reads[0].channels // groups, *kernel)
            case Linear(cout, bias):
                shape = (cout, node.reads[0].channels)
            case Norm():
                for part, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
                    weights[f"{name}.{part}"] = np.full(channels, value, np.float32)
                continue
            case Gain():
                weights[f"{name}.weight"] = np.ones((), np.float32)
                continue
            case _:
                continue
        spread = math.sqrt(2 / math.prod(shape[1:]))
        weights[f"{name}.weight"] = (rng.standard_normal(shape, np.float32) * spread).astype(np.float32)
        if bias:
            weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return weights


class _Writer:
    """The ONNX nodes written so far; a map of ours is called by its number."""

    def __init__(self, nodes: Graph, weights: Mapping[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.named = {nodes[0].out.at: "image"}
        self.is_flat: set[int] = set()
        self.folded = foldable(nodes)
        self.made: set[str] = set()
        self.names: set[str] = set()

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node of that kind; its output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant, written once; its name."""
        if name not in self.made:
            self.made.add(name)
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def flat(self, at: int) -> str:
        """Map `at`, whose size is 1, as (batch, channels)."""
        if at in self.is_flat:
            return self.named[at]
        return self.node("Flatten", [self.named[at]], f"{self.named[at]}.flat{len(self.nodes)}", axis=1)

    def square(self, at: int) -> str:
        """Map `at` as (batch, channels, size, size)."""
        if at not in self.is_flat:
            return self.named[at]
        axes = self.constant("square", np.array([2, 3]))
        return self.node("Unsqueeze", [self.named[at], axes], f"{self.named[at]}.square{len(self.nodes)}")

    def write(self, node: Node) -> None:
        """Writes `node`, whose inputs are written."""
        at = node.out.at
        if isinstance(node.op, Input):
            return
        if isinstance(node.op, Dropout) or (isinstance(node.op, Norm) and node.reads[0].at in self.folded):
            self.named[at] = self.named[node.reads[0].at]
            if node.reads[0].at in self.is_flat:
                self.is_flat.add(at)
            return
        name = self.named[at] = (
            node.name if node.name not in self.names else f"{node.name}.{at}"
        )  # a module called twice
        self.names.add(name)
        if isinstance(node.op, Linear):
            self.is_flat.add(at)
            kernel = self.constant(f"{node.module}.weight", self.weights[f"{node.module}.weight"])
            bias = self.constant(f"{node.module}.bias", self.weights[f"{node.module}.bias"])
            self.node("Gemm", [self.flat(node.reads[0].at), kernel, bias], name, transB=1)
        elif isinstance(node.op, Act):
            if node.reads[0].at in self.is_flat:
                self.is_flat.add(at)
            self._act(node.op, self.named[node.reads[0].at], name)
        elif isinstance(node.op, Conv):
            self._conv(node, node.op)
        else:
            self._other(node, [self.square(read.at) for read in node.reads])

    def _act(self, op: Act, x: str, out: str) -> None:
        match op.name:
            case "relu6":
                low, high = (self.constant(f"clip{n}", np.array(n, np.float32)) for n in (0, 6))
                self.node("Clip", [x, low, high], out)
            case "hsigmoid":
                self.node("HardSigmoid", [x], out, alpha=1 / 6, beta=0.5)
            case kind:
                self.node({"relu": "Relu", "hswish": "HardSwish", "sigmoid": "Sigmoid"}[kind], [x], out)

    def _conv(self, node: Node, op: Conv) -> None:
        kernel = self.weights[f"{node.module}.weight"]
        bias = self.weights[f"{node.module}.bias"] if op.bias else np.zeros(op.cout, np.float32)
        norm = self.folded.get(node.out.at)
        if norm:
            weight, shift, mean, variance = (
                self.weights[f"{norm.module}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = weight / np.sqrt(variance + EPS)
            kernel = (kernel * factor[:, None, None, None]).astype(np.float32)
            bias = ((bias - mean) * factor + shift).astype(np.float32)
        rows, columns = op.pad
        self.node(
            "Conv",
            [
                self.square(node.reads[0].at),
                self.constant(f"{node.module}.weight", kernel),
                self.constant(f"{node.module}.bias", bias),
            ],
            self.named[node.out.at],
            kernel_shape=op.kernel,
            strides=(op.stride, op.stride),
            pads=(rows, columns, rows, columns),
            group=op.groups,
        )

    def _other(self, node: Node, x: list[str]) -> None:
        name = self.named[node.out.at]
        match node.op:
            case Norm():
                parts = ("weight", "bias", "running_mean", "running_var")
                held = [self.constant(p, self.weights[p]) for p in (f"{node.module}.{part}" for part in parts)]
                self.node("BatchNormalization", [*x, *held], name, epsilon=EPS)
            case Gain():
                self.node(
                    "Mul", [*x, self.constant(f"{node.module}.weight", self.weights[f"{node.module}.weight"])], name
                )
            case Pool(mode, kernel, stride, pad, ceil):
                extra = {"count_include_pad": 1} if mode == "avg" else {}
                kind = "MaxPool" if mode == "max" else "AveragePool"
                square = {"kernel_shape": (kernel,) * 2, "strides": (stride,) * 2, "pads": (pad,) * 4}
                self.node(kind, x, name, ceil_mode=int(ceil), **square, **extra)
            case Mean():
                self.node("GlobalAveragePool", x, name)
            case Pad():
                self.node("Pad", [*x, self.constant("pad", np.array([0, 0, 0, 0, 0, 0, 1, 1]))], name)
            case Cat():
                self.node("Concat", x, name, axis=1)
            case Slice(start, stop):
                ends = [self.constant(f"at{n}", np.array([n])) for n in (start, stop, 1)]
                self.node("Slice", [*x, *ends], name)
            case Shuffle(groups):
                channels, size = node.out.channels, node.out.size
                apart = self.constant(f"{name}.apart", np.array([0, groups, channels // groups, size * size]))
                whole = self.constant(f"{name}.whole", np.array([0, channels, size, size]))
                split = self.node("Reshape", [*x, apart], f"{name}.split")
                shifted = self.node("Transpose", [split], f"{name}.turned", perm=(0, 2, 1, 3))
                self.node("Reshape", [shifted, whole], name)
            case Add():
                self.node("Add", x, name)
            case Scale():
                self.node("Mul", x, name)
            case _:
                raise AssertionError(f"{node.op} has no ONNX")
