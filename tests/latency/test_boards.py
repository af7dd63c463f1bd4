"""Boards: a command that takes an int8 .tflite file and prints milliseconds, and sums of a table's layers."""

import csv
import shlex
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nas
from nas.errors import Error
from nas.latency.boards import device_model, timed_on_board
from nas.latency.layer_table import COLUMNS, read_table
from nas.latency.measure import measured
from nas.models.litert_layers import layers
from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import Bottleneck, Separable
from nas.records.plan import Meter
from nas.records.run_folder import Run, RunFailed
from nas.records.search_files import read_measured
from nas.serialization import to_json
from search_spaces import ANCHORS
from tests.cli.test_cli import nas_here
from tests.models.test_litert_graph import answered_by_micro, kinds

pytest.importorskip("ai_edge_quantizer")

CHAIN = Arch(Stem(8, 2), (Stage(Separable(), 16, 2), Stage(Separable(5), 24, 1, 2)), Head(), 16, 4)
SHORTCUT = replace(CHAIN, stages=(Stage(Bottleneck(2.0, se=0.25), 8, 2),))


def by(program: str) -> Meter:
    command = shlex.join([sys.executable, "-c", program]) + " {tflite}"
    return Meter("lowres-mobilenet", device="a board", command=command)


def test_a_command_is_given_the_int8_file() -> None:
    meter = by("import sys; data = open(sys.argv[1], 'rb').read(); print('booted'); print(len(data) / 1000, 'ms')")
    model = device_model(CHAIN)
    import ai_edge_litert.schema_py_generated as schema

    ends = schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    assert {ends.tensors[at].type for at in (*ends.inputs, *ends.outputs)} == {schema.TensorType.INT8}
    found = measured(CHAIN, ANCHORS["lowres-mobilenet"].arch, meter)
    assert found.median_ms == found.low_ms == len(model) / 1000 and found.ratio is None
    assert (found.device, found.threads, found.batch) == ("a board", 1, 1)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('hello')", "must end with milliseconds, as in 12.3, got 'hello'"),
        ("print('nan')", "got 'nan'"),
        ("print(-3)", "got '-3'"),
        ("print(0)", "got '0'"),
        ("", "got ''"),
        ("import sys; sys.exit('no board at /dev/ttyUSB0')", "ended with 1: no board at /dev/ttyUSB0"),
    ],
)
def test_what_a_board_may_say_wrong_is_one_error(program: str, said: str) -> None:
    with pytest.raises(RunFailed) as error:
        timed_on_board(CHAIN, by(program))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_board_has_one_core() -> None:
    for asked in ({"threads": 2}, {"batch": 8}):
        with pytest.raises(Error, match="one image on one core; leave out --threads and --batch"):
            replace(by("print(1)"), **asked)


def test_a_search_keeps_a_limit_on_a_board(tmp_path: Path) -> None:
    """Milliseconds as the board says them, no reference network beside; what is too slow is not tried."""
    tried: list[Arch] = []

    def evaluate(network: Arch, rung: int) -> float:
        tried.append(network)
        return float(nas.cost(network).params)

    program = "import sys; print(len(open(sys.argv[1], 'rb').read()) / 10_000)"
    run, asked = tmp_path / "run", {"space": "lowres", "anchors": ["tailored-mobilenetv2-imp4"], "trials": 3}
    asked |= {"measure_device": "a board", "measure_command": shlex.join([sys.executable, "-c", program]) + " {tflite}"}
    with pytest.raises(Error, match="a board gives milliseconds: give 50ms"):
        nas.search(evaluate=evaluate, budget="0.5xtailored-mobilenetv2-imp4:ms", **asked)
    nas.search(evaluate=evaluate, budget="8MFLOPs,20ms", run=run, workers=1, **asked)
    found = read_measured(Run(run))
    assert len(found) >= 3 and all(one.latency.ratio is None and one.latency.device == "a board" for one in found)
    ms = {one.arch_id: one.latency.median_ms for one in found}
    assert len(tried) >= 3 and all(ms[nas.arch_id(network)] <= 20 for network in tried)
    shown = nas_here("show", run).stdout
    assert "int8 .tflite on a board, one image, as its command says" in shown and "in turn" not in shown


