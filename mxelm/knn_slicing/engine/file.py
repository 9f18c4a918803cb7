"""The engine's file: a header of sizes, the numbers packed tight, a checksum; strictly checked when read.

    header      see HEADER: magic, version, bits of kernels, map and prototypes, filters, dimensions, classes,
                bytes of the names
    names       the classes' names in UTF-8, a line break between two
    counts      prototypes of each class, uint16
    floats      float32: biases and scales of both layers, scales of the map, centre, scales of the prototypes
    levels      conv1, conv2, map, prototypes, each packed by `Quantised.pack`
    checksum    BLAKE2b of all before it, 16 bytes
Everything is little-endian.
"""
from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import FileError, InputError
from mxelm.files import atomic_write
from mxelm.knn_slicing.engine.quantised import MOST_BITS, Quantised, packed_size, unpack

if TYPE_CHECKING:
    from mxelm.knn_slicing.engine.classifier import Engine

MAGIC = b"mxengine"
VERSION = 1
HEADER = struct.Struct("<8sB3BHHHHH")
CHECKSUM = 16
CELLS = 25  # places of the last map, 5x5
MOST_CLASSES = 1000
MOST_BYTES = 1 << 28  # read of a file that claims to be an engine
PARTS = ("conv1", "conv2", "projection", "prototypes")  # in the order of the file


def size(bits: tuple[int, int, int], *, n_conv1: int, n_conv2: int, n_dims: int, n_prototypes: int,
         classes: Sequence[str]) -> int:
    """Bytes of a file with these sizes. bits: (kernels, map, prototypes). classes: list of str."""
    shapes = _shapes(n_conv1, n_conv2, n_dims, n_prototypes)
    return (HEADER.size + len(_names(classes)) + 2 * len(classes) + 4 * (2 * n_conv1 + 2 * n_conv2 + 3 * n_dims)
            + sum(packed_size(shapes[part], b) for part, b in zip(PARTS, (bits[0], *bits))) + CHECKSUM)


def encode(engine: Engine) -> bytes:
    """The engine as bytes; InputError where its sizes or names cannot be written."""
    names, counts = _names(engine.classes), np.asarray(engine.counts)
    if not 1 <= counts.min() <= counts.max() < 2 ** 16:
        raise InputError(f"a class has 1 to 65,535 prototypes, got {counts.min()} to {counts.max()}")
    parts = (engine.conv1.weights, engine.conv2.weights, engine.projection, engine.prototypes)
    floats = (engine.conv1.bias, parts[0].scale, engine.conv2.bias, parts[1].scale, parts[2].scale, engine.centre,
              parts[3].scale)
    if parts[0].bits != parts[1].bits:
        raise InputError(f"both layers take one number of bits, got {parts[0].bits} and {parts[1].bits}")
    sizes = len(parts[0].levels), len(parts[1].levels), len(engine.centre), len(counts)
    if max(sizes) >= 2 ** 16:
        raise InputError("kernels of a layer, dimensions and classes of an engine are at most 65,535 each, got "
                         "{:,}, {:,}, {:,} and {:,}".format(*sizes))
    header = HEADER.pack(MAGIC, VERSION, *(part.bits for part in parts[1:]), *sizes, len(names))
    content = b"".join([header, names, counts.astype("<u2").tobytes(), np.concatenate(floats).astype("<f4").tobytes(),
                        *(part.pack() for part in parts)])
    return content + _checksum(content)


def write(path: str | os.PathLike, engine: Engine) -> None:
    """Write `encode(engine)` to `path`, whole or not at all."""
    content = encode(engine)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def is_engine(path: str | os.PathLike) -> bool:
    """Whether a file begins like an engine; False for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read(path: str | os.PathLike) -> dict:
    """What a file holds, by the names of Engine's fields; FileError if a single byte has changed."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEADER.size)
            bits, sizes, n_names = _header(path, head)
            content = head + file.read(MOST_BYTES)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    return _decode(path, content, bits, sizes, n_names)


