import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time

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
    (tmp_path / "nan.json").write_text('{"mean": NaN}')
    (tmp_path / "half.json").write_text('{"classes": ["\\ud800"]}')  # of a letter
    for name in ("text.json", "binary.json", "deep.json", "nan.json", "half.json"):
        with pytest.raises(FileError, match=f"{name} is not a JSON file"):
            files.read_json(tmp_path / name)
    with pytest.raises(FileError, match=r"cannot read .*none\.json: No such file"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "windows.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert files.read_json(tmp_path / "windows.json") == [1]


@pytest.mark.parametrize("depth, nested", [(200_000, "["), (200_000, '{"a":')])
def test_json_of_any_depth_is_refused_in_a_sentence(tmp_path, depth, nested):
    (tmp_path / "deep.json").write_text(nested * depth)
    with pytest.raises(FileError, match="deep.json is not a JSON file"):
        files.read_json(tmp_path / "deep.json")


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_and_text_as_windows_writes_them(tmp_path, coding):
    (tmp_path / "a.json").write_bytes('{"größe": 1}'.encode(coding))
    assert files.read_json(tmp_path / "a.json") == {"größe": 1}
    if coding in ("utf-8", "utf-8-sig", "utf-16"):
        assert files.read_text(tmp_path / "a.json") == '{"größe": 1}'


@pytest.mark.parametrize("content, message", [(b"a\nb\0\0c\n", "a.txt, line 2, holds zeros"),
                                              ("größe".encode("latin1"), "a.txt is not a text file in UTF-8")])
def test_text_that_is_none(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(FileError, match=message):
        files.read_text(tmp_path / "a.txt")


def test_nobody_waits_for_a_pipe_nor_reads_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert files.read_bytes(tmp_path / "pipe") == b""
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"late" * 50_000))
    held = os.open(tmp_path / "pipe", os.O_RDWR)
    writer.start()
    reader = threading.Timer(0.1, os.close, [held])
    reader.start()
    assert files.read_bytes(tmp_path / "pipe") == b"late" * 50_000
    writer.join()
    reader.join()
    for path, reason in (("/dev/zero", "it is not a file"), (tmp_path, "directory"), (tmp_path / "a\0b", "null byte"),
                         (tmp_path / "none", "No such file")):
        with pytest.raises(FileError, match=reason):
            files.read_bytes(path)


def test_known_hashes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.file_hash(tmp_path / "abc", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    with pytest.raises(FileError, match="cannot read .*none: No such file"):
        files.sha256(tmp_path / "none")
