"""Counting over a built model: the second entry of the books that `cost(arch)` keeps in closed form."""

import torch
from torch import Tensor, nn

from nas.blocks import Cost


def count(model: nn.Module, resolution: int) -> Cost:
    """MACs and params of `model` for one RGB image, counted layer by layer in a forward pass.

    The convention is `Cost`'s: convolutions and linear layers only. Works on the meta device, where nothing is
    computed; the model's mode is left as it was.
    """
    macs = 0

    def add(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            taps = module.kernel_size[0] * module.kernel_size[1] * module.in_channels // module.groups
            macs += taps * output[0].numel()
        elif isinstance(module, nn.Linear):
            macs += module.in_features * output[0].numel()

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    device = next(model.parameters()).device
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.empty(1, 3, resolution, resolution, device=device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return Cost(macs, sum(p.numel() for p in model.parameters()))
