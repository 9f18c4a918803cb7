"""What the numbers beside a list of images mean: class numbers, several 0/1 labels, or quantities."""
import numpy as np

from mxelm.data.dataset import KINDS
from mxelm.errors import InputError

MOST_CLASSES = 100_000  # a higher class number is a slip or damage, and would cost a column each


def interpret(values, names, place, kind=None):
    """(targets, classes, kind) of a Dataset from a table of numbers.

    values: float64 (n, columns). names: list of str, the columns. place: callable(row) -> str, where row i was read,
    for errors. kind: None to tell from the numbers: one column of whole numbers is classes; several columns of 0 and
    1 are multilabel; the rest is regression.
    Raises InputError that names the place of a NaN or infinite target, or of a class label that cannot be.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    _refuse_rows(~np.isfinite(values).all(axis=1), values, place, "a target that is not a finite number")
    kind = kind or _guess(values)
    if kind == "classes":
        labels = values[:, 0]
        if values.shape[1] != 1:
            raise InputError(f"{place(0)}: kind classes needs one label an image, got {values.shape[1]}")
        bad = (labels < 0) | (labels != np.floor(labels)) | (labels >= MOST_CLASSES)
        _refuse_rows(bad, values, place, f"no class number (those are whole, from 0 and below {MOST_CLASSES}; "
                                         "quantities need kind='regression')")
        return labels.astype(np.int64), [str(c) for c in range(int(labels.max()) + 1)], kind
    if kind == "multilabel":
        _refuse_rows(~np.isin(values, (0, 1)).all(axis=1), values, place, "a label that is neither 0 nor 1")
    return values.astype(np.float32), names, kind


def _guess(values):
    if values.shape[1] == 1:
        return "classes" if (values == np.floor(values)).all() else "regression"
    return "multilabel" if np.isin(values, (0, 1)).all() else "regression"


def _refuse_rows(bad, values, place, reason):
    if bad.any():
        row = int(np.argmax(bad))
        shown = ", ".join(f"{v:g}" for v in values[row])
        raise InputError(f"{place(row)}: {shown} is {reason}")
