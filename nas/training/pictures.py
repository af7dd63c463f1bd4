"""Picture files as people have them, as squares of bytes.

A picture keeps its aspect: its short side becomes the square's, and the middle is taken. It is turned as its camera
says (EXIF); what is transparent is white; 16 bits a level become 8; of a film it is the first picture.
"""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import Error
from nas.networks.architecture import COLOUR

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
LUMA = np.array([19_595, 38_470, 7_471], np.uint32)  # shares of red, green and blue, of 65,536
_MODES = {1: "L", COLOUR: "RGB"}
HIDDEN = {"__MACOSX", "Thumbs.db", "desktop.ini"}


def is_picture(name: str) -> bool:
    """Whether a file of that name is looked at."""
    return not is_hidden(name) and any(name.lower().endswith(suffix) for suffix in SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is left alone: of an operating system or a notebook, not of a user."""
    return name.startswith(".") or name in HIDDEN


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a picture, as it is shown. Raises Error where it is none."""
    return _opened(content, lambda image: _turned_size(image))  # type: ignore[no-any-return]


def square(content: bytes, side: int, channels: int = COLOUR) -> NDArray[np.uint8]:
    """A picture (side, side, channels), from the content of its file; of one channel it is gray. Raises Error with what
    is wrong with it."""
    return _opened(content, lambda image: _square(image, side, channels))  # type: ignore[no-any-return]


def squared(image: Any, side: int, channels: int = COLOUR) -> NDArray[np.uint8]:
    """The same of a picture that PIL has opened."""
    from PIL import Image, ImageOps

    image = _eight_bits(ImageOps.exif_transpose(image), _MODES[channels])
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    middle = image.crop((left, top, left + short, top + short))
    return np.asarray(middle.resize((side, side), Image.Resampling.BILINEAR)).reshape(side, side, channels)


def size_and_colour(content: bytes) -> tuple[int, int, bool]:
    """Width and height of a picture, as it is shown, and whether it has colours. Raises Error where it is none."""
    return _opened(content, lambda image: (*_turned_size(image), not is_gray(_square(image, 64, COLOUR))))  # type: ignore[no-any-return]


def is_gray(pixels: NDArray[np.uint8]) -> bool:
    """Whether pixels (..., channels) have no colour."""
    return bool((pixels == pixels[..., :1]).all())


def with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(..., 1 or 3) -> (..., channels): gray ones three times, or of colours the luma that PIL takes (ITU-R 601)."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == COLOUR:
        return pixels.repeat(COLOUR, axis=-1)
    gray = np.empty((*pixels.shape[:-1], 1), np.uint8)
    for i, image in enumerate(pixels):  # in whole numbers of 32 bits: all at once would take four times the memory
        gray[i, ..., 0] = (image.astype(np.uint32) @ LUMA + (1 << 15)) >> 16
    return gray


def _square(image: Any, side: int, channels: int) -> NDArray[np.uint8]:
    image.draft(_MODES[channels], (2 * side, 2 * side))  # of a JPEG no more is decoded than is needed
    return squared(image, side, channels)


def _turned_size(image: Any) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.getexif().get(0x0112, 1) >= 5 else (width, height)


def _opened(content: bytes, use: Any) -> Any:
    from PIL import Image

    try:
        with Image.open(BytesIO(content)) as image:
            return use(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:  # of broken files
        said = str(error).replace("<_io.BytesIO object at", "<").partition(" <")[0]
        raise Error(said or type(error).__name__) from None


def _eight_bits(image: Any, mode: str) -> Any:
    """`image` in PIL's `mode`, with 8 bits a level, on white where it is transparent."""
    from PIL import Image

    if image.mode[0] in "IF":
        image = Image.fromarray(_levels(np.asarray(image), image.mode))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert(mode)
    return image.convert(mode)


def _levels(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Gray levels of 16 or 32 bits, or floats in [0, 1], as bytes. Raises Error where they are none of these."""
    if mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise Error(f"its levels are floats from {values.min():g} to {values.max():g}; they must be in 0 to 1")
        return np.round(values * 255).astype(np.uint8)
    if values.min() < 0 or values.max() > 65_535:
        raise Error(f"its levels go from {values.min()} to {values.max()}; make it an 8-bit or 16-bit picture")
    return np.round(values / 257).astype(np.uint8)
