"""Counting over a built model: a second opinion on what `nas.networks.graph` and `nas.networks.profile` compute in
closed form.

Works on any torch model, on the meta device too, where nothing is computed; the model's mode is left as it was.
"""

import copy
import math
import operator
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas.models.torch_model import Gained, build
from nas.networks.architecture import COLOUR, Arch, graph
from nas.networks.graph import Cost
from nas.networks.profile import Check, totals

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid)
IN_PLACE = (nn.BatchNorm2d, nn.Dropout, Gained, *ACTIVATIONS)
IN_PLACE_FUNCTIONS = (operator.add, operator.mul)
VIEWS = (torch.flatten, nn.functional.pad, "unflatten")  # padding is read past the edge


@dataclass(frozen=True, slots=True)
class Counted:
    """A leaf module's figures for one image, those of its last call, by the rules of `nas.networks.profile.Row`."""

    name: str
    kind: str
    """Its class in torch."""
    macs: int
    params: int
    buffers: int
    """Running statistics of a batch norm."""
    flops: int
    """torchstat's."""
    read: int
    write: int
    thop: int
    """Of thop's releases before 2022."""


def count(model: nn.Module, resolution: int, channels: int = COLOUR) -> Cost:
    """MACs, params and peak of `model` for one image; the convention is `Cost`'s.

    Raises what torch.fx raises where a model cannot be traced; what `build` makes always can.
    """
    run = _Run(model, resolution, channels)
    return Cost(run.macs, sum(p.numel() for p in model.parameters()), _peak(run))


def leaves(model: nn.Module, resolution: int, channels: int = COLOUR) -> list[Counted]:
    """The leaf modules of `model` in the order of their first call, as torchstat 0.0.7 sees them.

    A module that is called several times is one row, with the figures of its last call.
    """
    return list(_Run(model, resolution, channels).rows.values())


def torchstat(rows: Collection[Counted], modules: Collection[str]) -> tuple[int, int]:
    """torchstat's Flops, and bytes read and written, where of the weightless layers those of class `modules` count."""
    seen = [row for row in rows if row.params or row.kind in modules]
    return sum(row.flops for row in seen), 4 * sum(row.read + row.write for row in seen)


def check(arch: Arch, modules: Collection[str]) -> Check:
    """The closed form of `arch` beside a count on the built model, under the same convention, and beside thop.

    Raises ImportError where thop cannot be imported.
    """
    on_paper, model = totals(graph(arch), modules), build(arch)
    image = arch.resolution, arch.channels
    built, rows = count(model, *image), leaves(model, *image)
    flops, memory = torchstat(rows, modules)
    second = by_thop(model, *image)
    macs = {row.name: row.macs for row in rows if row.name in second}
    return Check(
        totals={
            "MACs": (on_paper.macs, built.macs),
            "params": (on_paper.params, built.params),
            "torchstat FLOPs": (on_paper.torchstat, flops),
            "memory read + write, bytes": (on_paper.memory, memory),
            "peak activations": (on_paper.peak, built.peak),
        },
        thop_rows=len(second),
        thop_agrees=sum(macs[name] == number for name, number in second.items()),
    )


def by_thop(model: nn.Module, resolution: int, channels: int = COLOUR) -> dict[str, int]:
    """What thop counts for each convolution and linear layer of a copy of `model`, by name: multiply-accumulates.

    Raises ImportError where thop is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import thop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.zeros(1, channels, resolution, resolution)
        found = thop.profile(copy.deepcopy(model), inputs=(image,), verbose=False, ret_layer_info=True)[2]
    flat: dict[str, int] = {}

    def gather(prefix: str, children: dict[str, Any]) -> None:
        for name, (macs, _, inner) in children.items():
            flat[prefix + name] = int(macs)
            gather(f"{prefix}{name}.", inner)

    gather("", found)
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return {name: flat[name] for name in layers}


def _counted(name: str, module: nn.Module, numel: int, out: int) -> Counted:
    def row(macs: int = 0, flops: int = 0, read: int = 0, write: int = 0, thop: int = 0) -> Counted:
        parameters, buffers = sum(p.numel() for p in module.parameters()), 0
        if isinstance(module, nn.BatchNorm2d):
            buffers = 2 * module.num_features
        return Counted(name, type(module).__name__, macs, parameters, buffers, flops, read, write, thop)

    weights = sum(p.numel() for p in module.parameters())
    match module:
        case nn.Conv2d():
            macs = math.prod(module.kernel_size) * module.in_channels // module.groups * out
            return row(macs, macs + (out if module.bias is not None else 0), numel + weights, out, macs)
        case nn.Linear():
            macs = module.in_features * module.out_features
            return row(macs, macs, numel + weights, out, macs)
        case nn.BatchNorm2d():
            return row(0, 2 * numel, numel + weights, numel, 2 * numel)
        case nn.ReLU() | nn.ReLU6():  # ReLU6 is a subclass of Hardtanh
            return row(0, numel, numel, numel)
        case nn.MaxPool2d() | nn.AvgPool2d():
            return row(0, numel, numel, out, out if isinstance(module, nn.AvgPool2d) else 0)
        case nn.AdaptiveAvgPool2d():
            return row(thop=(numel // out + 1) * out)
    return row()


class _Run(fx.Interpreter):
    """A forward pass on one image, node by node: what each leaf module comes to, and the size of each map."""

    def __init__(self, model: nn.Module, resolution: int, channels: int) -> None:
        super().__init__(model if isinstance(model, fx.GraphModule) else fx.symbolic_trace(model))
        self.macs = 0
        self.rows: dict[str, Counted] = {}
        self.sizes: dict[fx.Node, int] = {}
        device = next(model.parameters()).device
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                self.run(torch.empty(1, channels, resolution, resolution, device=device))
        finally:
            model.train(training)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.sizes[n] = result.numel()
        return result

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x_shape = args[0][0].shape  # before a module that works in place
        result = super().call_module(target, args, kwargs)
        row = _counted(target, self.fetch_attr(target), x_shape.numel(), result[0].numel())
        self.rows[target] = row
        self.macs += row.macs
        return result


def _peak(run: _Run) -> int:
    """The most numbers held at one time; the rules are those of `nas.networks.graph.peak`."""
    nodes = [node for node in run.graph.nodes if node.op not in ("output", "get_attr")]
    place = {node: i for i, node in enumerate(nodes)}
    storage: dict[fx.Node, int] = {}
    created: list[int] = []
    freed: list[int] = []
    for i, node in enumerate(nodes):
        end = max((place.get(user, len(nodes)) for user in node.users), default=i)
        called = run.fetch_attr(node.target) if node.op == "call_module" else node.target
        slot = None
        if called in VIEWS:
            slot = storage[node.all_input_nodes[0]]
        elif isinstance(called, IN_PLACE) or called in IN_PLACE_FUNCTIONS:
            ending = [x for x in node.all_input_nodes if run.sizes[x] == run.sizes[node] and freed[storage[x]] == i]
            slot = storage[ending[0]] if ending else None
        if slot is None:
            slot = len(created)
            created.append(i)
            freed.append(end)
        storage[node] = slot
        freed[slot] = max(freed[slot], end)
    weights = {storage[node]: run.sizes[node] for node in reversed(nodes)}  # a view weighs what it looks at
    return max(
        sum(weights[s] for s in range(len(created)) if created[s] <= i <= freed[s]) for i, node in enumerate(nodes)
    )
