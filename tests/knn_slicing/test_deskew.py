"""Deskewing: moments of the result, and SciPy's interpolation of the same shear."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mxelm.errors import InputError
from mxelm.knn_slicing.deskew import deskew


def stroke(slope, length=16, size=28):
    """A soft straight stroke through the centre, `slope` pixels to the left a row down."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.exp(-((x + slope * y) / 1.5) ** 2) * (abs(y) <= length / 2)
    return np.rint(255 * image).astype(np.uint8)


def moments(image):
    """Mass, mean row, mean column, mu02 (rows), mu11."""
    ink = image.astype(float)
    y, x = np.mgrid[:image.shape[0], :image.shape[1]]
    mean_y, mean_x = (y * ink).sum() / ink.sum(), (x * ink).sum() / ink.sum()
    return (ink.sum(), mean_y, mean_x, ((y - mean_y) ** 2 * ink).sum(), ((y - mean_y) * (x - mean_x) * ink).sum())


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.8, 0.8))
def test_a_slanted_stroke_comes_out_upright_where_it_was(slope):
    before = stroke(slope)
    after = deskew(before[None])[0]
    mass, mean_y, mean_x, mu02, mu11 = moments(after)
    assert abs(mu11 / mu02) < 0.01
    np.testing.assert_allclose([mass, mean_y, mean_x], moments(before)[:3], rtol=0.005)


def test_same_as_scipys_shear():
    rng = np.random.default_rng(0)
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 6:22, 9:19] = rng.integers(0, 256, (5, 16, 10)) * (rng.random((5, 16, 10)) < 0.5)
    for image, after in zip(images, deskew(images)):
        _, mean_y, _, mu02, mu11 = moments(image)
        skew = mu11 / mu02
        expected = ndimage.affine_transform(image.astype(float), [[1, 0], [skew, 1]], [0, -skew * mean_y], order=1)
        assert np.abs(after - expected).max() <= 0.5 + 1e-6


def test_blank_flat_and_upright_images_stay():
    images = np.zeros((3, 20, 14), np.uint8)
    images[1, 7, 3:9] = 200  # ink in one row
    images[2, 3:17, 6:8] = 90
    np.testing.assert_array_equal(deskew(images), images)


def test_blocks_and_empty_sets():
    images = np.stack([stroke(s) for s in np.linspace(-0.7, 0.7, 7)])
    many = np.tile(images, (300, 1, 1))  # more than one block
    np.testing.assert_array_equal(deskew(many), np.tile(deskew(images), (300, 1, 1)))
    assert deskew(images[:0]).shape == (0, 28, 28)


@pytest.mark.parametrize("images", [np.zeros((2, 28, 28)), np.zeros((28, 28), np.uint8)])
def test_what_cannot_be_is_refused(images):
    with pytest.raises(InputError, match="uint8 \\(n, height, width\\)"):
        deskew(images)
