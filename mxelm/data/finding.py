"""Finding a known set on this machine, or fetching it: checked, unpacked safely, whole or not at all."""
from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from mxelm.archives import unpack
from mxelm.data.known import KNOWN
from mxelm.download import cache_folder, fetch_file, search_folders
from mxelm.errors import FileError
from mxelm.files import file_hash, make_folder, write_text

logger = logging.getLogger(__name__)


def find(name: str, *, root: str | os.PathLike | None = None, download: bool = False, progress: bool = False) -> Path:
    """The folder in which the known set `name` lies; fetched when it is nowhere and `download` is set.

    Looked for in `root`, the folders of MXELM_DATA and the cache, in this order; downloads go to `root` or the cache.
    A `root` that is not there is a mistake, unless it is to be filled.
    Raises FileError that says where it was looked for, what it should look like and how to get it.
    """
    if root is not None and not download and not Path(root).is_dir():
        raise FileError(f"there is no folder {root}, in which {name} should lie: name another, or none to have it "
                        "looked for in the folders of MXELM_DATA and in the cache")
    places = search_folders(root)
    incomplete = []
    for folder, patterns in _candidates(KNOWN[name], places):
        missing = _missing(folder, patterns)
        if not missing:
            logger.info("%s found in %s", name, folder)
            return folder
        logger.warning("%s is passed over: it lacks %s", folder, missing[0])
        incomplete.append(f" ({folder} is there, but lacks {missing[0]})")
    if download and KNOWN[name].downloads:
        return fetch(name, cache_folder() if root is None else root, progress)
    remedy = ("have it fetched with download=True (--download)" if KNOWN[name].downloads else
              f"clone it from {KNOWN[name].repository}")
    layouts = " or ".join(_described(*layout) for layout in KNOWN[name].layouts)
    raise FileError(f"{name} was not found in {', '.join(map(str, places))}{''.join(incomplete)}: put {layouts} into "
                    f"one of these, name another folder as root or in MXELM_DATA, or {remedy}")


def fetch(name: str, place: str | os.PathLike, progress: bool = False) -> Path:
    """Download the known set `name` into the folder `place`, check and unpack it; return the set's folder there.

    Raises FileError when no mirror gives it, a hash differs, an archive is unsafe, or `place` cannot be written.
    """
    subfolder, patterns = KNOWN[name].layouts[0]
    folder = Path(place) / subfolder
    for item in KNOWN[name].downloads:
        make_folder(folder.parent if item.is_archive else folder, "name another root, or set MXELM_CACHE")
        if item.is_archive:
            _fetch_archive(name, item, folder, progress)
        elif not (folder / item.name).exists():
            fetch_file(item.urls, folder / item.name, item.hashes, progress=progress, folder=name)
    missing = _missing(folder, patterns)
    if missing:
        raise FileError(f"{name} was downloaded, but {folder} lacks {missing[0]}")
    return folder


def _fetch_archive(name, item, folder, progress):
    """Fetch and unpack beside `folder`, which appears under its own name only when it is whole."""
    if folder.exists():
        raise FileError(f"{folder} is there, but not whole: move it away before {name} is downloaded")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        archive, unpacked = Path(temporary) / item.name, Path(temporary) / "unpacked"
        by_hand = f"unpack it by hand to {folder} ({', '.join(KNOWN[name].layouts[0][1]) or 'class folders'})"
        digest = fetch_file(item.urls, archive, item.hashes, progress=progress, folder=name, advice=by_hand)
        unpack(archive, unpacked)
        if item.inner:
            inner, hashes = unpacked / item.inner[0], item.inner[1]
            if any(file_hash(inner, algorithm) != expected for algorithm, expected in hashes.items()):
                raise FileError(f"{item.name} holds a {inner.name} that is not the published one: nothing was kept")
            unpack(inner, unpacked)
        if not (unpacked / folder.name).is_dir():
            raise FileError(f"{item.name} holds no folder {folder.name}: nothing was kept")
        os.replace(unpacked / folder.name, folder)
    if not item.hashes:  # none was published: at least what was fetched is on record
        write_text(folder.parent / f"{item.name}.sha256", f"{digest}  {item.name}\n")


def _candidates(known, places):
    """The folders, of those that exist, that may hold the set, with the patterns of what must be in each."""
    for place in places:
        for subfolder, patterns in known.layouts:
            if (place / subfolder).is_dir():
                yield place / subfolder, patterns
            elif place.resolve().name == Path(subfolder).name and place.is_dir():
                yield place, patterns  # the set's own folder was named


def _missing(folder, patterns):
    return [p for p in patterns if not any(folder.glob(p)) and not any(folder.glob(f"{p}.gz"))]


def _described(folder, patterns):
    return f"{folder}/ ({', '.join(patterns)})" if patterns else f"{folder}/ (class folders)"
