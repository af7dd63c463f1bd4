"""An architecture as a value: resolution, stem, stages, head. One walk over it serves cost, identity and graph."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from nas.errors import Error, shown
from nas.networks.blocks import Block, Conv
from nas.networks.graph import UNBUILDABLE, Activation, Cost, Graph, Map, Wiring, cost_of, fingerprint, peak

COLOUR = 3  # channels of an image, where nothing else is said; gray ones have 1


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
    """Inter-layer concat (paper 000): pass on every feature map of this stage's resolution, concatenated:
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
    """A network for `resolution` x `resolution` images of `channels` channels, in `classes` classes."""

    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int = 32
    classes: int = 10
    channels: int = COLOUR

    def __post_init__(self) -> None:
        if not isinstance(self.stem, Stem):
            raise Error(f"stem must be a Stem, got {shown(self.stem)}")
        if not isinstance(self.head, Head):
            raise Error(f"head must be a Head, got {shown(self.head)}")
        if not isinstance(self.stages, tuple) or not all(isinstance(stage, Stage) for stage in self.stages):
            raise Error(f"stages must be a tuple of Stages, got {shown(self.stages)}")
        at_least_one = [("resolution", self.resolution), ("classes", self.classes), ("stem.width", self.stem.width)]
        strides = [("stem.stride", self.stem.stride)]
        for i, stage in enumerate(self.stages):
            at_least_one += [(f"stages.{i}.width", stage.width), (f"stages.{i}.depth", stage.depth)]
            strides.append((f"stages.{i}.stride", stage.stride))
        for path, value in at_least_one:
            if type(value) is not int or value < 1:
                raise Error(f"{path} must be a whole number of at least 1, got {value!r}")
        for path, value in strides:
            if value not in (1, 2):
                raise Error(f"{path} must be 1 or 2, got {value!r}")
        if self.channels not in (1, COLOUR):
            raise Error(f"channels must be 1 (gray) or {COLOUR} (colour), got {self.channels}")
        if not self.stages:
            raise Error("stages must hold at least one stage, got none")


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
    """The graph of a part alone, and the map that leaves it: its last. Raises Error where it cannot be drawn."""
    g = Wiring(place.cin, place.size)
    out = place.part.wire(g, g.input, place.cout, place.stride)
    if out.at != len(g.nodes) - 1:
        raise Error(f"{type(place.part).__name__}.wire must return the last map that it draws")
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


class Shape(NamedTuple):
    """The shape of a map that passes from one stage to the next."""

    channels: int
    size: int

    @property
    def numel(self) -> int:
        """Numbers in it, for one image."""
        return self.channels * self.size * self.size


class Section(NamedTuple):
    """The layers of a stage, or of stem or head. Those before len(incoming) are the maps that it is given."""

    layers: tuple[Layer, ...]
    outgoing: tuple[int, ...]
    """The maps that it passes on."""
    cost: Cost


@lru_cache(maxsize=1 << 16)
def _of_stage(stage: Stage, incoming: tuple[Shape, ...]) -> Section:
    """The layers of a stage. Most stages of a search are those of some network before: a network is quickly put
    together from them."""
    shapes, layers = list(incoming), list[Layer]()

    def add(name: str, part: Part, reads: tuple[int, ...], stride: int) -> int:
        layers.append(_layer(name, part, reads, shapes, stage.width, stride))
        out = layers[-1].drawn.out
        shapes.append(Shape(out.channels, out.size))
        return len(shapes) - 1

    mix = Conv(1, stage.transition_act, stage.transition_bias)
    reads = tuple(range(len(incoming)))
    maps = reads if stage.stride == 1 else ()  # what may be concatenated: all of one resolution
    for j in range(stage.depth):
        last = j == stage.depth - 1
        at = add(f"block{j}", stage.block, reads, stage.stride if j == 0 else 1)
        if stage.transition == "block" or (stage.transition == "stage" and last):
            at = add(f"transition{j}", mix, (at,), 1)
        maps, reads = (*maps, at), (at,)
    return _section(incoming, layers, maps if stage.concat else reads)


@lru_cache(maxsize=1 << 12)
def _of_stem(stem: Stem, channels: int, resolution: int) -> Section:
    place = Place(stem, channels, stem.width, stem.stride, resolution)
    return _section((), [Layer("stem", place, (), drawn(place))], (0,))


