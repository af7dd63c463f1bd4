"""Trained networks exported: every file verified, what fails not exported, what was there never lost."""

import errno
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nas.api.loading import trained_network
from nas.exports import artefacts
from nas.exports.microcontroller import FILES
from nas.exports.model_card import snippet
from nas.exports.verification import litert_model
from nas.models.torch_model import build
from nas.models.weights import packed
from nas.networks.architecture import Anchor, Arch, arch_id, graph
from nas.networks.graph import foldable
from nas.records.atomic_files import making
from nas.records.results import USUAL, Export
from nas.records.run_folder import Run, read_value
from nas.serialization import to_json
from nas.training.datasets import load_test
from search_spaces import ANCHORS
from tests.cli.test_cli import Called, nas_here
from tests.models.test_onnx_graph import SMALL, lived_in
from tests.search_strategy.test_kill import start
from tests.training.test_datasets import make_folder
from tests.training.test_full_training import began, finish
from tests.training.test_learner import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A network trained on digits."""
    found, _ = began(tmp_path_factory.mktemp("trained") / "run", epochs=4)
    finish(found.path)
    return found


@pytest.fixture(scope="module")
def exported(run: Run) -> Called:
    """All formats, by the command line."""
    return nas_here("export", run.path, "--seconds", "0.2", "--int8-loss", "5")


def test_all_formats_are_verified_and_told(run: Run, exported: Called) -> None:
    assert exported.returncode == 0, exported.stderr
    found = read_value(Run(run.export), "export", Export)
    assert found and [one.format for one in found.artefacts] == list(USUAL) and not found.failed
    for one in found.artefacts:
        if one.format != "onnx-pixels":
            assert one.latency and one.latency.threads == one.latency.batch == 1
            assert one.latency.reference == "model.onnx"
        if one.format != "onnx-int8":
            assert one.difference <= 1e-4 and one.top1 == found.top1 and one.same == 100
        assert one.bytes == sum((run.export / name).stat().st_size for name in one.files)
        assert one.format in exported.stdout and f"{one.top1:.2f} %" in exported.stdout
    plain, small = (next(o for o in found.artefacts if o.format == form) for form in ("onnx", "onnx-int8"))
    assert found.test_images == 360 and small.difference > plain.difference
    told = onnxruntime.InferenceSession(str(run.export / "model-pixels.onnx")).get_modelmeta().custom_metadata_map
    assert {"classes", "mean", "std", "resolution", "channels", "preprocess.json"} <= set(told)
    assert json.loads(told["resolution"]) == 32 and len(json.loads(told["classes"])) == 10
    names = {path.name for path in run.export.iterdir()}
    assert names == {"README.md", "export.json", "preprocess.json"} | {n for one in found.artefacts for n in one.files}


@pytest.mark.parametrize("form", USUAL)
def test_the_snippets_of_the_card_run_without_nas(run: Run, exported: Called, form: str, tmp_path: Path) -> None:
    assert exported.returncode == 0
    card = (run.export / "README.md").read_text()
    code = snippet(form, TINY)
    assert f"```python\n{code}\n```" in card
    test = load_test("digits")
    np.save(tmp_path / "pixels.npy", test.pixels[:1].numpy())
    ready = (
        f"import sys; sys.modules['nas'] = None; import numpy; pixels = numpy.load({str(tmp_path / 'pixels.npy')!r})\n"
    )
    if not form.startswith("onnx"):
        ready += "import torch; pixels = torch.from_numpy(pixels)\n"
    done = subprocess.run(
        [sys.executable, "-c", ready + code], cwd=run.export, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d\n", done.stdout)


def test_the_card_says_what_was_seen(run: Run, exported: Called) -> None:
    assert exported.returncode == 0
    card = (run.export / "README.md").read_text()
    result = json.loads((run.path / "result.json").read_text())
    assert f"| top-1 | {result['tested'][0]['top1']:.2f} |" in card
    assert "recipe `quick`" in card and "4 epochs over 1,149 images" in card and "torch " in card
    assert "{{" not in card and "{%" not in card and "\n\n\n" not in card


def export(run: Run, formats: list[str], to: Path | None = None) -> Export:
    return artefacts.export_network(trained_network(str(run.path), None, None, None, to), formats, 0.0, 5.0)


def test_a_file_that_computes_something_else_is_not_delivered(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(arch: Arch, weights: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
        name = next(name for name in weights if name.endswith("classifier.weight"))
        return right(arch, {**weights, name: weights[name] * 1.001}, metadata)

    right = artefacts.onnx_bytes
    monkeypatch.setattr(artefacts, "onnx_bytes", wrong)
    found = export(run, ["onnx", "python"], tmp_path / "export")
    assert [one.format for one in found.artefacts] == ["python"]
    assert "model.onnx differs from the network by" in found.failed["onnx"]
    assert not (tmp_path / "export" / "model.onnx").exists() and (tmp_path / "export" / "model.py").exists()


def test_an_int8_file_that_loses_too_much_is_not_delivered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(graph: bytes, batches: object) -> bytes:
        weights = {name: np.zeros_like(tensor.numpy()) for name, tensor in build(TINY).state_dict().items()}
        return artefacts.onnx_bytes(TINY, weights)

    monkeypatch.setattr(artefacts, "int8_bytes", zeros)
    before = sorted(run.export.iterdir()) if run.export.exists() else []  # of other tests
    found = export(run, ["onnx-int8"])
    assert not found.artefacts and "points are lost; allow more with --int8-loss" in found.failed["onnx-int8"]
    assert (sorted(run.export.iterdir()) if run.export.exists() else []) == before


def test_a_format_that_breaks_does_not_take_the_others_along(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: object, arch: object) -> bytes:
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(artefacts, "exported", broken)
    found = export(run, ["pt2", "onnx"], tmp_path / "export")
    assert found.failed == {"pt2": "unsupported operator"} and [one.format for one in found.artefacts] == ["onnx"]


def test_a_stranger_writes_no_code_into_the_module(run: Run) -> None:
    from nas.models.source_code import python_source

    hostile = 'x"""\nprint("owned")\n"""\\N'
    source = python_source(TINY, hostile, tuple("0123456789"), (0.5,) * 3, (0.2,) * 3, "model.safetensors")
    compile(source, "model.py", "exec")
    assert "\nprint(" not in source


def test_files_of_an_earlier_export_do_not_stay_beside_new_ones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not ours")
    export(run, ["onnx", "python"], tmp_path)
    export(run, ["onnx"], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine.txt", "README.md", "export.json", "preprocess.json", "model.onnx"}


@pytest.mark.filterwarnings("ignore")  # of its own
def test_executorch_where_it_is_installed(run: Run, tmp_path: Path) -> None:
    found = export(run, ["executorch"], tmp_path)
    try:
        import executorch.runtime  # noqa: F401
    except ImportError:
        assert "pip install" in found.failed["executorch"] and not found.artefacts
    else:
        (artefact,) = found.artefacts
        assert artefact.difference <= 1e-4 and artefact.top1 == found.top1


def test_litert_and_microcontrollers(run: Run, tmp_path: Path) -> None:
    """Float and int8, in LiteRT and in TensorFlow Lite Micro, on all test images in int8; the card's code runs."""
    pytest.importorskip("tflite_micro")
    found = export(run, ["litert", "litert-int8"], tmp_path)
    assert not found.failed
    plain, small = found.artefacts
    assert plain.difference <= 1e-4 and plain.top1 == found.top1 and plain.runtime.startswith("LiteRT 2.")
    assert plain.micro and small.micro and plain.micro.images == 100 and small.micro.images == 360
    assert plain.micro.difference <= 1e-4 and plain.micro.same == 100 and small.micro.same > 98
    assert abs(small.top1 - small.micro.top1) < 2 and small.bytes < plain.bytes
    assert found.cost.peak < small.micro.arena < plain.micro.arena
    said = f"model-int8.tflite in TensorFlow Lite Micro ({small.micro.runtime}): {small.micro.arena:,} bytes"
    assert said in (tmp_path / "README.md").read_text()
    np.save(tmp_path / "pixels.npy", load_test("digits").pixels[:1].numpy())
    ready = "import sys; sys.modules['nas'] = None; import numpy; pixels = numpy.load('pixels.npy')\n"
    for form in ("litert", "litert-int8"):
        command = [sys.executable, "-c", ready + snippet(form, TINY)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert re.fullmatch(r"\d\n", done.stdout), done.stderr


def test_sources_for_microcontrollers(run: Run, tmp_path: Path) -> None:
    """The array holds model-int8.tflite to the byte, by gcc's reading and by ours, and goes with the next export."""
    pytest.importorskip("tflite_micro")
    found = export(run, ["tflm", "litert-int8"], tmp_path)
    assert not found.failed
    sources, small = found.artefacts
    assert {path.name for path in (tmp_path / "tflm").iterdir()} == set(FILES)
    assert sources.place == "tflm/" and sources.files[0] == "tflm/model.cc" and sources.latency is None
    assert (sources.micro, sources.difference, sources.same) == (small.micro, small.difference, small.same)
    assert sources.micro and sources.micro.images == 360
    model = (tmp_path / "model-int8.tflite").read_bytes()
    assert litert_model(tmp_path / "tflm" / "model.cc") == model
    size = int(re.findall(r"kArenaSize = (\d+);", (tmp_path / "tflm" / "main.cc").read_text())[0])
    assert sources.micro.arena < size < sources.micro.arena + (8 << 10)
    card = (tmp_path / "README.md").read_text()
    assert "| tflm | tflm/ |" in card and "```sh\ncd tflm && make TFLM=" in card
    printer = '#include <cstdio>\n#include "model.h"\nint main() { fwrite(kModel, 1, kModelSize, stdout); }\n'
    (tmp_path / "print.cc").write_text(printer)
    if shutil.which("g++"):
        built = ["g++", "-std=c++17", "-Wall", "-Werror", "-I", "tflm", "print.cc", "tflm/model.cc", "-o", "print"]
        subprocess.run(built, cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "print"], capture_output=True, check=True).stdout == model
    export(run, ["onnx"], tmp_path)
    assert not (tmp_path / "tflm").exists() and (tmp_path / "print.cc").exists()


