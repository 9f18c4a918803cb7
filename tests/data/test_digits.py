import numpy as np
from sklearn.datasets import load_digits

from mxelm.data import load


def test_digits_are_scikit_learns_with_grey_levels_spread():
    data, original = load("digits"), load_digits()
    assert len(data) == 1797
    assert data.classes == [str(i) for i in range(10)]
    assert np.array_equal(data.targets, original.target)
    images = np.stack([data.image(i) for i in range(len(data))])
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert np.abs(images - original.images * 255 / 16).max() <= 0.5
    assert data.ids[5] == "digits/all/5"
