"""A folder of class folders: every folder in it is a class, every file below that an image of the class."""
import os
import re
from pathlib import Path

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import FileSource
from mxelm.errors import FileError, InputError

_STAND_IN = re.compile("[\udc80-\udcff]")  # of a byte that is not UTF-8; no state or checkpoint could hold it
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")  # what Windows leaves behind, its hidden files


def read(folder, name=None, leave_out=(), suffix="", prefix=""):
    """The images below `folder` as a Dataset: classes and files in natural order, hidden files ignored.

    folder: path. leave_out: names of class folders that do not count. suffix: only files whose name ends so.
    prefix: regular expression of what to strip off the front of folder names to get class names.
    A file that turns out to be no image is an error, or skipped, when it is decoded.
    Raises FileError for a folder that cannot be read, InputError for one without classes, a class without files, or
    a name that is not UTF-8.
    """
    folder = Path(folder)
    found = [entry for entry in _listing(folder) if (folder / entry).is_dir() and entry not in leave_out]
    if not found:
        raise InputError(f"{folder} has no class folders: put the images of each class into a folder of its own there")
    ids, targets = [], []
    for number, entry in enumerate(found):
        files = _files_below(folder, entry, suffix)
        if not files:
            raise InputError(f"the class folder {folder / entry} holds no image: add some or remove it")
        ids += files
        targets += [number] * len(files)
    classes = [re.sub(f"^(?:{prefix})", "", entry) for entry in found]
    return Dataset(FileSource(folder, ids), np.array(targets), classes, name or folder.resolve().name)


def natural(text):
    """Sort key by which "img2" comes before "img10"."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", text))], text


def _listing(folder):
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise FileError(f"cannot read the folder {folder}: {error.strerror}") from None
    odd = [name for name in names if _STAND_IN.search(name)]
    if odd:
        raise InputError(f"the folder {folder} holds a name that is not UTF-8, {os.fsencode(odd[0])!r}: rename it")
    return sorted((n for n in names if not n.startswith(".") and n.lower() not in _SYSTEM_FILES), key=natural)


def _files_below(folder, entry, suffix):
    """Paths, relative to `folder`, of the files in its class folder `entry` and the folders within."""
    found = []
    for name in _listing(folder / entry):
        path = f"{entry}/{name}"
        if not (folder / path).is_dir():
            found += [path] if name.endswith(suffix) else []
        elif not (folder / path).is_symlink():  # a linked folder may lead back here
            found += _files_below(folder, path, suffix)
    return found
