"""The script for a machine with a card, on the CPU: no typo is to cost minutes of a card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.device.measure import STEPS, TINY, ended, run
from tests.device.packing import CIFAR, images_in, pack, strips, unpack

ROOT = Path(__file__).parents[2]


def test_each_step_has_figures_and_is_not_run_twice(tmp_path: Path) -> None:
    steps = [step for step in STEPS if step not in ("tests", "packing")]
    figures = run(steps, TINY, tmp_path / "work", tmp_path / "out", 9, apart=False)
    assert list(figures) == steps and all(figures[step]["figures"] for step in steps)
    assert figures["throughput"]["figures"]["ratio"] > 0 and figures["throughput"]["figures"]["not_captured"] == []
    assert figures["search"]["figures"]["best"] and not figures["search"]["figures"]["partial"]
    assert {figures[step]["figures"]["recipe"] for step in ("paper", "plain", "found")} == {"paper", "plain"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures.json", "runs.tar.gz"]
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures
    assert run(steps, TINY, tmp_path / "work", tmp_path / "out", 9, apart=False) == figures


@pytest.mark.slow
def test_the_script_runs_its_steps_in_processes_of_their_own(tmp_path: Path) -> None:
    asked = [ROOT / "tests" / "device" / "run", "--tiny", "--place", tmp_path, "--steps", "machine,tests,packing"]
    environment = os.environ | {"OUT": str(tmp_path / "out"), "NAS_STAND_IN": "cpu", "PATH": _path()}
    done = subprocess.run(list(map(str, asked)), env=environment, capture_output=True, text=True, check=True)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert list(figures) == ["machine", "tests", "packing"] and "machine: " in done.stdout
    tests = figures["tests"]["figures"]
    assert tests["exit_code"] == 0 and " passed" in tests["last"] and "skipped" in tests["last"], tests["output"]
    assert set(figures["packing"]["figures"]) == {"1", "2", "gain"}


def _path() -> str:
    """Where `python3` is this Python."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def test_a_step_that_fails_or_hangs_says_so(tmp_path: Path) -> None:
    cut_off = ended("machine", TINY, tmp_path, 0.01, apart=True)
    assert cut_off["without_figures"] == "exit its time was up"


def test_images_and_wheels_come_out_of_their_parts_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle
    import zipfile

    monkeypatch.setattr("tests.device.packing.PART", 100_000)
    monkeypatch.setattr("tests.device.packing.STRIP", 30)
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 2, (100, 3072)) * 60 + np.arange(3072) % 190).astype(np.uint8)
    assert np.array_equal(images_in(strips(images)), images)
    (tmp_path / CIFAR).mkdir()
    for name in ("data_batch_1", "test_batch"):
        batch = {b"labels": list(range(100)), b"data": images, b"filenames": [b"a.png"] * 100}
        (tmp_path / CIFAR / name).write_bytes(pickle.dumps(batch, 3))
    (tmp_path / CIFAR / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"]}))
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "ray-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ray/core/src/ray/raylet/raylet", "program")
        wheel.writestr("ray/jars/ray.jar", "java")
    parts = pack(tmp_path, tmp_path / "wheels", tmp_path / "parts")
    assert len(parts) > 2 and max(part.stat().st_size for part in parts) == 100_000
    unpack(tmp_path / "parts", tmp_path / "there")
    for file in (tmp_path / CIFAR).iterdir():
        assert (tmp_path / "there" / CIFAR / file.name).read_bytes() == file.read_bytes()
    raylet = tmp_path / "there" / "site" / "ray" / "core" / "src" / "ray" / "raylet" / "raylet"
    assert raylet.read_text() == "program" and os.access(raylet, os.X_OK)
    assert not (tmp_path / "there" / "site" / "ray" / "jars").exists()