def test_without_litert_a_line_says_how_to_get_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert.schema_py_generated", "ai_edge_quantizer.quantizer", "tflite_micro"):
        monkeypatch.setitem(sys.modules, name, None)
    found = export(run, ["onnx", "litert", "litert-int8", "tflm"], tmp_path)
    assert [one.format for one in found.artefacts] == ["onnx"]
    assert set(found.failed) == {"litert", "litert-int8", "tflm"}
    assert all('pip install "nas[litert]"' in why for why in found.failed.values())
    assert not list(tmp_path.glob("*.tflite")) and not (tmp_path / "tflm").exists()


def test_a_full_disk_leaves_what_was_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "export"
    export(run, ["onnx"], folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artefacts.np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        export(run, ["onnx"], folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_written_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = nas_here("export", run.path, "--formats", "onnx", "--to", tmp_path / "file" / "export")
    assert done.returncode == 1 and "cannot be written" in done.stderr and done.stdout == ""


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    artefacts.check_free(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"README\.md would be written over.*take another --to"):
        artefacts.check_free(tmp_path)
    (tmp_path / "export.json").touch()  # an export's own
    artefacts.check_free(tmp_path)


@pytest.mark.slow
def test_killed_in_the_middle_nothing_is_half_there(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    process = start("export", str(run.path), "--to", str(folder))
    assert process.stderr
    for line in process.stderr:
        if "verifying onnx" in line:
            break
    process.kill()
    process.stderr.close()
    assert process.wait() == -9
    assert not [path for path in folder.rglob("*") if path.parent == folder and not path.name.startswith(".nas-")]
    done = nas_here("export", run.path, "--to", folder, "--formats", "onnx", "--seconds", "0")
    assert done.returncode == 0 and {path.name for path in tmp_path.iterdir()} == {"export"}
    assert {path.name for path in folder.iterdir()} == {"README.md", "export.json", "preprocess.json", "model.onnx"}


def test_weights_that_say_what_they_are_need_nothing_else(run: Run, tmp_path: Path) -> None:
    done = nas_here("export", run.weights(0), "--to", tmp_path / "x", "--formats", "onnx", "--seconds", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["artefacts"][0]["top1"] == json.loads(done.stdout)["top1"]


def test_weights_of_others_come_with_their_network_and_dataset(tmp_path: Path) -> None:
    (tmp_path / "arch.json").write_text(to_json(TINY))
    (tmp_path / "w.safetensors").write_bytes(packed(build(TINY).state_dict(), {}))
    given = ("export", tmp_path / "arch.json", "--weights", tmp_path / "w.safetensors", "--formats", "onnx")
    refused = nas_here(*given)
    assert refused.returncode == 2 and "give --dataset" in refused.stderr
    done = nas_here(*given, "--dataset", "digits", "--seconds", "0")
    assert done.returncode == 0, done.stderr
    assert "how they were trained is not known" in (tmp_path / "export" / "README.md").read_text()
    (tmp_path / "export" / "export.json").unlink()  # as if the folder were someone else's
    again = nas_here(*given, "--dataset", "digits", "--seconds", "0")
    assert again.returncode == 2 and "README.md would be written over" in again.stderr
    make_folder(tmp_path / "pets")
    two = replace(ANCHORS["lowres-mobilenet"].arch, classes=2)
    (tmp_path / "w.safetensors").write_bytes(packed(build(two).state_dict(), {}))
    pets = ("--dataset", f"folder:{tmp_path / 'pets'}", "--formats", "onnx", "--seconds", "0", "--to", tmp_path / "two")
    done = nas_here("export", "lowres-mobilenet", "--weights", tmp_path / "w.safetensors", *pets)
    assert done.returncode == 0, done.stderr  # a published network has as many classes as the dataset


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / ".nas-12345").mkdir()
    (tmp_path / ".nas-notes").mkdir()
    with making(tmp_path) as room:
        with pytest.raises(OSError, match="another nas process is writing there"), making(tmp_path):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {room.name, ".nas-notes"}
    with making(tmp_path):
        pass


def test_figures_that_cannot_be_kept_are_printed(tmp_path: Path) -> None:
    begun, _ = began(tmp_path / "begun[v2]")
    (begun.path / "latency.json").mkdir()
    done = nas_here("measure", begun.path, "--keep", "--seconds", "0.1", "--quiet")
    assert done.returncode == 1 and "latency.json" in done.stderr and "begun[v2]" in done.stdout


def test_what_cannot_be_taken_home_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "arch.json").write_text(to_json(TINY))
    wide, bent = replace(TINY, classes=100), replace(TINY, stem=replace(TINY.stem, act="hswish"))
    (tmp_path / "wide.json").write_text(to_json(wide))
    (tmp_path / "bent.json").write_text(to_json(bent))
    torch.save(build(TINY).state_dict(), tmp_path / "w.pt")
    (tmp_path / "cut.safetensors").write_bytes(run.weights(0).read_bytes()[:5000])
    begun, _ = began(tmp_path / "begun")
    weights = ("--weights", run.weights(0))
    for args, message in (
        ((tmp_path / "arch.json",), "has no weights; give --weights FILE"),
        ((tmp_path / "arch.json", "--weights", tmp_path / "w.pt"), "are a pickle, which could run code"),
        ((tmp_path / "cut.safetensors",), "no safetensors file, or a truncated one"),
        (("lowres-mobilenet", *weights), f"are of network {arch_id(TINY)}, lowres-mobilenet is "),
        ((tmp_path / "wide.json", *weights), f"wide.json is {arch_id(wide)}; name the file alone"),
        ((tmp_path / "bent.json", *weights), f"bent.json is {arch_id(bent)}; name the file alone"),  # the same shapes
        ((run.path, *weights), "leave out --weights and --dataset"),
        ((run.weights(0), "--dataset", "digits"), "leave out --dataset"),
        ((begun.path,), "has not ended; go on with nas train --resume"),
        (
            (run.path, "--formats", "onnx,tflite"),
            "format 'tflite' is unknown; one of python, onnx, onnx-pixels, onnx-int8, pt2, litert, litert-int8",
        ),
    ):
        done = nas_here("export", *args, "--to", tmp_path / "out")
        assert done.returncode == 2 and done.stdout == "", args
        assert message in done.stderr, done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("anchor", SMALL, ids=lambda anchor: anchor.name)
def test_a_folded_network_computes_the_same(anchor: Anchor) -> None:
    model = lived_in(anchor.arch)
    folded, images = artefacts.folded(model, anchor.arch), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        wanted, found = model(images), folded(images)
    norms, left = (sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in net.modules()) for net in (model, folded))
    assert norms - left == len(foldable(graph(anchor.arch)))
    assert (found - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max()))
