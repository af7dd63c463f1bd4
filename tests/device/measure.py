"""What a machine with a card is asked, at most ten minutes at a time. Figures are JSON, in $OUT/figures.json.

Here, before (CIFAR-10 and the wheels that the machine lacks, in parts of at most 50 MiB):

    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \\
        -d .whl ray==2.60.0 optuna==5.0.0 sqlalchemy alembic mako colorlog jsonschema jsonschema-specifications \\
        referencing rpds-py
    tests/device/pack --data ../shared/data --wheels .whl --to .device

Then by the device tool, one call after the other, each within 30 seconds of the last:

    run(carry=[".device/part-0"], timeout_s=60, command="mkdir -p /tmp/nas && cp .device/part-* /tmp/nas")
    run(carry=[".device/part-1"], timeout_s=60, command="cp .device/part-* /tmp/nas")
    run(carry=[".device/part-2"], timeout_s=480, command="cp .device/part-* /tmp/nas && tests/device/run --minutes 7")
    run(timeout_s=330, command="tests/device/run --minutes 5 --steps paper,found,plain,search")
    give_back()

Steps run in the order of STEPS, each in a process of its own and for its own time at the most; one that has ended is
not run again while the machine is warm, one that was cut off goes on. Start, transfers and both runs are to fit into 15
minutes, which is a lease: what is left undone needs another one. On the CPU, in seconds, with other figures:

    tests/device/run --tiny
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BEGUN = time.monotonic()


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each step is done."""

    device: str
    dataset: str
    data: str | None
    images: int
    """That a throughput is taken over, in so many"""
    passes: int
    packed: tuple[int, ...]
    """Processes that share the card."""
    batches: tuple[int, ...]
    """Of latencies."""
    seconds: float
    """For a latency."""
    trials: int
    budget: str
    space: str
    epochs: int | None
    """Of trainings; None: the recipes' own."""
    loaders: int
    """Processes of the plain loop's DataLoader."""
    limit: float = 600.0
    """Seconds that the step may take."""


CARD = Size("cuda", "cifar10", "", 32_000, 4, (1, 4, 8, 16), (1, 64), 4.0, 256, "25MFLOPs", "lightweight", None, 8)
TINY = Size("cpu", "digits", None, 32, 1, (1, 2), (1,), 0.05, 1, "3MFLOPs", "lowres", 1, 0)


def machine(size: Size, place: Path) -> dict[str, Any]:
    """What it is, and whether a step is captured at all."""
    import torch

    from nas.execution.environment import versions
    from nas.training.devices import described

    found = {"described": described(size.device), "versions": versions(("torch", "torchvision", "ray", "optuna"))}
    if size.device == "cuda":
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.used,memory.total"]
        found["nvidia_smi"] = subprocess.run([*asked, "--format=csv"], capture_output=True, text=True).stdout
        found["capability"] = torch.cuda.get_device_capability()
    return found


def tests(size: Size, place: Path) -> dict[str, Any]:
    """pytest -m cuda."""
    asked = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-o", "filterwarnings=default", "-m", "cuda"]
    asked += ["-p", "no:cacheprovider", str(ROOT / "tests" / "device" / "test_cuda.py"), "-rA", "--tb=short"]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    return {"exit_code": ended.returncode, "last": lines[-1] if lines else ended.stderr[-400:], "output": lines[-120:]}