@lru_cache(maxsize=1 << 12)
def _of_head(head: Head, incoming: tuple[Shape, ...], classes: int) -> Section:
    return _section(incoming, [_layer("head", head, tuple(range(len(incoming))), incoming, classes, 1)], ())


def _section(incoming: tuple[Shape, ...], layers: Sequence[Layer], outgoing: tuple[int, ...]) -> Section:
    """The section, with its cost: nothing else is held while it runs than what it is given."""
    first = len(incoming)
    last = {source: first + i for i, layer in enumerate(layers) for source in layer.reads}
    last |= dict.fromkeys(outgoing, first + len(layers))
    macs = params = most = 0
    held = {at: shape.numel for at, shape in enumerate(incoming)}  # numbers in each map that a later layer reads
    for i, layer in enumerate(layers, start=first):
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
    return Section(tuple(layers), outgoing, Cost(macs, params, most))


def _layer(name: str, part: Part, reads: tuple[int, ...], shapes: Sequence[Shape], cout: int, stride: int) -> Layer:
    sources = [shapes[i] for i in reads]
    if len({source.size for source in sources}) > 1:
        sizes = ", ".join(f"{source.channels}x{source.size}x{source.size}" for source in sources)
        raise Error(f"the maps that it joins differ in size: {sizes}")
    place = Place(part, sum(source.channels for source in sources), cout, stride, sources[0].size)
    return Layer(name, place, reads, drawn(place))


def _sections(arch: Arch) -> Iterator[tuple[str, Section]]:
    """What `arch` is put together from, in order, and what the names of its layers begin with."""
    if not isinstance(arch, Arch):
        raise Error(f"a network must be an Arch, got {shown(arch)}; nas.profile takes names as well")
    incoming: tuple[Shape, ...] = ()
    path = "stem"
    try:
        for i in range(-1, len(arch.stages) + 1):
            if i < 0:
                section = _of_stem(arch.stem, arch.channels, arch.resolution)
            elif i < len(arch.stages):
                path = f"stages.{i}"
                section = _of_stage(arch.stages[i], incoming)
            else:
                path = "head"
                section = _of_head(arch.head, incoming, arch.classes)
            yield f"stage{i}." if 0 <= i < len(arch.stages) else "", section
            given = len(incoming)
            outs = [layer.drawn.out for layer in section.layers]
            incoming = tuple(
                incoming[at] if at < given else Shape(outs[at - given].channels, outs[at - given].size)
                for at in section.outgoing
            )
    except ValueError as error:
        raise Error(f"{path}: {error}") from None


def walk(arch: Arch) -> tuple[Layer, ...]:
    """The parts of `arch` in the order of the forward pass.

    Raises Error, with its path, where one does not fit.
    """
    layers: list[Layer] = []
    places: tuple[int, ...] = ()  # in `layers`, of the maps that come in
    for prefix, section in _sections(arch):
        places = (*places, *range(len(layers), len(layers) + len(section.layers)))
        for name, place, reads, out in section.layers:
            layers.append(Layer(prefix + name, place, tuple([places[at] for at in reads]), out))
        places = tuple([places[at] for at in section.outgoing])
    return tuple(layers)


def cost(arch: Arch) -> Cost:
    """MACs, params and peak of `arch` in closed form: arithmetic on the value, nothing is built. See `Cost`.

    Raises Error, with its path, where a part does not fit.
    """
    macs = params = most = 0
    for _, section in _sections(arch):
        spent = section.cost
        macs, params, most = macs + spent.macs, params + spent.params, max(most, spent.peak)
    return Cost(macs, params, most)


def cost_or_unbuildable(arch: Arch) -> Cost:
    """`cost`, or UNBUILDABLE where a part does not fit: spaces may hold such networks, which are refused on paper."""
    try:
        return cost(arch)
    except Error:
        return UNBUILDABLE


def graph(arch: Arch) -> Graph:
    """The whole network as one graph, from the image to the logits; names begin with the layers'."""
    g = Wiring(arch.channels, arch.resolution)
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
    layers = [[drawing(layer.place), layer.reads] for layer in walk(arch)]
    return hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:10]


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
