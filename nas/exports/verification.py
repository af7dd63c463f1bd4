"""What a file that is exported answers, and how fast, in a process of its own in which nas cannot be imported.

    python verification.py FORMAT FILE IMAGES ANSWERS SECONDS [REFERENCE]

FORMAT is python, onnx, onnx-pixels, onnx-int8, pt2, litert, litert-int8, tflm (the same in a C array), executorch, or
micro: a file of the LiteRT formats in TensorFlow Lite Micro. IMAGES: uint8 images (N, height, width, channels) as
.npy; they are prepared as preprocess.json says, beside FILE or in a folder above, and the logits are written to
ANSWERS; of onnx-pixels, which prepares them itself, the scores. Prints one line of JSON: the runtime, and the figures
of agent.py for one image on one thread, in turn with the graph REFERENCE; without REFERENCE or seconds, and for the
formats UNTIMED, no figures; of micro the arena.
"""

import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

BATCH = 100
# Takes all threads; is model.onnx but for its ends; is model-int8.tflite; has no device's speed.
UNTIMED = "executorch", "onnx-pixels", "tflm", "micro"
ARENA = 1 << 28  # bytes that TensorFlow Lite Micro may take here: how many it does is what is asked

Network = Callable[[Any], Any]


def opened(form: str, file: Path) -> tuple[Network, str]:
    """What gives logits for prepared images, both numpy arrays, and the name of its runtime."""
    if form.startswith("onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0], f"onnxruntime {onnxruntime.__version__}"
    if form.startswith("litert") or form == "tflm":
        return _by_litert(file)
    if form == "micro":
        return _by_micro(file)[:2]
    import torch

    torch.set_num_threads(1)
    if form == "executorch":
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(file).load_method("forward")

        def one_by_one(images: Any) -> Any:
            with torch.inference_mode():
                parts = [method.execute([image])[0].clone() for image in torch.from_numpy(images).split(1)]
            return torch.cat(parts).numpy()

        return one_by_one, "executorch"
    if form == "pt2":
        network = torch.export.load(file).module()
    else:
        network = module(file).load()

    def run(images: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return run, f"torch {torch.__version__}"


def litert_model(file: Path) -> bytes:
    """The content of a .tflite file, or of the C array in a .cc file that holds one."""
    if file.suffix != ".cc":
        return file.read_bytes()
    return bytes(int(one, 16) for one in re.findall(r"0x[0-9a-f]{2}", file.read_text()))


def _by_litert(file: Path) -> tuple[Network, str]:
    """A LiteRT model in LiteRT's interpreter, with XNNPACK, one thread."""
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=litert_model(file), num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()

    def one(image: Any) -> Any:
        interpreter.set_tensor(entry["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])

    return _one_by_one(one, entry, out), f"LiteRT {version('ai-edge-litert')}"


def _by_micro(file: Path) -> tuple[Network, str, Any]:
    """The same in TensorFlow Lite Micro's interpreter, and that interpreter."""
    from importlib.metadata import version

    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(litert_model(file), arena_size=ARENA)

    def one(image: Any) -> Any:
        interpreter.set_input(image, 0)
        interpreter.invoke()
        return interpreter.get_output(0)

    entry, out = interpreter.get_input_details(0), interpreter.get_output_details(0)
    return _one_by_one(one, entry, out), f"TFLM {version('tflite-micro')}", interpreter


def _one_by_one(one: Network, entry: dict[str, Any], out: dict[str, Any]) -> Network:
    """Prepared images (N, C, H, W) one by one, as channels last and, where the file is int8, as int8; logits."""

    def run(images: Any) -> Any:
        answers = []
        for image in numpy.ascontiguousarray(images.transpose(0, 2, 3, 1)):
            answers.append(_whole(one(_cut(image[None], entry)), out))
        return numpy.concatenate(answers)

    return run


def _scale(details: dict[str, Any]) -> tuple[float, int]:
    parts = details["quantization_parameters"]
    return float(parts["scales"][0]), int(parts["zero_points"][0])


def _cut(image: Any, entry: dict[str, Any]) -> Any:
    if entry["dtype"] != numpy.int8:
        return image
    return as_int8(image, *_scale(entry))


def as_int8(values: Any, scale: float, zero: int) -> Any:
    """Numbers as the int8 that stand for them."""
    return numpy.clip(numpy.round(values / scale) + zero, -128, 127).astype(numpy.int8)


def _whole(answer: Any, out: dict[str, Any]) -> Any:
    if out["dtype"] != numpy.int8:
        return answer.copy()
    scale, zero = _scale(out)
    return ((answer.astype(numpy.float32) - zero) * scale).astype(numpy.float32)


def arena(file: Path) -> int:
    """The bytes that TensorFlow Lite Micro allocates for a file, by its own count."""
    interpreter = _by_micro(file)[2]
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(said.fileno(), 2)  # it prints, from C++
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(before, 2)
            os.close(before)
        said.seek(0)
        found = re.search(rb"Arena allocation total (\d+) bytes", said.read())
    assert found, "TensorFlow Lite Micro does not say what it allocates"
    return int(found[1])


def module(file: Path) -> Any:
    """The Python module in `file`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def prepared(pixels: Any, preprocessing: dict[str, Any]) -> Any:
    """Images as the network takes them: float32 (N, channels, height, width)."""
    scaled = (pixels / numpy.float32(255) - numpy.float32(preprocessing["mean"])) / numpy.float32(preprocessing["std"])
    return numpy.ascontiguousarray(scaled.transpose(0, 3, 1, 2), numpy.float32)


def main() -> None:
    """Writes the answers and prints the figures."""
    sys.modules["nas"] = None  # type: ignore[assignment]  # what is exported has to do without
    form, file, images, answers, seconds, *reference = sys.argv[1:]
    beside = (folder / "preprocess.json" for folder in Path(file).parents)
    preprocessing = json.loads(next(one for one in beside if one.exists()).read_text())
    pixels = numpy.load(images, mmap_mode="r")
    run, runtime = opened(form, Path(file))
    batches = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
    parts = [run(batch if form == "onnx-pixels" else prepared(batch, preprocessing)) for batch in batches]
    numpy.save(answers, numpy.concatenate(parts))
    figures: dict[str, Any] = {}
    if reference and float(seconds) and form not in UNTIMED:
        agent = module(Path(__file__).parents[1] / "execution" / "agent.py")
        one = prepared(numpy.random.default_rng(0).integers(0, 256, (1, *pixels.shape[1:]), numpy.uint8), preprocessing)

        def mine() -> Any:
            again = opened(form, Path(file))[0]
            return lambda: again(one)

        graph = Path(reference[0]).read_bytes()
        figures = agent.timed(mine, lambda: agent.opened(graph, 1, 1), float(seconds), 0.01)
        figures |= {"device": agent.device(), "threads": 1, "batch": 1}
    if form == "micro":
        figures = {"arena": arena(Path(file))}
    print(json.dumps({"runtime": runtime, "figures": figures}))


if __name__ == "__main__":
    main()
