"""CIFAR-10, from the binary or from the Python batches of its author (Krizhevsky, 2009)."""
import pickle
from pathlib import Path

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.files import read_bytes

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
IMAGES_A_BATCH = 10000
_ROW = 3 * 32 * 32
_PICKLED = {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"), ("_codecs", "encode")}


def read(folder, split="train", name="cifar10"):
    """CIFAR-10's "train" (50,000) or "test" (10,000) images, RGB 32x32, as a Dataset of 10 classes.

    folder: holds data_batch_1.bin ... test_batch.bin, or the same names without .bin (Python pickles, read by an
    unpickler that admits arrays only). Raises FileError that names a missing, cut or damaged file.
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
    content = np.frombuffer(read_bytes(path), np.uint8)
    expected = IMAGES_A_BATCH * (1 + _ROW)
    if content.size != expected:
        raise FileError(f"{path} has {content.size} bytes, not {expected}: it is cut or damaged; fetch it again")
    records = content.reshape(-1, 1 + _ROW)
    return _checked(path, records[:, 0], records[:, 1:])


def _read_pickle(path):
    try:
        with open(path, "rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
        labels = np.asarray(content[b"labels"])
        pixels = content[b"data"]
    except FileNotFoundError:
        raise FileError(f"there is no file {path}: CIFAR-10's folder must hold all its batches") from None
    except Exception as error:  # damaged pickles raise nearly any kind; all mean the same here
        raise FileError(f"{path} is not a whole CIFAR-10 batch ({error}); fetch it again") from None
    return _checked(path, labels, pixels)


def _checked(path, labels, pixels):
    if (getattr(pixels, "shape", None) != (IMAGES_A_BATCH, _ROW) or pixels.dtype != np.uint8
            or labels.shape != (IMAGES_A_BATCH,) or labels.dtype.kind not in "iu"):
        raise FileError(f"{path} does not hold {IMAGES_A_BATCH} labelled images of 32x32 pixels; fetch it again")
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise FileError(f"{path} is damaged: it has labels outside 0..9; fetch it again")
    return labels, pixels


class _ArrayUnpickler(pickle.Unpickler):
    """Loads NumPy arrays in builtin containers and nothing else: a pickle can otherwise run any code."""

    def find_class(self, module, name):
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is no array")
        return super().find_class(module, name)
