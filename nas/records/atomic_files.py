"""Files that survive a process that is killed, and a full disk.

A line is appended and forced to disk in one go, files are replaced whole: a process killed at any moment
leaves at most one torn last line, which the next reader drops.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from nas.serialization import from_json

T = TypeVar("T")


def append_line(file: Path, line: str) -> None:
    """Puts a line on disk."""
    with file.open("ab") as handle:
        handle.write(line.encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())


def lines_of(file: Path) -> list[bytes]:
    """The lines of a file, none where it cannot be read."""
    try:
        return file.read_bytes().split(b"\n")
    except OSError:
        return []


def values_of(cls: type[T], line: bytes) -> list[T]:
    """The value that a line holds, none where it cannot be read."""
    try:
        return [from_json(cls, line.decode())]
    except ValueError:
        return []


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A new, hidden folder in `folder`, for files that are moved up when they are whole.

    What an earlier process was killed over is removed; so is `folder`, where nothing has come into it. Raises OSError
    where another process makes something there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another nas process is writing there", str(folder)) from None
        for left in folder.glob(".nas-*"):
            if left.name.removeprefix(".nas-").isdecimal():
                shutil.rmtree(left, ignore_errors=True)
        staging = folder / f".nas-{os.getpid()}"
        try:
            staging.mkdir()
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()
    finally:
        os.close(lock)


def moved(staging: Path, folder: Path, last: str, stale: Iterable[str]) -> None:
    """Moves every file of `staging`, those in its folders too, into `folder`, over what is there; at the end `last`, by
    which all are there.

    Where `last` was there before, so that the folder is ours, the files called `stale` go.
    """
    files = sorted((file for file in staging.rglob("*") if file.is_file()), key=lambda file: file.name == last)
    for file in files:
        (folder / file.relative_to(staging)).parent.mkdir(exist_ok=True)
    if (folder / last).exists():
        (folder / last).unlink()
        for file in (folder / name for name in stale):
            if file.exists():
                file.unlink()
            if file.parent != folder:
                with suppress(OSError):  # which is needed again, or others have put something into
                    file.parent.rmdir()
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        file.replace(folder / file.relative_to(staging))


def drop_torn_line(file: Path) -> None:
    """Cuts off a last line that is half a record, left by a process that was killed while writing.

    A whole record that only lacks its newline, as editors leave it, gets one. The file's times stay: they say when
    the process was killed.
    """
    if not file.exists():
        return
    times = file.stat()
    with file.open("rb+") as handle:
        content = handle.read()
        start = content.rfind(b"\n") + 1
        if start == len(content):
            return
        try:
            json.loads(content[start:])
            handle.write(b"\n")
        except ValueError:
            handle.truncate(start)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def put_whole(file: Path, content: bytes) -> None:
    """Writes `content` to `file` whole or not at all."""
    making = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with making.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        making.replace(file)
    except BaseException:
        making.unlink(missing_ok=True)
        raise
