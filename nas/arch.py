"""An architecture as a value: resolution, stem, stages, head. One walk over it serves cost, identity and graph."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from nas.blocks import Block, Conv
from nas.graph import Activation, Cost, Graph, Map, Wiring, cost_of, fingerprint, peak

IMAGE = 3  # channels


@dataclass(frozen=True, slots=True)
class Stem:
    """First layer: a convolution on the image."""

    width: int
    stride: int = 1
    norm: bool = True
    act: Activation = "relu6"
    kernel: int = 3
    bias: bool = False
    pad: bool = True

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """The stem from `x` to `cout` channels."""
        return g.conv_bn("main", x, cout, self.kernel, stride, 1, self.act, self.bias, self.pad, self.norm)


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of a paper's table: `depth` equal blocks; the first one carries the stride."""

    block: Block
    width: int
    """Output channels of every block."""
    depth: int
    stride: int = 1
    concat: bool = False
    """Inter-layer concat (paper 000): hand on every feature map of this stage's resolution, concatenated:
    the outputs of all its blocks and, where the stage keeps the resolution, its input too."""
    transition: Literal["none", "block", "stage"] = "none"
    """A 1x1 convolution with batch norm that mixes the channels: after each block, or after the last (paper 001)."""
    transition_act: Activation = "linear"
    transition_bias: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """Last layers: a 1x1 convolution to `width` channels, global average pool, classifier."""

    width: int = 0
    """0: no such convolution."""
    norm: bool = True
    act: Activation = "relu6"
    bias: bool = False
    hidden: int = 0
    """Width of a further layer between pool and classifier, with bias and activation (MobileNetV3); 0: none."""
    hidden_layer: Literal["linear", "conv"] = "linear"
    dropout: float = 0.0
    """Before the classifier."""
    classifier: Literal["linear", "conv", "map"] = "linear"
    """"conv": a 1x1 convolution; "map": one before the pool, followed by the activation (SqueezeNet)."""
    pool: Literal["adaptive", "window"] = "adaptive"
    """"window": an average pool as large as the map; the same numbers, but torchstat counts it."""

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """The head from `x` to `cout` classes."""
        if self.width:
            x = g.conv_bn("main", x, self.width, act=self.act, bias=self.bias, norm=self.norm)
        if self.classifier == "map":
            x = g.conv("classifier", g.dropout("dropout", x, self.dropout), cout, bias=True)
            return g.mean("pool", g.act("act", x, self.act))
        x = g.mean("pool", x) if self.pool == "adaptive" else g.pool("pool", x, "avg", x.size, x.size)
        if self.hidden:
            if self.hidden_layer == "conv":
                x = g.conv("hidden", x, self.hidden, bias=True)
            else:
                x = g.linear("hidden", x, self.hidden)
            x = g.act("hidden_act", x, self.act)
        x = g.dropout("dropout", x, self.dropout)
        return (
            g.conv("classifier", x, cout, bias=True) if self.classifier == "conv" else g.linear("classifier", x, cout)
        )


@dataclass(frozen=True, slots=True)
class Arch:
    """A network for `resolution` x `resolution` RGB images of `classes` classes."""

    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int = 32
    classes: int = 10

    def __post_init__(self) -> None:
        at_least_one = [("resolution", self.resolution), ("classes", self.classes), ("stem.width", self.stem.width)]
        strides = [("stem.stride", self.stem.stride)]
        for i, stage in enumerate(self.stages):
            at_least_one += [(f"stages.{i}.width", stage.width), (f"stages.{i}.depth", stage.depth)]
            strides.append((f"stages.{i}.stride", stage.stride))
        for path, value in at_least_one:
            if type(value) is not int or value < 1:
                raise ValueError(f"{path} must be a whole number of at least 1, got {value!r}")
        for path, value in strides:
            if value not in (1, 2):
                raise ValueError(f"{path} must be 1 or 2, got {value!r}")
        if not self.stages:
            raise ValueError("stages must hold at least one stage, got none")


Part: TypeAlias = Stem | Block | Head


class Place(NamedTuple):
    """Where a part of a network stands: between how many channels, at which stride, on a map of which side."""

    part: Part
    cin: int
    cout: int
    stride: int
    size: int


class Drawn(NamedTuple):
    """What a part comes to in its place."""

    cost: Cost
    out: Map


def wired(place: Place) -> tuple[Graph, Map]:
    """The graph of a part alone, and the map that leaves it: its last. Raises ValueError where it cannot be drawn."""
    g = Wiring(place.cin, place.size)
    out = place.part.wire(g, g.input, place.cout, place.stride)
    if out.at != len(g.nodes) - 1:
        raise ValueError(f"{type(place.part).__name__}.wire must return the last map that it draws")
    return g.graph, out


@lru_cache(maxsize=1 << 16)
def drawn(place: Place) -> Drawn:
    """Cost of a part, and the map that leaves it."""
    nodes, out = wired(place)
    return Drawn(cost_of(nodes), out)


@lru_cache(maxsize=1 << 16)
def peak_beside_input(place: Place) -> int:
    """Peak of a part whose input is kept for someone else."""
    return peak(wired(place)[0], input_stays=True)


@lru_cache(maxsize=1 << 14)
def drawing(place: Place) -> str:
    """What a part is drawn as: equal for two parts that are built alike."""
    return fingerprint(wired(place)[0])


