"""Architectures as torch modules: `build` turns the graph of an architecture into a `torch.fx.GraphModule`.

So the forward pass is plain Python that can be read (`print(build(arch).code)`), traced, compiled and exported, and the
modules in it are torch's own.
"""

import operator
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from nas.networks.architecture import Arch, graph
from nas.networks.graph import (
    Act,
    Activation,
    Add,
    Cat,
    Conv,
    Dropout,
    Gain,
    Graph,
    Input,
    Linear,
    Mean,
    Node,
    Norm,
    Op,
    Pad,
    Pool,
    Scale,
    Shuffle,
    Slice,
)


class Gained(nn.Module):
    """(...) times one learnable number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * self.weight
        return scaled


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channel shuffle: (N, C, H, W) read as (N, groups, C / groups, H, W), with the two in the middle swapped."""
    mixed: Tensor = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return mixed


ACTIVATIONS: dict[Activation, Callable[[bool], nn.Module]] = {  # called with whether to work in place
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "hsigmoid": nn.Hardsigmoid,
    "sigmoid": lambda _: nn.Sigmoid(),
}


def module(node: Node, in_place: bool) -> nn.Module | None:
    """The torch module of a primitive layer; None for those that are functions."""
    cin = node.reads[0].channels if node.reads else 0
    match node.op:
        case Conv(cout, kernel, stride, pad, groups, bias):
            return nn.Conv2d(cin, cout, kernel, stride, pad, groups=groups, bias=bias)
        case Linear(cout, bias):
            return nn.Linear(cin, cout, bias)
        case Norm():
            return nn.BatchNorm2d(cin)
        case Act(name):
            return ACTIVATIONS[name](in_place)
        case Pool("max", kernel, stride, pad, ceil):
            return nn.MaxPool2d(kernel, stride, pad, ceil_mode=ceil)
        case Pool("avg", kernel, stride, pad, ceil):
            return nn.AvgPool2d(kernel, stride, pad, ceil_mode=ceil)
        case Mean():
            return nn.AdaptiveAvgPool2d(1)
        case Gain():
            return Gained()
        case Dropout(share):
            return nn.Dropout(share)
    return None


def build(arch: Arch) -> fx.GraphModule:
    """The torch module of `arch`: images (N, C, R, R) -> logits (N, classes).

    Freshly initialised from torch's global generator. Raises Error where a part of `arch` does not fit.
    """
    return assembled(graph(arch))


def assembled(nodes: Graph) -> fx.GraphModule:
    """The torch module of a graph, freshly initialised."""
    guarded = _read_elsewhere(nodes)
    modules: dict[str, nn.Module] = {}
    code = fx.Graph()
    values: list[fx.Node] = []
    flat: set[int] = set()  # values of shape (N, C); all others are (N, C, H, W)
    shared: dict[str, Op] = {}
    for node in nodes:
        made = module(node, node.module not in guarded)
        if made is not None:
            modules.setdefault(node.module, made)
            assert shared.setdefault(node.module, node.op) == node.op, f"two different layers are called {node.module}"
        values.append(_call(code, node, [values[read.at] for read in node.reads], flat))
        if isinstance(node.op, Linear) or (isinstance(node.op, Act | Dropout) and node.reads[0].at in flat):
            flat.add(node.out.at)
    logits = values[-1]
    code.output(logits if nodes[-1].out.at in flat else code.call_function(torch.flatten, (logits, 1)))
    network = fx.GraphModule(modules, code, "Network")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def _read_elsewhere(nodes: Graph) -> set[str]:
    """Modules of activations that must not write over what they read.

    Someone else reads it too, it is a view, or it is the output that an activation before needs for its gradient.
    """
    readers = Counter(read.at for node in nodes for read in node.reads)
    acting = [(node.module, node.reads[0].at) for node in nodes if isinstance(node.op, Act)]
    return {name for name, x in acting if readers[x] > 1 or isinstance(nodes[x].op, Input | Slice | Act)}


def _call(code: fx.Graph, node: Node, x: list[fx.Node], flat: set[int]) -> fx.Node:
    """`node` in torch's own graph, reading `x`."""
    match node.op:
        case Input():
            return code.placeholder("x")
        case Pad():
            return code.call_function(nn.functional.pad, (x[0], (0, 1, 0, 1)))
        case Cat():
            return code.call_function(torch.cat, (x, 1))
        case Slice(start, stop):
            return code.call_function(torch.narrow, (x[0], 1, start, stop - start))
        case Shuffle(groups):
            return code.call_function(shuffled, (x[0], groups))
        case Add():
            return code.call_function(operator.add, (x[0], x[1]))
        case Scale():
            gate = x[1]
            if node.reads[1].at in flat:
                gate = code.call_method("unflatten", (gate, 1, (-1, 1, 1)))
            return code.call_function(operator.mul, (x[0], gate))
        case Linear() if node.reads[0].at not in flat:
            return code.call_module(node.module, (code.call_function(torch.flatten, (x[0], 1)),))
        case Conv() if node.reads[0].at in flat:
            return code.call_module(node.module, (code.call_method("unflatten", (x[0], 1, (-1, 1, 1))),))
    return code.call_module(node.module, (x[0],))
