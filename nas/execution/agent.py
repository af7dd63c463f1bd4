"""How long an ONNX graph takes on this machine, beside a reference graph that runs in turn with it.

One file that needs numpy and onnxruntime and nothing else, so that it can be carried to any device; nas itself runs it
in a process of its own, at the far end of a command, or on a Ray node.

    python agent.py network.onnx        python agent.py < network.onnx

prints one line of JSON, or what went wrong on standard error and exits with 1. What is asked (threads, batch, seconds,
a reference graph) may lie in the graph's metadata, where nas puts it: the file stays a graph for any runtime.

Each round opens both graphs anew, because a network's speed depends on where its memory happens to lie, warms them up
and runs them in turn. The median of a round is one observation; intervals are by resampling rounds, so they hold what
changes from process to process, and a drift of the machine cancels in the ratio. Rounds go on until the interval is
narrow or the time is up.
"""

import argparse
import base64
import json
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROUNDS = 24  # with 8, intervals that looked narrow lay up to 4 % apart when measured again
LEAST = 6  # where the time is up
TAIL = 0.01  # at each end: 2.5 % come out too narrow, with few rounds and a rule to stop when they look narrow
PAIRS = 5  # of runs in a round, at the least
ROUND_SECONDS = 0.06
WARM = 3  # runs that are not counted, in each round
RESAMPLES = 1000
SETTINGS = {"threads": 1, "batch": 1, "seconds": 10.0, "precision": 0.01}  # and "reference", a graph

Run = Callable[[], object]
"""Runs a network once. A float that it gives is the seconds that took, by a clock of its own."""


def timed(
    network: Callable[[], Run],
    reference: Callable[[], Run] | None,
    seconds: float,
    precision: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float | int | bool | None]:
    """The figures of `network`, in milliseconds, and as ratios to `reference`.

    Both open afresh what they then run. Ends when the 95 % interval, of the ratio where there is a reference, is within
    `precision` of its median on both sides ("steady"), or after `seconds`.
    """
    begun = clock()
    mine: list[float] = []
    theirs: list[float] = []
    runs = 0
    while True:
        if reference and len(mine) % 2:  # who is opened first finds other memory: now one, now the other
            other: Run | None = reference()
            run = network()
        else:
            run, other = network(), reference() if reference else None
        here, there = _round(run, other, clock)
        runs += len(here)
        mine.append(median(here))
        if there:
            theirs.append(median(there))
        late = clock() - begun >= seconds
        if len(mine) < (LEAST if late else ROUNDS) or (len(mine) % 4 and not late):
            continue
        ms, ratios = spread(mine), spread([a / b for a, b in zip(mine, theirs, strict=True)]) if theirs else None
        low, middle, high = ratios or ms
        steady = len(mine) >= ROUNDS and max(high - middle, middle - low) <= precision * middle
        if steady or late:
            figures = dict(zip(("low_ms", "median_ms", "high_ms"), ms, strict=True))
            ends = dict(zip(("ratio_low", "ratio", "ratio_high"), ratios or (None, None, None), strict=True))
            counts = {"runs": runs, "rounds": len(mine), "steady": steady}
            return {**figures, **ends, "reference_ms": median(theirs) if theirs else None, **counts}


def _round(run: Run, other: Run | None, clock: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Milliseconds of each run, in turn with those of the other, after some that are not counted."""
    for _ in range(WARM):
        run()
        if other:
            other()
    here: list[float] = []
    there: list[float] = []
    begun = clock()
    while len(here) < PAIRS or clock() - begun < ROUND_SECONDS:
        first = len(here) % 2 == 0  # now one goes first, now the other
        if other and not first:
            there.append(_once(other, clock))
        here.append(_once(run, clock))
        if other and first:
            there.append(_once(other, clock))
    return here, there


def spread(values: list[float]) -> tuple[float, float, float]:
    """The median of `values` between the ends of its 95 % interval, by resampling."""
    rng = random.Random(0)
    medians = sorted(median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[round(TAIL * RESAMPLES)], median(values), medians[round((1 - TAIL) * RESAMPLES) - 1]


def _once(run: Run, clock: Callable[[], float]) -> float:
    begun = clock()
    seconds = run()
    return (seconds if isinstance(seconds, float) else clock() - begun) * 1000


def opened(graph: bytes, threads: int, batch: int) -> Run:
    """What runs `graph` once, on one and the same random input."""
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else batch for side in source.shape]
    feed = {source.name: numpy.random.default_rng(0).standard_normal(shape, numpy.float32)}
    return lambda: session.run(None, feed)


def asked(graph: bytes) -> dict[str, object]:
    """What the metadata of `graph` asks for."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    held = session.get_modelmeta().custom_metadata_map
    settings: dict[str, object] = {
        name: type(default)(held[f"nas.{name}"]) for name, default in SETTINGS.items() if f"nas.{name}" in held
    }
    if "nas.reference" in held:
        settings["reference"] = base64.b64decode(held["nas.reference"])
    return settings


def device() -> str:
    """What this machine calls its processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for wanted in ("model name", "Model", "Hardware"):
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == wanted and value.strip():
                return f"{value.strip()} ({platform.machine()})"
    return platform.processor() or platform.machine()


def main() -> None:
    """Prints the figures of the graph in a file or on standard input."""
    parser = argparse.ArgumentParser(description="Measure how long an ONNX graph takes.")
    parser.add_argument("graph", nargs="?", help="the file; by default standard input")
    parser.add_argument("--reference", help="a graph that runs in turn with it")
    for name, default in SETTINGS.items():
        parser.add_argument(f"--{name}", type=type(default))
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        file = given.pop("graph", None)
        graph = Path(file).read_bytes() if file else sys.stdin.buffer.read()
        if "reference" in given:
            given["reference"] = Path(given["reference"]).read_bytes()
        settings = {**SETTINGS, **asked(graph), **given}
        threads, batch, other = settings["threads"], settings["batch"], settings.get("reference")
        figures = timed(
            lambda: opened(graph, threads, batch),
            (lambda: opened(other, threads, batch)) if other else None,
            settings["seconds"],
            settings["precision"],
        )
        import onnxruntime

        runtime = f"onnxruntime {onnxruntime.__version__}"
    except Exception as error:  # whatever it is, the other end gets one line
        print(f"agent.py: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        sys.exit(1)
    print(json.dumps({**figures, "runtime": runtime, "device": device(), "threads": threads, "batch": batch}))


if __name__ == "__main__":
    main()
