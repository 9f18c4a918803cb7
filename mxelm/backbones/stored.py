"""A checkpoint's three files as one: replaced with one commit point, read only as they belong together.

PREFIX.json holds the SHA-256 of all three, its own too (over its text with zeros in that place), by role, so that a
copy under another name stays whole. Its move into place decides: until then the old checkpoint counts, from then on the
new one, whose other files a reader finds under their temporary names if the writer was killed before their moves.
"""
from __future__ import annotations

import hashlib
import os
import re
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mxelm.errors import FileError
from mxelm.files import atomic_writes, exclusive, leftovers, parse_json, read_bytes, remove_leftovers
from mxelm.schemas import check
from mxelm.seals import UNSEALED, seal_of, sealed

# role: "symbol", "params" or "sidecar". content: bytes, None where there is no such file. recorded: what PREFIX.json
# says of it: sha256, bytes; {} where it says nothing
File = namedtuple("File", "role path content recorded")


class Stored(namedtuple("Stored", "sidecar files")):
    """A checkpoint as it was read: the dict in PREFIX.json ({} where there is none) and a File for each role."""

    def content(self, role: str) -> bytes | None:
        return self.files[role].content

    def require_whole(self) -> None:
        """Raise FileError for the first file that is not what PREFIX.json says."""
        for file in self.files.values():
            told = self.files["sidecar"].path
            if file.content is None and file.recorded:
                raise FileError(f"there is no {file.path}, which {told} lists")
            if file.content is not None and not matches(file):
                remedy = "an editor may have changed it: without its `files` it counts as it is" \
                    if file.role == "sidecar" else "restore it from a copy"
                raise FileError(f"{file.path} is damaged or was exchanged: it has {len(file.content)} bytes and not "
                                f"the SHA-256 in {told}; {remedy}")


def digest(file: File) -> str:
    """SHA-256 of a File's content, for PREFIX.json with zeros in the place of its own."""
    if file.role == "sidecar" and file.recorded:
        return seal_of(file.content, file.recorded["sha256"])
    return hashlib.sha256(file.content).hexdigest()


def matches(file: File) -> bool:
    """Whether a File that is there is what PREFIX.json says of it; one of which nothing is said always is."""
    return (file.recorded.get("bytes", len(file.content)) == len(file.content)
            and file.recorded.get("sha256") in (None, digest(file)))


def read(prefix: str | os.PathLike, epoch: int | None = None) -> Stored:
    """The Stored checkpoint `prefix`, whole; epoch None takes what PREFIX.json lists, else the highest.

    The bytes that come back are those that were held against their hashes; while another process replaces the
    checkpoint, they are all of the old one or all of the new one. FileError names what is missing or damaged.
    """
    last = object()
    while True:
        before = _content(f"{prefix}.json")
        try:
            stored = look(prefix, epoch, before)
            stored.require_whole()
        except FileError:
            if before == last:  # twice the same: nobody is replacing it
                raise
        else:
            if _content(f"{prefix}.json") == before:
                return stored
        last = before


def look(prefix: str | os.PathLike, epoch: int | None = None, sidecar_content: bytes | None = None) -> Stored:
    """The Stored checkpoint as it lies there, whole or not."""
    sidecar_path = Path(f"{prefix}.json")
    content = _content(sidecar_path) if sidecar_content is None else sidecar_content
    sidecar = {} if content is None else parse_json(content, sidecar_path)
    check("checkpoint", sidecar, sidecar_path)
    recorded = _by_ending(sidecar.get("files", {}))
    path = params_path(prefix, epoch, sidecar.get("files", {}).get("params", {}).get("epoch"))
    ending = path.name[path.name.rindex("-"):]
    return Stored(sidecar, {
        "symbol": _find("symbol", Path(f"{prefix}-symbol.json"), recorded.get("-symbol.json", {})),
        "params": _find("params", path, recorded.get(ending, {})),
        "sidecar": File("sidecar", sidecar_path, content, recorded.get(".json", {}))})


def _by_ending(files):
    """What `files` says by the endings of the three names; older ones list the whole names of two."""
    if "sidecar" not in files:
        return {name[name.rindex("-"):]: said for name, said in files.items()}
    return {"-symbol.json": files["symbol"], f"-{files['params']['epoch']:04d}.params": files["params"],
            ".json": files["sidecar"]}


def _find(role, path, recorded):
    """A File with the content that lies in its place or, if PREFIX.json says another, waits beside it."""
    found = [File(role, path, _content(place), recorded) for place in (path, *(leftovers(path) if recorded else ()))]
    return next((file for file in found if file.content is not None and matches(file)), found[0])


def _content(path):
    return read_bytes(path) if Path(path).is_file() else None


def params_path(prefix: str | os.PathLike, epoch: int | None = None, recorded: int | None = None) -> Path:
    """Path of PREFIX-NNNN.params; epoch None takes `recorded`, which PREFIX.json lists, else the highest there is.

    FileError says what is there instead.
    """
    prefix = Path(prefix)
    pattern = re.compile(re.escape(prefix.name) + r"-(\d{4,})\.params")
    names = [path.name for path in sorted(prefix.parent.glob("*.params"))]
    there = {int(found.group(1)): prefix.with_name(found.group()) for found in map(pattern.fullmatch, names) if found}
    listed = Path(f"{prefix}-{recorded or 0:04d}.params")
    if recorded is not None and leftovers(listed):
        there[recorded] = listed
    if not there:
        others = [name for name in names if not name.startswith(".")]
        near = f"; {others[0]} is there: rename it to {prefix.name}-0000.params if it belongs to it" if others else ""
        raise FileError(f"there is no checkpoint {prefix}: no file {prefix}-0000.params or with another number; "
                        f"give the path without -symbol.json and -0000.params{near}")
    if epoch is None:  # of another network may be what has a higher number than the one that belongs to PREFIX.json
        return there.get(recorded) or there[max(there)]
    if epoch not in there:
        raise FileError(f"there is no {prefix}-{epoch:04d}.params; the epochs there are {sorted(there)}")
    return there[epoch]


def exists(prefix: str | os.PathLike) -> bool:
    """Whether parameters of a checkpoint `prefix` lie there, in their place or on the way to it."""
    prefix = Path(prefix)
    name = re.escape(prefix.name)
    return any(re.fullmatch(rf"\.?{name}-\d{{4,}}\.params(\.part-\w+\.params)?", path.name)
               for path in prefix.parent.glob("*.params"))


def write(prefix: str | os.PathLike, epoch: int, sidecar: dict, write_symbol: Callable[[Path], Any],
          write_params: Callable[[Path], Any]) -> None:
    """Replace the checkpoint `prefix` by one of `sidecar` (a dict, to which `files` is added) as a whole.

    write_symbol, write_params: callables that write to a path. FileError where nothing could be written.
    """
    paths = [Path(f"{prefix}{end}") for end in (".json", f"-{epoch:04d}.params", "-symbol.json")]
    with exclusive(paths[0], wait=True):
        with atomic_writes(*paths) as (sidecar_path, params, symbol):
            write_params(params)
            write_symbol(symbol)
            files = {"symbol": _said(symbol.read_bytes()), "params": {"epoch": epoch, **_said(params.read_bytes())},
                     "sidecar": {"sha256": UNSEALED}}
            kept = {name: value for name, value in sidecar.items() if name != "files"}
            sidecar_path.write_bytes(sealed({**kept, "files": files}))
        for path in paths:
            remove_leftovers(path)


def _said(content):
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
