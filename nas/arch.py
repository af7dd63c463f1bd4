"""An architecture as a value: resolution, stem, stages, head. One walk over it serves cost, identity and model."""

import hashlib
import json
from dataclasses import dataclass

from nas.blocks import Activation, Block, Cost, conv, linear, norm, out_size, total
from nas.values import to_data


@dataclass(frozen=True, slots=True)
class Stem:
    """First layer: a 3x3 convolution on the image, without bias."""

    width: int
    stride: int = 1
    norm: bool = True
    act: Activation = "relu6"


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


@dataclass(frozen=True, slots=True)
class Head:
    """Last layers: a 1x1 convolution to `width` channels, global average pool, linear classifier."""

    width: int
    norm: bool = True
    act: Activation = "relu6"


@dataclass(frozen=True, slots=True)
class Arch:
    """A network for `resolution` x `resolution` RGB images of `classes` classes."""

    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int = 32
    classes: int = 10

    def __post_init__(self) -> None:
        at_least_one = [("resolution", self.resolution), ("classes", self.classes)]
        at_least_one += [("stem.width", self.stem.width), ("head.width", self.head.width)]
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


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published network: a row to beat, and a seed of the search."""

    name: str
    arch: Arch
    source: str
    """Paper and table."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A block in its place."""

    path: str
    block: Block
    cin: int
    cout: int
    stride: int
    size: int
    """Side of the input."""
    joined: int
    """How many feature maps are concatenated to make the input; 1: the previous output alone."""


@dataclass(frozen=True, slots=True)
class Walk:
    """An architecture unrolled: every block in its place, and the feature map that reaches the head."""

    layers: tuple[Layer, ...]
    channels: int
    size: int
    joined: int


def walk(arch: Arch) -> Walk:
    """The blocks of `arch` in the order of the forward pass."""
    layers = []
    channels, size, joined = arch.stem.width, out_size(arch.resolution, arch.stem.stride), 1
    for i, stage in enumerate(arch.stages):
        kept = stage.stride == 1  # then the stage's input may be concatenated with its outputs
        handed_on = channels * kept + stage.width * stage.depth
        for j in range(stage.depth):
            stride = stage.stride if j == 0 else 1
            layers.append(Layer(f"stages.{i}.{j}", stage.block, channels, stage.width, stride, size, joined))
            channels, size, joined = stage.width, out_size(size, stride), 1
        if stage.concat:
            channels, joined = handed_on, stage.depth + kept
    return Walk(tuple(layers), channels, size, joined)


def cost(arch: Arch) -> Cost:
    """MACs and params of `arch` in closed form: arithmetic on the value, nothing is built. See `Cost`."""
    trunk = walk(arch)
    parts = [conv(3, arch.stem.width, 3, out_size(arch.resolution, arch.stem.stride))]
    parts += [norm(arch.stem.width)] * arch.stem.norm
    parts += [layer.block.cost(layer.cin, layer.cout, layer.stride, layer.size) for layer in trunk.layers]
    parts += [conv(trunk.channels, arch.head.width, 1, trunk.size)]
    parts += [norm(arch.head.width)] * arch.head.norm
    return total([*parts, linear(arch.head.width, arch.classes)])


def arch_id(arch: Arch) -> str:
    """Ten hex digits naming the network that `arch` builds: two spellings of one network have one id.

    (A filled kernel in a stage where no block keeps its shape, say, is a plain 3x3 and has its id.)
    """
    trunk = walk(arch)
    blocks = []
    for layer in trunk.layers:
        block = layer.block
        place = to_data(block.layout(layer.cin, layer.cout, layer.stride))
        blocks.append([block.kind, place, block.expand_act, block.act, layer.cout, layer.stride, layer.joined])
    ends = [to_data(arch.stem), to_data(arch.head), trunk.joined, arch.resolution, arch.classes]
    return hashlib.sha256(json.dumps([ends, blocks]).encode()).hexdigest()[:10]
