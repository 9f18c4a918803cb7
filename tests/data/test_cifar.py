import pickle

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
    for data in (load("cifar10", tmp_path, split=split), load(tmp_path / "elsewhere", split=split)):
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
            load("cifar10", tmp_path)
    path.unlink()
    with pytest.raises(FileError, match=r"lacks data_batch_3\.bin"):
        load("cifar10", tmp_path)


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
