"""Pictures decoded once: killed, on a full disk, by several processes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import Error
from nas.training import picture_cache
from nas.training.picture_cache import cache_folder, squares

PICTURES = 40


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(picture_cache, "CHUNK", 8)
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(PICTURES):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(root / f"{i:03d}.png")
    return root, [f"{i:03d}.png" for i in range(PICTURES)]


def levels(found: picture_cache.Squares) -> list[int]:
    mapped = np.memmap(found.stored.file, np.uint8, "r", shape=found.stored.shape)
    return [int(picture[0, 0, 0]) for picture in mapped]


def test_decoded_once(pictures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    root, files = pictures
    heard: list[tuple[int, int]] = []
    found = squares(root, files, 16, lambda done, total: heard.append((done, total)))
    assert found.stored.shape == (PICTURES, 16, 16, 3) and levels(found) == list(range(PICTURES))
    assert heard == [(8 * n, PICTURES) for n in range(1, 6)] and len(set(found.contents)) == PICTURES
    monkeypatch.setattr(picture_cache, "square", None)  # nothing is decoded again
    assert squares(root, files, 16) == found


def test_squares_that_were_removed_are_made_again(pictures: tuple[Path, list[str]]) -> None:
    """What is left of them, finished or not, says nothing of the new ones."""
    root, files = pictures
    found = squares(root, files, 16)
    file, done = found.stored.file, found.stored.file.with_suffix(".json")
    journal = file.with_suffix(".jsonl")
    for left in (0, 100):
        file.write_bytes(file.read_bytes()[:left])
        journal.write_text('{"first": 0, "contents": ["x"], "broken": {}}\n')
        assert levels(squares(root, files, 16)) == list(range(PICTURES)) and done.exists() and not journal.exists()
    file.unlink()
    with pytest.raises(Error, match="was removed or cut off while it was in use"):
        found.stored.take(torch.tensor([0]))


def test_another_file_is_decoded_again(pictures: tuple[Path, list[str]]) -> None:
    root, files = pictures
    before = squares(root, files, 16)
    Image.new("RGB", (20, 20), (99, 0, 0)).save(root / files[0])
    after = squares(root, files, 16)
    assert before.stored.file != after.stored.file and levels(after)[0] == 99
    assert before.contents[0] != after.contents[0] and before.contents[1:] == after.contents[1:]


def test_killed_on_the_way_it_goes_on(pictures: tuple[Path, list[str]]) -> None:
    """A real kill -9, while the fourth chunk is decoded: what was there before is not decoded again."""
    root, files = pictures
    code = (
        "import sys, time; from pathlib import Path; from nas.training import picture_cache as p; p.CHUNK = 8\n"
        "def tell(done, total):\n"
        "    if done == 24: print('now', flush=True); time.sleep(60)\n"
        "p.squares(Path(sys.argv[1]), sys.argv[2:], 16, tell)"
    )
    command = [sys.executable, "-c", code, str(root), *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "now\n"
        os.kill(process.pid, signal.SIGKILL)
    decoded: list[int] = []
    whole = picture_cache.square

    def counted(content: bytes, side: int, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        decoded.append(side)
        return whole(content, side, channels)

    picture_cache.square = counted
    heard: list[int] = []
    try:
        found = squares(root, files, 16, lambda done, _: heard.append(done))
    finally:
        picture_cache.square = whole
    assert heard == [32, 40]  # from where it was
    assert len(decoded) == PICTURES - 24 and levels(found) == list(range(PICTURES))
    assert not list(cache_folder().rglob("*.jsonl"))


def test_a_full_disk_is_said_before_anything_is_decoded(
    pictures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Error, match=r"cannot be kept in .*No space left on device.*GiB are needed.*XDG_CACHE_HOME"):
        squares(*pictures, 16)


def test_the_oldest_give_way(pictures: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    root, files = pictures
    old, young = squares(root, files, 16).stored.file, squares(root, files, 17).stored.file
    long_ago = time.time() - 7 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    monkeypatch.setattr(picture_cache, "LIMIT", 1)
    newest = squares(root, files, 18).stored.file
    assert not old.exists() and young.exists() and newest.exists()


def test_a_file_that_cannot_be_opened_is_broken(pictures: tuple[Path, list[str]]) -> None:
    root, files = pictures
    (root / files[3]).unlink()
    (root / files[3]).mkdir()
    found = squares(root, files, 16)
    assert found.broken == {files[3]: "Is a directory"}
