import io
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mxelm import files
from mxelm.errors import FileError

DTYPES = st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes(), hnp.unicode_string_dtypes())
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=12)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3))
META = {"n": 3, "names": ["ant", "bee"]}
CONTENT = {"HtH": np.arange(12.0).reshape(3, 4), "labels": np.array([1, 2, 3], np.int64)}


@contextmanager
def full_disk(size):
    """No file of this process may grow beyond `size` bytes: writes fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def container(tmp_path):
    files.save_container(tmp_path / "a.state", "test", META, CONTENT)
    return tmp_path / "a.state"


def same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


# atomic writes

def test_a_file_is_replaced_whole_with_ordinary_permissions(tmp_path):
    path = tmp_path / "result.json"
    files.write_text(path, "first")
    files.write_json(path, {"größe": [1, 2]})
    assert files.read_json(path) == {"größe": [1, 2]} and "größe" in path.read_text(encoding="utf-8")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["plain", "result.json"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_what_was_there_stays_when_the_writer_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileError if isinstance(error, OSError) else type(error)), \
            files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_told_and_changes_nothing(tmp_path, container):
    before = container.read_bytes()
    with full_disk(1000):
        with pytest.raises(FileError, match=r"cannot write .*a\.state: File too large"):
            files.save_container(container, "test", META, {"big": np.zeros(100_000)})
        with pytest.raises(FileError, match=r"cannot write .*b\.txt: File too large"):
            files.write_text(tmp_path / "b.txt", "b" * 2000)
    assert container.read_bytes() == before and os.listdir(tmp_path) == ["a.state"]


@pytest.mark.parametrize("place", ["missing/a.txt", "file/a.txt", "folder"])
def test_places_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=f"cannot write .*{place}"):
        files.require_writable(tmp_path / place)
    with pytest.raises(FileError, match=f"cannot write .*{place}"):
        files.write_text(tmp_path / place, "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and not os.listdir(tmp_path / "folder")


def test_a_writable_place_is_left_as_it_is(tmp_path):
    (tmp_path / "old").write_text("old")
    files.require_writable(tmp_path / "old")
    files.require_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == ["old"] and (tmp_path / "old").read_text() == "old"


def test_a_killed_writer_leaves_the_old_file_and_what_remove_leftovers_finds(tmp_path):
    path = tmp_path / "a[1].state"  # a name with signs that a pattern would read otherwise
    path.write_text("old")
    bystanders = [".a[1].state.bak.state", ".a1.state.part-x.state", "b.state"]
    for name in bystanders:
        (tmp_path / name).touch()
    script = ("import sys, time\nfrom mxelm.files import atomic_write\n"
              "with atomic_write(sys.argv[1]) as t:\n t.write_text('half')\n print('go', flush=True)\n time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"go\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == len(bystanders) + 2
    files.remove_leftovers(path)
    assert sorted(os.listdir(tmp_path)) == sorted([*bystanders, path.name])


def test_what_one_process_holds_another_cannot(tmp_path):
    path = tmp_path / "a.lock"
    path.touch()
    script = ("import sys, time\nfrom mxelm.files import locked\n"
              "with locked(sys.argv[1]):\n print('go', flush=True)\n time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"go\n"
    with pytest.raises(FileError, match="another process holds .*a.lock: wait"), files.locked(path, wait=False):
        pass
    child.send_signal(signal.SIGKILL)
    with files.locked(path):  # free with the death of its holder
        child.communicate()
    with pytest.raises(FileError, match="cannot open .*b.lock: No such file"), files.locked(tmp_path / "b.lock"):
        pass


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "a.txt"
    contents = {"a" * 100_000, "b" * 200_000}
    files.write_text(path, "a" * 100_000)

    def write():
        for _ in range(20):
            for content in contents:
                files.write_text(path, content)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert path.read_text() in contents
        time.sleep(0.001)
    writer.join()


# reading and hashing

def test_json_that_cannot_be_read(tmp_path):
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("text.json", "binary.json"):
        with pytest.raises(FileError, match=f"{name} is not a JSON file"):
            files.read_json(tmp_path / name)
    with pytest.raises(FileError, match=r"cannot read .*none\.json: No such file"):
        files.read_json(tmp_path / "none.json")


def test_known_hashes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.file_hash(tmp_path / "abc", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    with pytest.raises(FileError, match="cannot read .*none: No such file"):
        files.sha256(tmp_path / "none")


def test_array_digest_is_of_type_shape_bytes_and_order():
    a, b = np.arange(6.0), np.arange(6)
    variants = [(a,), (b,), (a.reshape(2, 3),), (a.astype(">f8"),), (a + 1,), (a, b), (b, a), (a[:0],), ()]
    assert len({files.array_digest(*arrays) for arrays in variants}) == len(variants)
    assert files.array_digest(np.asfortranarray(a.reshape(2, 3))) == files.array_digest(a.reshape(2, 3))


# containers

@settings(deadline=None, max_examples=20)
@given(meta=st.dictionaries(st.text(max_size=9), JSON, max_size=3), arrays=st.dictionaries(NAMES, ARRAYS, max_size=3))
def test_a_container_gives_back_what_went_in(tmp_path_factory, meta, arrays):
    path = tmp_path_factory.getbasetemp() / "any.state"
    files.save_container(path, "test", meta, arrays)
    loaded, again = files.load_container(path, "test")
    assert loaded == meta
    same(again, arrays)
    assert files.container_kind(path) == "test"


@pytest.mark.parametrize("order", "CF")
def test_numpy_can_open_a_container(tmp_path, order):
    array = np.array(CONTENT["HtH"], order=order)
    files.save_container(tmp_path / "a.state", "test", META, {"HtH": array})
    np.testing.assert_array_equal(np.load(tmp_path / "a.state")["HtH"], array)
    same(files.load_container(tmp_path / "a.state", "test")[1], {"HtH": array})


def test_a_truncated_container_is_refused_at_every_length(container):
    content = container.read_bytes()
    for length in range(0, len(content), 7):
        container.write_bytes(content[:length])
        with pytest.raises(FileError, match=r"a\.state is damaged"):
            files.load_container(container, "test")
        assert files.container_kind(container) is None


def test_a_flipped_bit_is_told_or_harmless(container):
    """Harmless are the bytes of a zip that say nothing of its content, such as dates."""
    content = container.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    places = range(0, len(content), 3)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        container.write_bytes(damaged)
        files.container_kind(container)
        try:
            meta, arrays = files.load_container(container, "test")
        except FileError as error:
            assert "a.state" in str(error)
            refused += 1
        else:
            assert meta == META
            same(arrays, CONTENT)
    assert refused > len(places) / 2


def test_contents_that_were_exchanged_are_told(container, tmp_path):
    """Each member is a whole one with the right CRC: only the checksum over all of them tells."""
    files.save_container(tmp_path / "b.state", "test", META, {**CONTENT, "labels": np.array([1, 2, 4], np.int64)})
    with zipfile.ZipFile(container) as a, zipfile.ZipFile(tmp_path / "b.state") as b, \
            zipfile.ZipFile(tmp_path / "c.state", "w") as c:
        for name in a.namelist():
            c.writestr(name, (b if name == "labels.npy" else a).read(name))
    with pytest.raises(FileError, match="checksum does not match"):
        files.load_container(tmp_path / "c.state", "test")


def test_files_that_are_no_container(tmp_path):
    np.savez(tmp_path / "a.npz", **CONTENT)
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "list", "w") as file:
        file.writestr("mxelm.json", "[1]")
    for name, reason in (("a.npz", "not a file that mxelm wrote"), ("text", "not a file that mxelm wrote"),
                         ("empty", "not a file that mxelm wrote"), ("folder", "cannot read"),
                         ("list", "not a file that mxelm wrote"), ("none", "there is no file")):
        with pytest.raises(FileError, match=reason) as caught:
            files.load_container(tmp_path / name, "test")
        assert name in str(caught.value)
        assert files.container_kind(tmp_path / name) is None


def test_another_kind_is_named(container):
    with pytest.raises(FileError, match="holds a test, not a elm-state"):
        files.load_container(container, "elm-state")


def test_a_newer_container_asks_for_an_update_whatever_else_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.state", "w") as file:
        file.writestr("mxelm.json", json.dumps({"kind": "test", "container": files.CONTAINER_VERSION + 1}))
        file.writestr("HtH.unheard-of", b"x")
    with pytest.raises(FileError, match="newer mxelm"):
        files.load_container(tmp_path / "a.state", "test")
    assert files.container_kind(tmp_path / "a.state") == "test"


def test_no_pickle_goes_in_or_comes_out(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        files.save_container(tmp_path / "a.state", "test", {}, {"o": np.array([object()])})
    assert not os.listdir(tmp_path)
    evil = io.BytesIO()
    np.save(evil, np.array([{}]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "b.state", "w") as file:
        file.writestr("mxelm.json", json.dumps({"kind": "test", "container": 1, "meta": {}}))
        file.writestr("sha256", "0")
        file.writestr("o.npy", evil.getvalue())
    with pytest.raises(FileError, match="damaged"):
        files.load_container(tmp_path / "b.state", "test")


# unpacking

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
    files.unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == dict(ENTRIES)


ESCAPES = ["../evil", "set/../../evil", "/evil", "set/./../../out2/evil"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ESCAPES)
def test_members_outside_the_folder_are_refused(tmp_path, kind, name):
    name = f"{tmp_path}{name}" if name.startswith("/") else name
    entries = [("good", b"x"), (name, b"x")]
    path = make_zip(tmp_path / "a", entries) if kind == "zip" else make_tar(tmp_path / "a", entries)
    with pytest.raises(FileError, match="written outside .*: not unpacked"):
        files.unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = make_tar(tmp_path / "a", [("good", b"x"), special("odd", kind, "/etc"), ("odd/evil", b"x")])
    with pytest.raises(FileError, match="holds 'odd', neither file nor folder"):
        files.unpack(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_link_that_lies_in_the_folder_is_not_followed_out_of_it(tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    entries = [("link/evil", b"x")]
    path = make_zip(tmp_path / "a", entries) if kind == "zip" else make_tar(tmp_path / "a", entries)
    with pytest.raises(FileError, match="written outside"):
        files.unpack(path, tmp_path / "out")
    assert not os.listdir(tmp_path / "elsewhere")


def test_a_link_in_a_zip_becomes_no_link(tmp_path):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(info, "/etc")
    files.unpack(tmp_path / "a", tmp_path / "out")
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
            files.unpack(path, tmp_path / "out")
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
            files.unpack(path, out)
        except FileError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert tree(out) == dict(ENTRIES)
    assert refused > 30


def test_archives_that_cannot_be_had_or_unpacked(tmp_path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(FileError, match="text is not a whole archive"):
        files.unpack(tmp_path / "text", tmp_path / "out")
    with pytest.raises(FileError, match="none.*No such file"):
        files.unpack(tmp_path / "none", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot unpack .*good into .*file"):
        files.unpack(make_zip(tmp_path / "good", ENTRIES), tmp_path / "file")
    with full_disk(2000), pytest.raises(FileError, match="cannot unpack .*good into .*out: File too large"):
        files.unpack(tmp_path / "good", tmp_path / "out")


def test_an_encrypted_zip_is_told(tmp_path):
    path = make_zip(tmp_path / "a", ENTRIES)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1  # the flag that says "encrypted"
    path.write_bytes(content)
    with pytest.raises(FileError, match="password required"):
        files.unpack(path, tmp_path / "out")
