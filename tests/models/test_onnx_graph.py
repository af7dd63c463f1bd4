"""ONNX graphs against the torch modules of the same architectures."""

import random
from collections import Counter
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from nas.models.onnx_graph import onnx_bytes, onnx_model
from nas.models.torch_model import build
from nas.networks.architecture import Arch, Block, cost, walk
from nas.networks.space import sample
from search_spaces import ANCHORS, LIGHTWEIGHT, SPACES
from tests.conftest import buildable

SMALL = [anchor for anchor in ANCHORS.values() if anchor.arch.resolution == 32]
MICRO = [anchor for anchor in ANCHORS.values() if 32 < anchor.arch.resolution <= 96]  # of microcontrollers


def lived_in(arch: Arch) -> torch.fx.GraphModule:
    """`arch` built, with batch norms as after training."""
    torch.manual_seed(0)
    model = build(arch)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)  # type: ignore[union-attr,operator]
                layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator]
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.1)
    return model.eval()


def difference(arch: Arch, images: int = 2) -> float:
    """The largest difference of the graph's logits from torch's, as a share of the largest logit."""
    model = lived_in(arch)
    graph = onnx_bytes(arch, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    batch = torch.randn(images, 3, arch.resolution, arch.resolution)
    with torch.no_grad():
        wanted = model(batch).numpy()
    found = session.run(None, {"image": batch.numpy()})[0]
    assert found.shape == (images, arch.classes)
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("anchor", SMALL + MICRO, ids=lambda anchor: anchor.name)
def test_anchors_compute_what_torch_computes(anchor: object) -> None:
    assert difference(anchor.arch) < 1e-5  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_compute_what_torch_computes(seed: int) -> None:
    assert difference(sample(LIGHTWEIGHT, random.Random(seed)), images=1 + seed % 3) < 1e-5


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SPACES)
def test_so_do_networks_of_every_space(name: str, seed: int) -> None:
    assert difference(buildable(SPACES[name], seed)) < 1e-5


@pytest.mark.parametrize("name", SPACES)
def test_networks_of_every_space_are_trained(name: str) -> None:
    torch.manual_seed(0)
    arch = buildable(SPACES[name], 2, 10_000_000)
    model, images, labels = build(arch), torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert losses[-1] < 0.8 * losses[0]


def test_the_anchors_and_networks_above_hold_every_block_kind() -> None:
    archs = [anchor.arch for anchor in SMALL + MICRO] + [sample(LIGHTWEIGHT, random.Random(seed)) for seed in range(12)]
    found = {getattr(layer.place.part, "kind", "") for arch in archs for layer in walk(arch)}
    assert {block.kind for block in get_args(Block)} <= found


def test_batch_norm_is_folded_and_dropout_gone() -> None:
    model = onnx_model(ANCHORS["mobilenetv3-large-32"].arch)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert not {"BatchNormalization", "Dropout"} & kinds.keys()
    onnx.checker.check_model(model, full_check=True)
    assert [side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim][:1] == ["batch"]


def test_weights_for_measuring_keep_activations_in_reach() -> None:
    for anchor in (anchor for anchor in SMALL if cost(anchor.arch).macs < 200_000_000):
        session = onnxruntime.InferenceSession(onnx_bytes(anchor.arch), providers=["CPUExecutionProvider"])
        images = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
        logits = session.run(None, {"image": images})[0]
        assert np.isfinite(logits).all() and 1e-6 < np.abs(logits).max() < 1e6, anchor.name


def test_a_tensor_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="stem"):
        onnx_model(ANCHORS["lowres-mobilenet"].arch, {})


def test_metadata_travels_with_the_graph() -> None:
    model = onnx.load_from_string(onnx_bytes(ANCHORS["lowres-mobilenet"].arch, metadata={"nas.batch": "3"}))
    assert {entry.key: entry.value for entry in model.metadata_props} == {"nas.batch": "3"}
