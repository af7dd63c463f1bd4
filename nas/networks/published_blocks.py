"""Block kinds of published networks that are rows to beat: built, counted and trained, but in no search space."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from nas.errors import Error
from nas.networks.graph import Activation, Map, Wiring
from nas.networks.rounding import check_above, check_kernel


@dataclass(frozen=True, slots=True)
class ShuffleV1:
    """ShuffleNet unit: grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1 (ShuffleNet; paper 004)."""

    kind: ClassVar[str] = "shuffle-v1"

    groups: int = 3
    ungrouped: int = 24
    """An input of at most this many channels is not split into groups by the first convolution."""
    shuffle: bool = True
    mid_act: Activation = "linear"
    """After the depthwise layer."""
    squeeze_from: Literal["output", "path"] = "output"
    """A quarter of these channels is the unit's inner width: the output's (published), or the conv path's alone."""

    def __post_init__(self) -> None:
        check_above("groups", self.groups)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        down = stride == 2 or x.channels != cout
        path = cout - x.channels if down else cout
        if path < 1:
            raise Error(f"width must be above the input's {x.channels} where a unit changes shape, got {cout}")
        mid = (cout if self.squeeze_from == "output" else path) // 4
        groups = 1 if x.channels <= self.ungrouped else self.groups
        y = g.conv_bn("reduce", x, mid, groups=groups, act="relu")
        if self.shuffle:
            # The CIFAR port shuffles by the groups of the convolution before; the paper by those of the one after.
            y = g.shuffle("shuffle", y, groups if self.squeeze_from == "path" else self.groups)
        y = g.depthwise_bn("depthwise", y, 3, stride, self.mid_act)
        y = g.conv_bn("project", y, path, groups=self.groups)
        if down:
            # Even at stride 1 (no paper's unit), where the pool only blurs, so that any stage may begin with one.
            y = g.cat("cat", [y, g.pool("shortcut", x, "avg", 3, stride, 1)])
        else:
            y = g.add("add", y, x)
        return g.act("act", y, "relu")


