"""The memory that a network takes in int8 on a microcontroller, on paper: the arena of TensorFlow Lite Micro for the
file that `nas export --formats litert-int8` writes, and the bytes of that file.

The arena's head holds the maps. TensorFlow Lite Micro lays them out by size, of equal ones the last first, each at the
lowest place that is free while it is needed (greedy_memory_planner.cc); where another order takes less, the file says
which place is whose ("OfflineMemoryAllocation" in its metadata). The arena's tail holds what is kept of each operator,
tensor and channel. Quantising puts an operator before a concatenation whose maps may come in different scales: it is
taken to be there, so both figures are upper ends. The tail is that of a machine with 64 bits, on which it was counted:
pointers of a microcontroller are half as long.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

from nas.errors import Error
from nas.models.litert_graph import WEIGHTED, Layers, Operator, Tensor, layers
from nas.networks.architecture import Arch, cost, graph
from nas.networks.graph import UNBUILDABLE, Cost

NO_FILE = 10**15  # bytes, more than any budget
ALIGNED = 16  # bytes, that maps begin at multiples of
OWN_SCALE = {"ADD", "MUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "HARD_SWISH", "RELU", "RELU6"}
"""What may give a map in any scale that is asked for; others give it in the one in which it came, or in a fixed one."""

# Bytes of the tail (64 bits), an upper end of what was counted by tflite-micro 0.dev20261023 on 68 networks.
KEPT = {"CONV_2D": 176, "DEPTHWISE_CONV_2D": 176, "FULLY_CONNECTED": 176, "CONCATENATION": 176, "MIRROR_PAD": 176}
KEPT |= {"AVERAGE_POOL_2D": 176, "ADD": 144, "MUL": 144, "HARD_SWISH": 144, "PAD": 176, "PADV2": 176}
KEPT_ELSE, KEPT_TENSOR, KEPT_CHANNEL, KEPT_ONCE = 112, 24, 8, 896

# Bytes of a file beside its constants.
FILE_OPERATOR, FILE_CONSTANT, FILE_SCALE, FILE_ONCE = 84, 112, 4, 1536


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are needed from one operator to another, by their numbers."""

    bytes: int
    first: int
    last: int


def buffers(
    steps: Sequence[tuple[Iterable[int], int]], sizes: Mapping[int, int], source: int, target: int
) -> dict[int, Buffer]:
    """When each map is needed, by its tensor. `steps`: what each operator reads and writes, in their order. `sizes`:
    the bytes of the maps; what has none is a constant."""
    first, last = {source: 0}, {source: 0}
    for number, (read, written) in enumerate(steps, 1):
        first[written] = last[written] = number
        last |= {tensor: number for tensor in read if tensor in sizes}
    last[target] = len(steps)
    return {
        tensor: Buffer(math.ceil(sizes[tensor] / ALIGNED) * ALIGNED, first[tensor], last[tensor])
        for tensor in sorted(first)
    }


def layout(maps: Mapping[int, Buffer]) -> tuple[int, dict[int, int]]:
    """The bytes that the maps are laid out in, and the place of each; none where TensorFlow Lite Micro comes to no more
    by itself."""
    needed = _needed(maps.values())
    own = sorted(sorted(maps, reverse=True), key=lambda at: -maps[at].bytes)
    by_size = sorted(maps, key=lambda at: -maps[at].bytes)
    by_time = sorted(maps, key=lambda at: -maps[at].bytes * (1 + maps[at].last - maps[at].first))
    least, places = math.inf, dict[int, int]()
    for order in (own, by_size, by_time):
        found = _placed((at, maps[at]) for at in order)
        height = max(begin + maps[at].bytes for at, begin in found.items())
        if height < least:
            least, places = height, {} if order is own else found
        if height == needed:
            break
    return int(least), places


def _needed(maps: Iterable[Buffer]) -> int:
    """The most bytes that are needed at one time."""
    change = Counter[int]()
    for one in maps:
        change[one.first] += one.bytes
        change[one.last + 1] -= one.bytes
    return max(accumulate(change[time] for time in sorted(change)), default=0)


