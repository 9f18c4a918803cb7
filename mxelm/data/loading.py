"""`load`: from a name or a path to a Dataset."""
from __future__ import annotations

import difflib
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxelm.data import cifar, folders, idx, listed, recordio, sounds
from mxelm.data.finding import find
from mxelm.data.known import KNOWN
from mxelm.errors import InputError

if TYPE_CHECKING:
    from mxelm.data.dataset import Dataset

_OPTIONS = ("split", "background", "kind", "spectrum")


def load(name: str, *, root: str | os.PathLike | None = None, download: bool = False, progress: bool = False,
         **options: Any) -> Dataset:
    """The image set `name` as a Dataset.

    name: a known set ("digits", "mnist", "fashion_mnist", "cifar10", "caltech101", "caltech256", "stanford_dogs"),
        or the path of a folder of class folders (of images, or of WAV files: mxelm.data.sounds), of an idx or CIFAR-10
        folder, of an MXNet RecordIO file (.rec), or
        of a list of paths and targets (.csv, .lst).
    root: folder where a known set is looked for first; for a list, the folder its images' paths start from; for any
        other path, the folder it starts from.
    download: fetch a known set that is nowhere, into `root` or the cache; progress: show a bar meanwhile.
    options: what the reader takes: split="train" or "test" (idx, CIFAR-10), background=False (Caltech),
        kind="classes", "multilabel" or "regression" (lists, RecordIO), spectrum="mel" or "chroma" (sounds).
    Raises InputError for an unknown name or option, FileError for what is missing or damaged.
    """
    name = os.fspath(name)
    if name in KNOWN:
        read = KNOWN[name].read
        _refuse_unknown_options(name, read, options)
        if not KNOWN[name].layouts:
            return read(**options)
        return read(find(name, root=root, download=download, progress=progress), **options)
    if name.endswith((".csv", ".lst")):
        path, read = Path(name), listed.read
        options.setdefault("root", root)
    else:
        path = Path(name) if root is None else Path(root) / name
        read = _reader(path)
    _refuse_unknown_options(name, read, options)
    return read(path, **options)


def takes(option: str, name: str, root: str | os.PathLike | None = None) -> bool:
    """Whether what reads the set `name`, found as `load` finds it, has this option, such as "split"."""
    if name in KNOWN:
        read = KNOWN[name].read
    else:
        read = listed.read if name.endswith((".csv", ".lst")) else _reader(Path(root or "", name))
    return option in inspect.signature(read).parameters


def _reader(path):
    if path.suffix == ".rec" and path.is_file():
        return recordio.read
    if not path.is_dir():
        raise InputError(_unknown(path))
    if idx.is_idx_folder(path):
        return idx.read
    if (path / "data_batch_1").exists() or (path / "data_batch_1.bin").exists():
        return cifar.read
    if sounds.is_sound_folder(path):
        return sounds.read
    return folders.read


def _refuse_unknown_options(name, read, options):
    allowed = [parameter for parameter in inspect.signature(read).parameters if parameter in _OPTIONS]
    for option in options:
        if option not in allowed and option != "root":
            raise InputError(f"{name} takes no option {option!r}; it takes {', '.join(allowed) or 'none'}")


def _unknown(path):
    if path.exists():
        return f"{path} is neither a folder nor a .rec, .csv or .lst file"
    near = difflib.get_close_matches(str(path), KNOWN, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{path} is neither a file nor a folder, nor one of the known sets {', '.join(KNOWN)}{hint}"


load_data = load  # its name at the package's top level, where `load` alone would not say what
