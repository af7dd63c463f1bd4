"""ONNX graphs in int8, by onnxruntime's static quantisation: weights a channel, activations calibrated on images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from nas.models.onnx_graph import Array


def int8_bytes(graph: bytes, batches: Sequence[Array]) -> bytes:
    """`graph` with int8 weights and activations (quantise and dequantise nodes), as the content of a file.

    `batches`: prepared images (N, C, R, R), from which the ranges of activations are taken.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self.left, None)
            return None if batch is None else {"image": batch}

    with TemporaryDirectory() as staging:
        plain, ready, small = (Path(staging) / f"{name}.onnx" for name in ("plain", "ready", "small"))
        plain.write_bytes(graph)
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it advises to do what has just been done
        try:
            quant_pre_process(plain, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                small,
                Batches(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": False},
            )
        finally:
            logging.disable(before)
        return small.read_bytes()
