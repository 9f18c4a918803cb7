"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels that need no download."""
from __future__ import annotations

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource


def read() -> Dataset:
    """The digits as a Dataset of 10 classes; their 17 grey levels 0..16 are spread over 0..255.

    Source: scikit-learn, `load_digits` (a copy of the test set of UCI's Optical Recognition of Handwritten Digits).
    """
    from sklearn.datasets import load_digits
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return Dataset(ArraySource(images, "digits/all"), digits.target, [str(d) for d in range(10)], "digits")
