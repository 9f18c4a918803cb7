"""Distorted copies: other images of the same kind, the same for the same seed."""
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from mxelm.errors import InputError
from mxelm.knn_slicing.engine import distortions
from mxelm.knn_slicing.engine.distortions import distort


@pytest.fixture
def images():
    made = np.zeros((40, 28, 28), np.uint8)
    made[:, 8:20, 12:15] = 200
    made[:, 8:10, 10:19] = 255
    return made


def test_without_strength_nothing_changes(images):
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(distort(noise, np.random.default_rng(1), 0), noise)


def test_every_copy_differs_a_little(images):
    made = distort(images, np.random.default_rng(0))
    assert made.dtype == np.uint8 and made.shape == images.shape
    assert len({image.tobytes() for image in made}) == len(images)
    ink = made.sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    assert ink.min() > 0.6 and ink.max() < 1.6 and abs(ink.mean() - 1) < 0.1


def test_a_seed_repeats_whatever_the_blocks(images, monkeypatch):
    first = distort(images, np.random.default_rng(0))
    np.testing.assert_array_equal(first, distort(images, np.random.default_rng(0)))
    assert (first != distort(images, np.random.default_rng(1))).any()


def test_sampling_is_bilinear_and_black_outside():
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (6, 12, 9), dtype=np.uint8)
    rows, columns = (rng.uniform(-4, size + 3, images.shape).astype(np.float32) for size in images.shape[1:])
    found = distortions._sampled(images, rows, columns)
    for image, y, x, made in zip(images, rows, columns, found):
        expected = map_coordinates(image.astype(float), [y, x], order=1, mode="grid-constant", cval=0)
        assert np.abs(made - expected).max() <= 0.51


def test_displacements_have_the_deviation_they_should_have():
    assert distortions._blend(28).shape == (28, distortions.KNOTS)
    field = distortions._blend(28) @ np.random.default_rng(0).normal(
        size=(4000, distortions.KNOTS, distortions.KNOTS)) @ distortions._blend(28).T
    np.testing.assert_allclose(field.std(axis=0), 1, atol=0.06)


@pytest.mark.parametrize("images", [np.zeros((2, 28, 28)), np.zeros((28, 28), np.uint8)])
def test_other_arrays_are_refused(images):
    with pytest.raises(InputError, match="uint8"):
        distort(images, np.random.default_rng(0))
