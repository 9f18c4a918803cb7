"""Labels: class numbers (n,), or rows (n, classes) whose highest entry is the class; which of them fit a network."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mxelm.errors import InputError


def labels_of(loader: Iterable) -> np.ndarray:
    """All labels of a loader, NumPy (n,) or (n, classes): its `targets`, or those of one pass over it."""
    if hasattr(loader, "targets"):
        return loader.targets
    return np.concatenate([y.asnumpy() for _, y in loader])


def require_classes(labels: np.ndarray, n_classes: int, *, one_hot: bool = False) -> None:
    """Raise InputError for class numbers (n,) that are not in 0..n_classes-1, and rows (n, classes) of another width.

    MXNet's loss would silently take the nearest class. one_hot: the rows must sum to 1 as well.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        require_width(labels, n_classes)
        if one_hot:
            require_one_hot(labels)
    else:
        wrong = labels[(labels < 0) | (labels >= n_classes)]
        if len(wrong):
            raise InputError(f"class {wrong[0]:g} among the labels: the network has scores for 0..{n_classes - 1}")


def require_width(rows: np.ndarray, n_classes: int) -> None:
    """Raise InputError for label rows (n, classes) of another width than the network's scores."""
    if rows.shape[1] != n_classes:
        raise InputError(f"label rows of {rows.shape[1]} classes do not fit a network of {n_classes} scores")


def require_one_hot(rows: np.ndarray) -> None:
    """Raise InputError for label rows (n, classes) that do not sum to 1: an all-zero row has no loss, and no class."""
    rows = np.asarray(rows)
    if rows.ndim != 2:
        raise InputError(f"label rows are (n, classes), got shape {rows.shape}")
    wrong = np.flatnonzero(~np.isclose(rows.sum(axis=1), 1) | (rows < 0).any(axis=1))
    if len(wrong):
        raise InputError(f"{len(wrong)} of {len(rows)} label rows do not sum to 1 (the first: row {wrong[0]}, "
                         f"{rows[wrong[0]].tolist()}): such images have no class")


def class_numbers(labels: np.ndarray) -> np.ndarray:
    """Class numbers (n,) of labels: class numbers themselves, or rows (n, classes), whose highest entry counts."""
    labels = np.asarray(labels)
    return labels if labels.ndim == 1 else labels.argmax(axis=1)