def throughput(size: Size, place: Path) -> dict[str, Any]:
    """Images a second of one network: the loop that a user would write, ours step by step, ours captured."""
    import torch

    from nas.training import captured
    from nas.training.devices import device
    from nas.training.proxy import loaded

    data = loaded(size.dataset, _data(size, place), 32)
    images = data.train.first(size.images)
    found: dict[str, Any] = {"images": len(images), "network": "lowres-mobilenet", "not_captured": []}
    found["plain_loop"] = _plain_loop(size, data, images)
    device(size.device)  # chooses deterministic algorithms
    cudnn = torch.backends.cudnn
    for name, capture, cudnn.deterministic, cudnn.benchmark in (
        ("ours", True, True, False),
        ("ours_as_it_is", False, True, False),
        ("any_algorithm", True, False, False),
        ("fastest_algorithm", True, False, True),
    ):
        if size.device != "cuda" and name != "ours":
            continue
        captured._refused[:] = [] if capture else ["measured without"]
        _ours(size, data, images.first(len(images) // 4))  # libraries are loaded
        found[name] = _ours(size, data, images)
        found["not_captured"] += captured._refused if capture else []
    cudnn.deterministic, cudnn.benchmark = False, False
    found["ratio"] = found["ours"] / found["plain_loop"]
    return found


def _ours(size: Size, data: Any, images: Any) -> float:
    """Images a second of a proxy's training: all of it, making images ready, capturing, waiting for the last step."""
    import torch

    from nas.api.resolve import architecture
    from nas.records.plan import PROXY
    from nas.training.step import optimiser_of, train, trainable

    torch.manual_seed(0)
    model = trainable(architecture("lowres-mobilenet", classes=len(data.classes)), size.device)
    begun = time.perf_counter()
    train(model, optimiser_of(model, PROXY), data, images, size.passes, PROXY, 0)
    return size.passes * len(images) / (time.perf_counter() - begun)


def _plain_loop(size: Size, data: Any, images: Any) -> float:
    """Images a second of a loop over a DataLoader, PIL images and torchvision's transforms, fp32, batches of 64."""
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    from nas.api.resolve import architecture
    from nas.models.torch_model import build
    from nas.records.plan import PROXY

    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage()]
    transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)])
    pictures = [
        (Image.fromarray(pixels.numpy()), int(label)) for pixels, label in zip(images.all(), images.labels, strict=True)
    ]
    loader = DataLoader(
        pictures,  # type: ignore[arg-type]
        PROXY.batch, shuffle=True, num_workers=size.loaders, pin_memory=size.device == "cuda",
        collate_fn=_Collated(transform),
    )  # fmt: skip
    model = build(architecture("lowres-mobilenet", classes=len(data.classes))).to(size.device).train()
    optimiser = torch.optim.SGD(model.parameters(), PROXY.lr, PROXY.momentum, weight_decay=5e-4, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, PROXY.lr, total_steps=len(loader))
    begun = time.perf_counter()
    for x, y in loader:
        x, y = x.to(size.device, non_blocking=True), y.to(size.device, non_blocking=True)
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    loss.item()
    return len(pictures) / (time.perf_counter() - begun)


@dataclass(frozen=True, slots=True)
class _Collated:
    """A batch of pictures, each transformed. Picklable: a DataLoader's processes get it."""

    transform: Any

    def __call__(self, pairs: list[tuple[Any, int]]) -> tuple[Any, Any]:
        import torch

        return torch.stack([self.transform(picture) for picture, _ in pairs]), torch.tensor([y for _, y in pairs])


def packing(size: Size, place: Path) -> dict[str, Any]:
    """Images a second of several networks that share the card, each in a process of its own, all training at once."""
    code = (
        "import sys, json; from pathlib import Path; from tests.device.measure import one_of_several; "
        "one_of_several(json.loads(sys.argv[1]), Path(sys.argv[2]))"
    )
    found: dict[str, Any] = {}
    for number in size.packed:
        ready = place / f"ready-{number}"
        shutil.rmtree(ready, ignore_errors=True)
        ready.mkdir(parents=True)
        told = json.dumps({"size": _as_data(size), "ready": str(ready), "number": number})
        asked = [sys.executable, "-c", code, told, str(place)]
        processes = [subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        spans = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
        seconds = max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)
        found[str(number)] = {"images_a_second": sum(images for *_, images in spans) / seconds, "seconds": seconds}
    found["gain"] = max(one["images_a_second"] for one in found.values()) / found["1"]["images_a_second"]
    return found


