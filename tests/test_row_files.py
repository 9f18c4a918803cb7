import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from faults import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from mxelm import row_files
from mxelm.containers import save_container
from mxelm.errors import FileError, InputError
from mxelm.row_files import RowFile, RowWriter

COLUMNS = {"index": ("int64", ()), "V": ("float32", (3,))}
IDENTITY = {"network": "abc", "layers": ["conv1"], "size": (8, 8)}
KIND = "test-rows"


def block(start, n):
    index = np.arange(start, start + n)
    return {"index": index, "V": np.float32(index[:, None] + [0.25, 0.5, 0.75])}


def write(path, sizes, finish=True, **options):
    with RowWriter(path, KIND, IDENTITY, COLUMNS, **options) as writer:
        for n in sizes:
            writer.append(**block(writer.n_rows, n))
        if finish:
            writer.finish()


def read(path):
    with RowFile(path, KIND) as rows:
        assert rows.identity == {**IDENTITY, "size": [8, 8]}
        return rows.column("index"), rows.column("V")


@pytest.fixture
def rows(tmp_path):
    write(tmp_path / "a.rows", [3, 0, 1, 4])
    return tmp_path / "a.rows"


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(0, 5), max_size=5))
def test_what_went_in_comes_out_whatever_the_blocks(tmp_path_factory, sizes):
    path = tmp_path_factory.mktemp("rows") / "a.rows"
    write(path, sizes)
    index, V = read(path)
    expected = block(0, sum(sizes))
    np.testing.assert_array_equal(index, expected["index"])
    np.testing.assert_array_equal(V, expected["V"])
    assert index.dtype == np.int64 and V.dtype == np.float32 and V.shape == (sum(sizes), 3)


def test_blocks_are_read_one_at_a_time(rows):
    with RowFile(rows) as file:
        assert len(file) == 8 and row_files.is_row_file(rows)
        assert [len(part["V"]) for part in file.blocks("V")] == [3, 1, 4]
        assert [list(part) for part in file.blocks()] == [["index", "V"]] * 3