def test_layers_are_models_of_their_own() -> None:
    """Each runs alone in TensorFlow Lite Micro; one after the other they give what the whole network gives."""
    model = device_model(CHAIN)
    parts = layers(model)
    assert Counter(part.kind for part in parts) == kinds(model)
    image = np.random.default_rng(0).integers(-128, 128, (1, 16, 16, 3)).astype(np.int8)
    found = image
    for part in parts:
        found = answered_by_micro(part.model, found)
    assert np.array_equal(found, answered_by_micro(model, image)) and len(set(found.flat)) > 1
    spent = nas.cost(CHAIN).macs
    assert spent <= sum(part.macs for part in parts) < 1.6 * spent  # kernels of a stride of 2 are grown by zeros
    names = Counter(part.name for part in layers(device_model(SHORTCUT)))
    assert names["add-8x8x8+8x8x8-8x8x8"] == 2 and any(name.startswith("mul-") for name in names)


def fill(table: Path, ms: dict[str, float]) -> None:
    """Milliseconds into rows, by what their layer begins with."""
    rows = list(csv.DictReader(table.read_text().splitlines()))
    with table.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        for row in rows:
            row["ms"] = next((str(one) for begins, one in ms.items() if row["layer"].startswith(begins)), "")
            writer.writerow(row)


def test_a_table_is_written_filled_in_and_summed(here: Path) -> None:
    (here / "net.json").write_text(to_json(SHORTCUT))
    network, folder = "net.json", here / "layers"
    done = nas_here("measure", network, "--write-layers", folder)
    assert done.returncode == 0 and "fill in its column ms" in done.stdout, done.stderr
    rows = list(csv.DictReader((folder / "layers.csv").read_text().splitlines()))
    assert all((folder / row["file"]).read_bytes()[4:8] == b"TFL3" for row in rows)
    names = [part.name for part in layers(device_model(SHORTCUT))]
    assert {row["layer"] for row in rows} == {*names, f"network {network}"} and len(rows) == len(set(names)) + 1
    again = nas_here("measure", network, "--write-layers", folder)
    assert again.returncode == 2 and "perhaps with times in it" in again.stderr
    table = folder / "layers.csv"
    for ms, said in (
        ({}, "no row of"),
        ({"conv_2d": 1.0}, "layers of"),
        ({"": -1}, "ms must be a number of milliseconds, got '-1'"),
        ({"network": 0, "": 1.0}, "a whole network takes more than 0 ms"),
    ):
        fill(table, ms)
        refused = nas_here("measure", network, "--table", table)
        assert refused.returncode == 2 and said in refused.stderr, refused.stderr
    fill(table, {"network": 9.0, "conv_2d": 1.0, "": 0.25})
    convolutions = sum(name.startswith("conv_2d") for name in names)
    wanted = convolutions + 0.25 * (len(names) - convolutions)
    (found,) = nas.measure(network, table=table)
    assert (found.latency.median_ms, found.whole_ms) == (pytest.approx(wanted), 9.0)
    shown = nas_here("measure", network, "--table", table)
    assert shown.returncode == 0 and f"{100 * (wanted / 9 - 1):+.1f} %" in shown.stdout
    assert f"off by {100 * abs(wanted / 9 - 1):.1f} % at the most" in shown.stdout
    for more in (("--keep",), ("--energy",), ("--threads", "8"), ("--write-layers", here / "other")):
        assert nas_here("measure", network, "--table", table, *more).returncode == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have the columns layer and ms"),
        ("layer,time\na,1\n", "must have the columns layer and ms"),
        ("layer,ms\na,fast\n", "line 2: ms must be a number of milliseconds, got 'fast'"),
        ("layer,ms\na,1\na,2\n", "line 3: a is there twice"),
        ("layer,ms\na,\n", "no row of"),
        ("\x00\xff", "must have the columns"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(Error) as error:
        read_table(tmp_path / "t.csv")
    assert said in str(error.value) and "\n" not in str(error.value)