def one_of_several(told: dict[str, Any], place: Path) -> None:
    """Prints when a training began and ended, once `number` processes were ready, and over how many images it was."""
    from nas.training.proxy import loaded

    size, ready = _size_from(told["size"]), Path(told["ready"])
    data = loaded(size.dataset, _data(size, place), 32)
    images = data.train.first(size.images)
    _ours(size, data, images.first(len(images) // 4))
    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < told["number"]:
        time.sleep(0.01)
    begun = time.time()
    _ours(size, data, images)
    print(json.dumps((begun, time.time(), size.passes * len(images))))


def latency(size: Size, place: Path) -> dict[str, Any]:
    """Milliseconds of networks, by batch, with their ratio to Low-res MobileNet's; and energy, where it is counted."""
    from nas.api.resolve import architecture
    from nas.latency.energy import energy_of
    from nas.latency.measure import measured
    from nas.records.plan import Meter
    from nas.serialization import to_data

    runtime, reference = "cuda" if size.device == "cuda" else "torch", architecture("lowres-mobilenet")
    networks = {"found": _found()} if size.device == "cuda" else {"lowres-mobilenet": reference}
    found: dict[str, Any] = {}
    for batch in size.batches:
        meter = Meter("lowres-mobilenet", runtime=runtime, batch=batch, seconds=size.seconds)
        for name, arch in networks.items():
            energy = energy_of(arch, meter, seconds=size.seconds)
            found[f"{name} {batch}"] = {"latency": to_data(measured(arch, reference, meter)), "energy": to_data(energy)}
    return found


def search(size: Size, place: Path) -> dict[str, Any]:
    """A search; on a card of 256 networks on all of CIFAR-10. Where its time is too short, another call goes on."""
    import nas

    begun = time.perf_counter()
    result = nas.search(
        size.space, size.budget, dataset=size.dataset, data=_data(size, place), trials=size.trials, device=size.device,
        run=place / "search", workers=None if size.device == "cuda" else 1, time_limit=max(1.0, size.limit - 30),
    )  # fmt: skip
    best = result.best
    states = [trial.state for trial in result.trials]
    trained = sum(state in ("complete", "pruned", "failed") for state in states)
    return {
        "partial": trained < size.trials,
        "trials": {state: states.count(state) for state in set(states)},
        "best": None if best is None else {"id": best.arch_id, "score": best.score},
        "seconds_in_this_process": time.perf_counter() - begun,
    }


def _trained(name: str, network: Any, recipe: str) -> Callable[[Size, Path], dict[str, Any]]:
    def step(size: Size, place: Path) -> dict[str, Any]:
        import nas
        from nas.serialization import to_data

        run, of = place / name, network() if callable(network) else network
        options: dict[str, Any] = {"resume": run} if run.exists() else {"run": run}
        if not run.exists():
            of = of if size.device == "cuda" else _small()
            options |= {"network": of, "recipe": recipe, "dataset": size.dataset, "epochs": size.epochs}
        found = nas.train(**options, data=_data(size, place), device=size.device)
        return {"recipe": recipe, "result": to_data(found.outcome)}

    step.__doc__ = f"A full training by recipe {recipe}, {name}, tested once."
    return step


def _found() -> Any:
    """The best network that was found on CPUs, of at most 25M MACs."""
    from nas.api.resolve import architecture

    return architecture(ROOT / "runs" / "found-muon")


def _small() -> Any:
    """A network that a CPU trains in seconds."""
    from nas.networks.architecture import Arch, Head, Stage, Stem
    from nas.networks.blocks import Bottleneck

    return Arch(Stem(8, stride=2), (Stage(Bottleneck(2.0), 8, 1, 2), Stage(Bottleneck(2.0), 16, 1, 2)), Head(16))


STEPS: dict[str, tuple[Callable[[Size, Path], dict[str, Any]], float]] = {
    "machine": (machine, 40),
    "tests": (tests, 120),
    "throughput": (throughput, 80),
    "packing": (packing, 110),
    "latency": (latency, 50),
    "search": (search, 400),
    "paper": (_trained("paper", "lowres-mobilenet", "paper"), 400),
    "found": (_trained("found", _found, "plain"), 300),
    "plain": (_trained("plain", "lowres-mobilenet", "plain"), 300),
}
"""Each with the seconds that it may take."""


def _data(size: Size, place: Path) -> str | None:
    """The folder of the dataset: what was carried, or where --data says."""
    return (size.data or str(place / "data")) if size.dataset == "cifar10" else None


def _as_data(size: Size) -> dict[str, Any]:
    return {name: getattr(size, name) for name in Size.__dataclass_fields__}


def _size_from(told: dict[str, Any]) -> Size:
    return Size(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})


def ended(step: str, size: Size, place: Path, limit: float, apart: bool) -> dict[str, Any]:
    """What became of a step, run for `limit` seconds at the most: its figures, or how it ended without."""
    begun, size = time.monotonic(), replace(size, limit=limit)
    if not apart:
        return {"figures": STEPS[step][0](size, place), "seconds": time.monotonic() - begun}
    made = place / f"{step}.json.new"
    made.unlink(missing_ok=True)
    asked = [sys.executable, "-m", "tests.device.measure", "--step", step, "--place", str(place)]
    with (place / f"{step}.log").open("a") as log:
        process = subprocess.Popen(
            [*asked, "--size", json.dumps(_as_data(size))], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code: Any = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = "its time was up"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # and what it began
            except ProcessLookupError:
                pass
            process.wait()
    told = {"seconds": time.monotonic() - begun}
    if code == 0 and made.exists():
        return told | {"figures": json.loads(made.read_text())}
    words = (place / f"{step}.log").read_text().splitlines()
    return told | {"without_figures": f"exit {code}", "last_words": words[-15:]}


def run(steps: list[str], size: Size, place: Path, out: Path, minutes: float, apart: bool) -> dict[str, Any]:
    """All figures so far, of `steps` and of earlier calls, written into folder `out` after each step."""
    place.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    kept = place / "figures.json"
    figures: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for step in steps:
        left = 60 * minutes - (time.monotonic() - BEGUN)
        if "figures" in (before := figures.get(step, {})) and not before["figures"].get("partial"):
            continue
        if left < 10 and apart:
            print(f"{step}: no time is left, {left:.0f} s", flush=True)
            continue
        figures[step] = ended(step, size, place, min(STEPS[step][1], left), apart)
        kept.write_text(json.dumps(figures, indent=1))
        shutil.copy(kept, out / "figures.json")
        short = json.dumps({**figures[step].get("figures", figures[step]), "output": None, "result": None})
        print(f"{step}: {figures[step]['seconds']:.0f} s, {short[:600]}", flush=True)
    _packed_runs(place, out)
    return figures


def _packed_runs(place: Path, out: Path) -> None:
    """The runs' records, without checkpoints, and the logs, in one file: eight come back at the most."""
    import tarfile

    with tarfile.open(out / "runs.tar.gz", "w:gz") as tar:
        for name in ("search", "paper", "found", "plain"):
            for file in sorted((place / name).rglob("*")):
                if file.is_file() and file.suffix != ".pt" and file.name != ".lock":
                    tar.add(file, file.relative_to(place))
        for log in sorted(place.glob("*.log")):
            tar.add(log, log.name)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(STEPS), help="by default all, in this order")
    parser.add_argument("--minutes", type=float, default=9.0, help="in all")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, in seconds")
    parser.add_argument("--data", help="where CIFAR-10 lies, if it was not carried")
    parser.add_argument("--place", type=Path, help="what is kept between calls; by default /tmp/nas/work")
    parser.add_argument("--parts", type=Path, default=Path("/tmp/nas"), help="what was carried")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # one, in this process
    parser.add_argument("--size", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    place = (asked.place or Path("/tmp/nas/tiny" if asked.tiny else "/tmp/nas/work")).absolute()
    if asked.step:
        figures = STEPS[asked.step][0](_size_from(json.loads(asked.size)), place)
        (place / f"{asked.step}.json.new").write_text(json.dumps(figures))
        return
    size = replace(TINY if asked.tiny else CARD, data=asked.data or "")
    steps = asked.steps.split(",")
    if unknown := [step for step in steps if step not in STEPS]:
        parser.error(f"step {unknown[0]} is unknown; one of {', '.join(STEPS)}")
    if list(asked.parts.glob("part-*")) and not asked.tiny and not (place / "data").exists():
        from tests.device.packing import unpack

        unpack(asked.parts, place / "data")
    site = str(place / "data" / "site")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), site, os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    out = Path(os.environ.get("OUT", place / "out"))
    run(steps, size, place, out, asked.minutes, apart=True)


if __name__ == "__main__":
    main()
