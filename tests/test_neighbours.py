"""Exact neighbours: against a float64 reference with its own rule for ties, and against scikit-learn without ties."""
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from mxelm import neighbours
from mxelm.errors import InputError
from mxelm.neighbours import References, nearest, vote


def reference(queries, references, k, metric):
    """All float64 distances, sorted by (distance, index)."""
    q, r = (np.asarray(x, np.float64) for x in (queries, references))
    if metric == "cosine":
        norms = [np.sqrt(np.einsum("nd,nd->n", x, x)) for x in (q, r)]
        zero = (norms[0] == 0)[:, None] | (norms[1] == 0)
        q, r = (x / np.where(n == 0, 1, n)[:, None] for x, n in zip((q, r), norms))
    difference = q[:, None] - r
    squared = np.einsum("qnd,qnd->qn", difference, difference)
    distances = np.where(zero, 1, squared / 2) if metric == "cosine" else np.sqrt(squared)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, 1), indices


def screened_only(monkeypatch):
    """Let nothing be computed in full, which is how the certificates are seen at work."""
    def refuse(*_):
        raise AssertionError("computed in full")
    monkeypatch.setattr(neighbours, "_in_full", refuse)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_same_as_float64(metric, dtype):
    rng = np.random.default_rng(0)
    queries, references = ((255 * rng.random((n, 30))).astype(dtype) for n in (37, 400))
    for got, expected in zip(nearest(queries, references, 9, metric=metric), reference(queries, references, 9, metric)):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_usual_data_is_certified_by_the_first_screening(metric, monkeypatch):
    rng = np.random.default_rng(1)
    queries, references = (rng.random((n, 20)).astype(np.float32) for n in (50, 2000))
    screened_only(monkeypatch)
    found = nearest(queries, references, 5, metric=metric)
    np.testing.assert_array_equal(found[1], reference(queries, references, 5, metric)[1])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_heavy_ties_go_to_the_lowest_index(metric):
    rng = np.random.default_rng(2)
    queries, references = rng.integers(0, 3, (40, 3)), rng.integers(0, 3, (3000, 3))  # 27 points
    distances, indices = nearest(queries, references, 9, metric=metric)
    expected = reference(queries, references, 9, metric)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_array_equal(distances, expected[0])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_differences_that_float32_does_not_see(metric):
    rng = np.random.default_rng(3)
    base = rng.random(8) * 1000
    references = base + rng.normal(0, 1e-7, (1000, 8))
    queries = base + rng.normal(0, 1e-7, (11, 8))
    np.testing.assert_array_equal(nearest(queries, references, 7, metric=metric)[1],
                                  reference(queries, references, 7, metric)[1])


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e-20, 1e15, 1e25, 1e140])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_any_scale(scale, metric):
    rng = np.random.default_rng(4)
    queries, references = (rng.normal(size=(n, 6)) * scale for n in (5, 300))
    np.testing.assert_array_equal(nearest(queries, references, 4, metric=metric)[1],
                                  reference(queries, references, 4, metric)[1])


def test_one_far_reference_spoils_no_other():
    rng = np.random.default_rng(5)
    queries, references = rng.normal(size=(5, 6)), rng.normal(size=(300, 6))
    references[17] *= 1e9
    np.testing.assert_array_equal(nearest(queries, references, 4)[1], reference(queries, references, 4, "l2")[1])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_blocks_change_nothing(metric, monkeypatch):
    rng = np.random.default_rng(6)
    queries, references = (rng.random((n, 12)).astype(np.float32) for n in (45, 500))
    whole = nearest(queries, references, 6, metric=metric)
    monkeypatch.setattr(neighbours, "_CHUNK", 100)
    for block in (1, 7, 45, 1000):
        for got, expected in zip(nearest(queries, references, 6, metric=metric, block=block), whole):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("block", [0, -1, 2.5])
def test_a_block_is_a_number_of_queries(block):
    with pytest.raises(InputError, match=f"of at least 1, got {block}"):
        nearest(np.eye(3), np.eye(3), 1, block=block)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_memory_does_not_grow_with_long_rows(metric, monkeypatch):
    rng = np.random.default_rng(8)
    queries, references = (rng.random((n, 4000)).astype(np.float32) for n in (40, 600))
    queries[0] = 0  # which no screening can certify under cosine
    monkeypatch.setattr(neighbours, "_CHUNK", 1 << 15)
    tracemalloc.start()
    nearest(queries, references, 9, metric=metric)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6  # the references alone, in float64, are 19 MB


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_memory_is_that_of_a_block(metric, monkeypatch):
    rng = np.random.default_rng(7)
    queries, references = (rng.random((n, 16)).astype(np.float32) for n in (200, 20000))
    monkeypatch.setattr(neighbours, "_SCREEN", 1 << 17)
    monkeypatch.setattr(neighbours, "_CHUNK", 1 << 14)
    tracemalloc.start()
    nearest(queries, references, 9, metric=metric)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 < queries.shape[0] * references.shape[0] * 4 / 3  # of the whole matrix's 16 MB


