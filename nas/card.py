"""The model card: what a network that is taken home is, what it came to, and how each of its files is loaded."""

from nas.arch import Arch, walk
from nas.outcome import FORMATS, Export, Outcome
from nas.recipes import Course
from nas.values import to_data

SNIPPETS = {
    "python": """from model import CLASSES, load, preprocess
network = load()  # pixels: a uint8 tensor (N, {side}, {side}, 3)
print(CLASSES[network(preprocess(pixels)).argmax(1)[0]])""",
    "onnx": """import json, onnxruntime
said, session = json.load(open("preprocess.json")), onnxruntime.InferenceSession("{file}")
images = ((pixels / 255 - said["mean"]) / said["std"]).transpose(0, 3, 1, 2).astype("float32")  # pixels: numpy uint8
print(said["classes"][session.run(None, {{"image": images}})[0].argmax(1)[0]])""",
    "executorch": """import json, torch; from executorch.runtime import Runtime
said, network = json.load(open("preprocess.json")), Runtime.get().load_program("{file}").load_method("forward")
images = ((pixels / 255 - torch.tensor(said["mean"])) / torch.tensor(said["std"])).permute(0, 3, 1, 2)  # pixels: uint8
print(said["classes"][network.execute([images[:1].contiguous()])[0].argmax(1)[0]])""",
    "pt2": """import json, torch
said, network = json.load(open("preprocess.json")), torch.export.load("{file}").module()
images = ((pixels / 255 - torch.tensor(said["mean"])) / torch.tensor(said["std"])).permute(0, 3, 1, 2)  # pixels: uint8
print(said["classes"][network(images).argmax(1)[0]])""",
}
CARD = """# {{ name }}

A network for {{ made.arch.resolution }}x{{ made.arch.resolution }} images of {{ made.arch.classes }} classes \
({{ made.dataset }}): {{ "%.2f M" % (cost.macs / 1e6) }} multiply-accumulates of convolutions and linear layers for one
image, {{ "%.3f M" % (cost.params / 1e6) }} parameters, at most {{ "%.0f" % (cost.peak / 1024) }} KB of activations at \
once in int8. Architecture {{ arch_id }}.

## Where it comes from

{{ found }}

{% if course %}\
Trained by `nas train` with the recipe `{{ course.training.name }}` ({{ course.training.about }}): \
{{ course.training.epochs }} epochs over {{ "{:,}".format(outcome.train_images) }} images, batch \
{{ course.training.batch }}, weight decay {{ course.training.weight_decay }} on \
{{ "all parameters" if course.training.decay == "all" else "kernels alone" }}\
{% if course.teacher %}, beside a teacher (`{{ course.teacher.weights }}`){% endif %}; seed {{ taken.seed }}\
{% if outcome.tested|length > 1 %}, the {{ "first" if taken.val_top1 is none else "best by validation" }} of \
{{ outcome.tested|length }}{% endif %}.
On {{ outcome.device }}, {{ outcome.threads }} thread, {{ "%.0f" % taken.images_per_second }} images a second, \
{% for name, version in outcome.versions.items() %}{{ name }} {{ version }}{{ ", " if not loop.last }}{% endfor %}; \
finished {{ outcome.finished }}.

| on {{ "{:,}".format(outcome.test_images) }} test images, read once after training | % |
|---|---|
| top-1 | {{ "%.2f" % taken.top1 }} |
| top-5 | {{ "%.2f" % taken.top5 }} |
| precision, recall, F1 (means over classes) | {{ "%.2f, %.2f, %.2f" % (taken.precision, taken.recall, taken.f1) }} |
{% if taken.val_top1 is not none %}\
| top-1 on {{ "{:,}".format(outcome.val_images) }} validation images | {{ "%.2f" % taken.val_top1 }} |
{% endif %}\
{% if outcome.tested|length > 1 %}\
| top-1 of all {{ outcome.tested|length }} seeds | {{ "%.2f +- %.2f" % outcome.top1 }} |
{% endif %}
{% else %}\
Its weights were given; how they were trained is not known here.

{% endif %}\
## Files

Each was loaded again in a process without nas and answered all {{ "{:,}".format(export.test_images) }} test images; the
network it was made of comes to {{ "%.2f" % export.top1 }} % on them.

| format | file | bytes | largest difference of a logit | same answers | top-1 | ms | x model.onnx |
|---|---|---|---|---|---|---|---|
{% for a in export.artefacts %}\
| {{ a.format }} | {{ a.files|join(", ") }} | {{ "{:,}".format(a.bytes) }} | {{ "%.2g" % a.difference }} | \
{{ "%.2f" % a.same }} % | {{ "%.2f" % a.top1 }} % | {{ "%.3f" % a.latency.median_ms if a.latency else "-" }} | \
{{ "%.2f" % a.latency.ratio if a.latency else "-" }} |
{% endfor %}
{% for a in export.artefacts if a.latency %}{% if loop.first %}\
Milliseconds: one image, one thread, on {{ a.latency.device }}\
{% endif %}{% endfor %}{% if timed %} ({{ timed|join("; ") }}).
{% endif %}
An image is prepared as `preprocess.json` says: (pixels / 255 - mean) / std, channels first.
{% for a in export.artefacts %}
### {{ a.format }}

{{ formats[a.format] }}

```python
{{ snippets[a.format] }}
```
{% endfor %}
## Layers

| layer | block | channels | map |
|---|---|---|---|
{% for layer in layers %}\
| {{ layer.name }} | {{ layer.kind }} | {{ layer.cin }} to {{ layer.cout }} | {{ layer.size }}x{{ layer.size }} to \
{{ layer.out }}x{{ layer.out }} |
{% endfor %}"""


def card(name: str, found: str, export: Export, course: Course | None, outcome: Outcome | None) -> str:
    """The README.md of an export."""
    from jinja2 import Environment, StrictUndefined

    timed = list(dict.fromkeys(f"{a.format}: {a.runtime}" for a in export.artefacts if a.latency))
    page = Environment(undefined=StrictUndefined, trim_blocks=False).from_string(CARD)
    return page.render(
        name=name,
        found=found,
        export=export,
        made=export.made,
        cost=export.cost,
        arch_id=export.arch_id,
        course=course,
        outcome=outcome,
        taken=outcome.taken if outcome else None,
        timed=timed,
        formats={form: about for form, (_, about) in FORMATS.items()},
        snippets={artefact.format: snippet(artefact.format, export.made.arch) for artefact in export.artefacts},
        layers=_layers(export.made.arch),
    )


def snippet(form: str, arch: Arch) -> str:
    """How a file of that format is loaded and asked, beside it, with `pixels` at hand."""
    return SNIPPETS[form.partition("-")[0]].format(side=arch.resolution, file=FORMATS[form][0])


def _layers(arch: Arch) -> list[dict[str, object]]:
    rows = []
    for layer in walk(arch):
        place, said = layer.place, to_data(layer.place.part)
        said = {key: value for key, value in said.items() if key != "kind"}
        told = ", ".join(f"{key} {value}" for key, value in said.items() if not isinstance(value, dict | list))
        kind = f"{type(place.part).__name__}({told})"
        rows.append(
            {"name": layer.name, "kind": kind, "cin": place.cin, "cout": place.cout, "size": place.size}
            | {"out": layer.drawn.out.size}
        )
    return rows
