"""Block kinds as frozen values. `BLOCKS` is the table of all of them.

A block does not know its place: `wire(g, x, cout, stride)` draws it there, from map `x` to `cout` channels, and cost,
identity and torch module follow from the drawing. To add a kind: a value with its `wire` here, its name in `Block`.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal, TypeAlias, get_args

from nas.errors import Error
from nas.networks.graph import Activation, Map, Wiring
from nas.networks.published_blocks import (
    Basic,
    BasicBiased,
    Fire,
    Mixed,
    Pool,
    PortedV3,
    SeparableBiased,
    ShuffleV1,
    Xception,
)
from nas.networks.rounding import KERNELS, check_above, check_kernel, check_share, rounded


@dataclass(frozen=True, slots=True)
class Conv:
    """Dense convolution, batch norm, activation (VGG; the transition layers of paper 001)."""

    kind: ClassVar[str] = "conv"

    kernel: int = 3
    act: Activation = "relu"
    bias: bool = False

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        return g.conv_bn("main", x, cout, self.kernel, stride, act=self.act, bias=self.bias)


@dataclass(frozen=True, slots=True)
class Separable:
    """Depthwise-separable convolution: depthwise, 1x1, each with batch norm and activation (MobileNetV1)."""

    kind: ClassVar[str] = "separable"

    kernel: int = 3
    act: Activation = "relu"

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        y = g.depthwise_bn("depthwise", x, self.kernel, stride, self.act)
        return g.conv_bn("pointwise", y, cout, act=self.act)


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """Inverted bottleneck: 1x1 expand, depthwise layer, SE, linear 1x1 project (MobileNetV2, V3; paper 000).

    The depthwise layer may hold several kernels side by side, `kernel=(3, 5)`: each reads every hidden channel
    and the outputs are concatenated. `kernel="filled"` is paper 000's Inception-filled layer: where the block
    keeps its shape 1x3->3x1 beside 2x2, where it halves the resolution 3x3 beside a max-pool, elsewhere 3x3.
    """

    kind: ClassVar[str] = "bottleneck"

    expand: float
    """Hidden width as a multiple of a reference width, rounded to 8."""
    kernel: tuple[int, ...] | Literal["filled"] = (3,)
    se: float = 0.0
    """Width of the squeeze-and-excitation gate as a share of the channels it scales; 0 for none."""
    expand_act: Activation = "relu6"
    act: Activation = "relu6"
    """Activation after the depthwise layer."""
    expand_from: Literal["output", "input"] = "output"
    """The reference width of `expand`: the block's output (paper 000) or its input (MobileNetV2)."""
    shortcut: Literal["identity", "project", "none"] = "identity"
    """Added wherever the block keeps its shape; "project": wherever the stride is 1, by a 1x1 conv if need be."""
    expand_always: bool = True
    """Expand even where the hidden width is the input's (paper 000); MobileNetV2 and V3 leave the layer out there."""

    def __post_init__(self) -> None:
        check_above("expand", self.expand)
        check_share("se", self.se)
        if self.kernel != "filled":
            if not isinstance(self.kernel, tuple) or not self.kernel:
                raise Error(f"kernel must be a tuple of kernel sizes or 'filled', got {self.kernel!r}")
            if any(k not in KERNELS for k in self.kernel) or len(set(self.kernel)) < len(self.kernel):
                raise Error(f"kernel must hold different sizes of {KERNELS}, got {self.kernel}")

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        keeps_shape = stride == 1 and x.channels == cout
        hidden = rounded(self.expand * (cout if self.expand_from == "output" else x.channels))
        y = x
        if self.expand_always or hidden != x.channels:
            y = g.conv_bn("expand", x, hidden, act=self.expand_act)
        with g.within("depthwise"):
            y = g.act("act", g.norm("norm", self._depthwise(g, y, stride, keeps_shape)), self.act)
        if self.se:
            y = g.gate("se", y, rounded(self.se * y.channels))
        y = g.conv_bn("project", y, cout)
        if keeps_shape and self.shortcut != "none":
            y = g.add("add", x, y)
        elif stride == 1 and self.shortcut == "project":
            y = g.add("add", g.conv_bn("shortcut", x, cout), y)
        return y

    def _depthwise(self, g: Wiring, y: Map, stride: int, keeps_shape: bool) -> Map:
        def part(name: str, x: Map, kernel: int | tuple[int, int], stride: int = 1, pad: bool = True) -> Map:
            return g.conv(name, x, y.channels, kernel, stride, groups=y.channels, pad=pad)

        if self.kernel != "filled":
            return g.cat("cat", [part(f"k{kernel}", y, kernel, stride) for kernel in self.kernel])
        if keeps_shape:
            series = part("k31", part("k13", y, (1, 3)), (3, 1))
            return g.cat("cat", [series, part("k22", g.pad("pad", y), 2, pad=False)])
        if stride == 2:
            return g.cat("cat", [part("k3", y, 3, 2), g.pool("pool", y, "max", 2, 2, ceil=True)])
        return part("k3", y, 3)


