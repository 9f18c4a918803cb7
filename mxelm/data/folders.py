"""A folder of class folders: every folder in it is a class, every file below that an image of the class."""
from __future__ import annotations

import logging
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import FileSource
from mxelm.errors import FileError, InputError

_STAND_IN = re.compile("[\udc80-\udcff]")  # of a byte that is not UTF-8; no state or checkpoint could hold it
_SYSTEMS = re.compile(  # what systems leave in folders: hidden files, thumbnails, bins, what a repair found
    r"\..*|thumbs\.db|ehthumbs.*\.db|desktop\.ini|icon\r|__macosx|network trash folder|temporary items|@eadir|@recycle"
    r"|@recently-snapshot|#recycle|#snapshot|\$recycle\.bin|recycler|system volume information|lost\+found|found\.\d{3}"
    r"|__pycache__", re.IGNORECASE)
_PARTS = re.compile(r"train(ing)?|val(id(ation)?)?|dev|test(ing)?|eval", re.IGNORECASE)
logger = logging.getLogger(__name__)


def read(folder: str | os.PathLike, *, name: str | None = None, leave_out: Sequence[str] = (), suffix: str = "",
         prefix: str | os.PathLike = "") -> Dataset:
    """The images below `folder` as a Dataset: classes and files in natural order, what systems leave there ignored.

    Links to folders are followed; a folder counts once in a class, and not where a link leads back into the set.
    Folders whose names look the same (Unicode's NFC and NFD, as Linux and macOS write them) are one class.
    folder: path. leave_out: names of class folders that do not count. suffix: only files whose name ends so.
    prefix: regular expression of what to strip off the front of folder names to get class names.
    A file that turns out to be no image is an error, or skipped, when it is decoded.
    Raises FileError for a folder that cannot be read, InputError for one without classes, one of parts (train, test)
    that hold the classes, a class without files, or a name that is not UTF-8.
    """
    folder = Path(folder)
    found = [entry for entry in _listing(folder) if (folder / entry).is_dir() and entry not in leave_out]
    if not found:
        raise InputError(f"{folder} has no class folders: put the images of each class into a folder of its own there")
    if len(found) > 1 and all(_PARTS.fullmatch(entry) and _holds_folders(folder / entry) for entry in found):
        raise InputError(f"{folder} is in parts, {' and '.join(found)}, each with class folders: name one, such as "
                         f"{folder / found[0]}")
    ids, targets, names = [], [], list(dict.fromkeys(unicodedata.normalize("NFC", entry) for entry in found))
    root = folder.resolve()
    taken = {_kind(path)[1] for path in (root, *root.parents, *(folder / entry for entry in found))}
    for entry in found:
        files = _files_below(folder, entry, suffix, taken)
        if not files:
            raise InputError(f"the class folder {folder / entry} holds no image: add some or remove it")
        ids += files
        targets += [names.index(unicodedata.normalize("NFC", entry))] * len(files)
    classes = [re.sub(f"^(?:{prefix})", "", entry) for entry in names]
    return Dataset(FileSource(folder, ids), np.array(targets), classes, name or root.name)


def _holds_folders(folder):
    return all((folder / entry).is_dir() for entry in _listing(folder))


def files_below(folder: str | os.PathLike) -> list[str]:
    """Paths, relative to `folder`, of all files in it and in the folders within, in natural order."""
    folder = Path(folder)
    return [path[2:] for path in _files_below(folder, ".", "", {_kind(folder.resolve())[1]})]


def natural(text: str) -> tuple:
    """Sort key by which "img2" comes before "img10".

    >>> sorted(["img10", "img2"], key=natural)
    ['img2', 'img10']
    """
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", text))], text


def _listing(folder):
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise FileError(f"cannot read the folder {folder}: {error.strerror}") from None
    odd = [name for name in names if _STAND_IN.search(name)]
    if odd:
        raise InputError(f"the folder {folder} holds a name that is not UTF-8, {os.fsencode(odd[0])!r}: rename it")
    return sorted((name for name in names if not _SYSTEMS.fullmatch(name)), key=natural)


def _files_below(folder, entry, suffix, taken):
    """Paths, relative to `folder`, of the files in its class folder `entry` and the folders within, linked ones too.

    taken: identities of the folders that no link from here may lead to, for they are counted elsewhere or hold these.
    """
    found, seen = [], set()
    waiting = [f"{entry}/{name}" for name in reversed(_listing(folder / entry))]
    while waiting:
        path = waiting.pop()
        mode, identity = _kind(folder / path)
        if stat.S_ISDIR(mode) and identity in taken:
            logger.warning("left out: %s leads back into the set", folder / path)
        elif stat.S_ISDIR(mode) and identity not in seen:
            seen.add(identity)
            waiting += [f"{path}/{name}" for name in reversed(_listing(folder / path))]
        elif stat.S_ISREG(mode) or not mode:
            found += [path] if path.endswith(suffix) else []
        elif not stat.S_ISDIR(mode):
            logger.warning("left out: %s is a pipe, a socket or a device", folder / path)
    return found


def _kind(path):
    """(mode, identity) of what a path leads to; (0, None) where that is nothing: reading it will say why."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, None
    return found.st_mode, (found.st_dev, found.st_ino)
