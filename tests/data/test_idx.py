import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxelm.data import load
from mxelm.data.idx import read_idx
from mxelm.errors import FileError, InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 0, 2], np.uint8)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder, images=IMAGES, labels=LABELS, prefix="train", pack=False):
    folder.mkdir(exist_ok=True)
    for what, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx_bytes(array)
        path = folder / f"{prefix}-{what}-ubyte{'.gz' if pack else ''}"
        path.write_bytes(gzip.compress(content) if pack else content)
    return folder


@pytest.mark.parametrize("pack", [False, True])
def test_any_idx_folder_is_read(tmp_path, pack):
    folder = write_set(tmp_path / "shapes", pack=pack)
    write_set(folder, IMAGES[:2], np.array([9, 0], np.uint8), "t10k", pack)
    data = load(folder)
    assert np.array_equal(np.stack([data.image(i) for i in range(7)]), IMAGES)
    assert data.targets.tolist() == LABELS.tolist()
    assert data.ids[6] == "shapes/train/6"
    test = load(folder, split="test")
    assert test.ids == ["shapes/test/0", "shapes/test/1"]
    assert test.classes == data.classes == ["0", "1", "2", "3", "4", "5", "9"]  # those that occur
    assert test.targets.tolist() == [6, 0]


@pytest.mark.parametrize("images, labels", [
    ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"), ("train_images_idx3_ubyte", "train_labels_idx1_ubyte"),
    ("emnist-letters-train-images-idx3-ubyte", "emnist-letters-train-labels-idx1-ubyte")])
@pytest.mark.parametrize("ending, pack", [("", False), (".gz", True), (".gz", False)])
def test_names_that_tools_and_browsers_give_unpacked_files(tmp_path, images, labels, ending, pack):
    for name, array in ((images, IMAGES), (labels, LABELS)):
        (tmp_path / f"{name}{ending}").write_bytes(gzip.compress(idx_bytes(array)) if pack else idx_bytes(array))
    (tmp_path / "test-images-idx3-ubyte").mkdir()
    data = load(tmp_path)
    assert np.array_equal(data.image(6), IMAGES[6]) and data.targets.tolist() == LABELS.tolist()


def test_labels_from_1_are_no_phantom_class(tmp_path):
    data = load(write_set(tmp_path / "letters", labels=np.array([1, 26, 2, 1, 5, 3, 2], np.uint8)))
    assert data.classes == ["1", "2", "3", "5", "26"] and data.targets.tolist() == [0, 4, 1, 0, 3, 2, 1]


def test_no_more_is_unpacked_than_the_header_announces(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES) + bytes(1 << 26), 1))
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="announces 140 bytes, and 141 or more follow"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@given(st.integers(0, len(idx_bytes(IMAGES)) - 1))
def test_a_cut_file_is_refused_by_name(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("idx") / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(IMAGES)[:cut])
    with pytest.raises(FileError, match="train-images-idx3-ubyte"):
        read_idx(path, 3)


@given(st.data())
def test_a_cut_gzip_file_is_refused_by_name(tmp_path_factory, data):
    whole = gzip.compress(idx_bytes(IMAGES))
    path = tmp_path_factory.mktemp("idx") / "x-images-idx3-ubyte.gz"
    path.write_bytes(whole[:data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FileError, match="x-images-idx3-ubyte.gz"):
        read_idx(path, 3)


@pytest.mark.parametrize("content", [
    idx_bytes(IMAGES) + b"x", idx_bytes(LABELS), b"\0\0\x0d" + idx_bytes(IMAGES)[3:], b"P6 4 5 255",
    b"\0\0\x08\x03" + b"\xff" * 12])
def test_another_format_a_longer_file_or_a_wild_header_is_refused(tmp_path, content):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(FileError, match="train-images-idx3-ubyte"):
        read_idx(path, 3)


def test_counts_that_differ_missing_files_and_wrong_splits_are_refused(tmp_path):
    folder = write_set(tmp_path / "set", labels=LABELS[:6])
    with pytest.raises(FileError, match="7 images .* 6 labels"):
        load(folder)
    with pytest.raises(FileError, match="t10k-images-idx3-ubyte"):
        load(folder, split="test")
    with pytest.raises(InputError, match="validation"):
        load(folder, split="validation")


def test_two_sets_in_one_folder_are_refused(tmp_path):
    write_set(tmp_path / "set", prefix="digits-train")
    write_set(tmp_path / "set", prefix="letters-train")
    with pytest.raises(InputError, match="more than one idx set"):
        load(tmp_path / "set")


@pytest.mark.data
def test_mnist_is_whole(real_data):
    real_data("mnist")
    train, test = load("mnist"), load("mnist", split="test")
    assert (len(train), len(test)) == (60000, 10000)
    assert np.bincount(train.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.ids[17] == "mnist/train/17"
    assert train.source.images.mean() == pytest.approx(33.318, abs=1e-3)  # 0.1307 of 255, as everyone normalises
