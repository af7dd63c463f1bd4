"""Networks under torch in this process: opened to be run, and timed.

On a GPU a network is one CUDA graph, timed by CUDA events: what the card takes, and not how long Python needs to
launch its kernels. Weights and activations are fp32 there too; convolutions may take TF32, as torch has it by default.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nas.errors import Error
from nas.execution import agent
from nas.networks.architecture import Arch
from nas.records.plan import Meter
from nas.records.timing import Latency
from nas.serialization import from_data


def timed_on_torch(arch: Arch, reference: Arch, meter: Meter) -> Latency:
    import torch

    cuda = meter.runtime.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        raise Error("runtime cuda needs a CUDA device, torch finds none here; take --runtime torch or onnxruntime")
    with torch_threads(meter.threads):
        if meter.runtime.endswith("compiled"):  # once: it takes a minute or two
            one, other = opened(arch, meter), opened(reference, meter)
            figures = agent.timed(lambda: one, lambda: other, meter.seconds, meter.precision)
        else:
            both = (lambda: opened(arch, meter)), (lambda: opened(reference, meter))
            figures = agent.timed(*both, meter.seconds, meter.precision)
    conditions = {
        "runtime": f"torch {torch.__version__} {meter.runtime}",
        "device": torch.cuda.get_device_name() if cuda else agent.device(),
        "clocks": clocks() if cuda else "",
    }
    asked = {"threads": meter.threads, "batch": meter.batch, "reference": meter.reference}
    return from_data(Latency, {**figures, **conditions, **asked})


def clocks() -> str:
    """How fast the GPU's multiprocessors run just now, by NVML; nothing where it cannot be asked."""
    import torch

    try:
        return f"SM {torch.cuda.clock_rate()} MHz"
    except Exception:  # no pynvml; or one of its own, where the driver does not answer
        return ""


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """In which torch runs on `number` threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def opened(arch: Arch, meter: Meter) -> agent.Run:
    """What runs the torch module of `arch` once, on one and the same random input."""
    import torch

    from nas.models.torch_model import build

    place, layout = torch.device("cuda" if meter.runtime.startswith("cuda") else "cpu"), torch.channels_last
    torch.manual_seed(0)
    model: Callable[[torch.Tensor], torch.Tensor] = build(arch).eval().to(place).to(memory_format=layout)
    if meter.runtime.endswith("compiled"):
        model = torch.compile(model)
    images = torch.randn(meter.batch, arch.channels, arch.resolution, arch.resolution).to(place, memory_format=layout)

    def run() -> None:
        with torch.inference_mode():
            model(images)

    if place.type == "cuda":
        return _timed_by_events(run if meter.runtime.endswith("compiled") else _captured(run))
    for _ in range(2):  # compiles
        run()
    return run


def _captured(run: Callable[[], None]) -> Callable[[], None]:
    """`run` as a CUDA graph."""
    import torch

    aside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # libraries choose their kernels
            run()
    torch.cuda.current_stream().wait_stream(aside)
    with torch.cuda.graph(graph, stream=aside):
        run()
    held = graph, run  # a graph has none of the memory that it reads: the network's
    return lambda: held[0].replay()


def _timed_by_events(run: Callable[[], None]) -> agent.Run:
    import torch

    begins, ends = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def timed() -> float:
        begins.record()
        run()
        ends.record()
        ends.synchronize()
        return float(begins.elapsed_time(ends)) / 1000

    for _ in range(2):  # compiles
        timed()
    return timed
