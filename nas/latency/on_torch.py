"""Networks under torch in this process: opened to be run, and timed."""

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

    if meter.runtime.startswith("cuda") and not torch.cuda.is_available():
        raise Error("runtime cuda needs a CUDA device, torch finds none here; take --runtime torch or onnxruntime")
    with torch_threads(meter.threads):
        if meter.runtime.endswith("compiled"):  # once: it takes a minute or two
            one, other = opened(arch, meter), opened(reference, meter)
            figures = agent.timed(lambda: one, lambda: other, meter.seconds, meter.precision)
        else:
            both = (lambda: opened(arch, meter)), (lambda: opened(reference, meter))
            figures = agent.timed(*both, meter.seconds, meter.precision)
    device = torch.cuda.get_device_name() if meter.runtime.startswith("cuda") else agent.device()
    conditions = {"runtime": f"torch {torch.__version__} {meter.runtime}", "device": device}
    asked = {"threads": meter.threads, "batch": meter.batch, "reference": meter.reference}
    return from_data(Latency, {**figures, **conditions, **asked})


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
            torch.cuda.synchronize()

    for _ in range(2):  # compiles
        run()
    return run
