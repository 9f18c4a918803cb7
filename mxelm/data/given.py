"""Images and targets as they are at hand, arrays, lists, files or a Dataset, as one Dataset.

Images are, wherever this module takes them: uint8, an array (n, h, w[, 3]) or a list of any sizes, Pillow's among them;
one such image; the path of an image file, or of a folder with all files below it; or a list or array of paths.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from mxelm.data.dataset import Dataset
from mxelm.data.folders import files_below
from mxelm.data.sources import ArraySource, FileSource, in_memory
from mxelm.errors import InputError


def with_classes(images: np.ndarray | Sequence[np.ndarray] | Dataset,
                 y: Sequence | None = None) -> tuple[Dataset, np.ndarray]:
    """(Dataset, classes): images with a class each, and the classes as they were given, sorted, (n_classes,).

    images: with labels y (n,); or a Dataset of classes, which brings its own.
    Raises InputError for labels that are missing, of another number, or no classes.
    """
    if isinstance(images, Dataset):
        dataset = _own(images, y, "classes")
        return dataset, np.array(dataset.classes)
    y = column_or_1d(_given(images, y), warn=True)
    check_classification_targets(y)
    classes, labels = np.unique(y.astype(str) if y.dtype.kind == "O" else y, return_inverse=True)
    return Dataset(source_of(images), labels.astype(np.int64), classes, "images"), classes


def with_quantities(images: np.ndarray | Sequence[np.ndarray] | Dataset,
                    y: Sequence | None = None) -> tuple[Dataset, tuple[int, ...]]:
    """(Dataset, shape): images with numbers, and the shape of one sample's, () or (n_outputs,).

    images: as in `with_classes`, with y (n,) or (n, n_outputs); or a Dataset of kind "regression".
    """
    if isinstance(images, Dataset):
        dataset = _own(images, y, "regression")
        return dataset, (dataset.n_outputs,)
    y = check_array(_given(images, y), ensure_2d=False, dtype=np.float64, input_name="y")
    columns = y.reshape(len(y), -1)
    return Dataset(source_of(images), columns, [f"y{i}" for i in range(columns.shape[1])], "images",
                   kind="regression"), y.shape[1:]


def without_targets(images: np.ndarray | Sequence[np.ndarray] | Dataset) -> Dataset:
    """Images as a Dataset whose targets mean nothing; a Dataset as it is. InputError where there are none."""
    if isinstance(images, Dataset):
        return images
    source = source_of(images)
    if not len(source):
        raise InputError("there are no images")
    return Dataset(source, np.zeros(len(source), np.int64), ["none"], "images")


def source_of(images: Sequence | np.ndarray | str | os.PathLike) -> ArraySource | FileSource:
    """Where the images of a Dataset come from, for images as this module takes them."""
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    elif not isinstance(images, (list, tuple)):
        images = np.asarray(images)
        if images.ndim == 2 or images.ndim == 3 and images.shape[2] == 3:
            images = images[None]
    if len(images) and isinstance(images[0], (str, os.PathLike)):
        return FileSource("", [file for path in images for file in _files(path)])
    return in_memory(images)


def _files(path):
    """The file itself, or all files below a folder."""
    path = os.fspath(path)
    return [str(Path(path) / file) for file in files_below(path)] if os.path.isdir(path) else [path]


def _own(dataset, y, kind):
    """The dataset, where its targets are of this kind and no others were given beside it."""
    if y is not None:
        raise InputError("a Dataset brings its own targets: leave y out")
    if dataset.kind != kind:
        raise InputError(f"{dataset.name} has {dataset.kind} targets, this estimator takes {kind}")
    return dataset


def _given(images, y):
    if y is None:
        raise InputError("images need their targets: fit(images, y), or give a Dataset")
    if len(y) != len(images):
        raise InputError(f"there are {len(images)} images and {len(y)} targets")
    return y
