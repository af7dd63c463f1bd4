"""C++ sources for microcontrollers: what they say of a model, and that they are a program. They are not built against
TensorFlow Lite Micro here, whose sources are not at hand: what is used of them is stood in for."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nas.exports import microcontroller
from nas.exports.microcontroller import FILES, RESOLVER, SPARE, array_source, contents, sources
from nas.models.litert_file import litert_bytes
from nas.models.litert_int8 import int8_model
from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import Block, Conv, Separable
from nas.records.run_folder import RunFailed
from search_spaces import ANCHORS
from tests.models.test_litert_graph import kinds
from tests.training.test_learner import TINY

pytest.importorskip("ai_edge_quantizer")
gcc = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")

HEADERS = {
    "tensorflow/lite/c/common.h": """#pragma once
#include <cstddef>
#include <cstdint>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteInt8 = 9 };
struct TfLiteTensor { TfLiteType type; union { int8_t* int8; } data; size_t bytes; };
#define TF_LITE_ENSURE_STATUS(a) do { const TfLiteStatus s = (a); if (s != kTfLiteOk) { return s; } } while (0)
""",
    "tensorflow/lite/micro/micro_interpreter.h": """#pragma once
#define TFLITE_SCHEMA_VERSION (3)
namespace tflite {
struct Model { uint32_t version() const; };
const Model* GetModel(const void* buffer);
struct MicroOpResolver {};
struct MicroInterpreter {
  MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t* arena, size_t size);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index);
  TfLiteTensor* output(size_t index);
  size_t arena_used_bytes() const;
};
}
""",
    "tensorflow/lite/micro/micro_log.h": "#pragma once\nvoid MicroPrintf(const char* format, ...);\n",
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": "#pragma once\nnamespace tflite {\n"
    "template <unsigned int kNumber> struct MicroMutableOpResolver : MicroOpResolver {\n"
    + "".join(f"  TfLiteStatus {method}() {{ return kTfLiteOk; }}\n" for method in RESOLVER.values())
    + "};\n}\n",
    "tensorflow/lite/micro/micro_time.h": """#pragma once
