"""The model card: what a network that is exported is, what it came to, and how each of its files is loaded."""

from pathlib import Path

from nas.networks.architecture import Arch, walk
from nas.networks.diagram import described
from nas.records.recipes import TrainingPlan
from nas.records.results import FORMATS, Export, TrainingResult

SNIPPETS = {
    "python": """from model import CLASSES, load, preprocess
network = load()  # pixels: uint8 (N, height, width, {channels}); or the name of a picture file
print(CLASSES[network(preprocess(pixels)).argmax(1)[0]])""",
    "onnx": """import json, onnxruntime
said, session = json.load(open("preprocess.json")), onnxruntime.InferenceSession("{file}")
images = ((pixels / 255 - said["mean"]) / said["std"]).transpose(0, 3, 1, 2).astype("float32")  # pixels: numpy uint8
print(said["classes"][session.run(None, {{"image": images}})[0].argmax(1)[0]])""",
    "onnx-pixels": """import json, onnxruntime
session = onnxruntime.InferenceSession("{file}")  # pixels: numpy uint8 (N, {side}, {side}, {channels})
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(classes[session.run(None, {{"pixels": pixels}})[0].argmax(1)[0]])""",
    "litert": """import json, numpy; from ai_edge_litert.interpreter import Interpreter
said, network = json.load(open("preprocess.json")), Interpreter(model_path="{file}")
network.allocate_tensors(); entry, out = network.get_input_details()[0], network.get_output_details()[0]
image = ((pixels[:1] / 255 - said["mean"]) / said["std"]).astype("float32")  # pixels: numpy uint8, channels last
if entry["dtype"] == numpy.int8:
    scale, zero = entry["quantization"]
    image = numpy.clip(numpy.round(image / scale) + zero, -128, 127).astype("int8")
network.set_tensor(entry["index"], image); network.invoke()
print(said["classes"][network.get_tensor(out["index"])[0].argmax()])""",
    "tflm": """cd tflm && make TFLM=/path/to/tflite-micro run  # on this machine; boards: tflm/README.md""",
    "executorch": """import json, torch; from executorch.runtime import Runtime
said, network = json.load(open("preprocess.json")), Runtime.get().load_program("{file}").load_method("forward")
images = ((pixels / 255 - torch.tensor(said["mean"])) / torch.tensor(said["std"])).permute(0, 3, 1, 2)  # pixels: uint8
print(said["classes"][network.execute([images[:1].contiguous()])[0].argmax(1)[0]])""",
    "pt2": """import json, torch
said, network = json.load(open("preprocess.json")), torch.export.load("{file}").module()
images = ((pixels / 255 - torch.tensor(said["mean"])) / torch.tensor(said["std"])).permute(0, 3, 1, 2)  # pixels: uint8
print(said["classes"][network(images).argmax(1)[0]])""",
}
TEMPLATE = Path(__file__).with_name("model_card.jinja")


def card(name: str, found: str, export: Export, plan: TrainingPlan | None, outcome: TrainingResult | None) -> str:
    """The README.md of an export."""
    from jinja2 import Environment, StrictUndefined

    timed = list(dict.fromkeys(f"{a.format}: {a.runtime}" for a in export.artefacts if a.latency))
    page = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    return page.render(
        name=name,
        found=found,
        export=export,
        info=export.made,
        cost=export.cost,
        arch_id=export.arch_id,
        training_plan=plan,
        outcome=outcome,
        chosen=outcome.chosen if outcome else None,
        timed=timed,
        formats={form: about for form, (_, about) in FORMATS.items()},
        snippets={artefact.format: snippet(artefact.format, export.made.arch) for artefact in export.artefacts},
        layers=_layers(export.made.arch),
    )


def snippet(form: str, arch: Arch) -> str:
    """How a file of that format is loaded and called, beside it, with `pixels` at hand."""
    text = SNIPPETS.get(form) or SNIPPETS[form.partition("-")[0]]
    return text.format(side=arch.resolution, channels=arch.channels, file=FORMATS[form][0])


def _layers(arch: Arch) -> list[dict[str, object]]:
    rows = []
    for layer in walk(arch):
        place = layer.place
        rows.append(
            {"name": layer.name, "kind": described(layer), "cin": place.cin, "cout": place.cout, "size": place.size}
            | {"out": layer.drawn.out.size}
        )
    return rows
