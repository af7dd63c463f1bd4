"""A network's layer table, and its totals under each counting convention of the papers; all in closed form.

torchstat 0.0.7 sees modules and nothing else: an activation or pool that was written as a function counts nothing, and
a module that is called twice counts once, as in its last call. So which layers were modules in the code that a paper
measured decides what it printed, and is part of the convention.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal

from nas.errors import Error
from nas.networks.architecture import Anchor, Arch, graph
from nas.networks.graph import Act, Conv, Graph, Linear, Mean, Node, Norm, Pool, macs, params, peak

NAMES = {"relu": "ReLU", "relu6": "ReLU6", "hswish": "Hardswish", "hsigmoid": "Hardsigmoid", "sigmoid": "Sigmoid"}
POOLS = {"max": "MaxPool2d", "avg": "AvgPool2d"}
MODULES = ("ReLU", "ReLU6", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")
"""The layers without weights that count where they are modules, by their names in torch."""


@dataclass(frozen=True, slots=True)
class Row:
    """A primitive layer for one image.

    `flops` is torchstat's, `read` and `write` torchstat's memory in numbers (four bytes each), weights included.
    """

    name: str
    layer: str
    """Its class in torch, or what it does where it is a function."""
    about: str
    """Kernel, stride and groups of a convolution (dw: depthwise) or pool, as in "dw 3x3/2"."""
    channels: int
    """Of the output."""
    size: int
    """Side of the output."""
    macs: int
    params: int
    buffers: int
    """Running statistics of a batch norm."""
    flops: int
    read: int
    write: int
    thop: int
    """Of thop's releases before 2022: MACs, 2 a number for batch norm, average pooling."""


@dataclass(frozen=True, slots=True)
class Totals:
    """A network under each convention."""

    macs: int
    """Multiply-accumulates of convolutions and linear layers: what nas calls FLOPs."""
    params: int
    params_bn: int
    """Params and batch norm's running statistics."""
    torchstat: int
    memory: int
    """torchstat's memory read + write, bytes."""
    thop: int
    peak: int
    """Most activations held at once; bytes in int8."""


def table(nodes: Graph, modules: Collection[str] = MODULES) -> tuple[Row, ...]:
    """One row a layer, in the order of the forward pass, as counted where the weightless `modules` were modules.

    What torchstat does not see has no `flops`, `read` and `write`: other layers without weights, and all calls of a
    module but the last. Raises Error on unknown `modules`.
    """
    if unknown := set(modules) - set(MODULES):
        raise Error(f"modules must be some of {MODULES}, got {sorted(unknown)[0]!r}")
    rows = [_row(node) for node in nodes[1:]]
    last_call = {node.module: i for i, node in enumerate(nodes[1:])}
    return tuple(
        row
        if (row.params or row.layer in modules) and last_call[node.module] == i
        else replace(row, flops=0, read=0, write=0, thop=0)
        for i, (row, node) in enumerate(zip(rows, nodes[1:], strict=True))
    )


def totals(nodes: Graph, modules: Collection[str] = MODULES) -> Totals:
    """Sums over `table(nodes, modules)`, and the peak."""
    rows = table(nodes, modules)
    return Totals(
        macs=sum(row.macs for row in rows),
        params=sum(row.params for row in rows),
        params_bn=sum(row.params + row.buffers for row in rows),
        torchstat=sum(row.flops for row in rows),
        memory=4 * sum(row.read + row.write for row in rows),
        thop=sum(row.thop for row in rows),
        peak=peak(nodes),
    )


