"""Lists of image paths with targets, as people, pandas, Windows and im2rec write them: .csv and .lst."""
from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Optional, Union

from mxelm.data.dataset import Dataset
from mxelm.data.sources import FileSource
from mxelm.data.targets import interpret
from mxelm.errors import FileError, InputError
from mxelm.files import read_text

_IMAGE = re.compile(r".*\.(jpe?g|jfif|png|bmp|gif|tiff?|webp|p[bgnp]m|jp2|tga|heic|avif)\s*", re.IGNORECASE)
_INDEX = re.compile(r"|unnamed: ?\d+|index|idx|id|no\.?|nr\.?|#", re.IGNORECASE)  # headers of what counts lines
_SPACED = re.compile(r"\s*[^,\s]+[,\s]+((?:[-+.0-9eE]+[,\s]+)+|[^,\s]+[,\s]+)(\S.*)")


def read(path: Union[str, os.PathLike], root: Optional[Union[str, os.PathLike]] = None,
         kind: Optional[str] = None) -> Dataset:
    """The images that a .csv or .lst names, with their targets, as a Dataset.

    path: CSV with a header (commas, semicolons or tabs): one column of images' paths and one target column (classes by
        name or whole number, or decimal numbers for regression) or several (all 0 or 1 for multilabel, else
        regression); a column that counts the lines does not matter. Or lines of `index, label(s), path` as im2rec
        writes them, with tabs, spaces or commas between. Backslashes in paths are Windows' slashes.
    root: folder that the paths start from, the list's own by default. kind: says what the targets are, if need be.
    Raises InputError that names file and line for a target or a line that cannot be used.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    lines, names, rows = _read_lst(path) if path.suffix == ".lst" else _read_csv(path)
    if not rows:
        raise InputError(f"{path} lists no images")
    image, targets = (0, range(1, len(names))) if path.suffix == ".lst" else _columns(path, root, names, rows)
    ids = [_found(root, row[image]) for row in rows]
    _refuse_unusable(path, lines, ids)
    targets, classes, kind = interpret([[row[j] for j in targets] for row in rows], [names[j] for j in targets],
                                       lambda row: f"{path}, line {lines[row]}", kind=kind)
    return Dataset(FileSource(root, ids), targets, classes, path.stem, kind=kind)


def _read_csv(path):
    """(line numbers, column names, rows of cells)."""
    lines, rows = [], []
    text = read_text(path)
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        for row in filter(None, reader):
            _check_columns(path, reader.line_num, row, len(names))
            lines.append(reader.line_num)
            rows.append([_point(cell) for cell in row] if separator == ";" else row)
    except csv.Error as error:
        raise FileError(f"{path}, line {reader.line_num}, is not CSV: {error}") from None
    return lines, names, rows


def _columns(path, root, names, rows):
    """(number of the column of paths, numbers of the target columns), told from the header and the first line."""
    if any(_is_image(root, name) for name in names):
        raise InputError(f"{path} has no header: its first line must name the columns, not an image")
    image = next((j for j, cell in enumerate(rows[0]) if _is_image(root, cell)), 0)
    others = [j for j in range(len(names)) if j != image]
    targets = [j for j in others if not (_INDEX.fullmatch(names[j]) and _counts([row[j] for row in rows]))] or others
    if not targets:
        raise InputError(f"{path}, line 1: the header must name a column of paths and one or more of targets")
    return image, targets


def _read_lst(path):
    lines, rows = [], []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            row = _lst_row(line)
            if len(row) < 2:
                raise InputError(f"{path}, line {number}: expected index, label and path with tabs between them")
            _check_columns(path, number, row, len(rows[0]) if rows else len(row))
            lines.append(number)
            rows.append(row)
    return lines, ["path", *(f"label_{i}" for i in range(len(rows[0]) - 1 if rows else 0))], rows


def _lst_row(line):
    """[path, label, ...] of a line with tabs; else with spaces or commas, the path being what follows the numbers."""
    if "\t" in line:
        _, *labels, image = line.split("\t")
        return [image, *labels]
    spaced = _SPACED.fullmatch(line)
    return [spaced[2], *re.split(r"[,\s]+", spaced[1].strip(", \r"))] if spaced else []


def _check_columns(path, line, row, expected):
    if len(row) != expected:
        raise InputError(f"{path}, line {line}: {len(row)} columns, where {expected} are expected")


def _refuse_unusable(path, lines, ids):
    first = {}
    for line, name in zip(lines, ids):
        if not name.strip():
            raise InputError(f"{path}, line {line}: the image's path is missing")
        if first.setdefault(name, line) != line:
            raise InputError(f"{path}, line {line}: {name} is listed again, after line {first[name]}; keep one of them")


def _is_image(root, cell):
    return bool(_IMAGE.fullmatch(cell)) or os.path.isfile(root / _found(root, cell))


def _counts(cells):
    return len(set(cells)) == len(cells) and all(cell.strip().isdecimal() for cell in cells)


def _found(root, name):
    """A path as it is, or with Windows' backslashes or stray blanks put right where there is no such file."""
    if "\\" not in name and name == name.strip() or os.path.exists(root / name):
        return name
    return name.replace("\\", "/").strip()


def _point(cell):
    """Where semicolons separate, commas are decimal points."""
    return cell.replace(",", ".") if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell) else cell