def test_references_serve_many_searches():
    rng = np.random.default_rng(8)
    queries, references = rng.random((9, 5)), rng.random((70, 5))
    index = References(references, metric="cosine")
    for part in (queries[:4], queries[4:]):
        for got, expected in zip(index.nearest(part, 3), nearest(part, references, 3, metric="cosine")):
            np.testing.assert_array_equal(got, expected)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-4, 4, width=16)),
       arrays(np.float32, st.tuples(st.integers(1, 90), st.just(3)), elements=st.floats(-4, 4, width=16)),
       st.integers(1, 5), st.sampled_from(["l2", "cosine"]))
def test_any_data(queries, references, k, metric):
    k = min(k, len(references))
    for got, expected in zip(nearest(queries, references, k, metric=metric), reference(queries, references, k, metric)):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.integers(1, 12), st.sampled_from(["l2", "cosine"]),
       st.sampled_from(["uniform", "distance"]))
def test_scikit_learns_neighbours_and_votes(seed, k, metric, weights):
    rng = np.random.default_rng(seed)
    queries, references = rng.normal(size=(30, 5)), rng.normal(size=(120, 5))  # ties have probability zero
    labels = rng.integers(0, 4, 120)
    distances, indices = nearest(queries, references, k, metric=metric)
    of_sklearn = NearestNeighbors(n_neighbors=k, metric="euclidean" if metric == "l2" else metric, algorithm="brute")
    expected = of_sklearn.fit(references).kneighbors(queries)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(distances, expected[0], rtol=1e-7, atol=1e-12)
    classifier = KNeighborsClassifier(k, weights=weights, algorithm="brute", metric=of_sklearn.metric)
    np.testing.assert_array_equal(vote(distances, labels[indices], 4, weights=weights),
                                  classifier.fit(references, labels).predict(queries))


def test_zero_vectors_have_cosine_zero_to_everything():
    references = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 2]])
    distances, indices = nearest([[0, 0], [3, 0]], references, 4, metric="cosine")
    np.testing.assert_array_equal(distances, [[1, 1, 1, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3], [1, 0, 3, 2]])


def test_votes():
    labels = np.array([[2, 1, 1, 2], [0, 1, 1, 1]])
    distances = np.array([[1.0, 2, 2, 4], [0.0, 1, 1, 1]])
    assert vote(distances, labels, 3).tolist() == [1, 1]  # two against two: the smallest label
    assert vote(distances, labels, 3, weights="distance").tolist() == [2, 0]  # 1.25 against 1; distance 0 alone counts


@pytest.mark.parametrize("queries, references, k, message", [
    (np.ones((2, 3)), np.ones((4, 3)), 5, "must be a whole number from 1 to 4, got 5"),
    (np.ones((2, 3)), np.ones((4, 3)), 0, "got 0"),
    (np.ones((2, 3)), np.ones((4, 3)), 1.5, "must be a whole number from 1 to 4, got 1.5"),
    (np.ones((2, 3)), np.ones((4, 2)), 1, "3 columns and references 2"),
    (np.ones((0, 3)), np.ones((4, 3)), 1, "queries must be a matrix"),
    (np.ones((2, 3)), np.ones((0, 3)), 1, "references must be a matrix"),
    (np.ones(3), np.ones((4, 3)), 1, "queries must be a matrix"),
    (np.ones((2, 3)), np.array([[1, 2, 3], [np.nan, 1, 1]]), 1, "row 1 of the references holds NaN"),
    (np.array([[np.inf, 1, 1]]), np.ones((4, 3)), 1, "row 0 of the queries holds NaN, infinite"),
    (np.array([["a", "b", "c"]]), np.ones((4, 3)), 1, "real numbers"),
])
def test_what_cannot_be_is_refused(queries, references, k, message):
    with pytest.raises(InputError, match=message):
        nearest(queries, references, k)


def test_unknown_words_and_unfitting_labels_are_refused():
    with pytest.raises(InputError, match="metric 'l1'"):
        nearest(np.ones((2, 3)), np.ones((4, 3)), 1, metric="l1")
    with pytest.raises(InputError, match="weights 'rank'"):
        vote(np.ones((1, 2)), np.zeros((1, 2), int), 1, weights="rank")
    with pytest.raises(InputError, match="as the distances are"):
        vote(np.ones((1, 3)), np.zeros((1, 2), int), 1)
    with pytest.raises(InputError, match="0..1, got 0..2"):
        vote(np.ones((1, 2)), np.array([[0, 2]]), 2)


@pytest.mark.parametrize("crowding", [0, 1e-9, 1e-6, 1e-3, 1])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_the_nearest_of_references_that_crowd(crowding, metric):
    """What float32 cannot tell apart is decided in float64; copies of one reference by their order."""
    rng = np.random.default_rng(0)
    centre = rng.random(20) + 0.5
    references = centre * (1 + crowding * rng.normal(size=(400, 20)))
    queries = centre * (1 + crowding * rng.normal(size=(30, 20)))
    distances, indices = nearest(queries, references, 1, metric=metric)
    every, order = nearest(queries, references, 400, metric=metric)
    np.testing.assert_array_equal(indices[:, 0], order[:, 0])
    np.testing.assert_array_equal(distances[:, 0], every[:, 0])
