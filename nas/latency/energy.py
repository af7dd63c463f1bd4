"""Energy that a network takes, by the counters of the machine."""

import time
from collections.abc import Callable
from pathlib import Path

from nas.execution import agent
from nas.latency.on_torch import opened, torch_threads
from nas.models.onnx_graph import onnx_bytes
from nas.networks.architecture import Arch
from nas.records.plan import Meter
from nas.records.timing import Energy

POWERCAP = Path("/sys/class/powercap")


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
        times, joules, elapsed = _spent(agent.opened(onnx_bytes(arch), meter.threads, meter.batch), counted, seconds)
    else:
        with torch_threads(meter.threads):
            times, joules, elapsed = _spent(opened(arch, meter), counted, seconds)
    if joules <= 0:
        return f"not available on this machine: its {counters} counted {joules:g} J"
    return Energy(joules / (times * meter.batch), joules / elapsed, counters)


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
