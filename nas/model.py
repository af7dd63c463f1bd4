"""Architectures as torch modules: one module per block kind, the MODULES table, and `build`."""

from typing import cast

import torch
from torch import Tensor, nn

from nas.arch import Arch, walk
from nas.blocks import Activation, Block, Bottleneck, Branch


def activation(name: Activation) -> nn.Module:
    """The activation called `name`; "linear" is the identity."""
    match name:
        case "linear":
            return nn.Identity()
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "hswish":
            return nn.Hardswish(inplace=True)


def conv_bn(cin: int, cout: int, kernel: int, stride: int, norm: bool, act: Activation) -> nn.Sequential:
    """Dense convolution without bias, padded to keep the size, then batch norm (or none) and an activation."""
    layers: list[nn.Module] = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)]
    if norm:
        layers.append(nn.BatchNorm2d(cout))
    if act != "linear":
        layers.append(activation(act))
    return nn.Sequential(*layers)


def branch(name: Branch, channels: int, stride: int) -> nn.Module:
    """One branch of a depthwise layer: (N, C, H, W) -> (N, C, ceil(H/stride), ceil(W/stride))."""

    def depthwise(kernel: tuple[int, int], padding: tuple[int, int]) -> nn.Conv2d:
        return nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False)

    match name:
        case "3x3" | "5x5" | "7x7":
            side = int(name[0])
            return depthwise((side, side), (side // 2, side // 2))
        case "1x3-3x1":
            return nn.Sequential(depthwise((1, 3), (0, 1)), depthwise((3, 1), (1, 0)))
        case "2x2":  # padded right and below, so the output keeps the size
            return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), depthwise((2, 2), (0, 0)))
        case "maxpool":
            return nn.MaxPool2d(2, ceil_mode=True)


class Gate(nn.Module):
    """Squeeze and excitation: scales each channel by a share in [0, 1] computed from all channels' means."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeeze, 1)
        self.expand = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        share = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        share = nn.functional.relu(self.reduce(share))
        return x * nn.functional.hardsigmoid(self.expand(share))


class BottleneckModule(nn.Module):
    """`Bottleneck` in its place: (N, cin, H, W) -> (N, cout, H/stride, W/stride)."""

    def __init__(self, block: Bottleneck, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        place = block.layout(cin, cout, stride)
        mixed = place.hidden * len(place.branches)
        self.expand = conv_bn(cin, place.hidden, 1, 1, True, block.expand_act)
        self.branches = nn.ModuleList(branch(name, place.hidden, stride) for name in place.branches)
        self.mix = nn.Sequential(nn.BatchNorm2d(mixed), activation(block.act))
        self.gate = Gate(mixed, place.squeeze) if place.squeeze else nn.Identity()
        self.project = conv_bn(mixed, cout, 1, 1, True, "linear")
        self.residual = place.residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)  # (N, hidden, H, W)
        parts = [part(y) for part in self.branches]
        y = torch.cat(parts, 1) if len(parts) > 1 else parts[0]  # (N, hidden * branches, H/stride, W/stride)
        y = self.project(self.gate(self.mix(y)))
        out: Tensor = x + y if self.residual else y
        return out


MODULES: dict[type[Block], type[nn.Module]] = {Bottleneck: BottleneckModule}


class Network(nn.Module):
    """A whole architecture: images (N, 3, R, R) -> logits (N, classes)."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        trunk = walk(arch)
        places = iter(trunk.layers)
        self.stem = conv_bn(3, arch.stem.width, 3, arch.stem.stride, arch.stem.norm, arch.stem.act)
        self.stages = nn.ModuleList()
        for stage in arch.stages:
            blocks = nn.ModuleList()
            for _ in range(stage.depth):
                place = next(places)
                blocks.append(MODULES[type(place.block)](place.block, place.cin, place.cout, place.stride))
            self.stages.append(blocks)
        self.head = conv_bn(trunk.channels, arch.head.width, 1, 1, arch.head.norm, arch.head.act)
        self.classify = nn.Linear(arch.head.width, arch.classes)
        self.concats = [stage.concat for stage in arch.stages]
        self.keeps = [stage.stride == 1 for stage in arch.stages]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for blocks, concat, keeps in zip(self.stages, self.concats, self.keeps, strict=True):
            maps = [x] if keeps else []
            for block in cast(nn.ModuleList, blocks):
                x = block(x)
                maps.append(x)
            if concat:
                x = torch.cat(maps, 1)
        x = self.head(x).mean((2, 3))  # (N, head.width)
        logits: Tensor = self.classify(x)
        return logits


def build(arch: Arch) -> Network:
    """The torch module of `arch`, freshly initialised from torch's global generator."""
    network = Network(arch)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
