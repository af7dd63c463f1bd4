"""`nas.predict`: what a trained network says of pictures."""

import os
from collections.abc import Sequence
from pathlib import Path

from nas.api.arguments import checked
from nas.api.loading import trained_network
from nas.errors import Error
from nas.records.results import Prediction


@checked
def predict(
    network: str | Path, pictures: str | Path | Sequence[str | Path], *, top: int = 5, skip_bad: bool = False
) -> list[Prediction]:
    """What a trained network says of each picture: its `top` likeliest classes with their probabilities.

    `network`: a training's folder, the folder of an export, or weights that nas wrote. `pictures`: files, and folders
    of which all pictures are taken. They are turned, brought to size and normalised as in training. `skip_bad`: whether
    those that cannot be read are left out.

    Raises Error where there are no weights, or pictures cannot be read.
    """
    given = [pictures] if isinstance(pictures, str | Path) else pictures
    folder = Path(network)

    from nas.exports.prediction import is_export, of_export, of_weights, predictions

    answer, said = (
        of_export(folder) if is_export(folder) else of_weights(trained_network(network, None, None, None, None))
    )
    files = [file for one in given for file in _files(Path(one))]
    if not files:
        raise Error("name pictures: files, or folders that hold some")

    from nas.training.picture_cache import check

    broken: dict[str, str] = {}
    found = list(predictions(answer, said, files, top, broken))
    if not skip_bad:
        check(broken)
    return found


def _files(place: Path) -> list[Path]:
    """The picture `place`, or all in that folder."""
    from nas.training.pictures import is_hidden, is_picture

    if not place.is_dir():
        return [place]
    found = [
        Path(where, name)
        for where, within, names in os.walk(place)
        if not any(is_hidden(part) for part in Path(where).relative_to(place).parts)
        for name in sorted(names)
        if is_picture(name)
    ]
    if not found:
        raise Error(f"{place} holds no picture")
    return sorted(found)
