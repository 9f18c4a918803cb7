"""What the cells beside a list of images mean: classes as they are named, several 0/1 labels, or quantities."""
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Optional, Union

import numpy as np

from mxelm.data.dataset import KINDS
from mxelm.data.folders import natural
from mxelm.errors import InputError


def interpret(rows: Sequence[Sequence[Union[str, float]]], names: Sequence[str], place: Callable[[int], str],
              *, kind: Optional[str] = None) -> tuple:
    """(targets, classes, kind) of a Dataset from a table of cells.

    rows: one a sample, each with a cell a column, text or number. names: the columns. place: where row i was read, for
    errors. kind: None to tell from the cells: one column of names or whole numbers is classes, another column of
    numbers regression; several columns of 0 and 1 are multilabel, other numbers regression.
    Classes are those that occur, under their own names: 1012 and 2045 are two, 001 keeps its zeros, 1.0 is 1.
    Raises InputError that names the place of a cell that is missing or of another kind.
    """
    if kind not in (None, *KINDS):
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    values = [[_number(cell) for cell in row] for row in rows]
    for i, row in enumerate(rows):
        if any(value != value or not str(cell).strip() for value, cell in zip(values[i], row)):
            raise InputError(f"{place(i)}: the class or number is missing{_shown(row)}")
    kind = kind or _guess(values)
    if kind == "classes":
        return (*_classes(rows, values, place), kind)
    for i, row in enumerate(values):
        for cell, value, name in zip(rows[i], row, names):
            if value is None:
                raise InputError(f"{place(i)}: {cell!r} in the column {name!r} is a word, where {kind} needs numbers: "
                                 "keep one column of class names beside the image's path, or columns of numbers")
    numbers = np.array(values, float)
    _refuse(~np.isfinite(numbers).all(axis=1), rows, place, "is no finite number")
    if kind == "multilabel":
        _refuse(~np.isin(numbers, (0, 1)).all(axis=1), rows, place, "is a label that is neither 0 nor 1")
    return numbers.astype(np.float32), list(names), kind


def _guess(values):
    words = any(value is None for row in values for value in row)
    if len(values[0]) == 1:
        return "classes" if words or all(value.is_integer() for value, in values) else "regression"
    return "regression" if words or any(value not in (0, 1) for row in values for value in row) else "multilabel"


def _classes(rows, values, place):
    """(class numbers int64 (n,), class names in order) of one column."""
    if len(rows[0]) != 1:
        raise InputError(f"{place(0)}: kind classes needs one label an image, got {len(rows[0])}")
    numeric = all(value is not None for value, in values)
    if numeric:
        _refuse([not value.is_integer() for value, in values], rows, place,
                "is no class (quantities need kind='regression')")
    cells = [_whole(cell, value) if numeric else unicodedata.normalize("NFC", str(cell).strip())
             for (cell,), (value,) in zip(rows, values)]
    classes = sorted(set(cells), key=(lambda name: (float(name), name)) if numeric else natural)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[cell] for cell in cells], np.int64), classes


def _whole(cell, value):
    """The name of a class that is a whole number, however its column was written; leading zeros belong to a name."""
    text = str(cell).strip()
    if re.fullmatch(r"0[0-9]+", text):
        return text
    return str(int(text)) if re.fullmatch(r"[+-]?[0-9]+", text) else str(int(value))


def _number(cell):
    """The number in a cell; None for a word. Python's 1_000 is a word."""
    try:
        return None if "_" in str(cell) else float(cell)
    except ValueError:
        return None


def _refuse(bad, rows, place, reason):
    if np.any(bad):
        row = int(np.argmax(bad))
        raise InputError(f"{place(row)}: {', '.join(str(cell) for cell in rows[row])} {reason}")


def _shown(row):
    return f" ({', '.join(map(str, row))})" if any(str(cell).strip() for cell in row) else ""
