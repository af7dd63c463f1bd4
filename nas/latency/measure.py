"""Latency of architectures: their ONNX graphs under onnxruntime, here or elsewhere, their modules under torch here, or
their LiteRT models on a board.

Graphs are measured by nas/execution/agent.py in a process of its own, modules by the same statistics in this one.
"""

import base64
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from nas.execution import agent
from nas.execution.cluster import commanded_on
from nas.execution.command import commanded
from nas.latency.boards import timed_on_board
from nas.latency.on_torch import timed_on_torch
from nas.models.onnx_graph import onnx_bytes
from nas.networks.architecture import Arch
from nas.records.plan import Meter
from nas.records.run_folder import RunFailed
from nas.records.timing import Latency
from nas.serialization import from_data

AGENT = Path(agent.__file__).read_text()


def measured(arch: Arch, reference: Arch, meter: Meter) -> Latency:
    """The latency of `arch` beside `reference`, as `meter` says, with random weights.

    Raises RunFailed where the device does not answer, or answers nonsense.
    """
    if meter.on_board:
        return timed_on_board(arch, meter)
    if meter.runtime != "onnxruntime":
        return timed_on_torch(arch, reference, meter)
    graph, timeout = asking(arch, reference, meter), meter.seconds + meter.timeout
    if meter.device == "here":
        answer = commanded([sys.executable, agent.__file__], graph, timeout)
    elif meter.command is None:
        answer = commanded_on(meter.device.removeprefix("ray:"), ["python", "-c", AGENT], graph, timeout)
    else:
        answer = commanded(shlex.split(meter.command), graph, timeout)
    return understood(answer, meter)


def asking(arch: Arch, reference: Arch, meter: Meter) -> bytes:
    """The ONNX graph of `arch` with, as its metadata, what the agent is asked."""
    asked = {"threads": meter.threads, "batch": meter.batch, "seconds": meter.seconds, "precision": meter.precision}
    metadata = {f"nas.{name}": str(value) for name, value in asked.items()}
    metadata["nas.reference"] = base64.b64encode(onnx_bytes(reference)).decode()
    return onnx_bytes(arch, None, metadata)


def understood(answer: bytes, meter: Meter) -> Latency:
    """The latency that an agent printed. Raises RunFailed where it is none."""
    who = f"device {meter.device}" + (f" ({meter.command})" if meter.command else "")
    try:
        lines = answer.decode().strip().splitlines()
        latency = from_data(Latency, json.loads(lines[-1] if lines else ""))
    except (ValueError, RecursionError) as error:
        shown = answer[:80].decode(errors="replace").strip()
        raise RunFailed(
            f"{who} must print what nas measure --write-agent's agent.py prints, got {shown!r}: {error}"
        ) from None
    if (latency.threads, latency.batch) != (meter.threads, meter.batch):
        raise RunFailed(
            f"{who} measured with {latency.threads} threads and batch {latency.batch}, asked were {meter.threads} and "
            f"{meter.batch}"
        )
    if latency.ratio is None:
        raise RunFailed(f"{who} measured no reference network; give it the agent.py of this version of nas")
    return replace(latency, reference=meter.reference)
