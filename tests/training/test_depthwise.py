"""Wide depthwise convolutions against torch's own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nas.models.torch_model import build
from nas.training.depthwise import WideDepthwise, with_fast_gradients
from search_spaces import ANCHORS

SHAPES = [  # kernel, stride, pad, height, width
    ((5, 5), (1, 1), (2, 2), 8, 8),
    ((5, 5), (2, 2), (2, 2), 9, 7),
    ((5, 5), (2, 2), (1, 1), 8, 8),
    ((5, 5), (2, 2), (0, 0), 9, 9),
    ((7, 7), (1, 1), (3, 3), 9, 8),
    ((7, 7), (2, 2), (3, 3), 4, 4),  # higher than its input
    ((9, 9), (1, 1), (4, 4), 5, 6),
    ((3, 4), (3, 3), (1, 2), 11, 13),
    ((1, 5), (1, 1), (0, 2), 6, 6),
]


def gradients(model: nn.Module, x: Tensor, along: Tensor) -> list[Tensor]:
    """Of the input and of all parameters, with the output before them."""
    y = model(x)
    return [y, *torch.autograd.grad(y, [x, *model.parameters()], along)]


@pytest.mark.parametrize(("kernel", "stride", "pad", "height", "width"), SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_torch(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    height: int,
    width: int,
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, height, width, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    plain = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, pad, groups=6, bias=False).double())
    ours = with_fast_gradients(copy.deepcopy(plain))
    assert isinstance(ours[0], WideDepthwise)  # type: ignore[index]
    along = torch.randn_like(plain(x))
    for expected, found in zip(gradients(plain, x, along), gradients(ours, x, along), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_only_wide_depthwise_layers_are_replaced() -> None:
    layers = [
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
        nn.Conv2d(6, 12, 5, groups=6, bias=False),
        nn.Conv2d(6, 6, 5, groups=2, bias=False),
        nn.Conv2d(6, 6, 5, groups=6),
        nn.Conv2d(6, 6, 5, groups=6, bias=False, dilation=2),
        nn.Conv2d(1, 1, 5, bias=False),
    ]
    kept = with_fast_gradients(nn.Sequential(*layers))
    assert not any(isinstance(layer, WideDepthwise) for layer in kept.modules())


def test_a_network_keeps_its_parameters_and_trains_alike() -> None:
    """GhostNet has kernels of 5 at stride 1 and 2."""
    torch.manual_seed(0)
    plain = build(ANCHORS["ghostnet-32"].arch).to(memory_format=torch.channels_last)
    ours = with_fast_gradients(copy.deepcopy(plain))
    assert sum(isinstance(layer, WideDepthwise) for layer in ours.modules()) == 4
    assert list(ours.state_dict()) == list(plain.state_dict())
    x, labels = torch.randn(4, 3, 32, 32), torch.tensor([1, 2, 3, 4])
    for model in (plain, ours):
        torch.manual_seed(1)  # of what is dropped out
        nn.functional.cross_entropy(model(x), labels).backward()
    for one, other in zip(plain.parameters(), ours.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=0, atol=0)