def _row(node: Node) -> Row:
    numel, out, weights = sum(x.numel for x in node.reads), node.out.numel, params(node)
    layer, about, buffers, flops, read, write, thop = type(node.op).__name__.lower(), "", 0, 0, 0, 0, 0
    match node.op:
        case Conv(_, (rows, columns), stride, _, groups, bias):
            deep = "dw " * (1 < groups == node.out.channels)
            layer, about = "Conv2d", f"{deep}{rows}x{columns}{f'/{stride}' * (stride > 1)}"
            about += f" g{groups}" * (groups > 1 and not deep)
            flops, read, write, thop = macs(node) + bias * out, numel + weights, out, macs(node)
        case Linear():
            layer, flops, read, write, thop = "Linear", macs(node), numel + weights, out, macs(node)
        case Norm():
            layer, buffers = "BatchNorm2d", 2 * node.out.channels
            flops, read, write, thop = 2 * numel, numel + weights, numel, 2 * numel
        case Act(name):
            layer = NAMES[name]
            if name in ("relu", "relu6"):  # torchstat knows no other of ours
                flops, read, write = numel, numel, numel
        case Pool(mode, kernel, stride, _, _):
            layer, about = POOLS[mode], f"{mode} {kernel}x{kernel}{f'/{stride}' * (stride > 1)}"
            flops, read, write, thop = numel, numel, out, out * (mode == "avg")
        case Mean():
            layer, thop = "AdaptiveAvgPool2d", numel + out
    return Row(
        node.name, layer, about, node.out.channels, node.out.size,
        macs(node), weights, buffers, flops, read, write, thop,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """The closed form beside what was counted on the built model, and thop's opinion of each layer's MACs."""

    totals: dict[str, tuple[int, int]]
    thop_rows: int
    thop_agrees: int

    @property
    def agree(self) -> bool:
        """Whether all of it is the same."""
        return self.thop_rows == self.thop_agrees and all(ours == built for ours, built in self.totals.values())


@dataclass(frozen=True, slots=True)
class Profile:
    """A network layer by layer, with its totals under each counting convention."""

    name: str
    arch: Arch
    anchor: Anchor | None
    """Where it is a published network as it was published: then what its paper prints applies."""
    modules: tuple[str, ...]
    """Layers without weights that torchstat would see."""
    rows: tuple[Row, ...]
    totals: Totals
    check: Check | None
    """The same counted on the built model, where that was asked for."""


# ---- against what is printed ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as a paper prints it beside ours, rounded to as many digits."""

    what: str
    printed: str
    ours: str
    error: float
    """Ours against the printed one, as a share of it."""


def cells(anchor: Anchor) -> tuple[Cell, ...]:
    """Each figure that the paper prints of `anchor`, beside ours under the paper's convention."""
    printed = anchor.published
    ours = published_totals(anchor)
    pairs = [
        ("params", printed.params, ours.params),
        ("FLOPs", printed.flops, ours.torchstat if printed.convention == "torchstat" else ours.macs),
        ("memory", printed.memory, ours.memory),
    ]
    return tuple(_cell(what, text, number) for what, text, number in pairs if text)


def published_totals(anchor: Anchor) -> Totals:
    """Totals of `anchor` with the modules that the code measured by its paper had."""
    return totals(graph(anchor.arch), anchor.published.modules)


def status(anchor: Anchor) -> str:
    """How `anchor` agrees with its paper: "exact" to every printed digit, "within x %", or "interpretation".

    "-" where the paper prints no figure.
    """
    if anchor.reading:
        return "interpretation"
    compared = cells(anchor)
    missed = [abs(cell.error) for cell in compared if cell.ours != cell.printed]
    if not compared:
        return "-"
    if not missed:
        return "exact"
    error = Decimal(100 * max(missed))
    return f"within {error.quantize(Decimal(1).scaleb(error.adjusted() - 1), ROUND_UP)} %"  # two digits


def _cell(what: str, text: str, number: int) -> Cell:
    unit = text.lstrip("0123456789.")
    digits = text.removesuffix(unit)
    scale = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "MB": 2**20}[unit]
    decimals = len(digits.partition(".")[2])
    return Cell(what, text, f"{number / scale:.{decimals}f}{unit}", number / scale / float(digits) - 1)


def profile(arch: Arch, modules: Collection[str] = MODULES) -> tuple[tuple[Row, ...], Totals]:
    """The layer table of `arch` and its totals. Raises Error, with its path, where a part does not fit."""
    nodes = graph(arch)
    return table(nodes, modules), totals(nodes, modules)
