"""Picture files as people have them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.errors import Error
from nas.training.pictures import is_hidden, is_picture, size_and_colour, square


def content(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def halves(width: int, height: int) -> Image.Image:
    """The left half red, the right half blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


RED, BLUE, WHITE = [255, 0, 0], [0, 0, 255], [255, 255, 255]


def test_aspect_is_kept_and_the_middle_taken() -> None:
    image = Image.new("RGB", (300, 100), "green")
    image.paste(halves(100, 100), (100, 0))
    found = square(content(image), 50)
    assert found.shape == (50, 50, 3) and found.dtype == np.uint8
    assert found[25, 5].tolist() == RED and found[25, 45].tolist() == BLUE and found[0, 0].tolist() == RED


@pytest.mark.parametrize(
    ("orientation", "top_left", "top_right"),
    [
        (1, RED, BLUE),
        (2, BLUE, RED),
        (3, BLUE, RED),
        (4, RED, BLUE),
        (5, RED, RED),
        (6, RED, RED),
        (7, BLUE, BLUE),
        (8, BLUE, BLUE),
    ],
)
def test_the_camera_says_how_it_was_held(orientation: int, top_left: list[int], top_right: list[int]) -> None:
    image = halves(80, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = content(image, "PNG", exif=exif)
    found = square(stored, 32)
    assert found[0, 0].tolist() == top_left and found[0, -1].tolist() == top_right
    assert size_and_colour(stored)[:2] == ((40, 80) if orientation >= 5 else (80, 40))


def test_sixteen_bits_become_eight() -> None:
    levels = np.array([[0, 257 * 7], [257 * 200, 65_535]], np.uint16).repeat(8, 0).repeat(8, 1)
    found = square(content(Image.fromarray(levels)), 16)
    assert found[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [[0] * 3, [7] * 3, [200] * 3, [255] * 3]


def test_floats_are_shares() -> None:
    found = square(content(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), 8)
    assert found[0, 0].tolist() == [128] * 3
    with pytest.raises(Error, match="its levels are floats from 3 to 3; they must be in 0 to 1"):
        square(content(Image.fromarray(np.full((8, 8), 3.0, np.float32)), "TIFF"), 8)


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 4, 8))
    found = square(content(image), 8)
    assert found[0, 0].tolist() == WHITE and found[0, -1].tolist() == RED


def test_palettes_with_and_without_transparency() -> None:
    image = halves(8, 8).convert("P")
    assert square(content(image), 8)[0, [0, -1]].tolist() == [RED, BLUE]
    background = image.getpixel((0, 0))
    assert square(content(image, transparency=background), 8)[0, [0, -1]].tolist() == [WHITE, BLUE]


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr"])
def test_other_modes(mode: str) -> None:
    form = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    found = square(content(Image.new("RGB", (8, 8), "white").convert(mode), form), 8)
    assert found.min() >= 254


@pytest.mark.parametrize("form", ["BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_other_files(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    found = square(content(halves(8, 8), form, **options), 8)
    assert found[0, [0, -1]].tolist() == [RED, BLUE]


def test_of_a_film_the_first_picture() -> None:
    film = content(halves(8, 8), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), "green")])
    assert square(film, 8)[0, 0].tolist() == RED


@pytest.mark.parametrize("broken", [b"", b"no picture", content(halves(64, 64))[:60]])
def test_broken_files_are_errors(broken: bytes) -> None:
    with pytest.raises(Error) as said:
        square(broken, 8)
    assert "BytesIO" not in str(said.value) and len(str(said.value)) > 5


def test_names() -> None:
    assert all(is_picture(name) for name in ("a.JPG", "b.jpeg", "c.webp", "d.gif", "e.tiff"))
    assert not any(is_picture(name) for name in ("a.txt", ".a.jpg", "Thumbs.db", "jpg"))
    assert is_hidden("__MACOSX") and is_hidden(".ipynb_checkpoints") and not is_hidden("cat")


def test_a_large_jpeg_is_decoded_at_what_is_needed(tmp_path: Path) -> None:
    """To the pixel as without that, but for JPEG's own rounding."""
    image = halves(2000, 1500)
    found = square(content(image, "JPEG", quality=95), 96)
    whole = np.asarray(image.crop((250, 0, 1750, 1500)).resize((96, 96), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - whole).mean() < 2
