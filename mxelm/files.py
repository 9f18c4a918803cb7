"""Files that survive a crash: atomic writes, locks, checksums; and the ways in for bytes, text and JSON."""
from __future__ import annotations

import codecs
import contextlib
import fcntl
import glob
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mxelm.errors import FileError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there, synced, when the block ends well, else remove it.

    Raises FileError when the folder is missing or cannot be written, or the disk is full.
    """
    with atomic_writes(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_writes(*paths: str | os.PathLike) -> Iterator[list[Path]]:
    """Yield temporary paths beside `paths` of one folder; move them there, synced, when the block ends well.

    The move of the first file decides. Until then an error, or the end of the process, leaves everything as it was.
    Afterwards a file that could not be moved stays beside its place, where `leftovers` finds it: a reader that knows
    its hash from the first file can still read it. Raises FileError as `atomic_write` does.
    """
    paths, temporaries = [Path(path) for path in paths], []
    try:
        for path in paths:
            temporaries.append(_temporary(path))
        yield temporaries
        for temporary in temporaries:
            _sync(temporary)
        if len(paths) > 1:
            _sync(paths[0].parent)
        for temporary, path in zip(temporaries, paths):
            os.replace(temporary, path)
        _sync(paths[0].parent)
    except BaseException as error:
        decided = bool(temporaries) and not temporaries[0].exists()
        for temporary in () if decided else temporaries:
            _remove(temporary)
        if not isinstance(error, OSError) or isinstance(error, FileError):
            raise
        now = "its new content counts all the same" if decided else "nothing was changed there"
        raise FileError(f"cannot write {paths[0]}: {error.strerror or error}; {now}") from None


def _temporary(path):
    """An empty file beside `path`, with the permissions of any new file."""
    temporary = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable") from None
    return temporary


def _remove(path):
    """Remove a file that is not needed; ignore it if that is impossible."""
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def locked(path: str | os.PathLike, wait: bool = True) -> Iterator[None]:
    """Lock an existing file or folder against other processes that lock it, until the block or the process ends.

    wait: wait for another process that holds the lock. Raises FileError if the file cannot be opened and, without
    `wait`, if another process holds it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise FileError(f"cannot open {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise FileError(f"another process holds {path}: wait for it, or choose another name") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(path: str | os.PathLike, wait: bool = False) -> Iterator[None]:
    """Lock `path` for writing, by a hidden file beside it; `path` need not exist yet.

    The hidden file is removed when the block ends; one that a killed process left behind blocks nobody.
    Raises FileError if the folder cannot be written and, without `wait`, if another process holds the lock.
    """
    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    descriptor = _held(lock, path, wait)
    try:
        yield
    finally:
        _remove(lock)  # while it is held
        os.close(descriptor)


def _held(lock, path, wait):
    """A descriptor of the locked file `lock`, which is made if it is missing."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable"
                            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            raise FileError(f"another process is writing {path}: wait for it, or choose another name") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return descriptor
        os.close(descriptor)  # whoever held the lock has just removed the file


def remove_leftovers(path: str | os.PathLike) -> None:
    """Remove what killed writers of `path` left beside it; to be called by the one process that may write `path`."""
    for temporary in leftovers(path):
        _remove(temporary)


def leftovers(path: str | os.PathLike) -> list[Path]:
    """Temporary files beside `path`, from running writers, killed writers and failed moves."""
    path = Path(path)
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.part-*{glob.escape(path.suffix)}"))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """The JSON content of `path`; FileError names a file that is missing or not JSON."""
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes, path: str | os.PathLike) -> Any:
    """The JSON in bytes read from `path`; FileError names `path` if they are not JSON, or nested too deeply."""
    try:
        found = json.loads(content, parse_constant=_no_number)  # in any of Unicode's encodings
        if b"\\u" in content:
            json.dumps(found, ensure_ascii=False).encode()  # halves of letters could be neither printed nor written
        return found
    except ValueError as error:
        raise FileError(f"{path} is not a JSON file: {error}") from None
    except RecursionError:
        raise FileError(f"{path} is not a JSON file that can be used: it is nested too deeply") from None


def _no_number(text):
    raise ValueError(f"it holds {text}, which is no number in JSON")


@contextlib.contextmanager
def open_bytes(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file or a pipe, opened for reading; FileError for a device, which may never end.

    A pipe without a writer counts as empty.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise FileError(f"cannot read {path}: it is not a file")
        os.set_blocking(file.fileno(), True)
        yield file


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of what `open_bytes` opens; FileError names what cannot be read."""
    try:
        with open_bytes(path) as file:
            return file.read()
    except FileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that has a zero byte or is not UTF-8
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def read_text(path: str | os.PathLike) -> str:
    """The text of `path`, in UTF-8 or with a byte order mark as Windows writes it; FileError if it is not text."""
    content = read_bytes(path)
    try:
        text = content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else
                              "utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not a text file in UTF-8 ({error}): save it as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FileError(f"{path}, line {line}, holds zeros where text should be: it is damaged; restore it")
    return text


def make_folder(path: str | os.PathLike, remedy: str = "choose another") -> Path:
    """Make a folder, and the folders above it, if they are missing; its Path. `remedy` ends the FileError's message."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {path}: {error.strerror}; {remedy}") from None
    return path


def require_writable(path: str | os.PathLike) -> None:
    """Raise FileError before hours of work if `path` could not be written afterwards."""
    path = Path(path)
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder; name a file or a prefix")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(tempfile.NamedTemporaryFile(dir=path.parent, prefix=".mxelm-"))
        except OSError as error:
            raise FileError(
                f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable") from None


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    return file_hash(path, "sha256")


def file_hash(path: str | os.PathLike, algorithm: str) -> str:
    """Hexadecimal digest of a file's bytes; algorithm: a name that hashlib knows."""
    digest = hashlib.new(algorithm)
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