class Layer(NamedTuple):
    """A part in its place. It reads the outputs of the layers `reads`, concatenated; the stem, layer 0, the image."""

    name: str
    place: Place
    reads: tuple[int, ...]
    drawn: Drawn


def walk(arch: Arch) -> tuple[Layer, ...]:
    """The parts of `arch` in the order of the forward pass.

    Raises ValueError, with its path, where one does not fit.
    """
    layers: list[Layer] = []

    def add(name: str, path: str, part: Part, reads: tuple[int, ...], cout: int, stride: int) -> int:
        sources = [layers[i].drawn.out for i in reads]
        if len({source.size for source in sources}) > 1:
            said = ", ".join(f"{source.channels}x{source.size}x{source.size}" for source in sources)
            raise ValueError(f"{path}: the maps that it joins differ in size: {said}")
        cin = sum(source.channels for source in sources) if reads else IMAGE
        place = Place(part, cin, cout, stride, sources[0].size if reads else arch.resolution)
        try:
            layers.append(Layer(name, place, reads, drawn(place)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return len(layers) - 1

    reads: tuple[int, ...] = (add("stem", "stem", arch.stem, (), arch.stem.width, arch.stem.stride),)
    for i, stage in enumerate(arch.stages):
        mix = Conv(1, stage.transition_act, stage.transition_bias)
        maps = reads if stage.stride == 1 else ()  # what may be concatenated: all of one resolution
        for j in range(stage.depth):
            last = j == stage.depth - 1
            stride = stage.stride if j == 0 else 1
            at = add(f"stage{i}.block{j}", f"stages.{i}", stage.block, reads, stage.width, stride)
            if stage.transition == "block" or (stage.transition == "stage" and last):
                at = add(f"stage{i}.transition{j}", f"stages.{i}", mix, (at,), stage.width, 1)
            maps, reads = (*maps, at), (at,)
        if stage.concat:
            reads = maps
    add("head", "head", arch.head, reads, arch.classes, 1)
    return tuple(layers)


def cost(arch: Arch) -> Cost:
    """MACs, params and peak of `arch` in closed form: arithmetic on the value, nothing is built. See `Cost`.

    Raises ValueError, with its path, where a part does not fit.
    """
    layers = walk(arch)
    last = {source: i for i, layer in enumerate(layers) for source in layer.reads}
    macs = params = most = 0
    held: dict[int, int] = {}  # numbers in each output that a later layer reads
    for i, layer in enumerate(layers):
        here, reads = layer.drawn, layer.reads
        macs += here.cost.macs
        params += here.cost.params
        inside = here.cost.peak
        if len(held) == len(reads) == 1 and last[reads[0]] == i:  # nothing waits beside it
            beside = 0
        elif len(reads) > 1:  # a concatenation holds its inputs and its output
            most = max(most, sum(held.values()) + sum(held[source] for source in reads))
            beside = sum(numel for source, numel in held.items() if last[source] > i)
        else:
            beside = sum(numel for source, numel in held.items() if source not in reads)
            if reads and last[reads[0]] > i:
                inside = peak_beside_input(layer.place)
        most = max(most, beside + inside)
        for source in reads:
            if last[source] == i:
                del held[source]
        if i in last:
            held[i] = here.out.numel
    return Cost(macs, params, most)


def graph(arch: Arch) -> Graph:
    """The whole network as one graph, from the image to the logits; names begin with the layers'."""
    g = Wiring(IMAGE, arch.resolution)
    outs: list[Map] = []
    for layer in walk(arch):
        with g.within(layer.name):
            x = g.cat("concat", [outs[i] for i in layer.reads]) if layer.reads else g.input
            outs.append(layer.place.part.wire(g, x, layer.place.cout, layer.place.stride))
    return g.graph


def arch_id(arch: Arch) -> str:
    """Ten hex digits naming the network that `arch` builds: two spellings of one network have one id.

    (A filled kernel in a stage where no block keeps its shape, say, is a plain 3x3 and has its id.)
    """
    said = [[drawing(layer.place), layer.reads] for layer in walk(arch)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:10]


# ---- published networks --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """What a paper prints of a network, as it prints it; nothing in here is ours."""

    params: str = ""
    """As in "0.36M"."""
    flops: str = ""
    """As in "25.46M", under `convention`."""
    memory: str = ""
    """torchstat's memory read + write, as in "12.46MB"."""
    convention: Literal["macs", "torchstat"] = "macs"
    modules: tuple[str, ...] = ()
    """The layers besides convolutions, linear layers and batch norms that were modules in the code measured, by their
    names in torch: torchstat sees no others. None of them where that code is not known."""
    top1: str = ""
    """Accuracy with its dataset and recipe, as in "89.38 % CIFAR-10 (SGD, cosine, 200 epochs)"."""
    speed: str = ""
    """As in "35 batches/s"; of the paper's own machine."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published network: a row to beat, and a seed of the search."""

    name: str
    arch: Arch
    source: str
    """Paper and table."""
    published: Published = Published()
    note: str = ""
    """What is our reading, or where a printed figure is missed and why."""
    reading: bool = False
    """The paper prints no architecture: this is an interpretation of it."""
    reference: bool = False
    """To compare with only: in no search space, and no row of a search."""
