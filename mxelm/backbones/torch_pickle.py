"""PyTorch's `.pth` files as NumPy arrays, without PyTorch and without running anything that the file asks to run.

A `.pth` is a pickle. This reader lets it name three things: an ordered dictionary, "a tensor is this part of that
storage", and the kinds of storage. All three are stand-ins (see mxelm.pickles); whether offsets, sizes and strides make
sense is checked afterwards, on plain numbers. Tensors of one storage share its memory, as they do in PyTorch.

Format: torch/serialization.py of PyTorch 1.5 (`_legacy_save`: five pickles, then the storages' bytes) and of 1.6 and
later (a zip archive of data.pkl and data/KEY).
"""
from __future__ import annotations

import io
import math
import os
import struct
from collections import namedtuple

import numpy as np

from mxelm.archives import open_stored
from mxelm.errors import FileError
from mxelm.files import read_bytes
from mxelm.pickles import Names, StandIn, Unpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Little-endian, as PyTorch writes. A text cannot be called nor changed by the pickle that refers to it.
STORAGE_DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1",
}

_MOST_AXES = 32
_Storage = namedtuple("_Storage", "key dtype length")


class _Tensor(StandIn, namedtuple("_Tensor", "storage offset size stride")):
    """Stands in for torch._utils._rebuild_tensor_v2: what the pickle says of a tensor, not looked at yet."""

    __slots__ = ()

    def __new__(cls, storage, offset, size, stride, *_grad_and_hooks):
        return super().__new__(cls, storage, offset, size, stride)


_NAMES = {("collections", "OrderedDict"): Names, ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
          **{("torch", kind): dtype for kind, dtype in STORAGE_DTYPES.items()}}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a `.pth` file: dict of name -> numpy array of the tensor's shape and dtype, in the file's order.

    The file must hold a dictionary of tensors, as `torch.save(module.state_dict(), path)` writes it.
    Raises FileError for a file that is missing, damaged or of another format, that names anything but tensors (the
    forbidden global is named, and not run), or whose tensors reach beyond their storage.
    """
    content = read_bytes(path)
    # zipfile.is_zipfile would also take a legacy file that merely ends like an archive
    reader = _read_zip if content.startswith(b"PK\x03\x04") else _read_legacy
    try:
        tensors, storages = reader(path, content)
        return {name: _array(path, name, tensor, storages) for name, tensor in tensors.items()}
    except FileError:
        raise
    except Exception as error:  # damaged bytes make pickle, zipfile and NumPy raise almost anything
        raise FileError(f"{path} is damaged or no file of PyTorch: {str(error) or type(error).__name__}") from None


class _TensorsOnly(Unpickler):
    """An unpickler to which only tensors exist; remembers the storages that the pickle refers to."""

    def __init__(self, path, file):
        super().__init__(file, _NAMES)
        self.path = path
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) not in _NAMES:
            raise FileError(f"{self.path} asks for {module}.{name}, which is no tensor: not read; "
                            "use a file that holds a plain dictionary of tensors")
        return _NAMES[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _location, length, *view = pid if isinstance(pid, tuple) else (None,) * 5
        if (kind != "storage" or dtype not in STORAGE_DTYPES.values() or not isinstance(key, str)
                or not _is_count(length) or view not in ([], [None])):
            raise FileError(f"{self.path} refers to a storage in a way that torch.save does not: not read")
        storage = _Storage(key, dtype, length)
        if self.storages.setdefault(key, storage) != storage:
            raise FileError(f"{self.path} describes its storage {key!r} in two ways")
        return storage


def _read_legacy(path, content):
    file = io.BytesIO(content)

    def load():
        unpickler = _TensorsOnly(path, file)
        return unpickler.load(), unpickler.storages

    if load()[0] != LEGACY_MAGIC or load()[0] != LEGACY_PROTOCOL:
        raise FileError(f"{path} is no file of PyTorch: it opens with another number than torch.save writes")
    if load()[0].get("little_endian") is not True:
        raise FileError(f"{path} was written on a big-endian machine: save it again on a little-endian one")
    tensors, storages = load()
    keys, _ = load()
    _require_names(path, tensors)
    if not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise FileError(f"{path} is damaged: it lists {len(keys)} storages and its tensors need {len(storages)}")
    raw = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        if length != storages[key].length:
            raise FileError(f"{path} is damaged: storage {key!r} should have {storages[key].length} numbers "
                            f"and says {length}")
        raw[key] = _numbers(path, storages[key], file.read(length * np.dtype(storages[key].dtype).itemsize))
    if file.tell() != len(content):
        raise FileError(f"{path} is damaged: {len(content) - file.tell()} bytes follow its last storage")
    return tensors, raw


def _read_zip(path, content):
    with open_stored(io.BytesIO(content), path) as archive:
        pickles = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise FileError(f"{path} holds {len(pickles)} members named data.pkl where a file of PyTorch holds one")
        root = pickles[0][:-len("data.pkl")]
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise FileError(f"{path} was written on a big-endian machine: save it again on a little-endian one")
        unpickler = _TensorsOnly(path, io.BytesIO(archive.read(pickles[0])))
        tensors = unpickler.load()
        _require_names(path, tensors)
        raw = {}
        for key, storage in unpickler.storages.items():
            raw[key] = _numbers(path, storage, archive.read(f"{root}data/{key}"))
    return tensors, raw


def _require_names(path, tensors):
    if not isinstance(tensors, dict):
        raise FileError(f"{path} holds a {type(tensors).__name__.strip('_')}, not a dictionary of tensors")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise FileError(f"{path} holds {name[:80]!r}, no named tensor: save the module's state_dict() alone")


def _numbers(path, storage, raw):
    if len(raw) != storage.length * np.dtype(storage.dtype).itemsize:
        raise FileError(f"{path} is damaged: storage {storage.key!r} should have {storage.length} numbers and ends "
                        f"after {len(raw)} bytes")
    return np.frombuffer(bytearray(raw), storage.dtype)


def _array(path, name, tensor, storages):
    """The part of a storage that a tensor names; strides are in elements."""
    storage, offset, size, stride = tensor
    if not (isinstance(storage, _Storage) and _is_count(offset) and isinstance(size, tuple)
            and isinstance(stride, tuple) and len(size) == len(stride) <= _MOST_AXES
            and all(map(_is_count, size + stride))):
        raise FileError(f"{path}: tensor {name!r} has an offset, a size or strides that cannot be: damaged")
    numbers = storages[storage.key]
    n_elements = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if n_elements else offset - 1
    # A stride of 0 repeats elements: no network is saved so, and a few bytes could ask for all memory
    if last >= len(numbers) or n_elements > len(numbers):
        raise FileError(f"{path}: tensor {name!r} of size {size}, stride {stride} and offset {offset} does not fit "
                        f"into its storage of {len(numbers)} numbers")
    if not n_elements:
        return np.empty(size, numbers.dtype)
    strides = [step * numbers.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers[offset:], size, strides)


def _is_count(value):
    return type(value) is int and 0 <= value < 1 << 63
