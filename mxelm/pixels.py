"""From a picture as Pillow has it to the uint8 pixels that a person sees: upright, on paper, at the depth it was taken.

The one way from pictures to pixels, for files and for Pillow images that are handed over.
"""
from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from mxelm.errors import FileError

MOST_PIXELS = 200_000_000  # what the largest cameras of telephones give
PIXELS_A_BYTE = 5000  # beyond a quarter of those; a page of text as a fax has 1,000
DEPTHS = (8, 12, 16, 24, 32)  # bits of grey levels; files of 16 bits often hold 8 or 12
LIGHT = 191  # grey level from which on ink is too light for white paper

# Drawings, which other programs would be run for, and containers without pixels of their own
_NO_PIXELS = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "FITS", "MPEG", "FPX", "MIC")

_switches = threading.Lock()
_strict_users, _switched = 0, ()


def as_pixels(image: Any) -> np.ndarray:
    """A Pillow image, or an array as it is, as uint8 (h, w, 3) RGB or (h, w) grey.

    EXIF's rotation is applied. What is transparent shows white paper, black paper under light ink. Levels of more than
    8 bits are brought to 8 from the smallest of DEPTHS that holds them; numbers from 0 to 1 are shares of white.
    """
    if not hasattr(image, "getexif"):
        return np.asarray(image)
    image.load()  # TIFF is turned here, PNG may have its EXIF behind the pixels
    turned = orientation(image)
    if image.mode.startswith("I") or image.mode == "F":
        pixels = eight_bits(np.asarray(image))
    else:
        pixels = np.asarray(_without_colour_tables(image))
    return upright(pixels, turned)


def orientation(image: Any) -> int:
    """EXIF's Orientation of a Pillow image, 1 to 8; 1 where there is none, or no whole EXIF."""
    with contextlib.suppress(Exception):  # a damaged EXIF is no damaged picture, and raises nearly any kind
        found = image.getexif().get(0x0112, 1)
        return found if found in range(1, 9) else 1
    return 1


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Pixels (h, w[, 3]) as EXIF's Orientation `turned` wants them shown. Source: EXIF 2.32, tag 0x0112."""
    pixels = pixels.swapaxes(0, 1) if turned >= 5 else pixels
    pixels = pixels[::-1] if turned in (3, 4, 7, 8) else pixels
    pixels = pixels[:, ::-1] if turned in (2, 3, 6, 7) else pixels
    return np.ascontiguousarray(pixels)


def eight_bits(levels: np.ndarray) -> np.ndarray:
    """uint8 of levels of any depth: the upper 8 of the fewest bits in DEPTHS that hold them; 0..1 is black to white.

    Levels below 0, or of no such depth, are spread from the lowest to the highest; what is no number is the lowest.
    """
    finite = np.isfinite(levels)
    lowest, highest = (levels[finite].min(), levels[finite].max()) if finite.any() else (0, 0)
    levels = levels if finite.all() else np.where(finite, levels, lowest)
    if lowest < 0 or highest >= 2 ** DEPTHS[-1]:
        return np.rint((levels - float(lowest)) * (255 / max(float(highest) - float(lowest), 1e-12))).astype(np.uint8)
    if levels.dtype.kind == "f" and highest <= 1:
        return np.rint(levels * 255).astype(np.uint8)
    bits = next(bits for bits in DEPTHS if highest < 2 ** bits)
    return (levels.astype(np.uint32) >> (bits - 8)).astype(np.uint8)


def on_paper(image: Any) -> Any:
    """A Pillow image with transparency as RGB: on white paper, light ink on black; whole where nothing would show."""
    from PIL import Image, ImageStat
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    least, most = alpha.getextrema()
    if least == 255 or most == 0:
        return image.convert("RGB")
    light = ImageStat.Stat(image.convert("L"), alpha).mean[0] > LIGHT
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if light else "white"), image).convert("RGB")


def _without_colour_tables(image):
    """A Pillow image of 8 bits in mode L or RGB."""
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = on_paper(image)
    return image.convert("L" if grey else "RGB")


@contextlib.contextmanager
def opened(content: bytes, name: object) -> Iterator[Any]:
    """The Pillow image in encoded bytes, strictly: a cut one is refused when its pixels are read.

    Raises FileError, with `name` in it, where the image says that it has more than MOST_PIXELS, or far too many for its
    length; Pillow's own errors where the bytes are none.
    """
    from PIL import Image
    Image.init()
    formats = [name for name in Image.ID if name not in _NO_PIXELS]
    with _strict(), Image.open(io.BytesIO(content), formats=formats) as image:
        most = min(MOST_PIXELS, max(MOST_PIXELS // 4, PIXELS_A_BYTE * len(content)))
        if image.width * image.height > most:
            raise FileError(f"{name} says that it has {image.width}x{image.height} pixels, more than the {most:,} that "
                            "are read of so many bytes: make it smaller, or remove it")
        yield image


@contextlib.contextmanager
def _strict():
    """Have Pillow refuse cut images in the block, and leave sizes to its caller: two switches of the whole process.

    The first is on since GluonCV's import, which has cut images filled up. Threads may be in the block together; the
    last to leave it puts the switches back.
    """
    from PIL import Image, ImageFile
    global _strict_users, _switched
    with _switches:
        if not _strict_users:
            _switched = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
        _strict_users += 1
    try:
        yield
    finally:
        with _switches:
            _strict_users -= 1
            if not _strict_users:
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = _switched


def are_pixels(image: np.ndarray) -> bool:
    """Whether an array is an image: uint8 (h, w) grey or (h, w, 3) RGB, with one pixel at least."""
    return image.dtype == np.uint8 and image.ndim in (2, 3) and image.shape[2:] in ((), (3,)) and image.size > 0
