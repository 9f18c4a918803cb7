"""MXNet RecordIO files of encoded images, as im2rec writes them.

A record is a magic number, a word with its length, the content, and zeros up to a multiple of four bytes. Content
that happens to hold the magic number is stored in parts, between which the reader puts the magic number back.
The content is a header (flag, label, id, id2), `flag` more labels, and the encoded image.

The file's structure is walked once when it is opened, so that a cut or damaged file is refused before use, and no
x.idx is needed; mx.recordio has neither. Reading is by position, and therefore safe from several threads.
"""
from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import Literal

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.decode import decode
from mxelm.data.targets import interpret
from mxelm.errors import FileError

logger = logging.getLogger(__name__)
_MAGIC = struct.pack("<I", 0xCED7230A)
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


def read(path: str | os.PathLike, kind: Literal["classes", "multilabel", "regression"] | None = None) -> Dataset:
    """The images and labels of a RecordIO file as a Dataset.

    path: x.rec; where x.idx lies beside it, its order and keys are the dataset's, else the file's own order counts.
    kind: says what the labels are, if need be: one whole number is a class, several 0/1 are multilabel.
    InsightFace's files hold a directory in records without images: they are left out, with a word, and of a face's
    labels the first counts, as InsightFace reads them.
    Raises FileError for a file that is cut or damaged or an x.idx of another file; InputError for labels.
    """
    source = RecordSource(Path(path))
    labels = source.labels()
    rows = [i for i, row in enumerate(labels) if row is not None]
    if not rows:
        raise FileError(f"{path} holds no image: its {len(labels)} records are headers alone")
    labels = [labels[i].tolist() for i in rows]
    if len(rows) < len(source):
        first = min({*range(len(source))} - {*rows})
        logger.warning("%s, and %d of %d records in all, hold no image: they are left out, as the directory of an "
                       "InsightFace file", source.place(first), len(source) - len(rows), len(source))
        labels = [row[:1] for row in labels]
    if len({len(row) for row in labels}) != 1:
        raise FileError(f"{path} has records with different numbers of labels")
    names = [f"label_{i}" for i in range(len(labels[0]))]
    targets, classes, kind = interpret(labels, names, lambda row: source.place(rows[row]), kind=kind)
    return Dataset(source, targets, classes, source.path.stem, kind=kind, positions=rows)


class RecordSource:
    """Encoded images in a RecordIO file, decoded when asked for; ids are "x.rec/KEY"."""

    images = None

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        with self._open() as file:
            self._records = _scan(file, path)
        if not self._records:
            raise FileError(f"{path} holds no records")
        index = path.with_suffix(".idx")
        keys = self._reorder(index) if index.exists() else range(len(self._records))
        self.ids = [f"{path.name}/{key}" for key in keys]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> np.ndarray:
        content = self.content(i)
        flag = _HEADER.unpack_from(content)[0]
        return decode(content[_HEADER.size + 4 * flag:], self.place(i))

    def content(self, i: int) -> bytes:
        """The record's bytes, its header with them."""
        with self._open() as file:
            return _content(file, self._records[i])

    def labels(self) -> list[np.ndarray]:
        """The labels of every record, a list of float32 arrays; None for labels without an image."""
        with self._open() as file:
            return [self._label(file, i) for i in range(len(self))]

    def place(self, i: int) -> str:
        """Where record i is, for errors."""
        return f"{self.path}, record {self.ids[i].rpartition('/')[2]}"

    def _label(self, file, i):
        content = _content(file, self._records[i], _HEADER.size)
        if len(content) < _HEADER.size:
            raise FileError(f"{self.place(i)} is damaged: it is too short for an image's header")
        flag, label = _HEADER.unpack_from(content)[:2]
        if not flag:
            return np.array([label], np.float32)
        content = _content(file, self._records[i], _HEADER.size + 4 * flag)
        if len(content) < _HEADER.size + 4 * flag:
            raise FileError(f"{self.place(i)} is damaged: its header announces {flag} labels")
        alone = len(content) == sum(length for _, length in self._records[i]) + 4 * (len(self._records[i]) - 1)
        return None if alone else np.frombuffer(content, "<f4", flag, _HEADER.size)

    def _open(self):
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise FileError(f"cannot read {self.path}: {error.strerror}") from None

    def _reorder(self, index):
        """Take the order of x.idx, lines `key TAB position of the record`; return its keys."""
        at = {parts[0][0] - 8: parts for parts in self._records}
        try:
            lines = [line.split("\t") for line in index.read_text().splitlines() if line.strip()]
            keys = [int(key) for key, _ in lines]
            self._records = [at[int(position)] for _, position in lines]
        except (ValueError, KeyError, OSError):
            raise FileError(f"{index} does not belong to {self.path}: remove it, or make it again") from None
        if not keys or len(set(keys)) != len(keys):
            raise FileError(f"{index} is empty or has a key twice: remove it, or make it again")
        return keys


def _content(file, parts, size=None):
    """A record's content, or its first `size` bytes: its parts with the magic number between them."""
    content = bytearray()
    for offset, length in parts:
        content += _MAGIC if content or offset != parts[0][0] else b""
        content += os.pread(file.fileno(), length if size is None else min(length, size), offset)
        if size is not None and len(content) >= size:
            break
    return bytes(content if size is None else content[:size])


def _scan(file, path):
    """[(offset, length) of each part] of every record; FileError unless the records fill the file exactly."""
    size = os.fstat(file.fileno()).st_size
    records, offset, open_parts = [], 0, None
    while offset < size:
        head = os.pread(file.fileno(), 8, offset)
        if len(head) < 8 or head[:4] != _MAGIC:
            raise FileError(f"{path} is damaged or no RecordIO file: record {len(records)}, at byte {offset}, does not "
                            "begin as a record does")
        word = struct.unpack("<I", head[4:])[0]
        part, length = word >> 29, word & ((1 << 29) - 1)
        if (part in (_WHOLE, _FIRST)) != (open_parts is None) or part > _LAST or offset + 8 + length > size:
            raise FileError(f"{path} is cut or damaged at record {len(records)}, byte {offset}")
        open_parts = (open_parts or []) + [(offset + 8, length)]
        if part in (_WHOLE, _LAST):
            records.append(open_parts)
            open_parts = None
        offset += 8 + (length + 3) // 4 * 4
    if open_parts is not None or offset != size:
        raise FileError(f"{path} is cut: its last record, {len(records)}, is not whole")
    return records
