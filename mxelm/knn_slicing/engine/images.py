"""Any image of one character, brought to the form of MNIST's images; needs NumPy and Pillow alone.

MNIST's images are 28x28 grey pixels, ink bright on black: the character, its proportions kept, fills a box of 20
pixels a side, whose content's centre of mass lies in the image's middle.
Source: LeCun et al., "The MNIST database of handwritten digits".
"""
from __future__ import annotations

import os

import numpy as np

from mxelm.errors import FileError, InputError
from mxelm.files import read_bytes
from mxelm.pixels import on_paper, opened

SIDE, BOX = 28, 20
LEAST_CONTRAST = 16  # grey levels between background and ink
FAINT = 0.15  # of the strongest ink: less is paper


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The image file at `path` as uint8 (28, 28) in MNIST's form; FileError for one that is broken or blank.

    A grey image that has 28x28 pixels already and a dark border is taken as it is.
    """
    from PIL import ImageOps, UnidentifiedImageError
    content = read_bytes(path)
    try:
        with opened(content, path) as image:
            grey = _grey(ImageOps.exif_transpose(image))
            if image.size == (SIDE, SIDE) and image.mode == "L" and _is_ready(grey):
                return np.array(grey)
    except FileError:
        raise
    except UnidentifiedImageError:
        raise FileError(f"{path} is not an image") from None
    except Exception as error:  # Pillow's decoders raise many kinds on damaged bytes; all mean the same here
        raise FileError(f"cannot read {path}: {error}") from None
    try:
        return mnist_form(grey)
    except InputError as error:
        raise FileError(f"{path}: {error}") from None


def _is_ready(image):
    """Whether uint8 (28, 28) is bright on black, as MNIST's are."""
    return np.median(_border(image)) < LEAST_CONTRAST and image.max() >= LEAST_CONTRAST


def _border(image):
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _grey(image):
    """uint8 (height, width); what is transparent shows paper."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = on_paper(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: Pillow would cut them off at 255
        levels = np.asarray(image, np.float64)
        levels = np.nan_to_num(levels - np.nanmin(levels))
        return (levels * (255 / max(levels.max(), 1e-12))).astype(np.uint8)
    return np.asarray(image.convert("L"))


def mnist_form(image: np.ndarray) -> np.ndarray:
    """One character on even ground, uint8 (height, width) grey -> uint8 (28, 28).

    The ground is the median of the border, ink is what differs from it, in the direction in which more differs: dark
    on light or light on dark. Raises InputError for an image without contrast, and for another type or shape.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
        raise InputError(f"an image must be uint8 (height, width), grey, got {image.dtype} {image.shape}")
    return _centred(_fitted(_ink(image)))


def _ink(image):
    """float64 (h, w): how far each pixel differs from the ground, 0..1, cut to the box of what is not faint."""
    image = image.astype(np.float64)
    ink = image - np.median(_border(image))
    ink = np.maximum(ink if (ink ** 3).sum() > 0 else -ink, 0)  # the cube: a little noise everywhere does not count
    if ink.max() < LEAST_CONTRAST:
        raise InputError("the image shows nothing: it needs one character that stands out from an even ground")
    ink /= ink.max()
    rows, columns = (np.flatnonzero((ink > FAINT).any(axis=axis)) for axis in (1, 0))
    ink[ink < FAINT] = 0
    return ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def _fitted(ink):
    """The ink scaled so that its longer side has 20 pixels."""
    from PIL import Image
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = np.asarray(Image.fromarray(np.rint(255 * ink).astype(np.uint8)).resize(size, Image.BILINEAR), np.float64)
    if not fitted.any():
        raise InputError(f"the image shows specks, too small to be one character of {width}x{height} pixels")
    return fitted


def _centred(ink):
    """The ink in the middle of 28x28 pixels by its centre of mass, to the nearest pixel."""
    made = np.zeros((SIDE, SIDE), np.uint8)
    ink = np.rint(ink * (255 / ink.max())).astype(np.uint8)
    start = []
    for axis, size in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis, dtype=np.float64)
        centre = mass @ np.arange(size) / mass.sum()
        start.append(int(np.clip(round((SIDE - 1) / 2 - centre), 0, SIDE - size)))
    made[start[0]:start[0] + ink.shape[0], start[1]:start[1] + ink.shape[1]] = ink
    return made
