"""LiteRT models against the torch modules of the same architectures, in LiteRT and in TensorFlow Lite Micro."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.models.litert_file import litert_bytes, model_bytes
from nas.models.litert_graph import FUSED, FUSED_AS, layers
from nas.models.litert_int8 import int8_model
from nas.models.onnx_graph import random_weights
from nas.networks.architecture import Arch, graph
from nas.networks.graph import Graph, Wiring
from nas.networks.space import sample
from search_spaces import ANCHORS, LIGHTWEIGHT, SPACES
from tests.conftest import buildable
from tests.models.test_onnx_graph import MICRO, SMALL, lived_in
from tests.training.test_learner import TINY

litert = pytest.importorskip("ai_edge_litert.interpreter")
micro = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
ARENA = 1 << 27


def answered(content: bytes, image: np.ndarray) -> np.ndarray:
    """What LiteRT makes of an image (1, H, W, C)."""
    interpreter = litert.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def answered_by_micro(content: bytes, image: np.ndarray) -> np.ndarray:
    """What TensorFlow Lite Micro makes of it."""
    interpreter = micro.Interpreter.from_bytes(content, arena_size=ARENA)
    interpreter.set_input(image, 0)
    interpreter.invoke()
    return interpreter.get_output(0)


def kinds(content: bytes) -> Counter[str]:
    """The operators of a model, by kind."""
    import ai_edge_litert.schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return Counter(codes[one.opcodeIndex] for one in model.subgraphs[0].operators)


def differences(arch: Arch) -> list[float]:
    """The largest difference of each interpreter's logits from torch's, as a share of the largest logit."""
    model = lived_in(arch)
    content = litert_bytes(arch, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    images = torch.randn(1, arch.channels, arch.resolution, arch.resolution)
    with torch.no_grad():
        wanted = model(images).numpy()
    image = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    found = [answered(content, image), answered_by_micro(content, image)]
    assert all(one.shape == (1, arch.classes) for one in found)
    return [float(np.abs(one - wanted).max() / max(1.0, np.abs(wanted).max())) for one in found]


@pytest.mark.parametrize(
    "name", ["lowres-mobilenet", "shufflenetv2-x0.5-32", "mobilenetv3-large-32", "hl-cnn-32", "resnet8"]
)
def test_anchors_compute_what_torch_computes(name: str) -> None:
    assert max(differences(ANCHORS[name].arch)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("anchor", SMALL + MICRO, ids=lambda anchor: anchor.name)
def test_so_do_the_other_small_ones(anchor: object) -> None:
    assert max(differences(anchor.arch)) < 1e-5  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(8))
def test_random_networks_compute_what_torch_computes(seed: int) -> None:
    arch = sample(LIGHTWEIGHT, random.Random(seed))
    assert max(differences(replace(arch, channels=1 + 2 * (seed % 2), resolution=32 + seed % 3))) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SPACES)
def test_so_do_networks_of_every_space(name: str, seed: int) -> None:
    assert max(differences(buildable(SPACES[name], seed))) < 1e-5


def model_of(nodes: Graph) -> bytes:
    """The LiteRT model of a graph, with weights at random."""
    return model_bytes(layers(nodes), random_weights(nodes, 0))


@pytest.mark.parametrize("size", [7, 8, 15, 16])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_a_stride_pads_where_torch_does(size: int, kernel: int) -> None:
    """By SAME; where the map is even, of depthwise ones with zeros at the kernel's end, nothing being copied, of others
    over a padded map."""
    from nas.models.torch_model import assembled

    for groups in (1, 4):
        g = Wiring(4, size)
        g.conv("conv", g.input, 4, kernel, 2, groups, bias=True)
        content, weights = model_of(g.graph), random_weights(g.graph, 0)
        model = assembled(g.graph)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        images = torch.randn(1, 4, size, size)
        with torch.no_grad():
            wanted = model(images).reshape(1, 4, -1).permute(0, 2, 1).flatten(1)
        found = answered(content, np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))
        assert np.abs(found - wanted.numpy()).max() < 1e-5
        assert kinds(content)["PAD"] == (groups == 1 and size % 2 == 0)


def test_nothing_is_turned_round_or_padded_that_need_not_be() -> None:
    """Channels last from end to end; only a channel shuffle transposes."""
    for name in ("lowres-mobilenet", "tailored-mobilenetv2", "mobilenetv3-large-32"):
        found = kinds(litert_bytes(ANCHORS[name].arch))
        assert not found["TRANSPOSE"] and not found["PAD"] and not found["RELU"] and not found["RELU6"], name
    nodes = graph(ANCHORS["shufflenetv2-x0.5-32"].arch)
    shuffles = sum(type(node.op).__name__ == "Shuffle" for node in nodes)
    assert kinds(litert_bytes(ANCHORS["shufflenetv2-x0.5-32"].arch))["TRANSPOSE"] == shuffles


def test_int8_answers_alike_in_both_interpreters() -> None:
    """ai-edge-quantizer puts constants behind the flatbuffer, where TensorFlow Lite Micro reads nonsense, without a
    word: they are put back. Rounding may come to a tenth of the answers' range here, nonsense comes to all of it."""
    pytest.importorskip("ai_edge_quantizer")
    model = lived_in(replace(TINY, resolution=32))
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    images = torch.randn(16, 3, 32, 32)
    content = int8_model(litert_bytes(TINY, weights), [images.numpy()])
    import ai_edge_litert.schema_py_generated as schema

    assert not any(buffer.offset for buffer in schema.ModelT.InitFromPackedBuf(content, 0).buffers)
    interpreter = litert.Interpreter(model_content=content)
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert entry["dtype"] == out["dtype"] == np.int8
    with torch.no_grad():
        wanted = model(images).numpy()
    spread = float(np.ptp(wanted))
    for image, right in zip(images.permute(0, 2, 3, 1).numpy(), wanted, strict=True):
        scale, zero = entry["quantization"]
        cut = np.clip(np.round(image[None] / scale) + zero, -128, 127).astype(np.int8)
        for found in (answered(content, cut), answered_by_micro(content, cut)):
            logits = (found[0].astype(np.float32) - out["quantization"][1]) * out["quantization"][0]
            assert np.abs(logits - right).max() < 0.1 * spread


