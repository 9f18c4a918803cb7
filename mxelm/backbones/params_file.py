"""MXNet's binary .params files, read strictly: MXNet itself loads more than half of all damaged ones without a word.

Layout (src/ndarray/ndarray.cc): uint64 0x112, uint64 0, then a counted list of arrays and a counted list of names,
all little-endian. An array opens with a magic number of its version, or, in files of 2015, with its number of axes.
"""
from __future__ import annotations

import logging
import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import FileError
from mxelm.files import read_bytes

if TYPE_CHECKING:
    from mxelm.runtime import mx

LIST_MAGIC = 0x112
_OPENING = struct.pack("<QQ", LIST_MAGIC, 0)
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_FLOATS = {0: np.dtype("<f4"), 1: np.dtype("<f8"), 2: np.dtype("<f2")}
_OTHER_TYPES = {3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool", 12: "bfloat16"}
_DEVICES = (1, 2, 3, 5)  # cpu, gpu, cpu_pinned, cpu_shared
# What people have in the place of such a file, by its first bytes
_OTHER_FILES = {
    b"version https://git-lfs": "a pointer of Git LFS to the file, which `git lfs pull` fetches",
    b"<": "a web page (HTML or XML), as a failed download leaves: get the file again",
    b"PK\x03\x04": "a zip archive, such as NumPy's .npz, PyTorch's .pth or a packed download: unpack or convert it",
    b"\x1f\x8b": "packed by gzip: unpack it", b"BZh": "packed by bzip2: unpack it",
    b"\xfd7zXZ": "packed by xz: unpack it",
    b"\x80": "a Python pickle, such as an old .pth of PyTorch or an optimizer's states: convert it",
    b"\x93NUMPY": "a NumPy array: convert it", b"\x89HDF": "an HDF5 file, as Keras writes: convert it",
    b"{": "a JSON file, such as the network's symbol",
    b"\x08": "an ONNX network or another protocol buffer: convert it",
}
_MAX_AXES = 32
_MAX_NAME = 1024

_log = logging.getLogger(__name__)


def read_params(path: str | os.PathLike,
                content: bytes | None = None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read a .params file: (arg_params, aux_params), dicts of name -> float32 array.

    content: its bytes, where they are read already. float16 and float64 arrays are cast, with a logged note. Raises
    FileError, naming the file, for anything else than a whole file of finite dense float arrays with distinct names of
    kind "arg:" or "aux:".
    """
    names, arrays = _parse(path, read_bytes(path) if content is None else content)
    found = {"arg": {}, "aux": {}}
    for name, array in zip(names, arrays):
        kind, colon, bare = name.partition(":")
        if kind not in found or not colon or not bare:
            raise FileError(f"{path} holds {name!r}, which is neither arg: nor aux: (a file of Gluon's save_parameters "
                            "has such names: use HybridBlock.export)")
        if bare in found["arg"] or bare in found["aux"]:
            raise FileError(f"{path} is damaged: it holds the parameter {bare!r} twice")
        if not np.isfinite(array).all():
            raise FileError(f"{path} holds NaN or infinite numbers in {name!r}: restore it from a copy")
        found[kind][bare] = array
    return found["arg"], found["aux"]


def write_params(path: str | os.PathLike, arg_params: dict[str, mx.nd.NDArray], aux_params: dict[str, mx.nd.NDArray],
                 *, shown: str | os.PathLike | None = None) -> None:
    """Write dicts of name -> NDArray as a .params file to a writer's temporary `path`, and read it back.

    shown: the file's place to be, for messages. Raises FileError when it does not come out whole.
    """
    from mxelm.runtime import mx
    content = {f"arg:{name}": array for name, array in arg_params.items()}
    content.update({f"aux:{name}": array for name, array in aux_params.items()})
    try:
        mx.nd.save(str(path), content)
        # MXNet does not notice a disk that fills up while it closes the file
        whole = set(_parse(path, read_bytes(path))[0]) == set(content)
    except mx.MXNetError as error:
        raise FileError(f"cannot write {shown or path}: {_first_line(error)}; nothing was changed there") from None
    except FileError:
        whole = False
    if not whole:
        raise FileError(f"cannot write {shown or path}: it came out damaged, as on a full disk; nothing was changed "
                        "there")


def _first_line(error):
    return str(error).strip().splitlines()[-1]


def _parse(path, content):
    reader = _Reader(path, content)
    if not content.startswith(_OPENING[:len(content)]):
        what = next((f": it is {what}" for opening, what in _OTHER_FILES.items() if content.startswith(opening)), "")
        raise FileError(f"{path} is not an MXNet .params file{what}")
    reader.take(len(_OPENING), "a header")
    count = reader.count("arrays", least_bytes=4)
    arrays = [_array(reader, i) for i in range(count)]
    if reader.count("names", least_bytes=8) != count:
        raise FileError(f"{reader.shown} is damaged: it holds {count} arrays and another number of names")
    names = [_name(reader) for _ in range(count)]
    if reader.left:
        raise FileError(f"{reader.shown} is damaged: {reader.left} bytes follow its end")
    cast = [name for name, array in zip(names, arrays) if array.dtype != np.float32]
    if cast:
        _log.info("%s: %d arrays of other precision are cast to float32 (%s, ...)", reader.shown, len(cast), cast[0])
    return names, [array.astype(np.float32) for array in arrays]


def _array(reader, index):
    shape = _shape(reader, index)
    device, number = reader.numbers("<ii")
    flag, = reader.numbers("<i")
    if device not in _DEVICES or not 0 <= number < 1024:
        raise FileError(f"{reader.shown} is damaged: array {index} says it is from device {device}({number})")
    if flag not in _FLOATS:
        what = _OTHER_TYPES.get(flag)
        raise FileError(f"{reader.shown} holds {what} arrays, a network of floats is needed" if what
                        else f"{reader.shown} is damaged: array {index} has the unknown type {flag}")
    dtype = _FLOATS[flag]
    size = dtype.itemsize
    for axis in shape:  # Python's integers do not overflow
        size *= axis
    return np.frombuffer(reader.take(size, f"array {index}"), dtype).reshape(shape)


def _shape(reader, index):
    magic, = reader.numbers("<I")
    if magic not in (V1, V2, V3):
        return _axes(reader, index, magic, "I")  # 2015: no magic, the number of axes comes first
    if magic != V1:
        storage, = reader.numbers("<i")
        if storage != 0:
            raise FileError(f"{reader.shown}: array {index} is sparse or damaged (storage type {storage})")
    n_axes, = reader.numbers("<i")
    if n_axes == 0 and magic == V3:
        return ()
    return _axes(reader, index, n_axes, "q")


def _axes(reader, index, n_axes, kind):
    if not 1 <= n_axes <= _MAX_AXES:
        raise FileError(f"{reader.shown} is damaged: array {index} has {n_axes} axes")
    shape = reader.numbers(f"<{n_axes}{kind}")
    if min(shape) < 1:
        raise FileError(f"{reader.shown} is damaged: array {index} has shape {shape}")
    return shape


def _name(reader):
    length, = reader.numbers("<Q")
    if not 1 <= length <= _MAX_NAME:
        raise FileError(f"{reader.shown} is damaged: it holds a name of {length} letters")
    try:
        return bytes(reader.take(length, "a name")).decode()
    except UnicodeDecodeError:
        raise FileError(f"{reader.shown} is damaged: it holds a name that is no text") from None


class _Reader:
    """A cursor over a file's bytes that never reads, or asks for, more than there are."""

    def __init__(self, path, content):
        self.shown = path
        self._bytes = memoryview(content)
        self._at = 0

    @property
    def left(self):
        return len(self._bytes) - self._at

    def take(self, size, what):
        if size > self.left:
            raise FileError(f"{self.shown} is truncated or damaged: {what} needs {size} bytes, {self.left} are left")
        self._at += size
        return self._bytes[self._at - size:self._at]

    def numbers(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form), "a header"))

    def count(self, what, least_bytes):
        number, = self.numbers("<Q")
        if number * least_bytes > self.left:
            raise FileError(f"{self.shown} is truncated or damaged: it announces {number} {what}")
        return number
