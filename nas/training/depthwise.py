"""Gradients of depthwise convolutions that are more than three taps wide, for CPUs.

For the gradient of such a kernel oneDNN has no code made for depthwise layers: it takes ten to twenty times as long as
the convolution itself, a fifth of the training of a network with kernels of 5. So it is put together from kernels at
most three wide. Taps that lie a stride apart read neighbouring columns once the columns between them are left out.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FAST = 3  # taps side by side that oneDNN has code for


class WideDepthwise(nn.Conv2d):
    """A depthwise convolution whose kernel's gradient is put together from narrow ones on the CPU.

    It is like `layer`, which has neither bias nor dilation, but for its weights: it has none yet.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        channels, shape = layer.in_channels, (layer.kernel_size, layer.stride, layer.padding)
        super().__init__(channels, channels, *shape, groups=channels, bias=False, device="meta")  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W'), as of nn.Conv2d."""
        if not (self.training and torch.is_grad_enabled() and input.device.type == "cpu"):
            return super().forward(input)
        output: Tensor = _Convolution.apply(input, self.weight, self.stride, self.padding)
        return output


def with_fast_gradients(model: nn.Module) -> nn.Module:
    """`model` itself, its wide depthwise convolutions replaced by such; parameters and their names are as before."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d) and _is_wide(layer):
            wide = WideDepthwise(layer)
            wide.weight = layer.weight
            model.set_submodule(name, wide)
    return model


def _is_wide(layer: nn.Conv2d) -> bool:
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    plain = layer.bias is None and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
    return depthwise and plain and layer.kernel_size[1] > FAST


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.pad = stride, pad
        return functional.conv2d(x, kernel, None, stride, pad, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        x, kernel = ctx.saved_tensors
        dx = dkernel = None
        if ctx.needs_input_grad[0]:
            dx, _ = _gradients(gradient, x, kernel, ctx.stride, ctx.pad, of_input=True)
        if ctx.needs_input_grad[1]:
            dkernel = kernel_gradient(gradient, x, kernel, ctx.stride, ctx.pad)
        return dx, dkernel, None, None


def kernel_gradient(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: tuple[int, int]
) -> Tensor:
    """The gradient of `kernel` (C, 1, h, w), from that of the output (N, C, H', W') and the input (N, C, H, W)."""
    down, across = stride
    height = kernel.shape[2]
    outputs = gradient.shape[3]
    above = pad[0] if height > x.shape[2] else 0  # a kernel higher than its input has no fast code either
    below = (gradient.shape[2] - 1) * down + height - x.shape[2] - above if above else 0
    found = torch.empty_like(kernel)
    for first in range(across):  # of the taps that lie a stride apart
        begin = (first - pad[1]) % across
        columns, taps = x[..., begin::across], found[..., first::across]
        before = (begin + pad[1] - first) // across  # columns that the first of them reads to the left of the image
        for tap in range(0, taps.shape[3], FAST):
            part = kernel[..., first::across][..., tap : tap + FAST]
            right = outputs - 1 + part.shape[3] - columns.shape[3] - (before - tap)
            seen = functional.pad(columns, (before - tap, right, above, below))
            _, narrow = _gradients(gradient, seen, part, (down, 1), (pad[0] - above, 0), of_input=False)
            taps[..., tap : tap + FAST] = narrow
    return found


def _gradients(
    gradient: Tensor, x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: tuple[int, int], of_input: bool
) -> tuple[Tensor, Tensor]:
    """torch's own gradient of the input, or of the kernel; the other one is None."""
    dx, dkernel, _ = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, stride, pad, (1, 1), False, (0, 0), x.shape[1], (of_input, not of_input, False)
    )
    return dx, dkernel
