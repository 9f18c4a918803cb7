import contextlib
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest
from faults import full_disk

from mxelm import files
from mxelm.errors import FileError

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


def test_a_full_disk_is_told_and_changes_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with full_disk(1000), pytest.raises(FileError, match=r"cannot write .*a\.txt: File too large"):
        files.write_text(tmp_path / "a.txt", "b" * 2000)
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_of_several_files_the_first_ones_move_decides(tmp_path, monkeypatch, moves, end):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text("old")
    replace, moved = os.replace, []

    def breaking(source, target):
        if len(moved) == moves:
            raise end
        moved.append(replace(source, target))
    monkeypatch.setattr(os, "replace", breaking)
    with contextlib.suppress(KeyboardInterrupt, FileError), files.atomic_writes(*paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert [path.read_text() for path in paths] == ["new"] * moves + ["old"] * (3 - moves)
    waiting = paths[moves:] if moves else []  # until the first move nothing is left; then all that is not moved yet
    assert [found.read_text() for path in waiting for found in files.leftovers(path)] == ["new"] * len(waiting)
    assert len(os.listdir(tmp_path)) == 3 + len(waiting)


@pytest.mark.parametrize("call, said", [("replace", "nothing was changed"), ("fsync", "nothing was changed"),
                                        ("open", "its new content counts"), ("unlink", "nothing was changed")])
def test_the_message_is_true_before_the_move_and_after_it(tmp_path, monkeypatch, call, said):
    path = tmp_path / "a.txt"
    path.write_text("old")
    real, failing = getattr(os, call), {"unlink": "replace"}

    def broken(*args, **kwargs):
        if call != "open" or args[0] == tmp_path:  # the folder is opened after the move, to be synced
            raise OSError(5, "Input/output error")
        return real(*args, **kwargs)
    for name in {call, failing.get(call, call)}:
        monkeypatch.setattr(os, name, broken)
    with pytest.raises(FileError, match=f"cannot write {path}: Input/output error; {said}"):
        files.write_text(path, "new")
    assert path.read_text() == ("new" if call == "open" else "old")


def test_two_writers_of_a_file_that_does_not_exist_yet_take_turns(tmp_path):
    inside, seen = [], []

    def write(number):
        with files.exclusive(tmp_path / "a", wait=True):
            inside.append(number)
            time.sleep(0.005)
            seen.append(list(inside))
            inside.remove(number)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    with contextlib.ExitStack() as held:
        held.enter_context(files.exclusive(tmp_path / "a", wait=True))
        with pytest.raises(FileError, match="another process is writing"):
            held.enter_context(files.exclusive(tmp_path / "a"))
    for thread in threads:
        thread.join()
    assert all(len(holders) == 1 for holders in seen) and len(seen) == 8 and not os.listdir(tmp_path)


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
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("text.json", "binary.json", "deep.json"):
        with pytest.raises(FileError, match=f"{name} is not a JSON file"):
            files.read_json(tmp_path / name)
    with pytest.raises(FileError, match=r"cannot read .*none\.json: No such file"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "windows.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert files.read_json(tmp_path / "windows.json") == [1]


def test_known_hashes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.file_hash(tmp_path / "abc", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    with pytest.raises(FileError, match="cannot read .*none: No such file"):
        files.sha256(tmp_path / "none")


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
