"""What is exported takes pictures as people have them, without nas: model.py as a program, ONNX from pixels."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from nas.exports.prediction import of_export, predictions
from nas.exports.verification import module
from nas.models.onnx_graph import onnx_bytes, with_preparation
from nas.models.source_code import python_source, renamed
from nas.models.weights import packed
from nas.networks.architecture import Arch
from tests.models.test_onnx_graph import lived_in
from tests.training.test_learner import TINY

CLASSES = tuple("abcdefghij")


def exported(folder: Path, arch: Arch, share: float) -> Path:
    """An export of python and ONNX files, not verified."""
    folder.mkdir()
    model, names = lived_in(arch), renamed(arch)
    mean, std = (0.4,) * arch.channels, (0.3,) * arch.channels
    weights = {
        f"{names[place]}.{kind}": tensor
        for path, tensor in model.state_dict().items()
        for place, _, kind in [path.rpartition(".")]
    }
    source = python_source(arch, "x.", CLASSES, mean, std, "model.safetensors", share)
    (folder / "model.py").write_text(source)
    (folder / "model.safetensors").write_bytes(packed(weights, {}))
    said = {"resolution": arch.resolution, "channels": arch.channels, "share": share, "mean": mean, "std": std}
    (folder / "preprocess.json").write_text(json.dumps({**said, "classes": CLASSES}))
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    (folder / "model.onnx").write_bytes(onnx_bytes(arch, arrays, {"classes": json.dumps(CLASSES)}))
    whole = with_preparation((folder / "model.onnx").read_bytes(), mean, std)
    (folder / "model-pixels.onnx").write_bytes(whole)
    return folder


def pictures(folder: Path) -> list[Path]:
    """The same waves in the kinds of files that people have."""
    folder.mkdir()
    y, x = np.mgrid[0:90, 0:120]
    waves = np.stack([127 + 120 * np.sin(x / 9 + c + y / (7 + c)) for c in range(3)], -1).astype(np.uint8)
    colour, gray = Image.fromarray(waves), Image.fromarray(waves[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = colour.convert("RGBA")
    clear.putalpha(gray)
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("plain.png", colour, {}),
        ("large.jpg", colour.resize((1200, 900)), {"quality": 95}),
        ("turned.jpg", colour, {"exif": exif}),
        ("clear.png", clear, {}),
        ("palette.gif", colour.convert("P"), {}),
        ("gray.png", gray, {}),
        ("deep.png", Image.fromarray(waves[..., 0].astype(np.uint16) * 257), {}),
        ("floats.tiff", Image.fromarray(waves[..., 0].astype(np.float32) / 255), {}),
        ("small.webp", colour.resize((9, 7)), {"lossless": True}),
    ]
    for name, image, options in kinds:
        image.save(folder / name, **options)
    return [folder / name for name, *_ in kinds]


@pytest.mark.parametrize(("channels", "share"), [(3, 28 / 32), (1, 1.0)])
def test_a_program_answers_as_nas_predict_does(tmp_path: Path, channels: int, share: float) -> None:
    """Prepared alike to the bit, whatever kind of file it is."""
    arch = replace(TINY, channels=channels, resolution=28)
    folder, files = exported(tmp_path / "export", arch, share), pictures(tmp_path / "pictures")
    alone, (answer, said) = module(folder / "model.py"), of_export(folder)
    ours = list(predictions(answer, said, files, 10, {}))
    for file, one in zip(files, ours, strict=True):
        with torch.no_grad():
            shares = 100 * alone.load()(alone.preprocess(file)).softmax(1)[0]
        wanted = torch.tensor([dict(one.classes)[name] for name in CLASSES])
        assert torch.allclose(shares, wanted.float(), atol=1e-3), file.name
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    command = [sys.executable, str(folder / "model.py"), str(files[0]), str(broken)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"{broken} cannot be read: ")
    name, share_of_it = ours[0].classes[0]
    assert done.stdout.startswith(f"{files[0]}: {name} {share_of_it:.1f} %, ") and done.stdout.count("%") == 5
    alone_said = subprocess.run(command[:2], capture_output=True, text=True, check=False)
    assert (alone_said.returncode, alone_said.stdout) == (1, "") and "python model.py photo.jpg" in alone_said.stderr


def test_pixels_of_any_size_are_taken_and_others_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export", replace(TINY, resolution=28), 28 / 32)
    alone = module(folder / "model.py")
    file = pictures(tmp_path / "pictures")[0]
    image = Image.open(file)
    wanted = alone.preprocess(file)
    assert wanted.shape == (1, 3, 28, 28)
    for same in (str(file), image, np.asarray(image), torch.from_numpy(np.array(image))[None]):
        assert torch.equal(alone.preprocess(same), wanted)
    ready = np.zeros((2, 28, 28, 3), np.uint8)
    assert torch.allclose(alone.preprocess(ready), torch.tensor(-0.4 / 0.3), atol=1e-6)  # as it is
    assert alone.preprocess(np.zeros((2, 40, 50, 1), np.uint8)).shape == (2, 3, 28, 28)
    assert torch.equal(alone.preprocess([file, image]), torch.cat([wanted, wanted]))
    assert alone.preprocess(np.zeros((0, 40, 40, 3), np.uint8)).shape == (0, 3, 28, 28)
    assert torch.equal(alone.preprocess(np.asarray(image)[::-1, ::-1][::-1, ::-1]), wanted)
    gray = np.full((28, 28, 1), 99, np.uint8)
    assert torch.equal(alone.preprocess(gray), alone.preprocess(gray.repeat(3, -1)))  # its own size, as it is
    for wrong in (np.zeros((28, 28, 3), np.float32), np.zeros((2, 3, 28, 28), np.uint8), np.zeros((4, 9, 9), np.uint8)):
        with pytest.raises(ValueError, match=r"pixels must be uint8 \(N, height, width, channels\), with 1 or 3 chan"):
            alone.preprocess(wrong)
    assert torch.fx.symbolic_trace(alone.Network()) is not None  # the check is in nobody's way
    Image.fromarray(np.full((9, 9), 7.5, np.float32)).save(tmp_path / "wrong.tiff")
    with pytest.raises(ValueError, match=r"its levels go from 7.5 to 7.5; they must be in 0 to 1"):
        alone.preprocess(tmp_path / "wrong.tiff")
    with pytest.raises(ValueError, match=r"images must be \(N, 3, 28, 28\), .*, got \(1, 3, 32, 32\)"):
        alone.load()(torch.zeros(1, 3, 32, 32))


def test_pixels_of_its_own_size_need_torch_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = module(exported(tmp_path / "export", TINY, 1.0) / "model.py")
    for name in ("PIL", "numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert alone.preprocess(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("channels", [1, 3])
def test_onnx_from_pixels_to_scores(tmp_path: Path, channels: int) -> None:
    folder = exported(tmp_path / "export", replace(TINY, channels=channels), 1.0)
    session = onnxruntime.InferenceSession(str(folder / "model-pixels.onnx"))
    (entry,), (out,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape) == ("pixels", "tensor(uint8)", ["batch", 32, 32, channels])
    assert (out.name, out.shape) == ("scores", ["batch", 10])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, channels), np.uint8)
    (scores,) = session.run(None, {"pixels": pixels})
    assert np.allclose(scores.sum(1), 1, atol=1e-5)
    alone = module(folder / "model.py")
    with torch.no_grad():
        wanted = alone.load()(alone.preprocess(pixels)).softmax(1).numpy()
    assert np.allclose(scores, wanted, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
