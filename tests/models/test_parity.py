"""Our networks against code that no one here wrote: same weights, same outputs (torchvision, timm)."""

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from nas.models.counting import leaves
from nas.models.torch_model import build
from search_spaces import ANCHORS

THEIRS: dict[str, Callable[[], nn.Module]] = {
    "mobilenetv2": tv.mobilenet_v2,
    "mobilenetv3-large": tv.mobilenet_v3_large,
    "resnet18": tv.resnet18,
    "resnet34": tv.resnet34,
    "shufflenetv2": tv.shufflenet_v2_x1_0,
    "squeezenet": tv.squeezenet1_0,
    "ghostnet": lambda: timm.create_model("ghostnet_100", pretrained=False),
}


def weighted(model: nn.Module, x: Tensor) -> tuple[list[nn.Module], Tensor]:
    """The modules of `model` that hold weights, in the order in which they are called, and its output."""
    called: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, _inputs, _output: called.append(module))
        for module in model.modules()
        if list(module.parameters(recurse=False))
    ]
    with torch.no_grad():
        out = model.eval()(x)
    for hook in hooks:
        hook.remove()
    return called, out


@pytest.mark.parametrize("name", THEIRS)
def test_same_weights_same_outputs(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 224, 224)
    theirs, ours = THEIRS[name](), build(ANCHORS[name].arch)
    for module in theirs.modules():  # statistics that are not all zero and one
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    sources, expected = weighted(theirs, x)
    targets, _ = weighted(ours, x)
    assert len(sources) == len(targets)
    for source, target in zip(sources, targets, strict=True):
        target.load_state_dict(source.state_dict())  # raises where a name or a shape differs
        if isinstance(target, nn.BatchNorm2d):
            target.eps = source.eps  # torchvision's MobileNetV3 has 1e-3: a number of the training, not of the design
    with torch.no_grad():
        got = ours.eval()(x)
    assert expected.abs().max() > 1e-3
    print(name, float((got - expected).abs().max()), float(expected.abs().max()))
    assert (got - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet18"])
def test_their_networks_count_as_ours(name: str) -> None:
    ours, theirs = leaves(build(ANCHORS[name].arch), 224), leaves(THEIRS[name](), 224)
    for what in ("macs", "params", "flops", "read", "write"):
        assert sum(getattr(row, what) for row in ours) == sum(getattr(row, what) for row in theirs)


def test_their_half_widths_are_ours() -> None:
    theirs = tv.mobilenet_v2(width_mult=0.5)
    blocks = [block.out_channels for block in theirs.features if isinstance(block, InvertedResidual)]
    ours = ANCHORS["mobilenetv2-x0.5-32"].arch
    assert [stage.width for stage in ours.stages for _ in range(stage.depth)] == blocks
    assert ours.stem.width == theirs.features[0].out_channels
    shuffled = ANCHORS["shufflenetv2-x0.5-32"].arch
    widths = [shuffled.stem.width, *(stage.width for stage in shuffled.stages), shuffled.head.width]
    assert widths == tv.shufflenet_v2_x0_5()._stage_out_channels
