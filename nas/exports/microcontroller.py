"""An int8 LiteRT model as C++ sources for TensorFlow Lite Micro: the model as an array, one image with its logits, a
program that runs the one on the other, and what builds it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.models.litert_file import kinds
from nas.models.litert_graph import Array
from nas.records.run_folder import RunFailed

RESOLVER = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MIRROR_PAD": "AddMirrorPad",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SLICE": "AddSlice",
    "TRANSPOSE": "AddTranspose",
}
"""The methods of tflite::MicroMutableOpResolver, by operator."""
FILES = "model.cc", "model.h", "image.h", "main.cc", "operators.txt", "Makefile", "README.md"
TEMPLATES = {"main.cc": "tflm_main.jinja", "Makefile": "tflm_makefile.jinja", "README.md": "tflm_readme.jinja"}
TOLERANCE = 4  # of 255 steps, that a logit may differ by: kernels of other boards round differently
WINDOWS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1}  # that CMSIS-NN unrolls at once; of 1x1 kernels none
SPARE = 1024  # bytes of the arena, for what nothing here is known of
GUARD = """#ifndef NAS_{name}_H_
#define NAS_{name}_H_

#include <cstddef>
#include <cstdint>

{body}
#endif
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What the sources say of a model."""

    operators: dict[str, int]
    """How often each is in it, by name."""
    entry: tuple[float, int]
    """Scale and zero point of the image; a number is scale * (int8 - zero)."""
    out: tuple[float, int]
    """The same of the logits."""
    scratch: int
    """Bytes that CMSIS-NN takes beside the reference kernels, on a Cortex-M with DSP: two windows of the largest
    convolution, or one of the largest depthwise one, 16 bits a number."""


def contents(model: bytes) -> Contents:
    """What the sources say of `model`, a .tflite file. Raises RunFailed where they have no operator like one of its."""
    import ai_edge_litert.schema_py_generated as schema

    read = schema.ModelT.InitFromPackedBuf(model, 0)
    codes = kinds(read)
    (body,) = read.subgraphs
    operators = Counter(codes[one.opcodeIndex] for one in body.operators)
    if unknown := sorted(operators.keys() - RESOLVER.keys()):
        raise RunFailed(f"the resolver of TensorFlow Lite Micro has nothing here for {unknown[0]}")
    taken = [0]
    for one in body.operators:
        if windows := WINDOWS.get(codes[one.opcodeIndex], 0):
            _, rows, columns, channels = body.tensors[one.inputs[1]].shape
            taken.append(2 * windows * rows * columns * channels * (rows * columns > 1))
    ends = [body.tensors[at].quantization for at in (body.inputs[0], body.outputs[0])]
    entry, out = ((float(end.scale[0]), int(end.zeroPoint[0])) for end in ends)
    return Contents(dict(sorted(operators.items())), entry, out, int(max(taken)))


def array_source(model: bytes) -> str:
    """model.cc: the bytes of a .tflite file as a C array, in flash, aligned as flatbuffers need it."""
    return f'#include "model.h"\n\nalignas(16) const uint8_t kModel[kModelSize] = {{\n{_bytes(model)}}};\n'


def sources(
    model: bytes, held: Contents, image: Array, logits: Array, classes: Sequence[str], arena: int, runtime: str
) -> dict[str, str]:
    """All files but model.cc, by name. `image`, `logits`: of one image, int8, as `runtime`, TensorFlow Lite Micro on
    this machine, takes the one and gives the other; `arena`: the bytes that it allocates."""
    size = arena + held.scratch + SPARE
    said = {
        "operators": held.operators,
        "methods": [RESOLVER[name] for name in held.operators],
        "arena": -(-size // 1024) * 1024,
        "measured": arena,
        "scratch": held.scratch,
        "spare": SPARE,
        "runtime": runtime,
        "tolerance": TOLERANCE,
        "shape": " x ".join(map(str, image.shape)),
        "entry": held.entry,
        "out": held.out,
        "flash": len(model),
    }
    head = f"constexpr size_t kModelSize = {len(model)};\nextern const uint8_t kModel[kModelSize];\n"
    written = {"model.h": GUARD.format(name="MODEL", body=head), "image.h": _image_header(image, logits, classes)}
    lines = (f"{name} {RESOLVER[name]} {times}" for name, times in held.operators.items())
    written["operators.txt"] = "\n".join(("operator, method of the resolver, times", *lines)) + "\n"
    return written | {name: _rendered(template, said) for name, template in TEMPLATES.items()}


def _image_header(image: Array, logits: Array, classes: Sequence[str]) -> str:
    names = "".join(f"    {_string(name)},\n" for name in classes)
    body = (
        f"constexpr size_t kImageSize = {image.size};\n"
        f"alignas(16) constexpr int8_t kImage[kImageSize] = {{\n{_numbers(image)}}};\n\n"
        f"constexpr int kClasses = {logits.size};\n"
        f"constexpr int8_t kLogits[kClasses] = {{\n{_numbers(logits)}}};\n"
        f"constexpr const char* kClassNames[kClasses] = {{\n{names}}};\n"
    )
    return GUARD.format(name="IMAGE", body=body)


def _rendered(template: str, said: dict[str, object]) -> str:
    from jinja2 import Environment, StrictUndefined

    text = Path(__file__).with_name(template).read_text()
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(text).render(said)


def _string(text: str) -> str:
    """A C string of UTF-8; what has a meaning in one is written as a number."""
    plain = (chr(one) if 32 <= one < 127 and chr(one) not in '"\\?' else f"\\{one:03o}" for one in text.encode())
    return f'"{"".join(plain)}"'


def _bytes(content: bytes) -> str:
    return _lines([f"0x{one:02x}" for one in content], 16)


def _numbers(values: Array) -> str:
    return _lines([str(one) for one in values.reshape(-1).tolist()], 20)


def _lines(words: Sequence[str], each: int) -> str:
    return "".join(f"    {', '.join(words[i : i + each])},\n" for i in range(0, len(words), each))
