"""The container: arrays and what they belong to in one checksummed file, for states, checkpoints and caches."""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mxelm.archives import open_stored
from mxelm.errors import FileError, MxelmError
from mxelm.files import atomic_write, open_bytes
from mxelm.schemas import check

CONTAINER_VERSION = 1
LEGIBLE = 200  # characters of two values that a sentence may hold


def save_container(path: str | os.PathLike, kind: str, meta: dict, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays and JSON-able `meta` as one checksummed file that `numpy.load` can open too.

    kind: str, what the file is ("elm-state", ...); loading asks for it again.
    meta: JSON-able dict. arrays: dict of name -> numpy array (no objects). Written whole or not at all.
    """
    header = json.dumps({"kind": kind, "container": CONTAINER_VERSION, "meta": meta}, sort_keys=True)
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    digest = _digest(header, arrays)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        file.writestr("mxelm.json", header)
        file.writestr("sha256", digest)
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_container(path: str | os.PathLike, kind: str) -> tuple[dict, Arrays]:
    """Read what `save_container` wrote: (meta, Arrays); FileError names a file that is damaged or of another kind.

    Where mxelm.schemas knows the kind, `meta` has its form.
    """
    with _opened_container(path) as file:
        header = file.read("mxelm.json").decode()
        content = json.loads(header)
        check("container", content, path)
        if content["container"] > CONTAINER_VERSION:
            raise FileError(f"{path} was written by a newer mxelm (container {content['container']}): update mxelm")
        if content["kind"] != kind:
            raise FileError(f"{path} holds a {content['kind']}, not a {kind}")
        check(kind, content["meta"], path)
        digest = file.read("sha256").decode()
        arrays = Arrays(path)
        for name in file.namelist():
            if name.endswith(".npy"):
                with file.open(name) as member:
                    arrays[name[:-4]] = np.lib.format.read_array(member, allow_pickle=False)
    if _digest(header, arrays) != digest:
        raise FileError(f"{path} is damaged: its checksum does not match; restore it from a copy or make it again")
    return content["meta"], arrays


class Arrays(dict):
    """The arrays of a container by name; FileError for a name that is missing."""

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        self.path = path

    def __missing__(self, name: str) -> np.ndarray:
        raise FileError(f"{self.path} is damaged or of another version: it holds no array {name}")

    def take(self, name: str, shape: Sequence[int]) -> np.ndarray:
        """The array of numbers `name`, which must have this shape; an axis of 0 or -1 may have any length."""
        array = self[name]
        if array.dtype.kind not in "fiu" or not fits(array.shape, shape):
            raise FileError(f"{self.path} is damaged or of another run: its {name} is {array.dtype} {array.shape}, "
                            f"numbers of shape {tuple(shape)} are wanted")
        return array


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape fits the wanted one, whose axes of 0 or -1 may have any length."""
    return len(shape) == len(wanted) and all(w in (0, -1, s) for w, s in zip(wanted, shape))


@contextlib.contextmanager
def understood(path: str | os.PathLike) -> Iterator[None]:
    """Turn the errors of code that uses the content of a file into FileErrors that name `path`."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, MxelmError):
            raise
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
        raise FileError(f"{path} is damaged or of another version: {reason}") from None


@contextlib.contextmanager
def _opened_container(path):
    """The zip file at `path`; all errors while it is read become FileErrors."""
    try:
        with open_bytes(path) as content, open_stored(content, path) as file:
            yield file
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except KeyError:
        raise FileError(f"{path} is not a file that mxelm wrote") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # zipfile and NumPy raise many kinds on damaged bytes; all mean the same here
        raise FileError(f"{path} is damaged or not a file that mxelm wrote: {error}") from None


def container_kind(path: str | os.PathLike) -> str | None:
    """The kind that a container's header states; None for any other file."""
    try:
        with _opened_container(path) as file:
            return json.loads(file.read("mxelm.json"))["kind"]
    except FileError:
        return None


def array_digest(*arrays: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes of arrays, in order: the identity of a W or of a set of parameters."""
    return _digest("", {str(i): np.asarray(a) for i, a in enumerate(arrays)})


def _digest(header, arrays):
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data if array.size else b"")
    return digest.hexdigest()


def require_same(meta: dict, identity: dict, path: str | os.PathLike,
                 *, remedy: str = "remove it to begin anew, or choose another file") -> None:
    """Raise FileError unless the file at `path`, whose dict `meta` was read, belongs to the run that has `identity`."""
    for name, value in identity.items():
        if meta.get(name) != value:
            raise FileError(f"{path} is of another run: its {name} {_difference(meta.get(name), value)}; {remedy}")


def _difference(found, value):
    """What two values are; of long ones, such as digests, only where they differ."""
    if len(f"{found}{value}") < LEGIBLE:
        return f"is {found}, this run's is {value}"
    if not (isinstance(found, dict) and isinstance(value, dict)):
        return "differs from this run's"
    keys = sorted(key for key in {*found, *value} if found.get(key) != value.get(key))
    return "differs in " + "; ".join(f"{key}, which {_difference(found.get(key), value.get(key))}" for key in keys)
