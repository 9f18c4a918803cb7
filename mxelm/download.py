"""Downloads that can be trusted: from a list of mirrors, checked before use, whole or not at all.

MXELM_MIRRORS replaces the lists of mirrors: base URLs (https://, file://, ...), separated by ';' or blanks.
MXELM_DATA names folders in which data and weights are looked for, MXELM_CACHE the one that downloads go to.
"""
from __future__ import annotations

import http.client
import logging
import os
import re
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from mxelm.errors import FileError
from mxelm.files import atomic_write, file_hash

TIMEOUT = 30  # seconds without a byte
logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder that downloads go to: MXELM_CACHE, or ~/.cache/mxelm."""
    return Path(os.environ.get("MXELM_CACHE") or Path.home() / ".cache" / "mxelm")


def search_folders(root: str | os.PathLike | None = None) -> list[Path]:
    """The folders in which data and weights are looked for, in order: `root`, those of MXELM_DATA, the cache."""
    named = [part for part in os.environ.get("MXELM_DATA", "").split(os.pathsep) if part]
    return [Path(folder) for folder in ([] if root is None else [root]) + named] + [cache_folder()]


def fetch_file(urls: Sequence[str], target: str | os.PathLike, hashes: Mapping[str, str], *, progress: bool = False,
               folder: str = "", advice: str | None = None) -> str:
    """Fetch `target` from the first of `urls` that gives it; return its SHA-256.

    hashes: dict of algorithm -> hexadecimal digest, all checked before the file takes its place; {} where none was
    published: then it must come over TLS all the way, and a warning states its SHA-256, for comparison.
    progress: show a bar. folder: where under a mirror of MXELM_MIRRORS the file lies, if not on top.
    advice: what to do by hand, if not to put the file at `target`.
    Raises FileError that says why each mirror failed and what to do by hand.
    """
    target = Path(target)
    problems = []
    for url in _replacements(target.name, folder) or list(urls):
        try:
            with atomic_write(target) as temporary:
                _stream(url, temporary, progress, target.name, trusted=bool(hashes))
                _check(temporary, hashes)
                digest = file_hash(temporary, "sha256")
            logger.log(logging.INFO if hashes else logging.WARNING, "fetched %s from %s, sha256 %s%s", target.name, url,
                       digest, "" if hashes else ": no hash was published to compare it with")
            return digest
        except _MirrorFailed as problem:
            problems.append(f"{url} ({problem})")
    wanted = "".join(f", {algorithm} {digest}" for algorithm, digest in hashes.items())
    raise FileError(f"could not fetch {target.name} from {' or '.join(problems) or 'anywhere'}: "
                    f"{advice or f'put the file at {target} by hand'}{wanted}, or name a mirror in MXELM_MIRRORS")


class _MirrorFailed(Exception):
    """Why one mirror did not give the file."""


def _replacements(name, folder):
    bases = [base.rstrip("/") for base in re.split(r"[;\s]+", os.environ.get("MXELM_MIRRORS", "")) if base]
    places = [f"{folder}/{name}", name] if folder else [name]
    return [f"{base}/{place}" for base in bases for place in places]


def _stream(url, path, progress, name, trusted):
    """trusted: what comes will be held against a hash, so that whoever stands on the way cannot replace it."""
    request = _attempt(urllib.request.Request, url, headers={"User-Agent": "mxelm"})
    with _attempt(urllib.request.urlopen, request, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        if not trusted and any(place.startswith("http://") for place in (url.lower(), answer.geturl())):
            raise _MirrorFailed("no hash of it is known, and this way is open to exchange: https:// is needed")
        length = int(answer.headers.get("Content-Length") or 0)
        with _bar(progress, name, length) as bar:
            while True:
                chunk = _attempt(answer.read, 1 << 18)
                if not chunk:
                    break
                file.write(chunk)
                bar.update(len(chunk))
        if length and file.tell() != length:
            raise _MirrorFailed(f"broke off after {file.tell()} of {length} bytes")


def _attempt(call, *arguments, **options):
    """What the network does wrong becomes _MirrorFailed; what the disk does wrong stays an OSError."""
    try:
        return call(*arguments, **options)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorFailed(getattr(error, "reason", None) or error) from None


def _check(path, hashes):
    for algorithm, expected in hashes.items():
        found = file_hash(path, algorithm)
        if found != expected:
            raise _MirrorFailed(f"its {algorithm} is {found}, not {expected}")


def _bar(progress, name, length):
    from tqdm import tqdm
    return tqdm(total=length or None, unit="B", unit_scale=True, desc=name, disable=not progress)
