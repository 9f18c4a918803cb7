"""Kernels: features against SciPy's convolution, learned banks against their definitions, files against faults."""
import numpy as np
import pytest
from scipy.signal import correlate

from mxelm.containers import save_container
from mxelm.errors import FileError, InputError
from mxelm.knn_slicing import banks, kernels
from mxelm.knn_slicing.kernels import Kernels


@pytest.fixture(autouse=True)
def few_patches(monkeypatch):
    monkeypatch.setattr(banks, "PATCHES", 4000)


@pytest.fixture(scope="module")
def images():
    """200 images of blobs and strokes, 28x28."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    made = np.zeros((200, 28, 28))
    for image in made:
        for _ in range(4):
            cy, cx, a, b = *rng.uniform(6, 22, 2), *rng.uniform(1, 5, 2)
            image += np.exp(-((y - cy) / a) ** 2 - ((x - cx) / b) ** 2)
    return np.minimum(255 * made, 255).astype(np.uint8)


def layer(maps, weights, biases):
    """Float64 convolution, ReLU and pooling of one image's maps (c, h, w)."""
    out = np.stack([sum(correlate(m, w, "valid") for m, w in zip(maps, filt)) + b for filt, b in zip(weights, biases)])
    out = np.maximum(out, 0)
    h, w = (s // 2 * 2 for s in out.shape[1:])
    return out[:, :h, :w].reshape(len(out), h // 2, 2, w // 2, 2).max((2, 4))


def test_features_are_their_definition(images):
    bank = banks.random(1)
    rng = np.random.default_rng(0)
    bank = bank.replace(bias1=rng.normal(0, 0.1, 32), bias2=rng.normal(0, 0.1, 64))
    found, maps = kernels.features(images[:5], bank), kernels.pool1(images[:5], bank)
    assert found.shape == (5, 1600) and maps.shape == (5, 32, 13, 13) and found.dtype == maps.dtype == np.float32
    for image, row, first in zip(images, found, maps):
        expected = layer(image[None] / 255, bank.conv1, bank.bias1)
        np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(row, layer(expected, bank.conv2, bank.bias2).reshape(-1), rtol=1e-4, atol=1e-5)


def test_blocks_change_nothing(images):
    bank = banks.random(1, (4, 6))
    whole = kernels.features(images[:23], bank)
    np.testing.assert_allclose(kernels.features(images[:23], bank, block=5), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kernels.pool1(images[:23], bank, block=30), kernels.pool1(images[:23], bank))


@pytest.mark.parametrize("name", banks.BANKS)
def test_banks_are_functions_of_their_seed(images, name):
    first, again, other = (banks.BANKS[name](images, seed) for seed in (3, 3, 4))
    assert first.count == 18_816 and first.conv2.shape == (64, 32, 3, 3)
    assert np.array_equal(first.conv1, again.conv1) and np.array_equal(first.conv2, again.conv2)
    assert not np.array_equal(first.conv2, other.conv2)
    assert not first.bias1.any() and not first.bias2.any()


def test_random_banks():
    bank = banks.random(0)
    limit = np.sqrt(6 / (9 * (64 + 32)))
    assert 0.99 * limit < np.abs(bank.conv2).max() <= limit


def test_learned_kernels_have_unit_length(images):
    for bank in (banks.pca(images, 0, (12, 16)), banks.kmeans(images, 0, (12, 16))):
        for weights in (bank.conv1, bank.conv2):
            np.testing.assert_allclose(np.linalg.norm(weights.reshape(len(weights), -1), axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(bank.conv1.mean((1, 2, 3)), 0, atol=1e-5)


def test_centroids_find_the_clusters_of_whitened_patches():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 18))
    patches = (np.repeat(truth, 400, 0) + rng.normal(0, 0.05, (2000, 18))) @ np.diag(np.geomspace(0.2, 5, 18))
    found = banks._whitened_centroids(patches.astype(np.float32), 5, rng)
    centres = patches.reshape(5, 400, 18).mean(1)
    responses = found @ (centres - centres.mean(0)).T
    assert sorted(responses.argmax(0)) == [0, 1, 2, 3, 4]  # each cluster has a kernel that answers it most


def test_principal_components_come_in_both_signs_and_are_orthogonal(images):
    flat = banks.pca(images, 0, (12, 16)).conv1.reshape(12, 9)
    np.testing.assert_allclose(flat[:6] @ flat[:6].T, np.eye(6), atol=1e-5)
    np.testing.assert_array_equal(flat[6:], -flat[:6])


def test_files(images, tmp_path):
    bank = banks.random(5)
    bank.save(tmp_path / "bank")
    again = Kernels.load(tmp_path / "bank")
    assert np.array_equal(again.conv1, bank.conv1) and np.array_equal(again.conv2, bank.conv2)
    content = (tmp_path / "bank").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-100])
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    save_container(tmp_path / "foreign", "something", {}, {})
    save_container(tmp_path / "misshapen", kernels.KIND, {}, {"conv1": np.zeros((2, 1, 3, 3))})
    for name in ("cut", "flipped", "foreign", "misshapen", "missing"):
        with pytest.raises(FileError, match=name):
            Kernels.load(tmp_path / name)


def test_what_cannot_be_is_refused(images):
    bank = banks.random(0)
    with pytest.raises(InputError, match="conv2 must have shape"):
        bank.replace(conv2=bank.conv2[:, :5])
    with pytest.raises(InputError, match="bias1 holds NaN"):
        bank.replace(bias1=np.full(32, np.nan))
    with pytest.raises(InputError, match="uint8"):
        kernels.features(images / 255, bank)
    with pytest.raises(InputError, match="at least 10x10"):
        kernels.features(images[:, :8, :8], bank)
    with pytest.raises(InputError, match="too few patches"):
        banks.kmeans(np.zeros((50, 28, 28), np.uint8), 0)
