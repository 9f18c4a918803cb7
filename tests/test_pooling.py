import numpy as np
import pytest

from mxelm import pooling
from mxelm.runtime import mx

MAPS = np.random.default_rng(0).normal(0, 1, (3, 5, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.array, mx.nd.array])
def test_the_mean_and_the_deviation_are_those_of_float64(kind):
    exact = MAPS.astype(np.float64)
    np.testing.assert_allclose(pooling.mean(kind(MAPS)), exact.mean((2, 3)), atol=1e-6)
    found = pooling.mean_and_deviation(kind(MAPS))
    np.testing.assert_allclose(found[:, 0::2], np.abs(exact).mean((2, 3)), atol=1e-6)
    np.testing.assert_allclose(found[:, 1::2], np.abs(exact).std((2, 3)), atol=1e-6)
    assert found.dtype == np.float32


def test_rows_are_their_own_mean():
    np.testing.assert_array_equal(pooling.mean(MAPS[:, :, 0, 0]), MAPS[:, :, 0, 0])


def test_rows_get_length_one_but_for_zeros():
    rows = np.array([[3, 4], [0, 0], [-1e-3, 0]], np.float32)
    np.testing.assert_allclose(pooling.l2_normalised(rows), [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)
    assert pooling.l2_normalised(rows).dtype == np.float32
