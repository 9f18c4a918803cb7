"""Lists of image paths with targets: CSV with a header line, and im2rec's .lst."""
import csv
import re
from pathlib import Path

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.folders import natural
from mxelm.data.sources import FileSource
from mxelm.data.targets import interpret
from mxelm.errors import FileError, InputError

_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")


def read(path, root=None, kind=None):
    """The images that a .csv or .lst names, with their targets, as a Dataset.

    path: CSV with a header, the image's path first, then one target column (class names, class numbers from 0, or
        decimal numbers for regression) or several (all 0 or 1 for multilabel, else regression); or `index TAB
        label(s) TAB path` lines as im2rec writes them.
    root: folder that the paths start from, the list's own by default. kind: says what the numbers are, if need be.
    Raises InputError that names file and line for a target or a line that cannot be used.
    """
    path = Path(path)
    lines, names, rows = _read_lst(path) if path.suffix == ".lst" else _read_csv(path)
    if not rows:
        raise InputError(f"{path} lists no images")
    root = path.parent if root is None else Path(root)
    if path.suffix != ".lst" and (root / names[0]).is_file():
        raise InputError(f"{path} has no header: its first line must name the columns, not an image")
    ids = [row[0] for row in rows]
    _refuse_repeated(path, lines, ids)

    def place(row):
        return f"{path}, line {lines[row]}"

    cells = [row[1:] for row in rows]
    if len(names) == 2 and kind in (None, "classes") and not all(_is_number(row[0]) for row in cells):
        targets, classes = _named_classes([row[0].strip() for row in cells], place)
        return Dataset(FileSource(root, ids), targets, classes, path.stem)
    values = np.array([[_number(cell, place, i) for cell in row] for i, row in enumerate(cells)])
    if kind is None and path.suffix != ".lst" and len(names) == 2 and not all(_WHOLE.fullmatch(r[0]) for r in cells):
        kind = "regression"  # a decimal point in a CSV is meant; im2rec writes one behind every class number
    targets, classes, kind = interpret(values, names[1:], place, kind)
    return Dataset(FileSource(root, ids), targets, classes, path.stem, kind)


def _read_csv(path):
    """(line numbers, column names, rows), each row (path, target, ...)."""
    lines, rows = [], []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row:
                    _check_columns(path, reader.line_num, row, len(names))
                    lines.append(reader.line_num)
                    rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path} is not a CSV file in UTF-8: {error}") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    if len(names) < 2:
        raise InputError(f"{path}, line 1: the header must name a column of paths and one or more of targets")
    return lines, names, rows


def _read_lst(path):
    lines, rows = [], []
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not a text file in UTF-8: {error}") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            _, *labels, image = cells = line.split("\t")
            if len(cells) < 3:
                raise InputError(f"{path}, line {number}: expected index, label and path with tabs between them")
            _check_columns(path, number, cells, len(rows[0]) + 1 if rows else len(cells), image)
            lines.append(number)
            rows.append([image, *labels])
    return lines, ["path", *(f"label_{i}" for i in range(len(rows[0]) - 1 if rows else 0))], rows


def _check_columns(path, line, row, expected, image=None):
    if len(row) != expected:
        raise InputError(f"{path}, line {line}: {len(row)} columns, where {expected} are expected")
    if not (row[0] if image is None else image).strip():
        raise InputError(f"{path}, line {line}: the image's path is missing")


def _refuse_repeated(path, lines, ids):
    first = {}
    for line, name in zip(lines, ids):
        if first.setdefault(name, line) != line:
            raise InputError(f"{path}, line {line}: {name} is listed again, after line {first[name]}; keep one of them")


def _named_classes(cells, place):
    for i, cell in enumerate(cells):
        if not cell:
            raise InputError(f"{place(i)}: the class is missing")
    classes = sorted(set(cells), key=natural)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[cell] for cell in cells]), classes


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell, place, row):
    if not _is_number(cell):
        raise InputError(f"{place(row)}: {cell!r} is not a number")
    return float(cell)
