"""Labels: class numbers (n,), or rows (n, classes) whose highest entry is the class; which of them fit a network."""
import numpy as np

from mxelm.errors import InputError


def require_classes(labels, n_classes, one_hot=True):
    """Raise InputError for class numbers (n,) that are not in 0..n_classes-1, and rows (n, classes) of another width.

    MXNet's loss would take the nearest class in silence. one_hot: the rows must sum to 1 as well.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        if labels.shape[1] != n_classes:
            raise InputError(f"label rows of {labels.shape[1]} classes do not fit a network of {n_classes} scores")
        if one_hot:
            require_one_hot(labels)
    else:
        wrong = labels[(labels < 0) | (labels >= n_classes)]
        if len(wrong):
            raise InputError(f"class {wrong[0]:g} among the labels: the network has scores for 0..{n_classes - 1}")


def require_one_hot(rows):
    """Raise InputError for label rows (n, classes) that do not sum to 1: an all-zero row has no loss, and no class."""
    rows = np.asarray(rows)
    if rows.ndim != 2:
        raise InputError(f"label rows are (n, classes), got shape {rows.shape}")
    wrong = np.flatnonzero(~np.isclose(rows.sum(axis=1), 1) | (rows < 0).any(axis=1))
    if len(wrong):
        raise InputError(f"{len(wrong)} of {len(rows)} label rows do not sum to 1 (the first: row {wrong[0]}, "
                         f"{rows[wrong[0]].tolist()}): such images have no class")


def class_numbers(labels):
    """Class numbers (n,) of labels that are such, or rows (n, classes), whose highest entry counts."""
    labels = np.asarray(labels)
    return labels if labels.ndim == 1 else labels.argmax(axis=1)
