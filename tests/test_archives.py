import io
import os
import stat
import tarfile
import zipfile

import numpy as np
import pytest
from faults import full_disk

from mxelm import archives
from mxelm.errors import FileError


def make_tar(path, entries, mode="w"):
    """entries: (name, content) for files; (name, None) for folders; TarInfo for anything else."""
    with tarfile.open(path, mode) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            if entry[1] is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(entry[1])
            archive.addfile(info, io.BytesIO(entry[1] or b""))
    return path


def make_zip(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ENTRIES = [("set/a/1.txt", b"one" * 500), ("set/b/2.txt", np.random.default_rng(0).bytes(3000)), ("set/c.txt", b"")]


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_whole_archives_are_unpacked(tmp_path, mode):
    path = tmp_path / "archive"
    make_zip(path, ENTRIES) if mode == "zip" else make_tar(path, ENTRIES, mode)
    archives.unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == dict(ENTRIES)


ESCAPES = ["../evil", "set/../../evil", "/evil", "set/./../../out2/evil"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ESCAPES)
def test_members_outside_the_folder_are_refused(tmp_path, kind, name):
    name = f"{tmp_path}{name}" if name.startswith("/") else name
    entries = [("good", b"x"), (name, b"x")]
    path = make_zip(tmp_path / "a", entries) if kind == "zip" else make_tar(tmp_path / "a", entries)
    with pytest.raises(FileError, match="written outside .*: not unpacked"):
        archives.unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = make_tar(tmp_path / "a", [("good", b"x"), special("odd", kind, "/etc"), ("odd/evil", b"x")])
    with pytest.raises(FileError, match="holds 'odd', neither file nor folder"):
        archives.unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_link_that_lies_in_the_folder_is_not_followed_out_of_it(tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    entries = [("link/evil", b"x")]
    path = make_zip(tmp_path / "a", entries) if kind == "zip" else make_tar(tmp_path / "a", entries)
    with pytest.raises(FileError, match="written outside"):
        archives.unpack(path, tmp_path / "out")
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_link_in_a_zip_becomes_no_link(tmp_path):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(info, "/etc")
    archives.unpack(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_archive_is_refused_at_every_length(tmp_path, mode):
    path = tmp_path / "archive"
    make_zip(path, ENTRIES) if mode == "zip" else make_tar(path, ENTRIES, mode)
    content = path.read_bytes()
    end = len(content) - content[::-1].find(content.rstrip(b"\0")[-1:])  # a tar may lose some of its last zeros
    lengths = {*range(0, end, 256), *range(512, end, 512), end - 1} if mode == "w" else range(0, len(content), 97)
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(FileError, match="archive is not a whole archive") as caught:
            archives.unpack(path, tmp_path / "out")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_a_flipped_bit_of_a_compressed_archive_is_told_or_harmless(tmp_path, mode):
    path = tmp_path / "archive"
    make_zip(path, ENTRIES) if mode == "zip" else make_tar(path, ENTRIES, mode)
    content = path.read_bytes()
    end = content.index(b"PK\x01\x02") if mode == "zip" else len(content)  # a zip's directory has no checksum
    rng = np.random.default_rng(1)
    refused = 0
    for number, place in enumerate(rng.choice(end, 60, replace=False)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        out = tmp_path / f"out{number}"
        try:
            archives.unpack(path, out)
        except FileError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert tree(out) == dict(ENTRIES)
    assert refused > 30


@pytest.mark.parametrize("kind", ["zip", "w:gz"])
def test_a_bomb_is_not_unpacked(tmp_path, kind):
    entries = [("a", b"x"), ("zeros", bytes(1 << 26))]
    path = make_zip(tmp_path / "a", entries) if kind == "zip" else make_tar(tmp_path / "a", entries, kind)
    with pytest.raises(FileError, match="too many for its size: not unpacked"):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archives_that_cannot_be_had_or_unpacked(tmp_path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(FileError, match="text is not a whole archive"):
        archives.unpack(tmp_path / "text", tmp_path / "out")
    with pytest.raises(FileError, match="none.*No such file"):
        archives.unpack(tmp_path / "none", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot unpack .*good into .*file"):
        archives.unpack(make_zip(tmp_path / "good", ENTRIES), tmp_path / "file")
    with full_disk(2000), pytest.raises(FileError, match="cannot unpack .*good into .*out: File too large"):
        archives.unpack(tmp_path / "good", tmp_path / "out")


def test_an_encrypted_zip_is_told(tmp_path):
    path = make_zip(tmp_path / "a", ENTRIES)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1  # the flag that says "encrypted"
    path.write_bytes(content)
    with pytest.raises(FileError, match="password required"):
        archives.unpack(path, tmp_path / "out")
