"""CIFAR-10 and wheels in parts that may travel to a machine with a card, and there put together again.

64 MiB may travel at a time. CIFAR-10 is 184 MB; as lossless WebP strips, one image below the other, it is 101 MB, and
its files come out of them byte for byte, as torchvision checks. Of a wheel of Ray the Java part, which is 32 MB, stays
behind. Wheels are unpacked, not installed: there is no pip registry there, and their folder is put on PYTHONPATH.

    python -m tests.device.packing --data ../shared/data --wheels .whl --to .device
"""

import argparse
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR = "cifar-10-batches-py"
PART = 50 * 2**20  # bytes of a part; the checkout, 11 MiB, travels with it
STRIP = 500  # images; WebP takes 16,383 rows
LEFT_OUT = ("ray/jars/", "ray/dashboard/client/")


def strips(images: np.ndarray) -> list[bytes]:
    """(N, 3072) uint8, channel by channel as in CIFAR's files -> lossless WebP pictures."""
    found = []
    for begin in range(0, len(images), STRIP):
        part = images[begin : begin + STRIP].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        buffer = io.BytesIO()
        Image.fromarray(part.reshape(-1, 32, 3)).save(buffer, "WEBP", lossless=True, quality=50, method=2)
        found.append(buffer.getvalue())
    return found


def images_in(pictures: list[bytes]) -> np.ndarray:
    """What `strips` was given."""
    parts = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in pictures]
    return np.concatenate([part.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).reshape(-1, 3072) for part in parts])


def pack(data: Path | None, wheels: Path | None, to: Path) -> list[Path]:
    """The parts, in folder `to`, of CIFAR-10 in folder `data` and of the wheels in `wheels`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        for file in sorted((data / CIFAR).iterdir()) if data else ():
            raw = file.read_bytes()
            held = pickle.loads(raw, encoding="bytes") if "batch_" in file.name else {}
            if b"data" not in held:
                add(f"{CIFAR}/{file.name}", raw)
                continue
            block = held[b"data"].tobytes()
            at = raw.index(block)
            pictures = strips(held[b"data"])
            add(f"{CIFAR}/{file.name}.rest", lzma.compress(raw[:at] + raw[at + len(block) :]))
            add(f"{CIFAR}/{file.name}.json", json.dumps({"at": at, "strips": len(pictures)}).encode())
            for number, picture in enumerate(pictures):
                add(f"{CIFAR}/{file.name}.{number}.webp", picture)
        for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
            slim = io.BytesIO()
            with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(slim, "w", zipfile.ZIP_LZMA) as kept:
                for entry in whole.infolist():
                    if not entry.filename.startswith(LEFT_OUT):
                        kept.writestr(entry.filename, whole.read(entry))
            add(f"wheels/{wheel.name}", slim.getvalue())
    content = buffer.getvalue()
    to.mkdir(parents=True, exist_ok=True)
    for old in to.glob("part-*"):
        old.unlink()
    made = []
    for number, begin in enumerate(range(0, len(content), PART)):
        made.append(to / f"part-{number}")
        made[-1].write_bytes(content[begin : begin + PART])
    return made


def unpack(parts: Path, to: Path) -> None:
    """Puts together in folder `to` what was packed into the parts in folder `parts`: CIFAR's files, and `site`."""
    numbers = sorted(int(part.name.removeprefix("part-")) for part in parts.glob("part-*"))
    content = b"".join((parts / f"part-{number}").read_bytes() for number in numbers)
    to.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        held = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    (to / CIFAR).mkdir(exist_ok=True)
    for name, value in held.items():
        if name.startswith("wheels/"):
            with zipfile.ZipFile(io.BytesIO(value)) as wheel:
                wheel.extractall(to / "site")
        elif name.endswith(".json"):
            file, told = name.removesuffix(".json"), json.loads(value)
            images = images_in([held[f"{file}.{number}.webp"] for number in range(told["strips"])])
            rest = lzma.decompress(held[f"{file}.rest"])
            (to / file).write_bytes(rest[: told["at"]] + images.tobytes() + rest[told["at"] :])
        elif not name.endswith((".rest", ".webp")):
            (to / name).write_bytes(value)
    for program in (to / "site" / "ray" / "core" / "src" / "ray").glob("*/*"):
        program.chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help=f"the folder that holds {CIFAR}")
    parser.add_argument("--wheels", type=Path, help="the folder that holds wheels")
    parser.add_argument("--to", type=Path, default=Path(".device"))
    asked = parser.parse_args()
    for part in pack(asked.data, asked.wheels, asked.to):
        print(f"{part}  {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
