"""The images that a trained network is most wrong about."""

import base64
import io

from torch import nn

from nas.records.results import Mistake
from nas.training.crops import seen
from nas.training.images import Data, Images
from nas.training.step import logits_of


def mistakes_of(model: nn.Module, data: Data, images: Images, most: int) -> tuple[Mistake, ...]:
    """At most `most` of `images` that `model` takes for something else, those first of which it is surest."""
    from PIL import Image

    shares = logits_of(model, data, images).softmax(1)
    surest, answers = shares.max(1)
    wrong = (answers != images.labels).nonzero()[:, 0]
    wrong = wrong[surest[wrong].argsort(descending=True, stable=True)][:most]
    found = []
    for i, pixels in zip(wrong.tolist(), seen(images.take(wrong), data) if len(wrong) else (), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1).numpy() if data.channels == 1 else pixels.numpy()).save(buffer, "PNG")
        picture = base64.b64encode(buffer.getvalue()).decode()
        truth, answer = data.classes[int(images.labels[i])], data.classes[int(answers[i])]
        found.append(Mistake(picture, truth, answer, 100 * float(surest[i])))
    return tuple(found)
