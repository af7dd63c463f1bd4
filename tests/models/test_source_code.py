"""The Python modules that are exported: in a process without nas they compute what the built networks compute."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from nas.models.source_code import python_source, renamed
from nas.models.weights import packed
from nas.networks.architecture import Arch, Block, cost, walk
from nas.networks.space import sample
from nas.records.results import WeightsInfo
from search_spaces import ANCHORS, LIGHTWEIGHT, SPACES
from tests.conftest import buildable
from tests.models.test_onnx_graph import lived_in

SEEDS = range(12)
NETWORKS: dict[str, Arch] = {anchor.name: anchor.arch for anchor in ANCHORS.values() if anchor.arch.resolution == 32}
HEAVY = [name for name, arch in NETWORKS.items() if cost(arch).macs > 200_000_000]
NETWORKS |= {f"random-{seed}": sample(LIGHTWEIGHT, random.Random(seed)) for seed in SEEDS}
LARGER: dict[str, Arch] = {  # at 64 pixels where the same layers fit them
    anchor.name: replace(anchor.arch, resolution=64 if anchor.arch.resolution < 299 else 299)
    for anchor in ANCHORS.values()
    if anchor.arch.resolution != 32
}
LARGER |= {f"{name}-random-{seed}": buildable(space, seed) for name, space in SPACES.items() for seed in range(3)}
LARGER |= {name: NETWORKS.pop(name) for name in HEAVY}
ALONE = """
import importlib.util, json, sys
from pathlib import Path
import numpy as np, torch
sys.modules["nas"] = sys.modules["search_spaces"] = sys.modules["safetensors"] = None
torch.set_num_threads(1)
found = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        with torch.no_grad():
            logits = module.load()(torch.from_numpy(np.load(folder / "images.npy")))
        wanted = torch.from_numpy(np.load(folder / "logits.npy"))
        assert logits.shape == wanted.shape
        found[folder.name] = float((logits - wanted).abs().max() / max(1.0, float(wanted.abs().max())))
    except Exception as error:
        found[folder.name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return differences_of(NETWORKS, tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def larger_differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return differences_of(LARGER, tmp_path_factory.mktemp("larger"))


def differences_of(networks: dict[str, Arch], room: Path) -> dict[str, float]:
    """By network, how far the module's logits are from those of the built network, all seen in one process."""
    for name, arch in networks.items():
        folder = room / name
        folder.mkdir()
        model, names = lived_in(arch), renamed(arch)
        weights = {}
        for path, tensor in model.state_dict().items():
            place, _, kind = path.rpartition(".")
            weights[f"{names[place]}.{kind}"] = tensor
        made = WeightsInfo(arch, "digits", tuple("abc"), (0.5,) * 3, (0.25,) * 3)
        source = python_source(arch, f"{name}.", made.classes, made.mean, made.std, "model.safetensors")
        (folder / "model.py").write_text(source)
        (folder / "model.safetensors").write_bytes(packed(weights, {}))
        images = torch.randn(2, 3, arch.resolution, arch.resolution)
        with torch.no_grad():
            np.save(folder / "logits.npy", model(images).numpy())
        np.save(folder / "images.npy", images.numpy())
    command = [sys.executable, "-W", "error", "-c", ALONE, str(room)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_alone_computes_what_the_network_computes(name: str, differences: dict[str, float]) -> None:
    assert isinstance(differences[name], float), differences[name]
    assert differences[name] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGER)
def test_so_do_the_larger_ones(name: str, larger_differences: dict[str, float]) -> None:
    assert isinstance(larger_differences[name], float), larger_differences[name]
    assert larger_differences[name] < 1e-5


def test_the_networks_above_hold_every_block_kind() -> None:
    found = {getattr(layer.place.part, "kind", "") for arch in (NETWORKS | LARGER).values() for layer in walk(arch)}
    assert {block.kind for block in get_args(Block)} <= found


def test_blocks_that_are_drawn_alike_share_a_class() -> None:
    arch = ANCHORS["mobilenetv1-32"].arch
    source = python_source(arch, "x.", tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, "model.safetensors")
    assert source.count("class ") < len(walk(arch)) + 1
    assert "nas" not in [
        line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import", "from"))
    ]


def test_preparing_images_is_what_training_did() -> None:
    from nas.training.datasets import load
    from nas.training.step import normalised

    data = load("digits")
    source = python_source(
        ANCHORS["lowres-mobilenet"].arch, "x.", data.classes, data.mean, data.std, "model.safetensors"
    )
    namespace: dict[str, object] = {"__file__": "model.py", "__name__": "model"}
    exec(compile(source, "model.py", "exec"), namespace)
    images = data.val.pixels[:8]
    prepared = namespace["preprocess"](images)  # type: ignore[operator]
    assert torch.allclose(prepared, normalised(images, data), atol=1e-5)
