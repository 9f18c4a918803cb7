"""Files that survive a crash: atomic writes, checksums, safe unpacking."""
import contextlib
import fcntl
import glob
import hashlib
import json
import os
import secrets
import tarfile
import tempfile
import zipfile
from pathlib import Path

from mxelm.errors import FileError


@contextlib.contextmanager
def atomic_write(path):
    """Yield a temporary path beside `path`; move it there, synced, when the block ends well, else remove it.

    Raises FileError when the folder is missing or cannot be written, or the disk is full.
    """
    with atomic_writes(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_writes(*paths):
    """Yield temporary paths beside `paths` of one folder; move them there, synced, when the block ends well.

    The first one's move decides: until then an error, or the process's end, leaves everything as it was. From then on
    a file that could not be moved stays beside its place, where `leftovers` finds it: a reader that knows its hash
    from the first file need not miss it. Raises FileError as `atomic_write` does.
    """
    paths = [Path(path) for path in paths]
    with contextlib.ExitStack() as undo:
        temporaries = [_temporary(path, undo) for path in paths]
        try:
            yield temporaries
            for temporary in temporaries:
                _sync(temporary)
            if len(paths) > 1:
                _sync(paths[0].parent)
            for temporary, path in zip(temporaries, paths):
                os.replace(temporary, path)
                undo.pop_all()  # from the first move on
            _sync(paths[0].parent)
        except OSError as error:
            if isinstance(error, FileError):
                raise
            now = "nothing was changed there" if temporaries[0].exists() else "its new content counts all the same"
            raise FileError(f"cannot write {paths[0]}: {error.strerror or error}; {now}") from None


def _temporary(path, undo):
    """An empty file beside `path`, with the permissions of any new file, which `undo` (an ExitStack) removes."""
    temporary = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}{path.suffix}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable") from None
    undo.callback(_remove, temporary)
    return temporary


def _remove(path):
    """Remove a file of no use, if it can be."""
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def locked(path, wait=True):
    """Hold a file or folder that exists against other processes that ask for it; it is free again when they end.

    Raises FileError where it cannot be opened and, without `wait`, where another process holds it.
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
def exclusive(path, wait=False):
    """Hold the right to write `path`, which need not exist yet, by the lock on a hidden file beside it.

    The hidden file goes when the block ends; one that a killed process left holds nobody up.
    Raises FileError where the folder cannot be written and, without `wait`, where another process holds it.
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
    """A descriptor of the file `lock`, made where it is missing, and held."""
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
        os.close(descriptor)  # the one who held it has removed it just now


def remove_leftovers(path):
    """Remove what killed writers of `path` left beside it; for the one process that may write it."""
    for temporary in leftovers(path):
        _remove(temporary)


def leftovers(path):
    """Temporary files of `path` that lie beside it: of writers at work, of killed ones, of moves that failed."""
    path = Path(path)
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.part-*{glob.escape(path.suffix)}"))


def write_text(path, text):
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, content):
    """Write `content` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path):
    """The JSON content of `path`; FileError names a file that is missing or not JSON."""
    return parse_json(read_bytes(path), path)


def parse_json(content, path):
    """The JSON in bytes that were read from `path`; FileError names it where they are none, or nested without end."""
    try:
        return json.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise FileError(f"{path} is not a JSON file: {error}") from None
    except RecursionError:
        raise FileError(f"{path} is not a JSON file that is of use here: it is nested too deeply") from None


def read_bytes(path):
    """A file's bytes; FileError where it is missing or cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None


def make_folder(path, remedy="choose another"):
    """Make a folder and those above it where they are missing, a Path; FileError, ending in `remedy`, if it cannot be.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {path}: {error.strerror}; {remedy}") from None
    return path


def require_writable(path):
    """Refuse an output path early, before hours of work, when its folder is missing or cannot be written."""
    path = Path(path)
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder; name a file or a prefix")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(tempfile.NamedTemporaryFile(dir=path.parent, prefix=".mxelm-"))
        except OSError as error:
            raise FileError(
                f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable") from None


def sha256(path):
    """Hexadecimal SHA-256 of a file's bytes."""
    return file_hash(path, "sha256")


def file_hash(path, algorithm):
    """Hexadecimal digest of a file's bytes by an algorithm that hashlib names."""
    digest = hashlib.new(algorithm)
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def unpack(archive, folder):
    """Unpack a .zip or .tar(.gz, .bz2, .xz) into `folder`; refuse members that would land or point outside it.

    Raises FileError for an archive that is missing, damaged or unsafe, and when the disk is full.
    """
    folder = Path(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                _refuse_escapes(archive, folder, opened.namelist())
                opened.extractall(folder)
        else:
            with tarfile.open(archive) as opened:
                members = opened.getmembers()
                odd = [m.name for m in members if not (m.isfile() or m.isdir())]
                if odd:
                    raise FileError(f"{archive} holds {odd[0]!r}, neither file nor folder: not unpacked")
                _refuse_escapes(archive, folder, [m.name for m in members])
                _refuse_broken_off(archive, opened)
                opened.extraction_filter = getattr(tarfile, "data_filter", None)  # no owners, no odd modes
                opened.extractall(folder, members)
    except Exception as error:  # each compression has its own kinds for damaged bytes; all mean the same here
        if isinstance(error, FileError):
            raise
        if isinstance(error, OSError) and error.strerror:
            raise FileError(f"cannot unpack {archive} into {folder}: {error.strerror}") from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileError(f"{archive} is not a whole archive: {reason}") from None


def _refuse_escapes(archive, folder, names):
    root = folder.resolve()
    for name in names:
        target = (root / name).resolve()
        if root != target and root not in target.parents:
            raise FileError(f"{archive} holds {name!r}, which would be written outside {folder}: not unpacked")


def _refuse_broken_off(archive, opened):
    """For tarfile, which stops at anything that is no header as at the end, and leaves a checksum there unread."""
    opened.fileobj.seek(opened.offset)
    block = opened.fileobj.read(tarfile.BLOCKSIZE)
    while opened.fileobj.read(1 << 20):
        pass
    if block != bytes(tarfile.BLOCKSIZE):
        raise FileError(f"{archive} is not a whole archive: it breaks off after {len(opened.getmembers())} members")


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
