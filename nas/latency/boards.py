"""Networks on boards: a command that is given an int8 .tflite file prints how many milliseconds it takes there."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nas.execution.command import commanded
from nas.models.litert_file import litert_bytes
from nas.models.litert_int8 import MISSING, int8_model
from nas.networks.architecture import Arch
from nas.records.plan import TFLITE, Meter
from nas.records.run_folder import RunFailed
from nas.records.timing import Latency, exactly

NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)(?: ms)?", re.IGNORECASE)
IMAGES = 2  # of noise, that give the ranges of activations: how long an int8 layer takes does not depend on them


def device_model(arch: Arch) -> bytes:
    """`arch` with random weights as an int8 .tflite file. Raises RunFailed where what writes it is not installed."""
    side = arch.resolution
    images = np.random.default_rng(0).standard_normal((IMAGES, arch.channels, side, side)).astype(np.float32)
    try:
        content = litert_bytes(arch)
    except ImportError as error:
        raise RunFailed(MISSING.format(error=error)) from None
    return int8_model(content, [images])


def timed_on_board(arch: Arch, meter: Meter) -> Latency:
    """What the meter's command says of `arch`: milliseconds, with no interval and beside no reference network.

    Raises RunFailed where the command fails, or says something else.
    """
    assert meter.command is not None
    with TemporaryDirectory() as folder:
        file = Path(folder) / "network.tflite"
        file.write_bytes(device_model(arch))
        words = [word.replace(TFLITE, str(file)) for word in shlex.split(meter.command)]
        answer = commanded(words, b"", meter.seconds + meter.timeout)
    lines = answer.decode(errors="replace").strip().splitlines()
    said = NUMBER.fullmatch(lines[-1].strip()) if lines else None
    if not said or not 0 < float(said[1]) < 1e9:
        shown = (lines[-1] if lines else "")[:80]
        raise RunFailed(
            f"device {meter.device} ({meter.command}) must end with milliseconds, as in 12.3, got {shown!r}"
        )
    return replace(exactly(float(said[1])), runtime="int8 .tflite", device=meter.device, threads=1)
