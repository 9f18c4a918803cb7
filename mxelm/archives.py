"""Archives of strangers: unpacked whole, inside their folder and within bounds, or not at all."""
from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from mxelm.errors import FileError

LARGEST_RATIO = 100  # of an archive unpacked to itself: photographs have 1, text 10, a bomb 1,000


def open_stored(file: str | os.PathLike | BinaryIO, path: str | os.PathLike) -> zipfile.ZipFile:
    """A ZipFile whose members are stored as they are, as np.savez and torch.save write them; FileError for others.

    A compressed member, or members that lie over each other, could ask for a thousand times the memory of the file.
    """
    archive = zipfile.ZipFile(file)
    members, size = archive.infolist(), archive.fp.seek(0, os.SEEK_END)
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
        archive.close()
        raise FileError(f"{path} is not read: its members are compressed or longer than they should be")
    return archive


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> None:
    """Unpack a .zip or .tar(.gz, .bz2, .xz) into `folder`; refuse members that would land or point outside it.

    Raises FileError if the archive is missing, damaged or unsafe, if it would be more than LARGEST_RATIO times as large
    when unpacked, or if the disk is full.
    """
    folder = Path(folder)
    try:
        most = max(LARGEST_RATIO * os.path.getsize(archive), 1 << 26)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                names = [member.filename for member in _bounded(archive, opened.infolist(), "file_size", most)]
                _refuse_escapes(archive, folder, names)
                opened.extractall(folder)
        else:
            with tarfile.open(archive) as opened:
                members = _bounded(archive, opened, "size", most)
                odd = [m.name for m in members if not (m.isfile() or m.isdir())]
                if odd:
                    raise FileError(f"{archive} holds {odd[0]!r}, neither file nor folder: not unpacked")
                _refuse_escapes(archive, folder, [m.name for m in members])
                _refuse_broken_off(archive, opened, most)
                opened.extraction_filter = getattr(tarfile, "data_filter", None)  # no owners, no odd modes
                opened.extractall(folder, members)
    except Exception as error:  # each compression has its own kinds for damaged bytes; all mean the same here
        if isinstance(error, FileError):
            raise
        if isinstance(error, OSError) and error.strerror:
            raise FileError(f"cannot unpack {archive} into {folder}: {error.strerror}") from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileError(f"{archive} is not a whole archive: {reason}") from None


def _bounded(archive, members, size, most):
    """The members of an archive as a list, given up as soon as they are more than `most` bytes together."""
    taken, total = [], 0
    for member in members:
        total += tarfile.BLOCKSIZE + getattr(member, size)
        if total > most:
            raise FileError(f"{archive} would be more than {most:,} bytes, too many for its size: not unpacked")
        taken.append(member)
    return taken


def _refuse_escapes(archive, folder, names):
    root = folder.resolve()
    for name in names:
        target = (root / name).resolve()
        if root != target and root not in target.parents:
            raise FileError(f"{archive} holds {name!r}, which would be written outside {folder}: not unpacked")


def _refuse_broken_off(archive, opened, most):
    """Refuse a broken archive: tarfile takes whatever is not a header for the end, and skips the checksum there."""
    opened.fileobj.seek(opened.offset)
    block = opened.fileobj.read(tarfile.BLOCKSIZE)
    while opened.fileobj.read(1 << 20) and opened.fileobj.tell() <= opened.offset + most:
        pass
    if block != bytes(tarfile.BLOCKSIZE):
        raise FileError(f"{archive} is not a whole archive: it breaks off after {len(opened.getmembers())} members")
