"""Block kinds as frozen values, each with its closed-form cost. `BLOCKS` is the table of all of them.

A block does not know its place: `layout(cin, cout, stride)` resolves it there, and cost, module and arch_id
all read that one resolution. To add a kind: a value here, a module in model.py, a row in each table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

Activation: TypeAlias = Literal["linear", "relu", "relu6", "hswish"]
Branch: TypeAlias = Literal["3x3", "5x5", "7x7", "1x3-3x1", "2x2", "maxpool"]

# Weights a channel of each depthwise branch, which is also its multiply-accumulates a channel and output pixel.
TAPS: dict[Branch, int] = {"3x3": 9, "5x5": 25, "7x7": 49, "1x3-3x1": 6, "2x2": 4, "maxpool": 0}
KERNELS: dict[int, Branch] = {3: "3x3", 5: "5x5", 7: "7x7"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs, for one image.

    `macs`: multiply-accumulates of convolutions and linear layers at the given resolution; this is what nas,
    like the papers, calls FLOPs. Batch norm (folded when deployed), bias, pooling, activations and additions
    are not counted. `params`: all learnable numbers, batch norm's weight and bias among them.
    """

    macs: int
    params: int


def total(parts: Iterable[Cost]) -> Cost:
    """Sum of the costs of `parts`."""
    macs = params = 0
    for part in parts:
        macs += part.macs
        params += part.params
    return Cost(macs, params)


def conv(cin: int, cout: int, kernel: int, size: int, bias: bool = False) -> Cost:
    """Cost of a dense `kernel` x `kernel` convolution whose output is `size` x `size`."""
    weights = kernel * kernel * cin * cout
    return Cost(weights * size * size, weights + cout * bias)


def depthwise(branch: Branch, channels: int, size: int) -> Cost:
    """Cost of a depthwise branch over `channels` whose output is `size` x `size`."""
    weights = TAPS[branch] * channels
    return Cost(weights * size * size, weights)


def norm(channels: int) -> Cost:
    """Cost of a batch norm: no MACs, a weight and a bias a channel."""
    return Cost(0, 2 * channels)


def linear(cin: int, cout: int) -> Cost:
    """Cost of a linear layer with bias."""
    return Cost(cin * cout, cin * cout + cout)


def round8(channels: float) -> int:
    """`channels` rounded to the nearest multiple of 8, at least 8."""
    return max(8, int(channels / 8 + 0.5) * 8)


def out_size(size: int, stride: int) -> int:
    """Side of the output of a padded layer: size / stride, rounded up."""
    return -(-size // stride)


@dataclass(frozen=True, slots=True)
class BottleneckLayout:
    """A `Bottleneck` in its place: what is really built."""

    hidden: int  # channels after the expansion
    branches: tuple[Branch, ...]  # depthwise branches; each reads all hidden channels, outputs are concatenated
    squeeze: int  # channels inside the SE gate; 0 without one
    residual: bool


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """Inverted bottleneck: 1x1 expand, depthwise layer, SE, linear 1x1 project (MobileNetV2; paper 000).

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
    residual: bool = True
    """Identity shortcut wherever the block keeps its shape."""

    def __post_init__(self) -> None:
        if not self.expand > 0:
            raise ValueError(f"expand must be above 0, got {self.expand}")
        if self.kernel != "filled":
            if not isinstance(self.kernel, tuple) or not self.kernel:
                raise ValueError(f"kernel must be a tuple of kernel sizes or 'filled', got {self.kernel!r}")
            if any(k not in KERNELS for k in self.kernel) or len(set(self.kernel)) < len(self.kernel):
                raise ValueError(f"kernel must hold different sizes of {tuple(KERNELS)}, got {self.kernel}")
        if not 0 <= self.se <= 1:
            raise ValueError(f"se must be between 0 (no gate) and 1, got {self.se}")

    def layout(self, cin: int, cout: int, stride: int) -> BottleneckLayout:
        """What this block is between `cin` and `cout` channels at `stride`."""
        keeps_shape = stride == 1 and cin == cout
        hidden = round8(self.expand * (cout if self.expand_from == "output" else cin))
        branches: tuple[Branch, ...]
        if self.kernel != "filled":
            branches = tuple(KERNELS[k] for k in self.kernel)
        elif keeps_shape:
            branches = ("1x3-3x1", "2x2")
        else:
            branches = ("3x3", "maxpool") if stride == 2 else ("3x3",)
        squeeze = round8(self.se * hidden * len(branches)) if self.se else 0
        return BottleneckLayout(hidden, branches, squeeze, self.residual and keeps_shape)

    def cost(self, cin: int, cout: int, stride: int, size: int) -> Cost:
        """Cost on a `size` x `size` input."""
        place, out = self.layout(cin, cout, stride), out_size(size, stride)
        mixed = place.hidden * len(place.branches)
        parts = [conv(cin, place.hidden, 1, size), norm(place.hidden)]
        parts += [depthwise(branch, place.hidden, out) for branch in place.branches]
        parts += [norm(mixed)]
        if place.squeeze:
            parts += [conv(mixed, place.squeeze, 1, 1, bias=True), conv(place.squeeze, mixed, 1, 1, bias=True)]
        return total([*parts, conv(mixed, cout, 1, out), norm(cout)])


Block: TypeAlias = Bottleneck
BLOCKS: dict[str, type[Block]] = {"bottleneck": Bottleneck}
