"""Image sets in MNIST's idx format: *-images-idx3-ubyte and *-labels-idx1-ubyte, gzipped or not."""
from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.files import read_bytes

PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
_NAME = re.compile(r"(train|t10k|test)[-_. ](images|labels)[-_. ](idx[13])[-_. ]ubyte(?:\.gz)?$")
_LARGEST_RATIO = 1100  # of what is unpacked to what was packed, by gzip at its best
_UNSIGNED_BYTE = 0x08  # the third byte of the magic number; the fourth is the number of dimensions


def read(folder: str | os.PathLike, *, split: str = "train", name: str | None = None,
         classes: Sequence[str] | None = None) -> Dataset:
    """The "train" or "test" images of an idx set, grey, as a Dataset.

    folder: holds the two files of the split. classes: list of str; by default the numbers that occur in the folder.
    Raises FileError for a file that is missing, cut, too long or of another format, or when the counts differ.
    Source: LeCun et al., "The MNIST database of handwritten digits", file format.
    """
    if split not in PREFIXES:
        raise InputError(f"an idx set has the splits train and test, not {split!r}")
    folder = Path(folder)
    images_path, labels_path = _find(folder, split, "images-idx3"), _find(folder, split, "labels-idx1")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise FileError(f"{images_path} has {len(images)} images and {labels_path} {len(labels)} labels")
    if classes is None:
        numbers = _labels_there(folder)
        labels, classes = np.searchsorted(numbers, labels), numbers
    if labels.size and labels.max() >= len(classes):
        raise FileError(f"{labels_path} is damaged: label {labels.max()}, where {len(classes)} classes are expected")
    name = name or folder.resolve().name
    return Dataset(ArraySource(images, f"{name}/{split}"), labels, classes, name)


def is_idx_folder(folder: str | os.PathLike) -> bool:
    """Whether `folder` holds files named as an idx set's images are."""
    return bool(_files(Path(folder), "images-idx3"))


def read_idx(path: str | os.PathLike, dimensions: int) -> np.ndarray:
    """The uint8 array in an idx file of so many dimensions, packed or not; FileError unless its length is exact.

    Never more is unpacked than the header announces.
    """
    packed, start = read_bytes(path), 4 + 4 * dimensions
    try:
        with gzip.open(io.BytesIO(packed)) if packed.startswith(b"\x1f\x8b") else io.BytesIO(packed) as file:
            header = file.read(start)
            if len(header) < start or header[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
                raise FileError(f"{path} is not an idx file of {dimensions} dimensions of bytes")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            most = min(math.prod(shape), _LARGEST_RATIO * len(packed))
            content = file.read(most + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(f"{path} is damaged ({error}); fetch it again") from None
    if len(content) != math.prod(shape):
        raise FileError(f"{path} is cut or damaged: its header announces {math.prod(shape)} bytes, and "
                        f"{len(content)}{' or more' * (len(content) > most)} follow; fetch it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _find(folder, split, what):
    """The split's file of images or labels, unpacked before packed; FileError when there is none, or a choice."""
    found = {}
    for path in sorted(_files(folder, what), key=lambda path: path.name.endswith(".gz")):
        if _NAME.search(path.name)[1] in PREFIXES[split]:
            found.setdefault(re.sub("[-_. ]+", "-", path.name.removesuffix(".gz")), path)
    if len(found) > 1:
        raise InputError(f"{folder} holds more than one idx set: {' and '.join(p.name for p in [*found.values()][:2])}")
    if not found:
        raise FileError(f"{folder} has no file {PREFIXES[split][0]}-{what}-ubyte[.gz]")
    return next(iter(found.values()))


def _files(folder, what):
    return [path for path in folder.glob("*ubyte*") if path.is_file() and (named := _NAME.search(path.name))
            and f"{named[2]}-{named[3]}" == what]


def _labels_there(folder):
    """Ascending, over both splits, so that they agree about the classes even where one lacks some."""
    found = [np.unique(read_idx(path, 1)) for path in _files(folder, "labels-idx1")]
    return np.unique(np.concatenate(found))