def test_more_maps_are_joined_than_a_microcontroller_joins_at_once() -> None:
    g = Wiring(2, 4)
    g.cat("cat", [g.conv(f"conv{i}", g.input, 1 + i % 3, bias=True) for i in range(23)])
    content, image = model_of(g.graph), np.random.default_rng(0).standard_normal((1, 4, 4, 2)).astype(np.float32)
    assert kinds(content)["CONCATENATION"] == 3
    assert np.abs(answered(content, image) - answered_by_micro(content, image)).max() < 1e-5


def test_a_layer_that_litert_has_not_is_named() -> None:
    g = Wiring(4, 9)
    g.pool("hanging", g.input, "avg", 2, 2, ceil=True)
    with pytest.raises(ValueError, match="hanging: LiteRT has no average over windows that hang over the edge"):
        model_of(g.graph)


@pytest.mark.parametrize("kernel", [2, 3])
def test_a_maximum_at_the_edge_is_of_what_is_there(kernel: int) -> None:
    """Of values below 0, too: zeros beside them would be the largest. In int8 as well, where the least float cannot
    be: ai-edge-quantizer refuses it."""
    g = Wiring(3, 8)
    g.pool("max", g.conv("conv", g.input, 3, bias=True), "max", kernel, 2, 1)
    nodes = g.graph
    content, image = model_of(nodes), np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32)
    weights = {name: torch.from_numpy(value) for name, value in random_weights(nodes, 0).items()}
    weights["conv.bias"] -= 9
    content = model_bytes(layers(nodes), {name: value.numpy() for name, value in weights.items()})
    x = torch.nn.functional.conv2d(
        torch.from_numpy(image).permute(0, 3, 1, 2), weights["conv.weight"], weights["conv.bias"]
    )
    wanted = torch.nn.functional.max_pool2d(x, kernel, 2, 1).permute(0, 2, 3, 1).flatten().numpy()
    assert wanted.max() < 0
    for found in (answered(content, image), answered_by_micro(content, image)):
        assert np.abs(found.ravel() - wanted).max() < 1e-5
    made = int8_model(content, [image.transpose(0, 3, 1, 2)])
    assert kinds(made)["MIRROR_PAD"] == 1


def test_a_file_is_laid_out_as_the_schema_asks() -> None:
    """Data at multiples of 16 bytes, which a microcontroller may need to read them at all; equal arrays once."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    content = int8_model(litert_bytes(TINY), [np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)])
    model = schema.Model.GetRootAs(content, 0)
    filled = [model.Buffers(i) for i in range(model.BuffersLength()) if model.Buffers(i).DataLength()]
    assert len(filled) > 10 and all(one._tab.Vector(one._tab.Offset(4)) % 16 == 0 for one in filled)
    body = model.Subgraphs(0)
    zeros = [body.Tensors(i).Quantization() for i in range(body.TensorsLength())]
    arrays = [
        (one.ZeroPointLength(), one._tab.Vector(one._tab.Offset(10)))
        for one in zeros
        if one and one.ZeroPointLength() > 1
    ]
    assert len({place for _, place in arrays}) == len({length for length, _ in arrays}) < len(arrays)


def test_activations_are_numbered_as_the_schema_does() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for name, kind in FUSED.items():
        assert FUSED_AS[name] == getattr(schema.ActivationFunctionType, kind)
