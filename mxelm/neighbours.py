"""Exact k nearest neighbours by brute force: screened by a float32 product, decided in float64.

Neighbours are ordered by (distance, index): of references at one distance the one with the lower index comes first.
"""
from __future__ import annotations

from typing import Literal

import numpy as np

from mxelm.errors import InputError, require_choice, require_whole

METRICS = ("l2", "cosine")
WEIGHTS = ("uniform", "distance")
_SCREEN = 1 << 24  # entries of the screening matrix, queries x references: 64 MB
_SCREEN_ONE = 1 << 22  # the same where one neighbour is asked for, which takes little beside the product itself
_RIVALS = 64  # references that may be the nearest for all that float32 can tell; with more, all are ranked
_CHUNK = 1 << 21  # numbers taken from the references at once
_UNIT32, _UNIT64 = 2.0 ** -24, 2.0 ** -53  # unit roundoffs
_LARGEST32 = 1e18  # norms whose products float32 still holds


def nearest(queries: np.ndarray, references: np.ndarray, k: int, *, metric: Literal["l2", "cosine"] = "l2",
            block: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest references of each query: distances float64 (q, k) and indices int64 (q, k), nearest first.

    queries: (q, d), references: (n, d), real numbers. metric: "l2", or "cosine" for 1 - cos; a zero vector has
    cosine 0 to everything, itself included. block: queries at once, by default as many as keep the screening
    matrix at 64 MB; it changes nothing in the result.
    Raises InputError for a k that the references cannot give, NaN or infinite values, empty or unfitting matrices.
    """
    return References(references, metric=metric).nearest(queries, k, block=block)


class References:
    """References prepared for many searches: what does not depend on the queries is computed once.

    A float32 product screens candidates; their distances are computed again in float64 from differences, and the
    bound of the product's rounding error certifies that no other reference can belong to the k. What is not
    certified is screened again with more candidates, in the end with all.
    """

    def __init__(self, references: np.ndarray, *, metric: Literal["l2", "cosine"] = "l2") -> None:
        self.metric = require_choice("metric", metric, METRICS)
        self._points = _Points(_matrix(references, "references"), metric, "references")

    def nearest(self, queries: np.ndarray, k: int, *, block: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As the function `nearest`."""
        points, queries = self._points, _matrix(queries, "queries")
        n, d = points.rows.shape
        if queries.shape[1] != d:
            raise InputError(f"queries have {queries.shape[1]} columns and references {d}: they must come from the "
                             "same features")
        k = require_whole("k, the number of neighbours among the references,", k, 1, n)
        centres = _Points(queries, self.metric, "queries")
        squared, indices = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        if block is not None:
            require_whole("block, a number of queries,", block)
        block = block or max(1, min((_SCREEN_ONE if k == 1 else _SCREEN) // n, 4 * _CHUNK // d))
        for start in range(0, len(queries), block):
            rows, candidates = np.arange(start, min(start + block, len(queries))), 2 * k + 16
            if k == 1:
                squared[rows], indices[rows], certified = _search_one(centres, points, rows)
                rows = rows[~certified]
            while len(rows):
                squared[rows], indices[rows], certified = _search(centres, points, rows, k, candidates)
                rows, candidates = rows[~certified], 8 * candidates
        return (np.sqrt(squared) if self.metric == "l2" else squared / 2), indices


def vote(distances: np.ndarray, labels: np.ndarray, n_classes: int, *,
         weights: Literal["uniform", "distance"] = "uniform") -> np.ndarray:
    """The class with most votes for each query, int64 (q,); ties go to the smallest label.

    distances: (q, k), read for weights "distance" alone: a neighbour then counts 1 / distance, and where some lie at
    distance 0 only these count. labels: integers 0..n_classes-1 of the neighbours, (q, k).
    """
    labels = np.asarray(labels)
    require_choice("weights", weights, WEIGHTS)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or np.shape(distances) != labels.shape:
        raise InputError(f"labels of neighbours must be integers (q, k) as the distances are, got {labels.dtype} "
                         f"{labels.shape} and distances {np.shape(distances)}")
    if labels.size and not 0 <= labels.min() <= labels.max() < n_classes:
        raise InputError(f"labels must lie in 0..{n_classes - 1}, got {labels.min()}..{labels.max()}")
    counts = np.ones(labels.shape)
    if weights == "distance":
        zero = np.asarray(distances) == 0
        inverse = np.divide(1, distances, out=np.zeros(labels.shape), where=~zero)
        counts = np.where(zero.any(axis=1, keepdims=True), zero, inverse)
    votes = np.zeros((len(labels), n_classes))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), counts)
    return votes.argmax(axis=1)


class _Points:
    """Rows of a matrix, of unit length where the metric is the cosine distance: half a squared distance then."""

    def __init__(self, rows, metric, name):
        self.rows = rows
        self.squares = np.concatenate([np.einsum("ij,ij->i", part, part) for part in
                                       (rows[s].astype(np.float64) for s in _slices(rows))])
        if not np.isfinite(self.squares).all():
            bad = int(np.flatnonzero(~np.isfinite(self.squares))[0])
            raise InputError(f"row {bad} of the {name} holds NaN, infinite or too large values")
        self.norms, self.zero = None, None
        if metric == "cosine":
            norms = np.sqrt(self.squares)
            self.zero = norms == 0
            self.norms = np.where(self.zero, 1, norms)
            self.squares = np.ones(len(rows))  # a zero vector too: its screened distance comes out right, as 2 - 0
        self.factors = self._factors()

    def _factors(self):
        """What float32 products with the rows as they are must be multiplied by, or None where that is not safe."""
        if self.rows.dtype != np.float32:
            return None
        if self.norms is None:
            return np.float32(1)
        safe = self.norms.min() > 1 / _LARGEST32 and self.norms.max() < _LARGEST32
        return (1 / self.norms).astype(np.float32) if safe else None

    def take(self, index):
        """Rows at `index`, float64 (..., d)."""
        taken = self.rows[index].astype(np.float64)
        if self.norms is not None:
            taken /= self.norms[index][..., None]
        return taken


def _search(centres, points, rows, k, candidates):
    """Squared distances and indices (len(rows), k) of the best among so many candidates, and which are certified."""
    n = len(points.rows)
    reach = np.sqrt(max(points.squares.max(), centres.squares[rows].max()))
    if candidates >= n // 2 or candidates * points.rows.shape[1] > 4 * _CHUNK or reach > _LARGEST32:
        squared, indices = _in_full(centres, points, rows, k)
        return squared, indices, np.ones(len(rows), bool)
    screen = _screen(centres, points, rows)
    chosen = np.empty((len(rows), candidates), np.int64)
    for i, row in enumerate(screen):  # one by one: argpartition's own matrix of indices is twice as large
        chosen[i] = np.argpartition(row, candidates - 1)[:candidates]
    outside = np.take_along_axis(screen, chosen, axis=1).max(axis=1).astype(np.float64) + centres.squares[rows]
    del screen
    squared, indices = _best(_squared(centres, points, rows, chosen), chosen, k)
    d = points.rows.shape[1]
    certified = outside - _screening_error(centres, points, rows) > squared[:, -1] * (1 + 4 * (d + 4) * _UNIT64)
    return squared, indices, certified


def _search_one(centres, points, rows):
    """Squared distance and index (len(rows), 1) of the nearest, and whether they are certified.

    Whatever a product's rounding lets be nearest is compared from differences, where that is few: of a float32 product
    first, then of a float64 one for the rows that crowd too closely for it.
    """
    squared, indices, found = np.empty((len(rows), 1)), np.zeros((len(rows), 1), np.int64), np.zeros(len(rows), bool)
    small = np.sqrt(max(points.squares.max(), centres.squares[rows].max())) <= _LARGEST32
    for dtype, unit in ((np.float32, _UNIT32), (np.float64, _UNIT64)) if small else ():
        left = np.flatnonzero(~found)
        if not len(left):
            break
        screen = _screen(centres, points, rows[left], dtype)
        limit = (screen.min(axis=1) + 2 * _screening_error(centres, points, rows[left], unit)).astype(dtype)
        query, reference = np.divmod(np.flatnonzero(screen <= np.nextafter(limit, dtype(np.inf))[:, None]),
                                     screen.shape[1])
        rivals = np.bincount(query, minlength=len(left))
        few = rivals <= _RIVALS
        if few.any():
            first = np.cumsum(rivals) - rivals
            place = np.minimum(np.arange(rivals[few].max()), rivals[few, None] - 1)  # the last stands for those missing
            chosen, settled = reference[first[few, None] + place], left[few]
            squared[settled], indices[settled] = _best(_squared(centres, points, rows[settled], chosen), chosen, 1)
            found[settled] = True
    return squared, indices, found


def _screen(centres, points, rows, dtype=np.float32):
    """|r|^2 - 2 q.r computed in `dtype`, (len(rows), n)."""
    queries = -2 * centres.take(rows).astype(dtype)
    if points.factors is not None and dtype == np.float32:
        screen = queries @ points.rows.T
        screen *= points.factors
    else:
        screen = np.empty((len(rows), len(points.rows)), dtype)
        for part in _slices(points.rows):
            np.matmul(queries, points.take(part).astype(dtype).T, out=screen[:, part])
    screen += points.squares.astype(dtype)
    return screen


def _screening_error(centres, points, rows, unit=_UNIT32):
    """Bound of the screened values' error, (len(rows),).

    A dot product of d terms errs by at most about d u |q||r| in any order of summation (u = 2^-24 in float32), its
    factors' rounding and a division by |r| add up to 4 u |q||r|, and |r|^2 and the sum are rounded once each; products
    below float32's range may vanish altogether.
    """
    d = points.rows.shape[1]
    r = np.sqrt(points.squares.max())
    q = np.sqrt(centres.squares[rows])
    return 2.02 * (d + 8) * unit * q * r + 4 * unit * (r * r + q * q) + (d + 4) * 2.0 ** -120


def _squared(centres, points, rows, chosen):
    """Squared distances of queries to their candidates (len(rows), m), float64, from differences."""
    squared = np.empty(chosen.shape)
    step = max(1, _CHUNK // (chosen.shape[1] * points.rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = points.take(chosen[part])
        difference -= centres.take(rows[part])[:, None]
        np.einsum("qmd,qmd->qm", difference, difference, out=squared[part])
    if points.zero is not None:
        squared[points.zero[chosen] | centres.zero[rows][:, None]] = 2
    return squared


def _in_full(centres, points, rows, k):
    """Squared distances and indices of the k nearest, all references in float64."""
    squared, indices = np.full((len(rows), k), np.inf), np.full((len(rows), k), len(points.rows))
    for part in _slices(points.rows):
        index = np.broadcast_to(np.arange(len(points.rows))[part], (len(rows), len(points.rows[part])))
        found = _squared(centres, points, rows, index)
        squared, indices = _best(np.hstack([squared, found]), np.hstack([indices, index]), k)
    return squared, indices


def _best(squared, indices, k):
    """The first k in the order of (distance, index)."""
    order = np.lexsort((indices, squared), axis=-1)[:, :k]
    return np.take_along_axis(squared, order, axis=1), np.take_along_axis(indices, order, axis=1)


def _slices(rows):
    step = max(1, _CHUNK // max(rows.shape[1], 1))
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def _matrix(values, name):
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub" or not values.size:
        raise InputError(f"{name} must be a matrix of real numbers with rows and columns, got {values.dtype} "
                         f"{values.shape}")
    return values
