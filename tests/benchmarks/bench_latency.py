"""Are two networks of which one does about a tenth more work told apart, and do two measurements of one network agree?

Ratios to the reference network; nothing else should run. pytest -s -n 0 tests/benchmarks/bench_latency.py
"""

from dataclasses import replace
from statistics import median

from nas.latency.measure import measured
from nas.networks.architecture import Arch, Head, Stage, Stem
from nas.networks.blocks import Bottleneck
from nas.records.plan import Meter
from search_spaces import ANCHORS

REPEATS = 20
METER = Meter("lowres-mobilenet", seconds=10.0)
REFERENCE = ANCHORS["lowres-mobilenet"].arch
# Ten blocks alike at each of two resolutions; the longer has one more of each: a tenth more work, but for the ends.
SHORT = Arch(Stem(24), (Stage(Bottleneck(3), 24, 10, 2), Stage(Bottleneck(3), 48, 10, 2)), Head(96))
LONG = replace(SHORT, stages=tuple(replace(stage, depth=11) for stage in SHORT.stages))


def ratio(arch: Arch) -> float:
    found = measured(arch, REFERENCE, METER).ratio
    assert found is not None
    return found


def test_a_tenth_more_work_is_seen() -> None:
    pairs = [(ratio(SHORT), ratio(LONG)) for _ in range(REPEATS)]
    right = sum(long > short for short, long in pairs)
    true = median(long / short for short, long in pairs)
    shorts = [short for short, _ in pairs]
    apart = max(shorts) / min(shorts) - 1
    print(
        f"\n{right} of {REPEATS} pairs in their order, the longer network {true:.3f} times as slow; "
        f"{REPEATS} measurements of one network lie within {100 * apart:.1f} % as ratios to the reference"
    )
    assert right >= 0.95 * REPEATS
    assert all(max(a, b) / min(a, b) < 1.03 for a, b in zip(shorts[::2], shorts[1::2], strict=True))
