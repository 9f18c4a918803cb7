"""Distances that are sums over channels: when one channel changes, only its share is computed again.

Squared L2: D = D_fixed + |q_c - r_c|^2. Cosine: the dot product and both squared norms are such sums.
A `...Channel` keeps, for one channel, the `listed` references of each query that are nearest without it. A candidate
for the channel is measured against these alone, and `bound` says how near any reference outside the list can be;
if that is not far enough, `rows` gives the distances to all references. Queries, references and features are
float32; sums over channels are float64.
"""
from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

METRICS = ("l2", "cosine")
_CACHED = 4  # queries whose lists are measured at once: their differences stay in a core's cache
_ZERO = 1e-12  # of the largest squared norm: what subtraction leaves of a part that is zero
_UNIT = 2.0 ** -24  # float32's rounding unit


class L2:
    """Squared Euclidean distances between queries (q, positions, channels) and references (r, ...), float64 (q, r).

    excluded: bool (q, r), pairs that never are neighbours: a query that is itself among the references.
    """

    def __init__(self, queries: np.ndarray, references: np.ndarray, excluded: np.ndarray) -> None:
        queries, references = _flat(queries), _flat(references)
        q2, r2 = (np.einsum("ij,ij->i", x, x) for x in (queries, references))
        self.distances = queries @ references.T
        self.distances *= -2
        self.distances += q2[:, None]
        self.distances += r2
        np.maximum(self.distances, 0, out=self.distances)
        self.distances[excluded] = np.inf
        self.rounding = 1e-12 * (q2.max(initial=0) + r2.max(initial=0))

    def channel(self, queries: np.ndarray, references: np.ndarray, listed: int) -> L2Channel:
        """The parts for a search of one channel, whose responses are (q, positions) and (r, positions) now."""
        return L2Channel(self, queries, references, listed)


