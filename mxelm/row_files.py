"""Row files: rows appended block by block, checksummed, resumable after a kill at any byte, read in little memory.

Layout: a mark, the length of a JSON header (kind, identity, columns), the header, its SHA-256; then blocks of a mark, a
number of rows, the columns one after another, and a SHA-256 chained to the one before; at the end a block of no rows.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mxelm.containers import require_same
from mxelm.errors import FileError, InputError
from mxelm.files import atomic_write, locked, parse_json
from mxelm.schemas import check

_ROWS, _BLOCK, _END = b"mxelm rows 1\n", b"BLCK", b"ENDS"
_HEAD_BYTES = len(_BLOCK) + 8
_DIGEST_BYTES = hashlib.sha256().digest_size


class RowWriter:
    """Writes a row file block by block; the memory it takes does not depend on how many rows there are.

        with RowWriter(path, "map-cache", identity, {"V": ("float32", (128,))}, resume=True) as writer:
            writer.append(V=rows)           # float32 (n, 128), any n
            writer.finish()                 # RowFile refuses a file without its end

    path: the file, which grows in place; a killed process leaves its whole blocks.
    kind: str, what the file is.
    identity: JSON-able dict, the run that the file belongs to.
    columns: dict of name -> (dtype, shape of one row).
    resume: go on after the last whole block of an existing file.
    n_rows is the number of rows written so far, last the last row's columns (None before the first).
    Raises FileError if the file exists without `resume`, is of another run, damaged, or held by another process.
    """

    def __init__(self, path: str | os.PathLike, kind: str, identity: dict,
                 columns: Mapping[str, tuple[str, Sequence[int]]], *, resume: bool = False) -> None:
        self._path, self._columns = Path(path), _as_written(columns)
        self._held = contextlib.ExitStack()
        self.n_rows, self.last, self.finished = 0, None, False
        if not self._path.exists():
            with atomic_write(self._path) as temporary:
                temporary.write_bytes(_row_header(kind, identity, self._columns))
        elif not resume:
            raise FileError(f"{path} exists: go on from it with resume (--resume), or remove it")
        with self._held:
            self._held.enter_context(locked(self._path, wait=False))
            self._go_on(kind, json.loads(json.dumps(identity)))
            self._held = self._held.pop_all()

    def _go_on(self, kind, identity):
        """Read the whole blocks of the file, and cut off an unfinished one."""
        with RowFile(self._path, kind, unfinished=True) as rows:
            require_same(rows.identity, identity, self._path)
            require_same({"columns": rows.columns}, {"columns": self._columns}, self._path)
            for block in rows.blocks():
                self.last = {name: column[-1] for name, column in block.items()}
                self.n_rows += len(next(iter(block.values())))
            self._digest, self.finished, end = rows.digest, rows.finished, rows.end
        if not self.finished:
            self._file = self._held.enter_context(self._path.open("r+b", buffering=0))
            self._file.truncate(end)
            self._file.seek(end)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_) -> None:
        self._held.close()

    def append(self, **columns: np.ndarray) -> None:
        """Add a block of rows, an array (n, ...) for each column.

        Raises InputError for arrays of other dtypes, shapes or lengths, FileError if the disk is full.
        """
        n = len(next(iter(columns.values())))
        arrays = [np.ascontiguousarray(columns[name]) for name in self._columns if name in columns]
        if columns.keys() != self._columns.keys() or any(
                array.dtype.str != dtype or array.shape != (n, *shape)
                for array, (dtype, shape) in zip(arrays, self._columns.values())):
            raise InputError(f"a block of {self._path} needs {n} rows of the columns {self._columns}, got "
                             f"{ {name: (array.dtype.str, array.shape) for name, array in columns.items()} }")
        if n:
            self._write(_BLOCK, n, [array.reshape(-1).view(np.uint8).data for array in arrays])
            self.n_rows += n
            self.last = {name: array[-1] for name, array in zip(self._columns, arrays)}

    def finish(self) -> None:
        """Write the file's end: from now on it can be read, but no longer added to."""
        if not self.finished:
            self._write(_END, self.n_rows, [])
            os.fsync(self._file.fileno())
            self.finished = True

    def _write(self, mark, n, parts):
        """Write a block. Its digest includes the one before: no block can be lost, doubled or exchanged."""
        if self.finished:
            raise InputError(f"{self._path} is finished: write another file for more rows")
        head = mark + n.to_bytes(8, "little")
        self._digest = _chained(self._digest, head, *parts)
        try:
            for part in (head, *parts, self._digest):
                view = memoryview(part)
                while view:  # an unbuffered write may take a part only
                    view = view[self._file.write(view):]
        except OSError as error:
            raise FileError(f"cannot write {self._path}: {error.strerror}; its whole blocks stay") from None