def _header(path, head):
    """(bits, sizes, length of the names), after a look at each."""
    if not head.startswith(MAGIC):
        raise FileError(f"{path} is not an engine: `mxelm engine build` makes one")
    if len(head) < HEADER.size:
        raise FileError(f"{path} is cut: it ends within its header; copy it again")
    _, version, *bits = HEADER.unpack(head)[:5]
    *sizes, n_names = HEADER.unpack(head)[5:]
    if version != VERSION:
        raise FileError(f"{path} is an engine of version {version}, this mxelm reads version {VERSION}")
    if not all(2 <= b <= MOST_BITS for b in bits) or 0 in sizes or not 2 <= sizes[-1] <= MOST_CLASSES:
        raise FileError(f"{path} is damaged: its header has impossible sizes; copy it again")
    return bits, sizes, n_names


def _decode(path, content, bits, sizes, n_names):
    n_conv1, n_conv2, n_dims, n_classes = sizes
    place = _Place(path, content)
    names = place.take(n_names)
    counts = np.frombuffer(place.take(2 * n_classes), "<u2").astype(np.int64)
    shapes = _shapes(n_conv1, n_conv2, n_dims, int(counts.sum()))
    floats = np.frombuffer(place.take(4 * (2 * n_conv1 + 2 * n_conv2 + 3 * n_dims)), "<f4").astype(np.float32)
    levels = {part: place.take(packed_size(shapes[part], b)) for part, b in zip(PARTS, (bits[0], *bits))}
    if place.take(CHECKSUM) != _checksum(content[:-CHECKSUM]) or not place.at_end:
        raise FileError(f"{path} is damaged: its checksum does not match; copy it again")
    classes = _classes(path, names, n_classes)
    borders = np.cumsum([n_conv1, n_conv1, n_conv2, n_conv2, n_dims, n_dims])
    bias1, scale1, bias2, scale2, scale3, centre, scale4 = np.split(floats, borders)
    scales = (scale1, scale2, scale3, scale4)
    if not np.isfinite(floats).all() or min(scale.min() for scale in scales) <= 0 or counts.min() == 0:
        raise FileError(f"{path} was written wrongly: its numbers are not those of an engine; build it again")
    found = {part: Quantised(unpack(levels[part], shapes[part], b), scale, b)
             for part, b, scale in zip(PARTS, (bits[0], *bits), scales)}
    return {"conv1": (found["conv1"], bias1), "conv2": (found["conv2"], bias2), "projection": found["projection"],
            "centre": centre, "prototypes": found["prototypes"], "counts": counts, "classes": classes}


class _Place:
    """Where reading stands in the bytes after the header."""

    def __init__(self, path, content):
        self.path, self.content, self.at = path, content, HEADER.size

    def take(self, n):
        """The next n bytes."""
        part = self.content[self.at:self.at + n]
        if len(part) < n:
            raise FileError(f"{self.path} is cut: {len(self.content)} bytes are less than its header announces; "
                            "copy it again")
        self.at += n
        return part

    @property
    def at_end(self):
        return self.at == len(self.content)


def _shapes(n_conv1, n_conv2, n_dims, n_prototypes):
    return {"conv1": (n_conv1, 9), "conv2": (n_conv2, 9 * n_conv1), "projection": (n_dims, CELLS * n_conv2),
            "prototypes": (n_dims, n_prototypes)}


def _names(classes):
    """The classes' names as the file holds them; InputError for names that could not be read back."""
    if not 2 <= len(classes) <= MOST_CLASSES or len(set(classes)) != len(classes):
        raise InputError(f"an engine has 2 to {MOST_CLASSES} classes of different names, got {len(classes)}")
    names = "\n".join(classes).encode()
    if names.count(b"\n") != len(classes) - 1 or len(names) >= 2 ** 16:
        raise InputError("the classes' names must have no line breaks, and less than 65,536 bytes together")
    return names


def _classes(path, names, n_classes):
    try:
        classes = tuple(names.decode().split("\n"))
    except UnicodeDecodeError:
        classes = ()
    if len(classes) != n_classes or len(set(classes)) != n_classes:
        raise FileError(f"{path} was written wrongly: its names are not those of {n_classes} classes; build it again")
    return classes


def _checksum(content):
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
