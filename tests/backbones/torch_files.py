"""Writes `.pth` files the way torch.save does, with pickle, zipfile and stand-ins that carry PyTorch's names."""
import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
KINDS = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
         "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"}


def _module(name, *members):
    module = types.ModuleType(name)
    for member in members:
        member.__module__ = name
        setattr(module, member.__name__, member)
    return module


def _rebuild_tensor_v2():
    pass


_TORCH = {"torch": _module("torch", *(type(kind, (), {}) for kind in KINDS.values())),
          "torch._utils": _module("torch._utils", _rebuild_tensor_v2)}


class Storage:
    """A flat array with a key; pickled as a persistent id."""

    def __init__(self, key, array):
        self.key, self.array = key, np.asarray(array).reshape(-1)
        self.length = len(self.array)  # what the pickle says; a test may lie


class Tensor:
    """The part of a storage that offset, size and stride (in elements) name."""

    def __init__(self, storage, offset, size, stride):
        self.says = (storage, offset, size, stride)

    def __reduce__(self):
        return _rebuild_tensor_v2, (*self.says, False, collections.OrderedDict())


def whole(key, array):
    """A Tensor over all of a contiguous array."""
    array = np.asarray(array)
    strides = np.empty(array.shape, array.dtype).strides  # C order
    return Tensor(Storage(key, array), 0, array.shape, tuple(s // array.itemsize for s in strides))


class _Pickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        self.storages[thing.key] = thing
        kind = getattr(_TORCH["torch"], KINDS[thing.array.dtype.str[1:]])
        return ("storage", kind, thing.key, "cpu", thing.length, *([None] if self.legacy else []))


def _pickled(content, protocol, legacy):
    file = io.BytesIO()
    with mock.patch.dict(sys.modules, _TORCH):
        pickler = _Pickler(file, protocol, legacy)
        pickler.dump(content)
    return file.getvalue(), pickler.storages


def legacy(content, protocol=2, little_endian=True, magic=MAGIC):
    """The bytes of torch.save before PyTorch 1.6: five pickles, then length and bytes of each storage."""
    body, storages = _pickled(content, protocol, legacy=True)
    header = [magic, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": little_endian, "type_sizes": {}}]
    parts = [*(pickle.dumps(part, 2) for part in header), body, pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        parts += [struct.pack("<q", len(storages[key].array)), storages[key].array.tobytes()]
    return b"".join(parts)


def zipped(content, protocol=2, byteorder=b"little", compression=zipfile.ZIP_STORED):
    """The bytes of torch.save since PyTorch 1.6: a zip archive of data.pkl and data/KEY below one folder."""
    body, storages = _pickled(content, protocol, legacy=False)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/byteorder", byteorder)
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.array.tobytes())
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()
