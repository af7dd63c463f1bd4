"""A LiteRT model layer by layer: each operator as a model of its own, with the shapes and scales that it has in the
whole."""

import copy
import math
from dataclasses import dataclass
from typing import Any

from nas.models.litert_file import file_of, kinds
from nas.models.litert_graph import WEIGHTED


@dataclass(frozen=True, slots=True)
class Layer:
    """An operator of a model."""

    name: str
    """Kind, what it reads, its weights, kernel and stride, what it gives: layers of one name take as long."""
    kind: str
    reads: str
    weights: str
    """Shapes, rows by columns by channels; of weights outputs by kernel by inputs, as they lie in the file."""
    gives: str
    macs: int
    model: bytes
    """A .tflite file with this layer alone."""


def layers(model: bytes) -> tuple[Layer, ...]:
    """The layers of a .tflite file with one subgraph, in the order of the forward pass; alike ones are repeated."""
    import ai_edge_litert.schema_py_generated as schema

    read = schema.ModelT.InitFromPackedBuf(model, 0)
    (body,) = read.subgraphs
    codes, found = kinds(read), []
    for one in body.operators:
        kind = codes[one.opcodeIndex]
        held = {at: read.buffers[body.tensors[at].buffer].data is not None for at in one.inputs if at >= 0}
        shapes = {at: tuple(map(int, body.tensors[at].shape)) for at in (*held, *one.outputs)}
        reads = [_shape(shapes[at]) for at, constant in held.items() if not constant]
        scales = [at for at, constant in held.items() if constant and body.tensors[at].type != schema.TensorType.INT32]
        weights, out = [_shape(shapes[at]) for at in scales], shapes[one.outputs[0]]
        macs = 0
        if kind in WEIGHTED:
            weight = shapes[one.inputs[1]]
            macs = math.prod(weight) * (math.prod(out[1:3]) if len(out) == 4 else 1)
        parts = [kind.lower(), "+".join(reads), *weights, *_windows(one.builtinOptions), _shape(out)]
        alone = _alone(schema, read, body, one, [at for at, constant in held.items() if not constant])
        found.append(Layer("-".join(parts), kind, " ".join(reads), " ".join(weights), _shape(out), macs, alone))
    return tuple(found)


def _shape(shape: tuple[int, ...]) -> str:
    """Of a map without its batch."""
    return "x".join(map(str, shape[1:] if len(shape) == 4 and shape[0] == 1 else shape)) or "1"


def _windows(options: Any) -> list[str]:
    """Kernel of a pool, and stride."""
    pool = [f"k{options.filterHeight}x{options.filterWidth}"] if hasattr(options, "filterHeight") else []
    return pool + ([f"s{options.strideH}"] if hasattr(options, "strideH") else [])


def _alone(schema: Any, read: Any, body: Any, operator: Any, given: list[int]) -> bytes:
    """The model with `operator` alone, which is given the tensors `given`."""
    model, part, only = schema.ModelT(), schema.SubGraphT(), copy.copy(operator)
    model.version, model.description = read.version, "nas"
    model.buffers, part.tensors, places = [schema.BufferT()], [], dict[int, int]()
    for at in (*operator.inputs, *operator.outputs):
        if at < 0 or at in places:
            continue
        tensor = copy.copy(body.tensors[at])
        content = read.buffers[tensor.buffer]
        tensor.buffer = 0
        if content.data is not None:
            tensor.buffer = len(model.buffers)
            model.buffers.append(content)
        places[at] = len(part.tensors)
        part.tensors.append(tensor)
    only.inputs = [places.get(at, -1) for at in operator.inputs]
    only.outputs = [places[at] for at in operator.outputs]
    only.opcodeIndex = 0
    model.operatorCodes = [read.operatorCodes[operator.opcodeIndex]]
    part.name, part.operators = "main", [only]
    part.inputs, part.outputs = [places[at] for at in given], list(only.outputs)
    model.subgraphs = [part]
    return file_of(model)
