import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, picture

from mxelm.data import load
from mxelm.data.recordio import RecordSource
from mxelm.errors import FileError, InputError
from mxelm.runtime import mx

MAGIC = struct.pack("<I", 0xCED7230A)


def write_records(path, labels, index=True, contents=None):
    """x.rec (and x.idx with keys 10, 11, ...) written by MXNet; returns the images' bytes."""
    contents = contents or [encoded(picture(seed=i)) for i in range(len(labels))]
    writer = (mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w") if index
              else mx.recordio.MXRecordIO(str(path), "w"))
    for i, (label, content) in enumerate(zip(labels, contents)):
        record = mx.recordio.pack(mx.recordio.IRHeader(0, label, i, 0), content)
        if index:
            writer.write_idx(10 + i, record)
        else:
            writer.write(record)
    writer.close()
    return contents


@pytest.mark.parametrize("index", [True, False])
def test_what_mxnet_writes_is_read(tmp_path, index):
    write_records(tmp_path / "x.rec", [2.0, 0.0, 1.0, 2.0], index)
    data = load(tmp_path / "x.rec")
    assert data.kind == "classes"
    assert data.targets.tolist() == [2, 0, 1, 2]
    assert data.ids == [f"x.rec/{i + 10 * index}" for i in range(4)]
    assert all(np.array_equal(data.image(i), picture(seed=i)) for i in range(4))


def test_the_index_gives_the_order(tmp_path):
    write_records(tmp_path / "x.rec", [0.0, 1.0, 2.0])
    index = tmp_path / "x.idx"
    index.write_text("".join(f"{line}\n" for line in reversed(index.read_text().splitlines())))
    data = load(tmp_path / "x.rec")
    assert data.targets.tolist() == [2, 1, 0]
    assert data.ids[0] == "x.rec/12"
    assert np.array_equal(data.image(0), picture(seed=2))
    index.write_text("0\t4\n")
    with pytest.raises(FileError, match=r"x\.idx does not belong"):
        load(tmp_path / "x.rec")


@pytest.mark.parametrize("labels, kind", [([[1, 0, 1], [0, 0, 1]], "multilabel"), ([[0.5, 2], [1, -3]], "regression")])
def test_label_vectors(tmp_path, labels, kind):
    write_records(tmp_path / "x.rec", [np.array(row, np.float32) for row in labels])
    data = load(tmp_path / "x.rec")
    assert data.kind == kind
    assert data.targets.tolist() == labels
    assert np.array_equal(data.image(1), picture(seed=1))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.sampled_from([MAGIC, b"\0", b"abcd", b"xyz"]), max_size=6).map(b"".join), min_size=1,
                max_size=5))
def test_contents_that_hold_the_magic_number_come_back_whole(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("rec") / "x.rec"
    write_records(path, [1.0] * len(contents), False, contents)
    source = RecordSource(path)
    reader = mx.recordio.MXRecordIO(str(path), "r")
    with open(path, "rb") as file:
        from mxelm.data.recordio import _content
        for parts in source._records:
            assert _content(file, parts) == reader.read()
    assert [row.tolist() for row in source.labels()] == [[1.0]] * len(contents)


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path):
    path = tmp_path / "x.rec"
    write_records(path, [0.0, 1.0], False, [b"a" * 9, MAGIC + b"b" * 6])
    whole = path.read_bytes()
    first = 8 + 36  # the file may also end after its first record
    for cut in set(range(len(whole))) - {first}:
        path.write_bytes(whole[:cut])
        with pytest.raises(FileError, match=r"x\.rec"):
            load(path)


@pytest.mark.parametrize("content", [b"GIF89a" * 10, MAGIC, MAGIC + struct.pack("<I", 4) + b"abcd"])
def test_another_file_or_a_record_without_header_is_refused(tmp_path, content):
    (tmp_path / "x.rec").write_bytes(content)
    with pytest.raises(FileError, match=r"x\.rec"):
        load(tmp_path / "x.rec")


def test_a_broken_image_names_its_record(tmp_path):
    write_records(tmp_path / "x.rec", [0.0, 0.0], contents=[encoded(picture()), encoded(picture(), "JPEG")[:-40]])
    with pytest.raises(FileError, match=r"x\.rec, record 11"):
        load(tmp_path / "x.rec").image(1)


def test_classes_are_the_labels_that_occur(tmp_path):
    write_records(tmp_path / "x.rec", [1.0, 3.0, 1012.0, 1.0])
    data = load(tmp_path / "x.rec")
    assert (data.classes, data.targets.tolist()) == (["1", "3", "1012"], [0, 1, 2, 0])


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("faces", [[4.0, 7.0], [[4, 1], [7, 0]]])
def test_insightfaces_directory_is_left_out_with_a_word(tmp_path, caplog, index, faces):
    write_records(tmp_path / "x.rec", [np.array([3, 5], np.float32), *(np.array(f, np.float32) for f in faces),
                                       np.array([1, 2], np.float32), np.array([2, 3], np.float32)], index,
                  [b"", encoded(picture(seed=0)), encoded(picture(seed=1)), b"", b""])
    data = load(tmp_path / "x.rec")
    assert (data.classes, data.targets.tolist()) == (["4", "7"], [0, 1])
    assert data.ids == [f"x.rec/{10 * index + i}" for i in (1, 2)] and np.array_equal(data.image(1), picture(seed=1))
    assert f"record {10 * index}, and 3 of 5 records in all, hold no image" in caplog.text


def test_headers_alone_are_no_set(tmp_path):
    write_records(tmp_path / "x.rec", [np.array([1, 2], np.float32)] * 2, contents=[b"", b""])
    with pytest.raises(FileError, match=r"x\.rec holds no image"):
        load(tmp_path / "x.rec")


def test_labels_that_cannot_be_are_refused(tmp_path):
    write_records(tmp_path / "x.rec", [0.0, float("inf")])
    with pytest.raises(InputError, match="record 11: inf"):
        load(tmp_path / "x.rec")
    write_records(tmp_path / "x.rec", [0.0, float("nan")])
    with pytest.raises(InputError, match="record 11: .* missing .nan"):
        load(tmp_path / "x.rec")
    write_records(tmp_path / "x.rec", [0.0, np.array([1, 2], np.float32)])
    with pytest.raises(FileError, match="different numbers of labels"):
        load(tmp_path / "x.rec")
