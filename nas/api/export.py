"""`nas.export`: a trained network as files that run without nas. `nas.load`: the same network in torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nas.api.arguments import checked
from nas.api.loading import trained_network
from nas.api.resolve import one_of
from nas.records.results import FORMATS, USUAL, Export

if TYPE_CHECKING:
    from torch import nn


class Exported(NamedTuple):
    """The folder of an export, and what was seen of its files."""

    folder: Path
    found: Export


@checked
def export(
    network: str | Path,
    weights: str | Path | None = None,
    *,
    formats: str | Sequence[str] = USUAL,
    to: str | Path | None = None,
    dataset: str | None = None,
    data: str | Path | None = None,
    int8_loss: float = 0.5,
    seconds: float = 10.0,
    started: Callable[[Path], None] = lambda _: None,
    watch: Callable[[str], None] = lambda _: None,
) -> Exported:
    """The trained network as files, each loaded again in a process without nas and verified on the test images.

    `network`: a training's folder, its weights.safetensors, or, with `weights`, an anchor or the file of an
    architecture. `formats`: of `nas.records.results.FORMATS`. `to`: the folder that is written, by default export/ in
    the training's, or beside the weights. `dataset`: what it was trained for, where the weights do not say so; `data`:
    the folder where that lies. `int8_loss`: points of top-1 that int8 may lose. `seconds`: for measuring the latency of
    each file; 0: not measured. `started` is called with the folder, `watch` with what is being made.

    Raises Error where the request cannot be met. A format that cannot be exported is in `found.failed`.
    """
    names = [formats] if isinstance(formats, str) else formats
    wanted = list(dict.fromkeys(",".join(names).replace(" ", "").split(",")))
    for name in wanted:
        one_of(tuple(FORMATS), name, "format")
    trained = trained_network(network, weights, dataset, data, to)

    from nas.exports.artefacts import check_free, export_network

    if to or trained.training_plan is None:  # else it is the export folder of a training of ours
        check_free(trained.export)
    started(trained.export)
    return Exported(trained.export, export_network(trained, wanted, seconds, int8_loss, watch))


@checked
def load(network: str | Path, weights: str | Path | None = None) -> "nn.Module":
    """The trained network as a torch module in evaluation mode. `network`, `weights`: see `export`.

    It takes prepared images (N, C, R, R): (pixels / 255 - mean) / std. Raises Error where there are no weights.
    """
    trained = trained_network(network, weights, None, None, None)

    from nas.models.weights import put
    from nas.training.learner import network as built

    model = built(trained.info.arch)
    put(model, trained.tensors, f"the weights of {network}")
    return model
