"""Latency of architectures: their ONNX graphs under onnxruntime, here or elsewhere, or their modules under torch here.

Graphs are measured by nas/agent.py in a process of its own, modules by the same statistics in this one.
"""

import base64
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nas import agent
from nas.arch import Arch
from nas.onnx_graph import onnx_bytes
from nas.plan import Meter
from nas.runs import RunFailed
from nas.timing import Energy, Latency
from nas.values import from_data
from nas.workers import commanded, commanded_on

AGENT = Path(agent.__file__).read_text()
POWERCAP = Path("/sys/class/powercap")


def measured(arch: Arch, reference: Arch, meter: Meter) -> Latency:
    """The latency of `arch` beside `reference`, as `meter` says, with random weights.

    Raises RunFailed where the device does not answer, or answers nonsense.
    """
    if meter.runtime != "onnxruntime":
        return _on_torch(arch, reference, meter)
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


def energy_of(arch: Arch, meter: Meter, asked: bool = True, seconds: float = 3.0) -> Energy | str | None:
    """What `arch` takes when it runs for `seconds`; or why that is not available. None where it is not asked."""
    if not asked:
        return None
    if meter.device != "here":
        return f"not available: the counters of {meter.device} are not read"
    cuda = meter.runtime.startswith("cuda")
    try:
        counted, counters = (_nvml, "NVML, GPU 0") if cuda else (_rapl, "RAPL, all CPU packages")
        counted()
    except Exception as error:  # of pynvml's own, and of the file system
        return f"not available on this machine: no {'NVML' if cuda else 'RAPL'} counter that may be read ({error})"
    if meter.runtime == "onnxruntime":
        times, joules, taken = _spent(agent.opened(onnx_bytes(arch), meter.threads, meter.batch), counted, seconds)
    else:
        with _threads(meter.threads):
            times, joules, taken = _spent(_opened(arch, meter), counted, seconds)
    if joules <= 0:
        return f"not available on this machine: its {counters} counted {joules:g} J"
    return Energy(joules / (times * meter.batch), joules / taken, counters)


def _spent(run: agent.Run, counted: Callable[[], float], seconds: float) -> tuple[int, float, float]:
    """How often `run` was run in `seconds`, after once before; the joules that `counted` meanwhile; the seconds."""
    run()
    times, joules, begun = 0, counted(), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        run()
        times += 1
    return times, counted() - joules, time.perf_counter() - begun


def _rapl() -> float:
    """Joules so far of all CPU packages: Linux's own files, which begin anew every hour or so at full load."""
    zones = [zone for zone in POWERCAP.glob("*-rapl:?") if (zone / "name").read_text().startswith("package")]
    if not zones:
        raise OSError(f"{POWERCAP} has none")
    return sum(int((zone / "energy_uj").read_text()) for zone in zones) / 1e6


def _nvml() -> float:
    """Joules so far of GPU 0."""
    import pynvml

    pynvml.nvmlInit()
    joules: float = pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0)) / 1000
    return joules


def _on_torch(arch: Arch, reference: Arch, meter: Meter) -> Latency:
    import torch

    if meter.runtime.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("runtime cuda needs a CUDA device, torch finds none here; take --runtime torch or onnxruntime")
    with _threads(meter.threads):
        if meter.runtime.endswith("compiled"):  # once: it takes a minute or two
            one, other = _opened(arch, meter), _opened(reference, meter)
            figures = agent.timed(lambda: one, lambda: other, meter.seconds, meter.precision)
        else:
            both = (lambda: _opened(arch, meter)), (lambda: _opened(reference, meter))
            figures = agent.timed(*both, meter.seconds, meter.precision)
    device = torch.cuda.get_device_name() if meter.runtime.startswith("cuda") else agent.device()
    said = {"runtime": f"torch {torch.__version__} {meter.runtime}", "device": device}
    asked = {"threads": meter.threads, "batch": meter.batch, "reference": meter.reference}
    return from_data(Latency, {**figures, **said, **asked})


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """In which torch runs on `number` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _opened(arch: Arch, meter: Meter) -> agent.Run:
    """What runs the torch module of `arch` once, on one and the same random input."""
    import torch

    from nas.model import build

    place, layout = torch.device("cuda" if meter.runtime.startswith("cuda") else "cpu"), torch.channels_last
    torch.manual_seed(0)
    model: Callable[[torch.Tensor], torch.Tensor] = build(arch).eval().to(place).to(memory_format=layout)
    if meter.runtime.endswith("compiled"):
        model = torch.compile(model)
    images = torch.randn(meter.batch, 3, arch.resolution, arch.resolution).to(place, memory_format=layout)

    def run() -> None:
        with torch.inference_mode():
            model(images)
        if place.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):  # compiles
        run()
    return run
