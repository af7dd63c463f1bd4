"""What networks see of larger pictures."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from nas.training.crops import evaluated, resized_crops, seen, training_images
from nas.training.datasets import load
from nas.training.images import Data, Images

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


def numbered(images: int, flip: bool = True) -> Data:
    """Images whose pixels are each of another level; the first tells which image it is, as its label does."""
    pixels = torch.arange(8 * 8).reshape(8, 8, 1).expand(images, 8, 8, 3).clone()
    pixels[..., 1] = torch.arange(images)[:, None, None]
    part = Images((pixels + 1).to(torch.uint8), torch.arange(images))
    names = tuple(str(i) for i in range(images))
    return Data("made", part, part, names, (0.5,) * 3, (0.25,) * 3, flip, 8)


@pytest.mark.parametrize("images", [5, 12, 33])
@pytest.mark.usefixtures("as_on_card")
def test_an_epoch_on_a_card_is_drawn_at_once_in_even_batches(images: int) -> None:
    data = numbered(images)
    ready = training_images(data.train, data, 2, CPU)
    batches = list(ready.epoch(4, torch.Generator().manual_seed(0)))
    again = list(ready.epoch(4, torch.Generator().manual_seed(0)))
    assert all(
        torch.equal(a, b) for one, other in zip(batches, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert len(batches) == ready.batches(4) == -(-images // 4)
    assert len({len(labels) for _, labels in batches}) == 1 and len(batches[0][0]) <= 4
    seen_once = torch.cat([labels for _, labels in batches])
    assert set(seen_once.tolist()) == set(range(images)) and len(seen_once) < images + len(batches)
    for pixels, labels in batches:
        level = pixels[..., 1].flatten(1).amax(1)
        assert torch.equal(level.long(), labels + 1), "images keep their labels"


@pytest.mark.usefixtures("as_on_card")
def test_what_a_card_draws_is_drawn_alike_by_the_cpu() -> None:
    """All windows, and both sides, as often as each other, and as the CPU's own draws; each a window of its image."""
    data = numbered(200)
    ready = training_images(data.train, data, 2, CPU)
    assert ready.padded is not None
    rng, counts = torch.Generator().manual_seed(0), torch.zeros(2, 5, 5)
    for way in (0, 1):
        for _ in range(10):
            order = torch.arange(200)
            one_way = [(ready.drawn(part, rng), part) for part in order.split(20)]
            for pixels, labels in one_way if way else ready.epoch(20, rng):
                for image, label in zip(pixels[..., 0], labels.tolist(), strict=True):
                    row, column, mirrored = place(image, ready.padded[label, ..., 0])
                    counts[way, row, column] += 1
                    assert mirrored in (True, False)
    expected = counts.sum((1, 2)) / 25
    chi = ((counts - expected[:, None, None]) ** 2 / expected[:, None, None]).sum((1, 2))
    assert counts.sum() == 4000 and (chi < 51).all(), "99.9 % of draws with 24 degrees of freedom"


def place(image: torch.Tensor, padded: torch.Tensor) -> tuple[int, int, bool]:
    """Where in `padded` the window lies that `image` is, and whether it is mirrored."""
    side = image.shape[0]
    for row in range(5):
        for column in range(5):
            window = padded[row : row + side, column : column + side]
            for mirrored in (False, True):
                if torch.equal(image, window.flip(1) if mirrored else window):
                    return row, column, mirrored
    raise AssertionError("no window of its image")


@pytest.mark.usefixtures("as_on_card")
def test_larger_pictures_come_in_even_batches_too(photographs: Data) -> None:
    for pad in (4, 0):
        ready = training_images(photographs.train, photographs, pad, CPU)
        batches = list(ready.epoch(4, torch.Generator().manual_seed(0)))
        assert {tuple(pixels.shape) for pixels, _ in batches} == {(len(batches[0][1]), 64, 64, 3)}
        assert sum(len(labels) for _, labels in batches) >= len(photographs.train)


@pytest.mark.usefixtures("as_on_card")
def test_small_images_that_are_not_cropped_are_on_the_card_as_they_are() -> None:
    data = numbered(10)
    ready = training_images(data.train, data, 0, CPU)
    assert ready.padded is not None and torch.equal(ready.padded, data.train.all())
    for pixels, labels in ready.epoch(5, torch.Generator().manual_seed(0)):
        assert torch.equal(pixels, data.train.all()[labels])
