"""LiteRT models as the content of .tflite files."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.models.litert_graph import INPUT, OUTPUT, Array, Layers, Weights, layers
from nas.models.onnx_graph import random_weights
from nas.networks.architecture import Arch, graph

DATA_ALIGNED = 16
SIGNATURE = "serving_default"


def litert_bytes(arch: Arch, weights: Mapping[str, Array] | None = None, seed: int = 0) -> bytes:
    """`arch` as the content of a .tflite file: "image" (1, resolution, resolution, channels), prepared, float32, to
    "logits" (1, classes).

    `weights`: the state dict of the built model, as arrays; by default drawn from `seed`. Raises Error, naming the
    layer, where LiteRT has none like it; ImportError where ai-edge-litert is not installed.
    """
    nodes = graph(arch)
    return model_bytes(layers(nodes), weights if weights is not None else random_weights(nodes, seed))


def model_bytes(written: Layers, weights: Weights) -> bytes:
    """The flatbuffer of one subgraph with one signature."""
    import ai_edge_litert.schema_py_generated as schema

    model = schema.ModelT()
    model.version, model.description = 3, "nas"
    buffers = [schema.BufferT()]  # the first is of all that holds nothing
    table, kinds = [], dict[str, int]()
    for one in written.tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = one.name, list(one.shape), 0
        tensor.type = schema.TensorType.FLOAT32
        if one.value:
            value = np.ascontiguousarray(one.value(weights))
            assert value.shape == one.shape, (one.name, value.shape, one.shape)
            tensor.type = schema.TensorType.INT32 if value.dtype == np.int32 else schema.TensorType.FLOAT32
            held = schema.BufferT()
            held.data = np.frombuffer(value.tobytes(), np.uint8)
            tensor.buffer = len(buffers)
            buffers.append(held)
        table.append(tensor)
    model.operatorCodes, rows = [], []
    for made in written.operators:
        number = getattr(schema.BuiltinOperator, made.kind)
        if made.kind not in kinds:
            kinds[made.kind] = len(kinds)
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            model.operatorCodes.append(code)
        row = schema.OperatorT()
        row.opcodeIndex, row.inputs, row.outputs = kinds[made.kind], list(made.inputs), [made.output]
        if made.options:
            row.builtinOptionsType = getattr(schema.BuiltinOptions, made.options)
            row.builtinOptions = getattr(schema, f"{made.options}T")()
            for name, of in made.fields.items():
                setattr(row.builtinOptions, name, of)
        rows.append(row)
    body = schema.SubGraphT()
    body.name, body.tensors, body.operators = "main", table, rows
    body.inputs, body.outputs = [written.source], [written.target]
    model.subgraphs, model.buffers = [body], buffers
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    ends = []
    for name, at in ((INPUT, written.source), (OUTPUT, written.target)):
        end = schema.TensorMapT()
        end.name, end.tensorIndex = name, at
        ends.append(end)
    signature.inputs, signature.outputs = [ends[0]], [ends[1]]
    model.signatureDefs = [signature]
    return file_of(model)


def kinds(model: Any) -> list[str]:
    """The kinds of operators that a `ModelT` has, by the index by which its operators name them."""
    import ai_edge_litert.schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
    return [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]


def file_of(model: Any) -> bytes:
    """A `ModelT` of LiteRT's schema as the content of a file.

    Data begin at multiples of 16 bytes, as the schema asks. Arrays that are equal are written once: the zero points of
    weights, eight bytes a channel and all 0, are a sixth of an int8 file otherwise.
    """
    import flatbuffers

    class Builder(flatbuffers.Builder):
        written: dict[tuple[str, bytes], int]

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
            return super().StartVector(elemSize, numElems, DATA_ALIGNED if elemSize == 1 else alignment)

        def CreateNumpyVector(self, x: Array) -> Any:
            key = (x.dtype.str, x.tobytes())
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    builder = Builder(1 << 16)
    builder.written = {}
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