@dataclass(frozen=True, slots=True)
class PortedV3:
    """A row of the early MobileNetV3 port that paper 001 builds upon (leaderj1001/MobileNetV3-Pytorch).

    Unlike MobileNetV3's own: biases on depthwise and projection, no activation after the depthwise layer, one after
    the projection, SE of linear layers with a quarter of the width, rounded down; the expansion is always there.
    """

    kind: ClassVar[str] = "ported-v3"

    expand: float
    """Hidden width as a multiple of the input's; rounded to the nearest number."""
    kernel: int = 3
    se: bool = False
    act: Activation = "relu"
    shortcut: bool = True

    def __post_init__(self) -> None:
        check_above("expand", self.expand)
        check_kernel(self.kernel)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        hidden = max(1, round(self.expand * x.channels))
        y = g.conv_bn("expand", x, hidden, act=self.act)
        y = g.depthwise_bn("depthwise", y, self.kernel, stride, bias=True)
        if self.se:
            y = g.gate("se", y, max(1, hidden // 4), layer="linear")
        y = g.conv_bn("project", y, cout, act=self.act, bias=True)
        return g.add("add", x, y) if self.shortcut and stride == 1 and x.channels == cout else y


@dataclass(frozen=True, slots=True)
class Basic:
    """Basic residual block: two dense 3x3 convolutions (ResNet)."""

    kind: ClassVar[str] = "basic"

    shortcut: bool = True
    """Identity, or a 1x1 convolution with batch norm where the shape changes; then ReLU."""

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        # One activation, called twice, as in the usual code of ResNet: torchstat counts the last call.
        y = g.act("act", g.conv_bn("first", x, cout, 3, stride), "relu")
        y = g.conv_bn("second", y, cout, 3)
        if not self.shortcut:
            return y
        if stride == 2 or x.channels != cout:
            x = g.conv_bn("shortcut", x, cout, 1, stride)
        return g.act("act", g.add("add", y, x), "relu")


@dataclass(frozen=True, slots=True)
class BasicBiased:
    """Basic residual block with biases beside its norms, and a 1x1 shortcut without norm (MLPerf Tiny's ResNet-8)."""

    kind: ClassVar[str] = "basic-biased"

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        y = g.conv_bn("first", x, cout, 3, stride, act="relu", bias=True)
        y = g.conv_bn("second", y, cout, 3, bias=True)
        if stride == 2 or x.channels != cout:
            x = g.conv("shortcut", x, cout, 1, stride, bias=True)
        return g.act("act", g.add("add", y, x), "relu")


@dataclass(frozen=True, slots=True)
class SeparableBiased:
    """Depthwise-separable convolution with biases beside its norms (MLPerf Tiny's MobileNetV1)."""

    kind: ClassVar[str] = "separable-biased"

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        y = g.depthwise_bn("depthwise", x, 3, stride, "relu", bias=True)
        return g.conv_bn("pointwise", y, cout, act="relu", bias=True)


@dataclass(frozen=True, slots=True)
class Fire:
    """Fire module: 1x1 squeeze, then 1x1 and 3x3 side by side, half of the output each (SqueezeNet)."""

    kind: ClassVar[str] = "fire"

    squeeze: float = 0.125
    """Inner width as a share of the output's."""
    norm: bool = True
    shortcut: bool = False

    def __post_init__(self) -> None:
        check_above("squeeze", self.squeeze)

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""

        def layer(name: str, x: Map, width: int, kernel: int, stride: int = 1) -> Map:
            return g.conv_bn(name, x, width, kernel, stride, act="relu", bias=True, norm=self.norm)

        inner = layer("squeeze", x, max(1, int(self.squeeze * cout)), 1, stride)
        y = g.cat("cat", [layer("one", inner, cout // 2, 1), layer("three", inner, cout - cout // 2, 3)])
        return g.add("add", x, y) if self.shortcut and stride == 1 and x.channels == cout else y


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling layer as a row of the table; it keeps the channels."""

    kind: ClassVar[str] = "pool"

    mode: Literal["max", "avg"] = "max"
    kernel: int = 2
    pad: int = 0
    ceil: bool = False
    shared: bool = False
    """One module for all such rows, as in some ports; matters only to torchstat, which counts it once."""

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        if cout != x.channels:
            raise Error(f"width must be the input's {x.channels} for a pool, got {cout}")
        spec = f"{self.mode}pool_{self.kernel}_{stride}_{self.pad}{'_ceil' * self.ceil}"
        module = f"shared_{spec}" if self.shared else ""
        return g.pool("main", x, self.mode, self.kernel, stride, self.pad, self.ceil, module)


@dataclass(frozen=True, slots=True)
class Step:
    """Convolution, batch norm, ReLU."""

    kind: ClassVar[str] = "conv-step"

    width: int
    kernel: tuple[int, ...] = (1, 1)
    """Rows, columns."""
    down: bool = False
    """Takes the block's stride, and then no padding."""
    pad: bool = True
    separable: bool = False
    """A depthwise convolution, then 1x1, with nothing between (Xception)."""

    def __post_init__(self) -> None:
        if len(self.kernel) != 2:
            raise Error(f"kernel must be (rows, columns), got {self.kernel}")

    def wire(self, g: Wiring, x: Map, stride: int, bias: bool) -> Map:
        """This step from `x`."""
        rows, columns = self.kernel
        pad, stride = self.pad and not self.down, stride if self.down else 1
        if self.separable:
            x, rows, columns = g.conv("depthwise", x, x.channels, (rows, columns), groups=x.channels), 1, 1
        return g.conv_bn("conv", x, self.width, (rows, columns), stride, act="relu", bias=bias, pad=pad)


@dataclass(frozen=True, slots=True)
class PoolStep:
    """3x3 pool."""

    kind: ClassVar[str] = "pool-step"

    mode: Literal["max", "avg"]
    down: bool = False
    """Takes the block's stride, and then no padding."""

    def wire(self, g: Wiring, x: Map, stride: int, bias: bool) -> Map:
        """This step from `x`."""
        return g.pool("pool", x, self.mode, 3, stride if self.down else 1, 0 if self.down else 1)


@dataclass(frozen=True, slots=True)
class Fork:
    """Single steps side by side on one map, concatenated."""

    kind: ClassVar[str] = "fork"

    steps: tuple[Step, ...]

    def wire(self, g: Wiring, x: Map, stride: int, bias: bool) -> Map:
        """This step from `x`."""
        ends = []
        for i, step in enumerate(self.steps):
            with g.within(f"step{i}"):
                ends.append(step.wire(g, x, stride, bias))
        return g.cat("cat", ends)


AnyStep: TypeAlias = Step | PoolStep | Fork


@dataclass(frozen=True, slots=True)
class Mixed:
    """Branches of steps on one map, concatenated (Inception); the stage's width is the sum of theirs."""

    kind: ClassVar[str] = "mixed"

    branches: tuple[tuple[AnyStep, ...], ...]
    bias: bool = False

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        ends = []
        for i, branch in enumerate(self.branches):
            y = x
            for j, step in enumerate(branch):
                with g.within(f"branch{i}.step{j}"):
                    y = step.wire(g, y, stride, self.bias)
            ends.append(y)
        out = g.cat("cat", ends)
        if out.channels != cout:
            raise Error(f"width must be the sum of the branches, {out.channels}, got {cout}")
        return out


@dataclass(frozen=True, slots=True)
class Xception:
    """Separable convolutions beside a shortcut, added (Xception)."""

    kind: ClassVar[str] = "xception"

    repeats: int = 2
    relu_first: bool = True
    grow: int = 0
    """Which of the separable convolutions changes the width."""
    pool: bool = True
    """A 3x3 max-pool with the stride at the end, and a 1x1 convolution as the shortcut; else an identity."""

    def __post_init__(self) -> None:
        if not 0 <= self.grow < self.repeats:
            raise Error(f"grow must be one of the {self.repeats} repeats, counted from 0, got {self.grow}")

    def wire(self, g: Wiring, x: Map, cout: int, stride: int) -> Map:
        """This block from `x` to `cout` channels."""
        if not self.pool and (stride != 1 or x.channels != cout):
            raise Error(f"an xception block without pool keeps its shape, got {x.channels} to {cout}, /{stride}")
        y = x
        for i in range(self.repeats):
            with g.within(f"step{i}"):
                if i or self.relu_first:
                    y = g.act("relu", y, "relu")
                y = g.conv("depthwise", y, y.channels, 3, groups=y.channels)
                y = g.norm("norm", g.conv("pointwise", y, cout if i >= self.grow else x.channels))
        if self.pool:
            y = g.pool("pool", y, "max", 3, stride, 1)
            x = g.conv_bn("shortcut", x, cout, 1, stride, bias=True)
        return g.add("add", y, x)