class RowFile:
    """Reads a row file from its beginning, one block in memory at a time, each checked by its checksum.

    kind: what the file must be; None takes any. unfinished: let the file end after any whole block.
    identity is the dict that the file was written with, columns a dict of name -> [dtype, shape of one row], and `len`
    gives the number of rows. Raises FileError if the file is missing, of another kind, damaged, cut off or unfinished.
    """

    def __init__(self, path: str | os.PathLike, kind: str | None = None, *, unfinished: bool = False) -> None:
        self.path, self._unfinished = Path(path), unfinished
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            reason = f"there is no file {path}" if isinstance(error, FileNotFoundError) else \
                f"cannot read {path}: {error.strerror}"
            raise FileError(reason) from None
        try:
            self._read_header(kind)
        except BaseException:
            self._file.close()
            raise

    def _read_header(self, kind):
        head = self._file.read(len(_ROWS) + 8)
        if not head.startswith(_ROWS):
            raise FileError(f"{self.path} is not a file of rows that mxelm wrote")
        content = self._file.read(min(int.from_bytes(head[len(_ROWS):], "little"), self._size()))
        self.digest = _chained(b"", head, content)
        if self._file.read(_DIGEST_BYTES) != self.digest:
            raise FileError(f"{self.path} is damaged: its header's checksum does not match; make it again")
        content = parse_json(content, self.path)
        check("rows", content, self.path)
        check(content["kind"], content["identity"], self.path)
        if kind is not None and content["kind"] != kind:
            raise FileError(f"{self.path} holds a {content['kind']}, not a {kind}")
        self.kind, self.identity = content["kind"], content["identity"]
        self.columns = content["columns"]
        self._begin, self._first_digest = self._file.tell(), self.digest
        self.end, self.finished = self._begin, False

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __len__(self) -> int:
        """The number of rows, read from the file's end."""
        self._file.seek(max(self._begin, self._size() - _HEAD_BYTES - _DIGEST_BYTES))
        head = self._file.read(_HEAD_BYTES)
        n = int.from_bytes(head[len(_END):], "little")
        if not head.startswith(_END) or sum(self._sizes(n)) > self._size():
            raise FileError(f"{self.path} is not finished, or cut off: go on with it (--resume)")
        return n

    def blocks(self, *names: str) -> Iterator[dict[str, np.ndarray]]:
        """Yield dicts of name -> array (n, ...) of the columns `names`, all by default, in the order written."""
        self._file.seek(self._begin)
        self.digest, self.end, self.finished = self._first_digest, self._begin, False
        while not self.finished:
            block = self._block()
            if block is None:
                return
            if block:
                yield {name: block[name] for name in names or self.columns}

    def column(self, name: str) -> np.ndarray:
        """One column as a whole, (len(self), ...)."""
        dtype, shape = self.columns[name]
        whole, done = np.empty((len(self), *shape), dtype), 0
        for block in self.blocks(name):
            whole[done:done + len(block[name])] = block[name]
            done += len(block[name])
        return whole

    def _sizes(self, n):
        """The bytes that n rows of each column take, a list."""
        return [n * np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in self.columns.values()]

    def _size(self):
        return os.fstat(self._file.fileno()).st_size

    def _block(self):
        """The next block's columns; {} at the file's end; None if an unfinished file has no further whole block."""
        head = self._file.read(_HEAD_BYTES)
        mark, n = head[:len(_END)], int.from_bytes(head[len(_END):], "little")
        sizes = self._sizes(n)
        size = sum(sizes) if mark == _BLOCK else 0
        payload = self._file.read(size) if size <= self._size() - self._file.tell() else b""
        digest = _chained(self.digest, head, payload)
        whole = self._file.read(_DIGEST_BYTES) == digest and (mark == _BLOCK or self._file.tell() == self._size())
        if mark not in (_BLOCK, _END) or not whole:
            if self._unfinished:
                return None
            raise FileError(f"{self.path} is damaged, cut off or not finished after {self.end} bytes: go on with it "
                            "(--resume), or make it again")
        self.digest, self.end = digest, self._file.tell()
        self.finished = mark == _END
        starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        return {} if self.finished else {
            name: np.frombuffer(payload[start:stop], dtype).reshape(n, *shape)
            for (name, (dtype, shape)), start, stop in zip(self.columns.items(), starts, starts[1:])}


def is_row_file(path: str | os.PathLike) -> bool:
    """Whether the file at `path` begins like a row file."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_ROWS)) == _ROWS
    except OSError:
        return False


def _row_header(kind, identity, columns):
    content = json.dumps({"kind": kind, "identity": identity, "columns": columns}).encode()
    head = _ROWS + len(content).to_bytes(8, "little") + content
    return head + _chained(b"", head)


def _chained(before, *parts):
    digest = hashlib.sha256(before)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _as_written(columns):
    """Columns as a header stores them: name -> [dtype with its byte order, shape]."""
    return {name: [np.dtype(dtype).str, list(shape)] for name, (dtype, shape) in columns.items()}
