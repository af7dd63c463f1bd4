"""A search of 10,000 trials whose evaluator is a table: does proposing stay quick, memory bounded, resuming a matter of
seconds?

pytest -s -n 0 tests/benchmarks/bench_long.py
"""

import resource
import time
from pathlib import Path
from statistics import median

from nas import search
from nas.networks.space import Space, one_of

LAYERS = Space("long", tuple(one_of("skip", "small", "large", "wide") for _ in range(16)))
WORTH = {"skip": 0, "small": 2, "large": 3, "wide": 4}
TRIALS = 10_000


def macs(layers: tuple[str, ...]) -> int:
    return 1_000_000 * (1 + sum(WORTH[layer] for layer in layers))


def test_ten_thousand_trials(tmp_path: Path) -> None:
    moments: list[float] = []

    def evaluate(layers: tuple[str, ...], _rung: int) -> float:
        moments.append(time.process_time())
        return sum(WORTH[layer] ** 0.5 * (1 + i % 3) for i, layer in enumerate(layers))

    def search_run() -> float:
        begun = time.process_time()
        found = search(LAYERS, "30MFLOPs", evaluate, trials=TRIALS, wave=8, cost=macs, run=tmp_path / "run")
        assert len(found.trials) == TRIALS
        return time.process_time() - begun

    whole = search_run()
    waves = [later - earlier for earlier, later in zip(moments[7::8], moments[8::8], strict=False)]  # between two waves
    early, late = median(waves[8:18]), median(waves[-10:])
    resumed = search_run()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{TRIALS:,} trials in {whole:.0f} s; a wave of 8 proposed and recorded in {early:.2f} s at trial 100, "
        f"{late:.2f} s at the end (ratio {late / early:.2f}); resumed in {resumed:.1f} s; {memory:.2f} GiB at the most"
    )
    assert len(moments) == TRIALS
    assert late / early <= 3
    assert resumed < whole / 20