namespace tflite { uint32_t ticks_per_second(); uint32_t GetCurrentTimeTicks(); uint64_t TicksToUs(int32_t ticks); }
""",
    "tensorflow/lite/micro/system_setup.h": "#pragma once\nnamespace tflite { void InitializeTarget(); }\n",
    "tensorflow/lite/schema/schema_generated.h": "#pragma once\n",
}
"""As in tflite-micro's own, and no more of them than is used."""
STAND_IN = """#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_time.h"
int8_t image[192], logits[10];
TfLiteTensor ends[2] = {{kTfLiteInt8, {image}, sizeof(image)}, {kTfLiteInt8, {logits}, sizeof(logits)}};
void MicroPrintf(const char* format, ...) {
  va_list values;
  va_start(values, format);
  vprintf(format, values);
  va_end(values);
  printf("\\n");
}
namespace tflite {
uint32_t Model::version() const { return 3; }
const Model* GetModel(const void* from) { return memcmp((const char*)from + 4, "TFL3", 4) ? nullptr : (Model*)from; }
MicroInterpreter::MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t*, size_t) {}
TfLiteStatus MicroInterpreter::AllocateTensors() { return kTfLiteOk; }
TfLiteStatus MicroInterpreter::Invoke() {
  if (image[0] != -128 || image[191] != 63) return kTfLiteError;
  for (int i = 0; i < 10; ++i) logits[i] = i + (i == 3 && getenv("APART") ? atoi(getenv("APART")) : 0);
  memset(image, 0, sizeof(image));
  return kTfLiteOk;
}
TfLiteTensor* MicroInterpreter::input(size_t) { return &ends[0]; }
TfLiteTensor* MicroInterpreter::output(size_t) { return &ends[1]; }
size_t MicroInterpreter::arena_used_bytes() const { return 12345; }
uint32_t ticks_per_second() { return 1000000; }
uint32_t GetCurrentTimeTicks() { static uint32_t now = 0; return now += 250; }
uint64_t TicksToUs(int32_t ticks) { return ticks; }
void InitializeTarget() {}
}
"""
"""A network whose logits are 0 to 9, but for the one at 3."""
MAKEFILE = """microlite:
\tmkdir -p gen/host/lib
\t$(CXX) -c -I. stand_in.cc -o stand_in.o
\tar -rc gen/host/lib/libtensorflow-microlite.a stand_in.o
list_gendir:
\t@echo gen/host/
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as TensorFlow Lite Micro's, with what is used of it."""
    folder = tmp_path_factory.mktemp("stand_in")
    files = HEADERS | {"tensorflow/lite/micro/tools/make/Makefile": MAKEFILE, "stand_in.cc": STAND_IN}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def small(arch: Arch = TINY) -> bytes:
    images = np.random.default_rng(0).standard_normal((4, 3, arch.resolution, arch.resolution)).astype(np.float32)
    return int8_model(litert_bytes(arch), [images])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files for a small network, one of whose classes has a name that C++ could stumble over."""
    folder, model = tmp_path_factory.mktemp("tflm"), small()
    image = np.arange(-128, 64, dtype=np.int8).reshape(8, 8, 3)
    classes = ('a "quoted\\" one??/', "Käse\n", *map(str, range(TINY.classes - 2)))
    logits = np.arange(TINY.classes, dtype=np.int8)
    files = sources(model, contents(model), image, logits, classes, 20_000, "TFLM 0")
    for name, text in {"model.cc": array_source(model), **files}.items():
        (folder / name).write_text(text)
    assert set(FILES) == {path.name for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize(
    ("blocks", "scratch"),
    [
        ((Conv(3), Separable(3)), 2 * 2 * 9 * 24),
        ((Conv(1), Separable(5)), 2 * 25 * 40),
        ((Conv(1), Conv(1)), 4 * 9 * 3),
    ],
)
def test_what_is_said_of_a_model(blocks: tuple[Block, Block], scratch: int) -> None:
    """Operators as LiteRT counts them; the largest window of a convolution twice, of a depthwise one once."""
    model = small(Arch(Stem(24), (Stage(blocks[0], 40, 1), Stage(blocks[1], 16, 1)), Head(), 16))
    held = contents(model)
    assert held.operators == dict(kinds(model)) and list(held.operators) == sorted(held.operators)
    assert held.entry[0] > 0 and -128 <= held.entry[1] <= 127 and held.out[0] > 0
    assert held.scratch == scratch


@pytest.mark.parametrize(
    "name", ["mobilenetv3-large-32", "shufflenetv2-x0.5-32", "hl-cnn-32", "squeezenet-32", "resnet8", "dp-net-32"]
)
def test_the_resolver_has_a_method_for_every_operator(name: str) -> None:
    assert kinds(litert_bytes(ANCHORS[name].arch)).keys() <= RESOLVER.keys()


def test_an_operator_without_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(microcontroller.RESOLVER, "CONV_2D")
    with pytest.raises(RunFailed, match="nothing here for CONV_2D"):
        contents(small())


def test_the_program_asks_for_these_operators_and_no_others(written: Path) -> None:
    program, listed = (written / "main.cc").read_text(), (written / "operators.txt").read_text()
    methods = re.findall(r"resolver\.(Add\w+)\(\)\)", program)
    assert methods == [line.split()[1] for line in listed.splitlines()[1:]] and f"Resolver<{len(methods)}>" in program
    scratch = contents(small()).scratch
    size = int(re.findall(r"kArenaSize = (\d+);", program)[0])
    assert size % 1024 == 0 and 0 <= size - (20_000 + scratch + SPARE) < 1024
    assert (
        "{{" not in program and f"{size:,} bytes: 20,000 that TFLM 0 allocates" in (written / "README.md").read_text()
    )


@gcc
@pytest.mark.parametrize("how", ["ARDUINO", "ESP_PLATFORM"])
def test_it_compiles_for_boards(written: Path, stand_in: Path, how: str) -> None:
    checked = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(stand_in), f"-D{how}"]
    done = subprocess.run([*checked, "main.cc"], cwd=written, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@gcc
@make
def test_it_is_built_and_says_whether_it_agrees(written: Path, stand_in: Path) -> None:
    """By the Makefile, against what stands in: the image is put in before each run, logits may be four steps apart."""
    built = ["make", f"TFLM={stand_in}", "run"]
    done = subprocess.run(built, cwd=written, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    said = done.stdout.splitlines()[-6:]
    size = re.findall(r"kArenaSize = (\d+);", (written / "main.cc").read_text())[0]
    assert said == [
        f"arena: 12345 of {size} bytes",
        "answer: 7",
        "expected: 7",
        "largest difference of a logit: 0 steps of 4 allowed",
        "it agrees",
        "microseconds: 25",
    ]
    for apart, code, verdict in ((4, 0, "it agrees"), (-5, 1, "it does NOT agree"), (90, 1, "answer: 1")):
        there = {"APART": str(apart)}
        done = subprocess.run([written / "network"], env=there, capture_output=True, text=True, check=False)
        assert done.returncode == code and verdict in done.stdout.splitlines()
    (written / "network").unlink()


@gcc
def test_names_image_and_logits_come_through(written: Path, tmp_path: Path) -> None:
    (tmp_path / "print.cc").write_text(
        '#include <cstdio>\n#include "image.h"\nint main() {\n'
        '  for (int8_t one : kImage) printf("%d ", one);\n  for (int8_t one : kLogits) printf("%d ", one);\n'
        '  printf("|%s|%s|", kClassNames[0], kClassNames[1]);\n}\n'
    )
    built = ["g++", "-std=c++17", "-trigraphs", "-Wall", "-Werror", "-I", written, "print.cc", "-o", "print"]
    subprocess.run(built, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "print"], capture_output=True, text=True, check=True).stdout
    numbers, first, second, _ = said.split("|")
    assert [int(one) for one in numbers.split()] == [*range(-128, 64), *range(TINY.classes)]
    assert (first, second) == ('a "quoted\\" one??/', "Käse\n")


@make
def test_make_says_what_it_needs(written: Path) -> None:
    done = subprocess.run(["make"], cwd=written, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "make TFLM=/path/to/tflite-micro" in done.stderr
