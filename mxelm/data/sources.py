"""Where a Dataset's images come from: an array held in memory, or files that are decoded when asked for."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mxelm.data.decode import decode
from mxelm.errors import InputError
from mxelm.files import read_bytes
from mxelm.pixels import are_pixels, as_pixels


class Source(Protocol):
    """Where a Dataset's images come from; `i` counts the images of the whole source, `ids` are their names."""

    ids: Sequence[str]

    def __len__(self) -> int: ...

    def image(self, i: int) -> np.ndarray:
        """Image i as uint8 (height, width, 3) RGB or (height, width) grey; FileError names a broken one."""

    def content(self, i: int) -> bytes:
        """What image i is made of, as bytes: a file's content, or the pixels."""


class ArraySource:
    """Images held in memory.

    images: uint8 (n, h, w) grey or (n, h, w, 3) RGB. prefix: str; the id of image i is "prefix/i".
    """

    def __init__(self, images: np.ndarray, prefix: str) -> None:
        self.images = images
        self.ids = [f"{prefix}/{i}" for i in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> np.ndarray:
        return self.images[i]

    def content(self, i: int) -> bytes:
        """Bytes that tell this image from others of the same id."""
        return self.images[i].tobytes()


def in_memory(images: np.ndarray | Sequence[np.ndarray], prefix: str = "images") -> ArraySource:
    """An ArraySource of uint8 images, an array (n, h, w[, 3]) or a list of any sizes, Pillow images among them.

    Raises InputError that names the first which is neither uint8 (h, w) nor (h, w, 3).
    """
    if not (isinstance(images, np.ndarray) and images.dtype == np.uint8):
        held = np.empty(len(images), object)  # images of any sizes
        for i, image in enumerate(images):
            held[i] = as_pixels(image)
        images = held
    for i, image in enumerate(images):
        if not are_pixels(image):
            raise InputError(f"image {i} is {image.dtype} {image.shape}: give uint8 (h, w) or (h, w, 3) RGB")
    return ArraySource(images, prefix)


class FileSource:
    """Image files, decoded when asked for. folder: path; ids: list of str, the files' paths relative to it."""

    images = None

    def __init__(self, folder: str | os.PathLike, ids: Sequence[str]) -> None:
        self.folder = Path(folder)
        self.ids = list(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> np.ndarray:
        return decode(self.content(i), self.folder / self.ids[i])

    def content(self, i: int) -> bytes:
        """The file's bytes."""
        return read_bytes(self.folder / self.ids[i])
