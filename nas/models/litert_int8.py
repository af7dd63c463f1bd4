"""LiteRT models in int8, by Google's ai-edge-quantizer: weights a channel, activations calibrated on images."""

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from nas.models.litert_file import SIGNATURE, file_of
from nas.models.litert_graph import INPUT, Array
from nas.models.micro_memory import buffers, layout
from nas.records.run_folder import RunFailed

MISSING = 'LiteRT is not installed ({error}); pip install "nas[litert]"'


def int8_model(content: bytes, batches: Sequence[Array]) -> bytes:
    """The model in a .tflite file with int8 weights and activations, int8 in and out, as the content of a file.

    `batches`: prepared images (N, C, R, R), from which the ranges of activations are taken. Raises RunFailed where
    ai-edge-quantizer is not installed.
    """
    try:
        from ai_edge_quantizer.quantizer import Quantizer
        from ai_edge_quantizer.recipe import static_wi8_ai8
    except ImportError as error:
        raise RunFailed(MISSING.format(error=error)) from None
    images = [image[None] for batch in batches for image in np.ascontiguousarray(batch.transpose(0, 2, 3, 1))]
    with _silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantizer = Quantizer(content, static_wi8_ai8())
        ranges = quantizer.calibrate({SIGNATURE: [{INPUT: image} for image in images]}, num_threads=1)
        made = quantizer.quantize(ranges).quantized_model
    return with_layout(inlined(bytes(made)))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing is printed meanwhile, by Python or by C++: progress bars of another's, and which delegates there are."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for shown, kept in enumerate(before, 1):
            os.dup2(kept, shown)
            os.close(kept)


def inlined(content: bytes) -> bytes:
    """A .tflite file whose constants lie in its flatbuffer. ai-edge-quantizer writes them behind it, where TensorFlow
    Lite Micro reads something else, without a word: of the answers nothing is right then."""
    import ai_edge_litert.schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return file_of(model)


def with_layout(content: bytes) -> bytes:
    """A .tflite file that says where in the arena each map lies, where that takes less than TensorFlow Lite Micro's own
    layout; else as it is. Other runtimes pass it over."""
    import ai_edge_litert.schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    body = model.subgraphs[0]
    widths = {schema.TensorType.INT8: 1, schema.TensorType.FLOAT32: 4}
    sizes = {
        at: math.prod(map(int, tensor.shape)) * widths[tensor.type]
        for at, tensor in enumerate(body.tensors)
        if model.buffers[tensor.buffer].data is None
    }
    steps = [(list(map(int, one.inputs)), int(one.outputs[0])) for one in body.operators]
    places = layout(buffers(steps, sizes, int(body.inputs[0]), int(body.outputs[0])))[1]
    if not places:
        return content
    # Version, subgraph, how many tensors; then the place of each, -1 for those that have none.
    said = [1, 0, len(body.tensors), *(places.get(at, -1) for at in range(len(body.tensors)))]
    held, entry = schema.BufferT(), schema.MetadataT()
    held.data = np.array(said, np.int32).view(np.uint8)
    entry.name, entry.buffer = "OfflineMemoryAllocation", len(model.buffers)
    model.buffers.append(held)
    model.metadata = [*(model.metadata or []), entry]
    return file_of(model)
