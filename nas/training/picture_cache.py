"""Pictures of a folder, decoded once into a file of squares that all processes map into memory.

The file lies in the user's cache and is named after what it was made of: the files' names, sizes and times, and the
side of the squares. It grows a chunk at a time; what was decoded before a kill -9 stays. Room on the disk is taken
before the first picture is decoded: a full disk is an error with a line, not a crash.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nas.errors import Error
from nas.execution.environment import cores
from nas.networks.architecture import COLOUR
from nas.training.pictures import square

Tell: TypeAlias = Callable[[int, int], None]
"""Called with how many pictures have been read, and of how many."""
VERSION = 1  # of what a picture becomes
CHUNK = 128  # pictures that are recorded together
LIMIT = 32 << 30  # bytes of all squares in the cache; the oldest give way
UNUSED = 7 * 24 * 3600  # seconds after which they may
NAMED = 20  # broken files in an error


@dataclass(frozen=True, slots=True)
class Stored:
    """Squares (n, side, side, channels) in a file. A copy of those asked for is read, and no more stays in memory."""

    file: Path
    shape: tuple[int, int, int, int]

    def take(self, rows: Tensor) -> Tensor:
        """Squares `rows` (B,) -> (B, side, side, channels) uint8."""
        try:
            mapped = np.memmap(self.file, np.uint8, "r", shape=self.shape)
        except (OSError, ValueError):
            raise Error(f"{self.file} was removed or cut off while it was in use; begin again, or --resume") from None
        return torch.from_numpy(mapped[rows.numpy()])


@dataclass(frozen=True, slots=True)
class Squares:
    """What became of a folder's files, in their order."""

    stored: Stored
    contents: tuple[str, ...]
    """A digest of each file: equal for equal files."""
    broken: dict[str, str]
    """What is wrong with those that cannot be read, by name; their squares are black."""


def cache_folder() -> Path:
    """Where nas keeps what it can make again."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "nas"


def squares(
    root: Path, files: Sequence[str], side: int, tell: Tell = lambda *_: None, channels: int = COLOUR
) -> Squares:
    """The pictures `files` below `root` as squares of `side` x `side`, from the cache, or decoded into it.

    Raises Error where the cache cannot be written.
    """
    folder = cache_folder() / "pictures"
    shape = (len(files), side, side, channels)
    try:
        name = state_of(root, files, side, channels)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"):
            file, done = folder / f"{name}.u8", folder / f"{name}.json"
            whole = file.exists() and file.stat().st_size == np.prod(shape)
            if whole and done.exists():
                os.utime(file)
            else:  # what is left of one that was removed says nothing of the new one
                done.unlink(missing_ok=True)
                if not whole:
                    file.with_suffix(".jsonl").unlink(missing_ok=True)
                _room(folder, int(np.prod(shape)))
                _decode(root, files, shape, file, done, tell)
            found = json.loads(done.read_text())
    except OSError as error:
        raise Error(
            f"the pictures of {root} cannot be kept in {folder} ({error.strerror or error}): "
            f"{np.prod(shape) / 2**30:.1f} GiB are needed; make room, or set XDG_CACHE_HOME to another disk"
        ) from None
    return Squares(Stored(file, shape), tuple(found["contents"]), found["broken"])


def check(broken: dict[str, str], where: str = "") -> None:
    """Raises Error, with their names, where files are broken."""
    if broken:
        named = "".join(f"\n  {name}: {why}" for name, why in list(broken.items())[:NAMED])
        more = f"\n  and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
        raise Error(
            f"{len(broken):,} of the pictures{where} cannot be read; mend or remove them, or go on without them by "
            f"--skip-bad:{named}{more}"
        )


def state_of(root: Path, files: Sequence[str], side: int = 0, channels: int = COLOUR) -> str:
    """A digest of what squares of `side` are made of: the files' names, sizes and times."""
    seen = hashlib.sha256(f"{VERSION} {side} {root.resolve()}{' gray' * (channels == 1)}".encode())
    for name in files:
        try:
            stat = os.stat(root / name)
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:  # said where it is to be decoded
            state = "missing"
        seen.update(f"\0{name}\0{state}".encode(errors="surrogateescape"))
    return seen.hexdigest()[:24]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it: its squares will do
        yield


def _room(folder: Path, needed: int) -> None:
    """Removes squares that have not been used for a while, the oldest first, where the cache would grow too large."""
    kept = sorted(folder.glob("*.u8"), key=lambda file: file.stat().st_mtime)
    total = needed + sum(file.stat().st_size for file in kept)
    for file in kept:
        if total > LIMIT and file.stat().st_mtime < time.time() - UNUSED:
            total -= file.stat().st_size
            for suffix in (".json", ".jsonl", ".u8"):
                file.with_suffix(suffix).unlink(missing_ok=True)


def _decode(
    root: Path, files: Sequence[str], shape: tuple[int, int, int, int], file: Path, done: Path, tell: Tell
) -> None:
    journal = file.with_suffix(".jsonl")
    chunks: dict[int, dict[str, Any]] = {}
    if file.exists() and journal.exists():
        for line in journal.read_text().splitlines():
            with suppress(ValueError):  # cut off in the middle
                chunk = json.loads(line)
                chunks[chunk["first"]] = chunk
    with file.open("r+b" if file.exists() else "w+b") as room:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(room.fileno(), 0, max(1, int(np.prod(shape))))
        else:
            room.truncate(int(np.prod(shape)))
    mapped = np.memmap(file, np.uint8, "r+", shape=shape)

    def one(i: int) -> tuple[str, str]:
        try:
            content = (root / files[i]).read_bytes()
        except OSError as error:
            return "", str(error.strerror)
        digest = hashlib.sha256(content).hexdigest()[:16]
        try:
            mapped[i] = square(content, shape[1], shape[3])
        except Error as error:
            return digest, str(error)
        return digest, ""

    with journal.open("a") as log, ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(files), CHUNK):
            if first not in chunks:
                seen = list(pool.map(one, range(first, min(first + CHUNK, len(files)))))
                broken = {files[first + i]: why for i, (_, why) in enumerate(seen) if why}
                chunks[first] = {"first": first, "contents": [content for content, _ in seen], "broken": broken}
                mapped.flush()
                log.write(json.dumps(chunks[first]) + "\n")
                log.flush()
                tell(min(first + CHUNK, len(files)), len(files))
    found = {
        "contents": [content for _, chunk in sorted(chunks.items()) for content in chunk["contents"]],
        "broken": {name: why for _, chunk in sorted(chunks.items()) for name, why in chunk["broken"].items()},
    }
    whole = done.with_suffix(".new")
    whole.write_text(json.dumps(found))
    whole.replace(done)
    journal.unlink()
