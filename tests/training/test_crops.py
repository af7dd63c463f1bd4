"""What networks see of larger pictures."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from nas.training.crops import evaluated, resized_crops, seen, training_images
from nas.training.datasets import load
from nas.training.images import Data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Red at the left, blue at the right, 100 pixels wide; two classes, one of them upside down."""
    root = tmp_path_factory.mktemp("photographs")
    for name, up in (("up", "white"), ("down", "black")):
        (root / name).mkdir()
        for i in range(12):
            image = Image.new("RGB", (100, 100), (250, i, 0))
            image.paste((0, i, 250), (50, 0, 100, 100))
            image.paste(up, (0, 0, 100, 3))
            image.save(root / name / f"{i}.png")
    return load(f"folder:{root}", resolution=64)


def test_evaluation_sees_the_middle(photographs: Data) -> None:
    pixels = photographs.val.all()
    middle = seen(pixels, photographs)
    assert pixels.shape[1] == 73 and middle.shape[1:] == (64, 64, 3)
    assert torch.equal(middle, pixels[:, 4:68, 4:68])
    assert torch.equal(evaluated(photographs.val, photographs).all(), middle)
    small = seen(pixels, replace(photographs, resolution=32))
    assert small.shape[1:] == (32, 32, 3)
    assert (
        small.float() - torch.nn.functional.avg_pool2d(middle.permute(0, 3, 1, 2).float(), 2).permute(0, 2, 3, 1)
    ).abs().mean() < 2


def test_training_sees_parts(photographs: Data) -> None:
    ready = training_images(photographs.train, photographs, 4, CPU)
    assert ready.padded is None
    rng = torch.Generator().manual_seed(0)
    batch = ready.drawn(torch.arange(10), rng)
    again = ready.drawn(torch.arange(10), torch.Generator().manual_seed(0))
    assert batch.shape == (10, 64, 64, 3) and batch.dtype == torch.uint8 and torch.equal(batch, again)
    assert not torch.equal(batch, ready.drawn(torch.arange(10), rng))
    assert torch.equal(
        training_images(photographs.train, photographs, 0, CPU).drawn(torch.arange(4), rng),
        seen(photographs.train.take(torch.arange(4)), photographs),
    )


@pytest.mark.parametrize("flip", [True, False])
def test_mirrored_only_where_that_keeps_the_class(photographs: Data, flip: bool) -> None:
    """A picture is red at the left, unless it was mirrored."""
    data = replace(photographs, flip=flip)
    pixels = photographs.train.take(torch.zeros(200, dtype=torch.int64))
    batch = resized_crops(pixels, data, torch.Generator().manual_seed(1)).float()
    blue_at_the_left = (batch[:, 32, 4, 2] > batch[:, 32, -4, 2]).float().mean()
    assert (0.2 < float(blue_at_the_left) < 0.8) if flip else float(blue_at_the_left) == 0


def test_a_crop_that_takes_all_is_the_picture(photographs: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.training.crops.AREA", (1.0, 1.0))
    monkeypatch.setattr("nas.training.crops.ASPECT", (1.0, 1.0))
    data = replace(photographs, flip=False, resolution=73, share=1.0)
    pixels = photographs.train.all()
    found = resized_crops(pixels, data, torch.Generator().manual_seed(0))
    assert (found.int() - pixels.int()).abs().max() <= 1


def test_pictures_in_a_file_are_as_those_in_memory(photographs: Data) -> None:
    index = torch.tensor([3, 0, 7])
    held = photographs.train.all()
    assert torch.equal(photographs.train.take(index), held[index])
    assert torch.equal(photographs.train.chosen(index).all(), held[index])
    assert torch.equal(photographs.train.chosen(index).labels, photographs.train.labels[index])
