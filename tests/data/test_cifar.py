import pickle
import struct

import numpy as np
import pytest

from mxelm.data import cifar, load
from mxelm.errors import FileError

ROWS = 3


@pytest.fixture
def batches(monkeypatch, tmp_path):
    """Batches of three images instead of 10,000: dict of name -> (labels, images (n, 32, 32, 3))."""
    monkeypatch.setenv("MXELM_DATA", "")
    monkeypatch.setenv("MXELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "IMAGES_A_BATCH", ROWS)
    rng = np.random.default_rng(0)
    return {name: (rng.integers(0, 10, ROWS), rng.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8))
            for names in cifar.BATCHES.values() for name in names}


def write_binary(folder, batches):
    folder.mkdir()
    for name, (labels, images) in batches.items():
        records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))


def write_pickles(folder, batches, protocol=2):
    folder.mkdir()
    for name, (labels, images) in batches.items():
        content = {b"data": images.transpose(0, 3, 1, 2).reshape(ROWS, -1), b"labels": labels.tolist(),
                   b"filenames": [b"x.png"] * ROWS}
        (folder / name).write_bytes(pickle.dumps(content, protocol))


@pytest.mark.parametrize("split, count", [("train", 5), ("test", 1)])
def test_binary_and_pickled_batches_give_the_same_images(tmp_path, batches, split, count):
    write_binary(tmp_path / "cifar-10-batches-bin", batches)
    write_pickles(tmp_path / "elsewhere", batches)
    names = cifar.BATCHES[split]
    for data in (load("cifar10", root=tmp_path, split=split), load(tmp_path / "elsewhere", split=split)):
        assert len(data) == ROWS * count
        assert np.array_equal(data.source.images, np.concatenate([batches[name][1] for name in names]))
        assert np.array_equal(data.targets, np.concatenate([batches[name][0] for name in names]))
        assert data.ids[1] == f"cifar10/{split}/1"


def test_a_cut_or_damaged_binary_batch_is_refused_by_name(tmp_path, batches):
    folder = tmp_path / "cifar-10-batches-bin"
    write_binary(folder, batches)
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"x", b"", bytes([10]) + whole[1:]):
        path.write_bytes(content)
        with pytest.raises(FileError, match=r"data_batch_3\.bin"):
            load("cifar10", root=tmp_path)
    path.unlink()
    with pytest.raises(FileError, match=r"lacks data_batch_3\.bin"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("labels", [list, np.asarray, lambda labels: np.asarray(labels, ">i4")])
def test_pickles_of_every_age_are_read(tmp_path, batches, protocol, labels):
    content = {b"data": np.asfortranarray(batches["test_batch"][1].transpose(0, 3, 1, 2).reshape(ROWS, -1)),
               b"labels": labels(batches["test_batch"][0].tolist())}
    write_pickles(tmp_path / "set", batches)
    (tmp_path / "set" / "test_batch").write_bytes(pickle.dumps(content, protocol))
    data = load(tmp_path / "set", split="test")
    assert np.array_equal(data.source.images, batches["test_batch"][1])
    assert data.targets.tolist() == batches["test_batch"][0].tolist()


def test_a_pickle_of_python_2_is_read(tmp_path, batches):
    labels, images = batches["test_batch"]
    raw = images.transpose(0, 3, 1, 2).tobytes()
    dtype = b"cnumpy\ndtype\n(U\2u1K\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1(K\3M\0\x0ct" + dtype
             + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb")
    write_pickles(tmp_path / "set", batches)
    (tmp_path / "set" / "test_batch").write_bytes(
        b"\x80\2}q\1(U\6labelsq\2](" + b"".join(b"K" + bytes([n]) for n in labels) + b"eU\4dataq\3" + array + b"u.")
    data = load(tmp_path / "set", split="test")
    assert np.array_equal(data.source.images, images) and data.targets.tolist() == labels.tolist()


OBJECTS = b"cnumpy\ndtype\n(U\2O8K\0K\1tR(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


@pytest.mark.parametrize("labels", [
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1(K\3t" + OBJECTS + b"\x89U\x18" + b"A" * 24
    + b"tb", b"cnumpy\nndarray\n(I8589934592\ntR", b"]" + b"q\0h\0h\0\x86" * 45 + b"\x85", b"](" + b"]" * 3 + b"e"])
def test_arrays_of_pointers_and_of_any_size_are_never_made(tmp_path, batches, labels):
    write_pickles(tmp_path / "set", batches)
    (tmp_path / "set" / "test_batch").write_bytes(b"\x80\2}(U\6labels" + labels + b"U\4dataK\1u.")
    with pytest.raises(FileError, match="test_batch is not a whole CIFAR-10 batch"):
        load(tmp_path / "set", split="test")


class _Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of the pickle ran')",)


@pytest.mark.parametrize("content", [
    b"", pickle.dumps(_Evil()), pickle.dumps({b"labels": [1]}), pickle.dumps([1, 2]),
    pickle.dumps({b"labels": [1, 2, 11], b"data": np.zeros((ROWS, 3072), np.uint8)}),
    pickle.dumps({b"labels": [1, 2, 3], b"data": np.zeros((ROWS, 3072))}),
    pickle.dumps({b"labels": [1, 2, 3], b"data": np.zeros((ROWS, 3072), np.uint8)})[:-2000]])
def test_a_pickle_that_is_no_batch_is_refused_and_its_code_never_runs(tmp_path, batches, content):
    write_pickles(tmp_path / "set", batches)
    (tmp_path / "set" / "test_batch").write_bytes(content)
    with pytest.raises(FileError, match="test_batch"):
        load(tmp_path / "set", split="test")


@pytest.mark.data
def test_cifar10_is_whole(real_data):
    real_data("cifar-10-batches-bin")
    train, test = load("cifar10"), load("cifar10", split="test")
    assert np.bincount(train.targets).tolist() == [5000] * 10
    assert np.bincount(test.targets).tolist() == [1000] * 10
    means = train.source.images.mean(axis=(0, 1, 2)) / 255
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)  # as everyone normalises
