"""CIFAR-10, from the binary or from the Python batches of its author (Krizhevsky, 2009)."""
from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Literal

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.files import read_bytes
from mxelm.pickles import StandIn, Unpickler

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
IMAGES_A_BATCH = 10000
_ROW = 3 * 32 * 32
_MOST_BYTES = 1 << 26  # twice a batch


def read(folder: str | os.PathLike, split: Literal["train", "test"] = "train",
         name: Literal["cifar10", "cifar100"] = "cifar10") -> Dataset:
    """CIFAR-10's "train" (50,000) or "test" (10,000) images, RGB 32x32, as a Dataset of 10 classes.

    folder: holds data_batch_1.bin ... test_batch.bin, or the same names without .bin (Python pickles, of which only
    arrays, numbers and texts are read, by stand-ins; see mxelm.pickles). Raises FileError that names a missing, cut or
    damaged file.
    """
    if split not in BATCHES:
        raise InputError(f"{name} has the splits train and test, not {split!r}")
    folder = Path(folder)
    binary = (folder / f"{BATCHES[split][0]}.bin").exists()
    parts = [_read_binary(folder / f"{batch}.bin") if binary else _read_pickle(folder / batch)
             for batch in BATCHES[split]]
    labels = np.concatenate([labels for labels, _ in parts])
    pixels = np.concatenate([pixels for _, pixels in parts])
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return Dataset(ArraySource(images, f"{name}/{split}"), labels, CLASSES, name)


def _read_binary(path):
    """(labels (n,), pixels (n, 3072)), both uint8: each record is a label byte and three colour planes."""
    content = np.frombuffer(_content(path), np.uint8)
    expected = IMAGES_A_BATCH * (1 + _ROW)
    if content.size != expected:
        raise FileError(f"{path} has {content.size} bytes, not {expected}: it is cut or damaged; fetch it again")
    records = content.reshape(-1, 1 + _ROW)
    return _checked(path, records[:, 0], records[:, 1:])


def _read_pickle(path):
    content = _content(path)
    try:
        batch = Unpickler(io.BytesIO(content), _NAMES, encoding="bytes").load()
        labels, pixels = _numbers(batch[b"labels"]), _numbers(batch[b"data"])
    except Exception as error:  # damaged pickles raise nearly any kind; all mean the same here
        raise FileError(f"{path} is not a whole CIFAR-10 batch ({error}); fetch it again") from None
    return _checked(path, labels, pixels)


def _content(path):
    if not path.exists():
        raise FileError(f"there is no file {path}: CIFAR-10's folder must hold all its batches")
    if path.stat().st_size > _MOST_BYTES:
        raise FileError(f"{path} is longer than a batch of CIFAR-10 can be: fetch it again")
    return read_bytes(path)


def _checked(path, labels, pixels):
    if (getattr(pixels, "shape", None) != (IMAGES_A_BATCH, _ROW) or pixels.dtype != np.uint8
            or labels.shape != (IMAGES_A_BATCH,) or labels.dtype.kind not in "iu"):
        raise FileError(f"{path} does not hold {IMAGES_A_BATCH} labelled images of 32x32 pixels; fetch it again")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise FileError(f"{path} is damaged: it has labels outside 0..9; fetch it again")
    return labels, pixels


class _Dtype(StandIn):
    """Stands for numpy.dtype: a code such as u1 and, told later, the order of bytes."""

    __slots__ = ("code", "order")

    def __init__(self, code, *_align_and_copy):
        self.code, self.order = code, b"|"

    def __setstate__(self, state):
        self.order = state[1]


class _Array(StandIn):
    """Stands for an array that numpy's _reconstruct makes empty and that is told its content later."""

    __slots__ = ("state",)

    def __init__(self, *_type_shape_and_code):
        self.state = None

    def __setstate__(self, state):
        self.state = state


class _Encoded(StandIn, bytes):
    """Stands for _codecs.encode: bytes, as Python 3 writes them for Python 2."""

    __slots__ = ()

    def __new__(cls, text, _latin1):
        return super().__new__(cls, text, "latin1")


_NAMES = {("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): _Encoded,
          **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")}}


def _numbers(found):
    """The whole numbers in a list, or in what was told of an array, as an array."""
    if isinstance(found, list) and all(type(number) is int for number in found):
        return np.array(found)
    _version, shape, dtype, is_fortran, content = found.state
    code, order = (text.decode() if isinstance(text, bytes) else text for text in (dtype.code, dtype.order))
    if not re.fullmatch("[|<>=][iu][1248]", order + code):
        raise ValueError("its arrays hold no whole numbers")
    return np.frombuffer(content, order + code).reshape(shape, order="F" if is_fortran is True else "C")
