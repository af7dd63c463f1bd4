"""LiteRT models in int8, by Google's ai-edge-quantizer: weights a channel, activations calibrated on images."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from nas.models.litert_graph import INPUT, SIGNATURE, Array
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
    return inlined(bytes(made))


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
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