@dataclass(frozen=True, slots=True)
class Ghost:
    """Ghost bottleneck: half of each 1x1 layer's channels come from a depthwise 3x3 over the other half (GhostNet)."""

    kind: ClassVar[str] = "ghost"

    expand: float
    """Hidden width as a multiple of the input's, rounded to 4."""
    kernel: int = 3
    """Of the depthwise layers that halve the resolution or change the shortcut's shape."""
    se: float = 0.0

    def __post_init__(self) -> None:
        check_above("expand", self.expand)
        check_kernel(self.kernel)
        check_share("se", self.se)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        y = self._ghost(g, "expand", x, rounded(self.expand * x.channels, 4), "relu")
        if stride == 2:
            y = g.depthwise_bn("depthwise", y, self.kernel, 2)
        if self.se:
            y = g.gate("se", y, rounded(self.se * y.channels, 4))
        y = self._ghost(g, "project", y, cout, "linear")
        if stride == 2 or x.channels != cout:
            with g.within("shortcut"):
                x = g.conv_bn("pointwise", g.depthwise_bn("depthwise", x, self.kernel, stride), cout)
        return g.add("add", y, x)

    @staticmethod
    def _ghost(g: Wiring, name: str, x: Map, cout: int, act: Activation) -> Map:
        with g.within(name):
            primary = g.conv_bn("primary", x, -(-cout // 2), act=act)
            cheap = g.depthwise_bn("cheap", primary, 3, act=act)
            return g.slice("cut", g.cat("cat", [primary, cheap]), 0, cout)


@dataclass(frozen=True, slots=True)
class ShuffleV2:
    """ShuffleNetV2 unit: half the channels pass, half are transformed, then a shuffle; two branches on a new shape."""

    kind: ClassVar[str] = "shuffle-v2"

    kernel: int = 3

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        if cout % 2:
            raise Error(f"width must be even for a shuffle block, got {cout}")
        half = cout // 2
        if stride == 2 or x.channels != cout:
            with g.within("left"):
                left = g.conv_bn("pointwise", g.depthwise_bn("depthwise", x, self.kernel, stride), half, act="relu")
            right = x
        else:
            left, right = g.slice("left", x, 0, half), g.slice("right", x, half, cout)
        with g.within("main"):
            y = g.conv_bn("reduce", right, half, act="relu")
            y = g.depthwise_bn("depthwise", y, self.kernel, stride)
            y = g.conv_bn("project", y, half, act="relu")
        return g.shuffle("shuffle", g.cat("cat", [left, y]), 2)


@dataclass(frozen=True, slots=True, repr=False)
class HL:
    """High-low block: a local and a global branch, fused by learnable weights, then channel attention (paper 003).

    Our reading of a paper that prints ingredients only: local is a separable 3x3, global a 5x5 bottleneck to a
    quarter of the output's channels, fusion alpha * local + beta * global.
    """

    kind: ClassVar[str] = "hl"

    bottleneck: float = 0.25
    """Width of the global branch's bottleneck as a share of the output's."""
    fusion: Literal["weighted", "sum"] = "weighted"
    """The branches are added, each times a learnable number, or as they are."""
    attention: bool = True

    def __post_init__(self) -> None:
        check_above("bottleneck", self.bottleneck)

    def __repr__(self) -> str:
        # What differs from HL() only: digests of spaces are made of it, and runs are older than these fields.
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"HL({', '.join(shown)})"

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        with g.within("local"):
            local = g.conv_bn("pointwise", g.depthwise_bn("depthwise", x, 3, stride, "relu"), cout)
            local = g.gain("alpha", local) if self.fusion == "weighted" else local
        with g.within("wide"):
            wide = g.conv_bn("reduce", x, max(1, int(self.bottleneck * cout)), act="relu")
            wide = g.conv_bn("expand", g.depthwise_bn("depthwise", wide, 5, stride, "relu"), cout)
            wide = g.gain("beta", wide) if self.fusion == "weighted" else wide
        y = g.add("fuse", local, wide)
        if self.attention:
            y = g.gate("attention", y, max(8, cout // 16), "sigmoid", "linear")
        if stride == 1 and x.channels == cout:
            y = g.add("add", y, x)
        return g.act("act", y, "relu")


@dataclass(frozen=True, slots=True)
class Partial:
    """Partial residual: a share of the channels goes through a block, the rest passes; concatenated (paper 001).

    Where the shape changes nothing can pass: then all channels go through the block, or, with `project`, the rest
    goes through a 1x1 convolution.
    """

    kind: ClassVar[str] = "partial"

    block: "Block"
    share: float = 0.5
    """Of the channels that go through the block, of the input's and of the output's."""
    project: bool = False
    act: Activation = "linear"
    """After the concatenation; after the block where all channels go through it (share 1, or with `project`)."""

    def __post_init__(self) -> None:
        check_above("share", self.share)
        check_share("share", self.share)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        keeps_shape = stride == 1 and x.channels == cout
        # A basic block's ReLU is called again, as in the usual code of ResNet: torchstat counts the last call.
        act = "main.act" if self.act == "relu" and isinstance(self.block, Basic) else "act"
        if not keeps_shape and not self.project:
            with g.within("all"):
                return self.block.wire(g, x, cout, stride)
        into, out = self._part(x.channels), self._part(cout)
        with g.within("main"):
            y = self.block.wire(g, g.slice("part", x, 0, into), out, stride)
        if into == x.channels:
            return g.act(act, y, self.act)
        with g.within("rest"):
            rest = g.slice("part", x, into, x.channels)
            if not keeps_shape:
                rest = g.conv_bn("project", rest, cout - out, 1, stride)
        return g.act(act, g.cat("cat", [y, rest]), self.act)

    def _part(self, channels: int) -> int:
        if self.share == 1:
            return channels
        if channels < 2:
            raise Error(f"a partial block needs at least 2 channels to split, got {channels}")
        return min(max(1, round(self.share * channels)), channels - 1)


@dataclass(frozen=True, slots=True)
class Split:
    """Dual path: the channels are split evenly among blocks side by side, and concatenated (paper 001).

    With a `Partial` block in each path it is the paper's DP-block: A where it keeps its shape, B elsewhere.
    """

    kind: ClassVar[str] = "split"

    paths: tuple["Block", ...]
    shortcut: bool = False
    """Identity, added where the shape is kept."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise Error("paths must hold at least one block, got none")

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        number = len(self.paths)
        if x.channels % number or cout % number:
            raise Error(f"{number} paths must divide the channels, got {x.channels} to {cout}")
        into, ends = x.channels // number, []
        for i, block in enumerate(self.paths):
            with g.within(f"path{i}"):
                ends.append(block.wire(g, g.slice("part", x, i * into, (i + 1) * into), cout // number, stride))
        y = g.cat("cat", ends)
        return g.add("add", x, y) if self.shortcut and stride == 1 and x.channels == cout else y


Block: TypeAlias = (
    Conv | Separable | Bottleneck | Ghost | ShuffleV2 | HL | Partial | Split
    | Basic | BasicBiased | Fire | Mixed | Pool | PortedV3 | SeparableBiased | ShuffleV1 | Xception
)  # fmt: skip
BLOCKS: dict[str, type[Block]] = {block.kind: block for block in get_args(Block)}