def test_a_write_that_ends_at_any_byte_is_gone_on_with(rows, tmp_path, monkeypatch):
    """The resumed file is the uninterrupted one, byte for byte."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing of this test's is to survive the machine
    whole = rows.read_bytes()
    with RowWriter(tmp_path / "empty.rows", KIND, IDENTITY, COLUMNS):
        pass
    header = (tmp_path / "empty.rows").stat().st_size  # it appears whole or not at all
    for length in range(header, len(whole)):
        rows.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"a\.rows is .*\(--resume\)"):
            read(rows)
        with RowWriter(rows, KIND, IDENTITY, COLUMNS, resume=True) as writer:
            assert writer.last is None if writer.n_rows == 0 else writer.last["index"] == writer.n_rows - 1
            for n in {0: [3, 1, 4], 3: [1, 4], 4: [4], 8: []}[writer.n_rows]:
                writer.append(**block(writer.n_rows, n))
            writer.finish()
        assert rows.read_bytes() == whole
    for length in range(header):
        rows.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"a\.rows is (not a file of rows|damaged)"):
            write(rows, [], resume=True)


def test_a_killed_writer_leaves_its_whole_blocks(tmp_path):
    path = tmp_path / "a.rows"
    script = ("import sys\nsys.path[:0] = sys.argv[2:]\nfrom test_row_files import *\n"
              "with RowWriter(sys.argv[1], KIND, IDENTITY, COLUMNS) as writer:\n"
              " while True:\n  writer.append(**block(writer.n_rows, 7))\n  print(writer.n_rows, flush=True)")
    child = subprocess.Popen([sys.executable, "-c", script, path, os.path.dirname(__file__)], stdout=subprocess.PIPE)
    while int(child.stdout.readline()) < 70:
        pass
    with pytest.raises(FileError, match="another process holds"):
        write(path, [], resume=True)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    write(path, [2], resume=True)
    index, _ = read(path)
    assert len(index) >= 72 and len(index) % 7 == 2
    np.testing.assert_array_equal(index, np.arange(len(index)))


def test_a_flipped_bit_is_told_at_every_place(rows):
    content = rows.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        rows.write_bytes(damaged)
        with pytest.raises(FileError, match=r"a\.rows"):
            read(rows)


def test_blocks_that_were_lost_doubled_or_added_are_told(tmp_path):
    contents = []
    for sizes, finish in (([], False), ([3], False), ([3, 3], False), ([3, 3], True)):
        path = tmp_path / f"{len(contents)}.rows"
        write(path, sizes, finish)
        contents.append(path.read_bytes())
    marks = [len(content) for content in contents]
    first, second, end = (contents[3][a:b] for a, b in zip(marks, marks[1:]))
    for name, forged in (("lost", contents[0] + second + end), ("exchanged", contents[0] + second + first + end),
                         ("doubled", contents[1] + first + second + end), ("added", contents[3] + first)):
        (tmp_path / name).write_bytes(forged)
        with pytest.raises(FileError, match=f"{name} is (damaged|not finished)"):
            read(tmp_path / name)


@pytest.mark.parametrize("change, told", [
    ({"identity": {**IDENTITY, "network": "abd"}}, "its network is abc, this run's is abd"),
    ({"columns": {**COLUMNS, "V": ("float32", (4,))}}, "its columns is"), ({"kind": "other"}, "holds a test-rows")])
def test_a_file_of_another_run_is_refused_and_kept(rows, change, told):
    content = rows.read_bytes()
    arguments = {"kind": KIND, "identity": IDENTITY, "columns": COLUMNS, **change}
    with pytest.raises(FileError, match=told):
        RowWriter(rows, **arguments, resume=True)
    assert rows.read_bytes() == content


def test_a_finished_file_takes_no_more(rows):
    content = rows.read_bytes()
    with pytest.raises(FileError, match=r"a\.rows exists: go on from it with resume"):
        write(rows, [1])
    with RowWriter(rows, KIND, IDENTITY, COLUMNS, resume=True) as writer:
        assert writer.finished and writer.n_rows == 8
        writer.finish()
        with pytest.raises(InputError, match="is finished"):
            writer.append(**block(8, 1))
    assert rows.read_bytes() == content


def test_blocks_that_do_not_fit(tmp_path):
    with RowWriter(tmp_path / "a.rows", KIND, IDENTITY, COLUMNS) as writer:
        for wrong in ({"index": np.arange(2)}, {**block(0, 2), "V": np.zeros((2, 3))},
                      {**block(0, 2), "V": np.zeros((1, 3), np.float32)}, {**block(0, 2), "more": np.zeros(2)}):
            with pytest.raises(InputError, match=r"a block of .*a\.rows needs 2 rows"):
                writer.append(**wrong)
        assert writer.n_rows == 0


def test_files_that_are_no_rows(tmp_path):
    save_container(tmp_path / "container", KIND, {}, {})
    (tmp_path / "folder").mkdir()
    for name, told in (("container", "is not a file of rows"), ("none", "there is no file"), ("folder", "cannot read")):
        with pytest.raises(FileError, match=told):
            RowFile(tmp_path / name, KIND)
        assert not row_files.is_row_file(tmp_path / name)
    with pytest.raises(FileError, match="cannot write"):
        write(tmp_path / "missing" / "a.rows", [])


def test_a_full_disk_is_told_and_can_be_gone_on_with(tmp_path):
    path = tmp_path / "a.rows"
    with full_disk(1000), pytest.raises(FileError, match=r"cannot write .*a\.rows: File too large"):
        write(path, [5] * 20)
    write(path, [5], resume=True)
    index, _ = read(path)
    np.testing.assert_array_equal(index, np.arange(len(index)))


def _peak_mb(path, blocks):
    rows = {"V": np.ones((1000, 250), np.float32)}
    with RowWriter(path, KIND, {}, {"V": ("float32", (250,))}) as writer:
        for _ in range(blocks):
            writer.append(**rows)
        writer.finish()
    with RowFile(path, KIND) as file:
        assert sum(len(part["V"]) for part in file.blocks()) == 1000 * blocks
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def test_memory_does_not_grow_with_the_rows(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        few, many = (pool.apply(_peak_mb, (tmp_path / f"{n}.rows", n)) for n in (2, 60))
    assert many - few < 10  # of 60 MB more
