"""What a trained network says of pictures: as it was trained, or as it was exported."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.errors import Error
from nas.exports.artefacts import DONE, PREPROCESS
from nas.exports.verification import opened, prepared
from nas.models.weights import put
from nas.networks.architecture import COLOUR
from nas.records.results import FORMATS, Prediction
from nas.training.full_training import TrainedNetwork
from nas.training.images import middle
from nas.training.learner import network
from nas.training.pictures import square

Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Prepared images (N, C, R, R) -> logits (N, classes)."""
FIRST = "onnx", "python", "pt2", "onnx-int8"  # of an export, the first that is there


def of_weights(trained: TrainedNetwork) -> tuple[Answer, dict[str, Any]]:
    """What answers, and how pictures are prepared for it, of a trained network."""
    model, info = network(trained.info.arch), trained.info
    put(model, trained.tensors, "the weights")
    where = next(model.parameters()).device

    def answer(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.from_numpy(images).to(where)).cpu().numpy()
        return logits

    form = {"resolution": info.arch.resolution, "channels": info.arch.channels, "share": info.share}
    return answer, {**form, "mean": info.mean, "std": info.std, "classes": info.classes}


def of_export(folder: Path) -> tuple[Answer, dict[str, Any]]:
    """The same of an export's folder. Raises Error where it holds no file that can answer here."""
    try:
        said: dict[str, Any] = json.loads((folder / PREPROCESS).read_text())
    except (OSError, ValueError) as error:
        raise Error(f"{folder / PREPROCESS} cannot be read ({error}); export again") from None
    form = next((form for form in FIRST if (folder / FORMATS[form][0]).exists()), None)
    if form is None:
        raise Error(f"{folder} holds none of {', '.join(FORMATS[form][0] for form in FIRST)}; export one of them")
    return opened(form, folder / FORMATS[form][0])[0], said


def is_export(folder: Path) -> bool:
    """Whether an export lies in `folder`."""
    return (folder / DONE).is_file()


def predictions(
    answer: Answer, said: dict[str, Any], files: Sequence[Path], top: int, broken: dict[str, str]
) -> Iterator[Prediction]:
    """What the network says of each picture, its `top` likeliest classes; `broken` takes what cannot be read."""
    side, classes = said["resolution"], said["classes"]
    stored = round(side / said.get("share", 1.0))
    for file in files:
        try:
            picture = square(file.read_bytes(), stored, said.get("channels", COLOUR))
        except (Error, OSError) as error:
            broken[str(file)] = str(error.strerror if isinstance(error, OSError) else error)
            continue
        logits = answer(prepared(middle(picture[None], side), said))[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")[:top]
        yield Prediction(str(file), tuple((classes[i], 100 * float(shares[i])) for i in order))