def _placed(order: Iterable[tuple[int, Buffer]]) -> dict[int, int]:
    """The place of each buffer, put one by one at the lowest that is free while it is needed."""
    placed: list[tuple[int, int, Buffer]] = []  # from the lowest place up
    for name, buffer in order:
        place = 0
        for begin, _, other in placed:
            if other.first > buffer.last or buffer.first > other.last:
                continue
            if begin - place >= buffer.bytes:
                break
            place = max(place, begin + other.bytes)
        at = next((i for i, (begin, _, _) in enumerate(placed) if begin > place), len(placed))
        placed.insert(at, (place, name, buffer))
    return {name: place for place, name, _ in placed}


def quantised(made: Layers) -> Layers:
    """`made` as it may at most become in int8: with a change of scale before each concatenation of maps that other
    operators read as well, or that cannot be given in its scale."""
    tensors, operators = list(made.tensors), list[Operator]()
    makers = {one.output: one.kind for one in made.operators}
    readers = Counter(tensor for one in made.operators for tensor in one.inputs)
    for one in made.operators:
        if one.kind == "CONCATENATION":
            read = list(one.inputs)
            for i, tensor in enumerate(read):
                if readers[tensor] > 1 or makers.get(tensor) not in OWN_SCALE:
                    tensors.append(Tensor(f"{tensors[tensor].name}_quantized", tensors[tensor].shape))
                    read[i] = len(tensors) - 1
                    operators.append(Operator("QUANTIZE", (tensor,), read[i], "", {}))
            one = replace(one, inputs=tuple(read))
        operators.append(one)
    return Layers(tuple(tensors), tuple(operators), made.source, made.target)


def arena_of(made: Layers) -> int:
    """The bytes of TensorFlow Lite Micro's arena for a network whose operators and tensors are those of int8."""
    sizes = {at: math.prod(one.shape) for at, one in enumerate(made.tensors) if one.value is None}
    head, _ = layout(buffers([(one.inputs, one.output) for one in made.operators], sizes, made.source, made.target))
    tail = KEPT_ONCE + KEPT_TENSOR * len(made.tensors)
    for one in made.operators:
        tail += KEPT.get(one.kind, KEPT_ELSE)
        if one.kind in WEIGHTED:
            tail += KEPT_CHANNEL * made.tensors[one.output].shape[-1]
        if one.kind == "MEAN":  # sums in 32 bits, beside the maps in the worst case
            tail += 4 * made.tensors[one.output].shape[-1]
    return head + tail


def flash_of(made: Layers) -> int:
    """The bytes of its file."""
    size = FILE_ONCE + FILE_OPERATOR * len(made.operators) + sum(len(one.name) for one in made.tensors)
    constants = {at: math.prod(one.shape) for at, one in enumerate(made.tensors) if one.value is not None}
    widths = dict.fromkeys(constants, 4)  # places and sizes, in 32 bits
    lengths = set[int]()
    for one in made.operators:
        if one.kind in WEIGHTED:
            _, weight, bias = one.inputs
            channels = constants[bias]
            widths[weight] = 1
            size += 2 * FILE_SCALE * channels  # of weights and biases
            lengths.add(channels)
        elif one.kind in ("MUL", "ADD"):
            widths |= {at: 1 for at in one.inputs if at in constants}
    size += 8 * sum(lengths)  # zero points, those of one length once
    return size + sum(FILE_CONSTANT + widths[at] * number for at, number in constants.items())


@lru_cache(maxsize=1 << 14)
def _memory(arch: Arch) -> tuple[int, int] | None:
    try:
        made = quantised(layers(graph(arch)))
    except Error:  # LiteRT has no such layer
        return None
    return arena_of(made), flash_of(made)


def cost_on_device(arch: Arch) -> Cost:
    """What `arch` costs, with arena and flash: NO_FILE where LiteRT has no layers like its. UNBUILDABLE where it cannot
    be built."""
    try:
        spent = cost(arch)
    except Error:
        return UNBUILDABLE
    arena, flash = _memory(arch) or (NO_FILE, NO_FILE)
    return replace(spent, arena=arena, flash=flash)
