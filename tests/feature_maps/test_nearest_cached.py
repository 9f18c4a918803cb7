import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine

from mxelm.errors import InputError
from mxelm.feature_maps.search import Nearest, distance
from mxelm.pooling import mean_and_deviation


def test_the_descriptor_and_the_distance_by_hand():
    """docs/feature-maps.md: two maps of 2x2, |F| counts."""
    maps = np.array([[[[1, -3], [0, 0]], [[2, 2], [2, 2]]]], np.float32)
    V = mean_and_deviation(maps)
    np.testing.assert_allclose(V, [[1, np.sqrt(1.5), 2, 0]], rtol=1e-6)
    assert distance(V[0], [1, 0, 2, 2]) == pytest.approx(0.346, abs=5e-4)
    assert distance([1, 0], [0, 1]) == 1 and distance([1, 1], [2, 2]) == pytest.approx(0)
    assert distance([1, 0], [0, 0]) == 1


@settings(max_examples=20)
@given(st.integers(0, 2 ** 32 - 1), st.integers(1, 200), st.integers(1, 9))
def test_nearest_agrees_with_the_distance_as_printed(seed, n, d):
    rng = np.random.default_rng(seed)
    cached = rng.integers(0, 4, (n, d)).astype(np.float32)
    asked = rng.integers(0, 4, (7, d)).astype(np.float32)
    D, number = Nearest(cached)(asked)
    for u, found, i in zip(asked, D, number):
        if not u.any():
            assert found == np.inf
            continue
        every = np.array([distance(u, t) for t in cached])
        assert found == pytest.approx(every.min(), abs=1e-12) and every[i] == pytest.approx(every.min(), abs=1e-12)


@given(arrays(np.float32, (2, 5), elements=st.floats(0.0625, 4, width=16)))
def test_the_distance_is_scipys(vectors):
    assert distance(*vectors) == pytest.approx(cosine(*vectors.astype(float)), abs=1e-9)


def test_hnsw_finds_nearly_all(monkeypatch):
    pytest.importorskip("hnswlib")
    rng = np.random.default_rng(0)
    cached, asked = rng.random((500, 16), np.float32), rng.random((100, 16), np.float32)
    exact, found = Nearest(cached)(asked), Nearest(cached, "hnsw")(asked)
    assert np.mean(exact[1] == found[1]) > 0.95
    np.testing.assert_allclose(found[0][exact[1] == found[1]], exact[0][exact[1] == found[1]], atol=1e-5)


def test_another_way_is_refused():
    with pytest.raises(InputError, match="'fast' is not known: use blas or hnsw"):
        Nearest(np.ones((2, 2), np.float32), "fast")
