"""From an encoded image to uint8 pixels, strictly: what is not whole is refused.

A PNG's checksums and a JPEG's every warning count. GIF, TIFF, WebP and others have no checksums: what they tell by
their structure counts, and a changed pixel in them cannot be told.
"""
from __future__ import annotations

import io
import math
import os
from typing import Union

import numpy as np

from mxelm.errors import FileError
from mxelm.files import read_bytes
from mxelm.pixels import as_pixels, eight_bits, on_paper, opened, orientation, upright
from mxelm.runtime import require_cv2

_MOST_SCANS = 200  # of a progressive JPEG; usual are ten
_FOREIGN = (  # what people take for images, by what lies at a place of their content
    (4, b"ftyphe", "a HEIC photograph"), (4, b"ftypmif1", "a HEIF or AVIF photograph"),
    (4, b"ftypmsf1", "a HEIF or AVIF photograph"), (4, b"ftypavi", "an AVIF image"),
    (4, b"ftypcrx", "a camera's raw file"), (4, b"ftyp", "a video"),
    (0, b"\xff\x0a", "a JPEG XL image"), (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"), (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript drawing"),
    (0, b"<svg", "an SVG drawing"), (0, b"<?xml", "an SVG drawing or another XML file"),
    (0, b"\0\x05\x16\x07", "what macOS keeps beside a file"), (0, b"<!DOCTYPE", "a page of the web"),
    (0, b"<html", "a page of the web"), (0, b"version https://git-lfs", "a pointer of Git LFS"))


def read_image(path: Union[str, os.PathLike]) -> np.ndarray:
    """The image file at `path` as uint8 (h, w, 3) RGB or (h, w) grey; FileError names a file that is broken."""
    return decode(read_bytes(path), path)


def decode(content: bytes, name: object) -> np.ndarray:
    """Encoded bytes (JPEG, PNG, BMP, TIFF, WebP, GIF, ...) -> uint8 (h, w, 3) RGB or (h, w) grey.

    The first frame of several is taken; rotation, transparency and depth become what mxelm.pixels says.
    Raises FileError, with `name` in it, for bytes that are no image, are damaged, end too early, or announce too many
    pixels; nothing is decoded before its size is known.
    """
    from PIL import UnidentifiedImageError
    if not content:
        raise FileError(f"{name} is empty: restore it or remove it")
    try:
        with opened(content, name) as image:
            return _decoder(image)(image, content)
    except FileError:
        raise
    except UnidentifiedImageError:
        raise FileError(f"{name} is {_kind(content)}") from None
    except Exception as error:  # the decoders raise many kinds on damaged bytes; all mean the same here
        raise FileError(f"{name} is damaged ({error}): restore it or remove it") from None


def _decoder(image):
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        return _jpeg
    if image.format == "PNG":
        return _png
    return {"WEBP": _webp, "TIFF": _tiff}.get(image.format, _any)


def _jpeg(image, content):
    """By libjpeg-turbo, which warns of entropy codes that break off; bytes too many behind a scan are harmless."""
    import simplejpeg
    # scans of a few bytes each take the time of a whole picture; what follows a picture, a film say, may look like some
    if content.count(b"\xff\xda") > _MOST_SCANS + len(content) // 10_000:
        raise ValueError("it comes in too many scans")
    try:
        pixels = simplejpeg.decode_jpeg(content, "GRAY" if image.mode == "L" else "RGB")
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise
        return as_pixels(image)
    return upright(pixels[..., 0] if image.mode == "L" else pixels, orientation(image))


def _png(image, content):
    from PIL import Image
    with Image.open(io.BytesIO(content)) as whole:
        whole.verify()  # every chunk's checksum, those of the pixels with them, which decoding passes over
    return _any(image, content)


def _webp(image, content):
    """A tail of zeros is what a broken download leaves; the coder writes few where nothing is to be seen."""
    if len(content) - len(content.rstrip(b"\0")) > 16 + image.width * image.height // 4000:
        raise ValueError("it ends in zeros")
    return _any(image, content)


def _tiff(image, content):
    """Its directory may name fewer strips than its rows take, and Pillow leaves the others black."""
    strips = [(right - left) * (lower - upper) for _, (left, upper, right, lower), *_ in image.tile]
    if sum(strips) < math.prod(image.size):
        raise ValueError("not all of its pixels are there")
    return _any(image, content)


def _any(image, content):
    if ";16" in str(image.tile) and image.mode in ("LA", "RGB", "RGBA", "RGBX"):
        return _deep_colour(image, content)
    return as_pixels(image)


def _deep_colour(image, content):
    """16 bits a channel, by OpenCV: Pillow cuts colours to the upper 8, which may hold nothing."""
    from PIL import Image
    cv2 = require_cv2()
    deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None:
        raise ValueError("its 16-bit colours do not decode")
    pixels = eight_bits(deep if deep.ndim == 2 else deep[..., 2::-1])
    if deep.ndim == 3 and deep.shape[2] == 4:
        pixels = np.asarray(on_paper(Image.fromarray(np.dstack([pixels, (deep[..., 3] >> 8).astype(np.uint8)]))))
    return upright(pixels, orientation(image))


def _kind(content):
    """What bytes are that Pillow does not know, and what to do."""
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for place, signature, what in _FOREIGN:
        if start[place:place + 40].startswith(signature.lower()):
            return f"{what}, which is not read here: save it as JPEG or PNG, or remove it"
    return "not an image: remove it"