class L2Channel:
    """One channel of an L2 distance; see the module."""

    def __init__(self, whole: L2, queries: np.ndarray, references: np.ndarray, listed: int) -> None:
        self.whole, self.now = whole, (queries, references)
        fixed = whole.distances - cdist(queries, references, "sqeuclidean")
        self.index, self.next = _nearest(fixed, listed)
        self.fixed = np.take_along_axis(fixed, self.index, axis=1)

    def totals(self, part: slice, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Distances of the queries of slice `part` to their lists: float64 (b, candidates, listed)."""
        index, queries = self.index[part], queries[part]
        shares = np.empty((*index.shape, queries.shape[2]), np.float32)
        for start in range(0, len(index), _CACHED):
            some = slice(start, start + _CACHED)
            difference = references[index[some]]
            difference -= queries[some, None]
            np.einsum("bmpl,bmpl->bml", difference, difference, out=shares[some])
        return self.fixed[part][:, None, :] + shares.transpose(0, 2, 1)

    def bound(self, part: slice, queries: np.ndarray) -> np.ndarray:
        """No reference outside the list is nearer than this, (b, 1): a channel's share is never negative."""
        return self.next[part][:, None]

    def tolerance(self, kth: np.ndarray, positions: int) -> np.ndarray:
        """How much float32 shares may move distances about `kth`."""
        return 2 * (positions + 4) * _UNIT * kth + self.whole.rounding

    def rows(self, some: np.ndarray, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Distances of queries `some` to all references, with the channel's responses (s, positions), (r, ...)."""
        before = cdist(self.now[0][some], self.now[1], "sqeuclidean")
        return self.whole.distances[some] - before + cdist(queries, references, "sqeuclidean")


class Cosine:
    """Cosine distances 1 - cos, as `L2`; a zero vector is at distance 1 from everything."""

    rounding = 1e-12

    def __init__(self, queries: np.ndarray, references: np.ndarray, excluded: np.ndarray) -> None:
        queries, references = _flat(queries), _flat(references)
        self.q2, self.r2 = (np.einsum("ij,ij->i", x, x) for x in (queries, references))
        self.zero = _ZERO * max(self.q2.max(initial=0), self.r2.max(initial=0), np.finfo(np.float32).tiny)
        self.dots = queries @ references.T
        self.dots[excluded] = -np.inf  # at an infinite distance

    @property
    def distances(self) -> np.ndarray:
        """float64 (q, r)."""
        return self.of(self.dots, self.q2[:, None], self.r2)

    def of(self, dots: np.ndarray, q2: np.ndarray, r2: np.ndarray) -> np.ndarray:
        """1 - cos from dot products and squared norms, into which all channels have gone."""
        return 1 - dots / np.sqrt(np.maximum(q2, self.zero) * np.maximum(r2, self.zero))

    def channel(self, queries: np.ndarray, references: np.ndarray, listed: int) -> CosineChannel:
        """The parts for a search of one channel, whose responses are (q, positions) and (r, positions) now."""
        return CosineChannel(self, queries, references, listed)


class CosineChannel:
    """One channel of a cosine distance; see the module."""

    def __init__(self, whole: Cosine, queries: np.ndarray, references: np.ndarray, listed: int) -> None:
        self.whole, self.now = whole, (queries.astype(np.float64), references.astype(np.float64))
        q, r = self.now
        self.q2 = np.maximum(whole.q2 - _squares(q), 0)
        r2 = np.maximum(whole.r2 - _squares(r), 0)
        dots = whole.dots - q @ r.T
        self.index, self.next = _nearest(whole.of(dots, self.q2[:, None], r2), listed)
        self.dots, self.r2 = np.take_along_axis(dots, self.index, axis=1), r2[self.index]

    def totals(self, part: slice, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Distances of the queries of slice `part` to their lists: float64 (b, candidates, listed)."""
        index, queries = self.index[part], queries[part]
        shape = (*index.shape, queries.shape[2])
        dots, squares = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for start in range(0, len(index), _CACHED):
            some = slice(start, start + _CACHED)
            near = references[index[some]]
            np.einsum("bmpl,bpl->bml", near, queries[some], out=dots[some])
            np.einsum("bmpl,bmpl->bml", near, near, out=squares[some])
        q2 = self.q2[part][:, None, None] + _squares(queries)[..., None]
        r2 = self.r2[part][:, None, :] + squares.transpose(0, 2, 1)
        return self.whole.of(self.dots[part][:, None, :] + dots.transpose(0, 2, 1), q2, r2)

    def bound(self, part: slice, queries: np.ndarray) -> np.ndarray:
        """No reference outside the list is nearer than this, (b, candidates).

        With t the angle of the fixed parts and a, b the angles by which the channel turns query and reference:
        cos = cos a cos b cos t + sin a sin b cos(...) <= sqrt(cos^2 a cos^2 t + sin^2 a), whatever b is.
        """
        share = _squares(queries[part])
        sine2 = share / np.maximum(self.q2[part][:, None] + share, self.whole.zero)
        cosine = np.maximum(1 - self.next[part], 0)[:, None]
        return 1 - np.sqrt((1 - sine2) * cosine ** 2 + sine2)

    def tolerance(self, kth: np.ndarray, positions: int) -> float:
        """How much float32 shares may move a distance: a dot product and two squared norms, on both sides."""
        return 4 * (positions + 4) * _UNIT

    def rows(self, some: np.ndarray, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Distances of queries `some` to all references, with the channel's responses (s, positions), (r, ...)."""
        queries, references = queries.astype(np.float64), references.astype(np.float64)
        dots = self.whole.dots[some] - self.now[0][some] @ self.now[1].T + queries @ references.T
        q2 = self.whole.q2[some] - _squares(self.now[0][some]) + _squares(queries)
        r2 = self.whole.r2 - _squares(self.now[1]) + _squares(references)
        return self.whole.of(dots, q2[:, None], r2)


WHOLE = {"l2": L2, "cosine": Cosine}


def votes(distances: np.ndarray, labels: np.ndarray, k: int, *, n_classes: int, rounding: float) -> np.ndarray:
    """The class with most votes among the k nearest of distances (q, r), int64 (q,); ties to the smallest label.

    Neighbours are ordered by (distance, index); distances that differ by no more than `rounding` are equal.
    """
    kth = np.partition(distances, k - 1, axis=1)[:, k - 1:k]
    within = distances <= kth + rounding
    for i in np.flatnonzero(within.sum(axis=1) > k):
        surely = distances[i] < kth[i] - rounding
        level = np.flatnonzero(within[i] & ~surely)
        within[i, level[k - int(surely.sum()):]] = False
    return (within.astype(np.float32) @ np.eye(n_classes, dtype=np.float32)[labels]).argmax(axis=1)


def _nearest(values, count):
    """Indices (q, count) of the smallest of values (q, r), in the order of their index, and the next value (q,)."""
    if count >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape), np.full(len(values), np.inf)
    order = np.argpartition(values, count, axis=1)
    following = np.take_along_axis(values, order[:, count:count + 1], axis=1)[:, 0]
    return np.sort(order[:, :count], axis=1), following


def _squares(x):
    """Sums of squares over axis 1, float64."""
    return np.einsum("ij...,ij...->i...", x, x).astype(np.float64)


def _flat(x):
    return x.reshape(len(x), -1).astype(np.float64)
