"""What a file that is exported answers, and how fast, in a process of its own in which nas cannot be imported.

    python verification.py FORMAT FILE IMAGES ANSWERS SECONDS [REFERENCE]

FORMAT is python, onnx, onnx-pixels, onnx-int8, pt2 or executorch. IMAGES: uint8 images (N, height, width, channels) as
.npy; they are prepared as preprocess.json beside FILE says, and the logits are written to ANSWERS; of onnx-pixels,
which prepares them itself, the scores. Prints one line of JSON: the runtime, and the figures of agent.py for one image
on one thread, in turn with the graph REFERENCE; without REFERENCE or seconds, and for the formats UNTIMED, no figures.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

BATCH = 100
UNTIMED = "executorch", "onnx-pixels"  # takes as many threads as it likes; is model.onnx but for its ends

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
    preprocessing = json.loads(Path(file).with_name("preprocess.json").read_text())
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
    print(json.dumps({"runtime": runtime, "figures": figures}))


if __name__ == "__main__":
    main()
