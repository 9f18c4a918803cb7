"""Image sets in MNIST's idx format: *-images-idx3-ubyte and *-labels-idx1-ubyte, gzipped or not."""
import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.files import read_bytes

PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
_UNSIGNED_BYTE = 0x08  # the third byte of the magic number; the fourth is the number of dimensions


def read(folder, split="train", name=None, classes=None):
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
        classes = range(_highest_label(folder) + 1)
    if labels.size and labels.max() >= len(classes):
        raise FileError(f"{labels_path} is damaged: label {labels.max()}, where {len(classes)} classes are expected")
    name = name or folder.resolve().name
    return Dataset(ArraySource(images, f"{name}/{split}"), labels, classes, name)


def is_idx_folder(folder):
    """Whether `folder` holds files named as an idx set's images are."""
    return any(True for _ in Path(folder).glob("*-images-idx3-ubyte*"))


def read_idx(path, dimensions):
    """The uint8 array in an idx file of so many dimensions; FileError unless header and length are exact."""
    content = read_bytes(path)
    if Path(path).suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error, struct.error) as error:
            raise FileError(f"{path} is damaged ({error}); fetch it again") from None
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise FileError(f"{path} is not an idx file of {dimensions} dimensions of bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise FileError(f"{path} is cut or damaged: its header announces {math.prod(shape)} bytes, and "
                        f"{len(content) - start} follow; fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(folder, split, what):
    """The split's file of images or labels, unpacked before packed; FileError when there is none, or a choice."""
    for ending in ("", ".gz"):
        found = sorted({path for prefix in PREFIXES[split] for path in folder.glob(f"*{prefix}-{what}-ubyte{ending}")})
        if len(found) > 1:
            raise InputError(f"{folder} holds more than one idx set: {found[0].name} and {found[1].name}")
        if found:
            return found[0]
    raise FileError(f"{folder} has no file {PREFIXES[split][0]}-{what}-ubyte[.gz]")


def _highest_label(folder):
    """Over both splits, so that they agree about the classes even where one lacks the last."""
    paths = [*folder.glob("*-labels-idx1-ubyte"), *folder.glob("*-labels-idx1-ubyte.gz")]
    return max((int(read_idx(path, 1).max(initial=0)) for path in paths), default=0)
