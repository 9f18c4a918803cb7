"""What a channel's lists of nearest references say of its candidates: exact votes, and the smooth probability.

channel: an L2Channel or CosineChannel. queries, references: what these answer to each candidate, float32
(q, positions, candidates) and (r, positions, candidates). run: `map`, or a thread pool's.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Union

import numpy as np

from mxelm.knn_slicing.evolution import channel_distances

Channel = Union[channel_distances.L2Channel, channel_distances.CosineChannel]
_QUERIES = 64  # whose lists are ranked at once
_FLOOR = 1e-12  # least probability that the logarithm sees: a hopeless query is no reason to move


def votes(channel: Channel, queries: np.ndarray, references: np.ndarray, *, labels: np.ndarray, k: int, n_classes: int,
          run: Callable) -> np.ndarray:
    """The class that the k nearest give each query, int64 (candidates, queries).

    The lists decide where they certify the k nearest; the other queries are measured against all references.
    labels: int64 (r,), classes of the references.
    """
    found = np.empty((queries.shape[2], len(queries)), np.int64)
    undecided = np.empty(found.shape, bool)

    def ranked(start):
        part = slice(start, start + _QUERIES)
        totals = channel.totals(part, queries, references)
        order = np.argpartition(totals, (k - 1, k), axis=2)[..., :k + 1]
        edge = np.take_along_axis(totals, order[..., -2:], axis=2)
        kth, following = edge[..., 0], np.minimum(edge[..., 1], channel.bound(part, queries))
        undecided[:, part] = ~(following - kth > channel.tolerance(kth, queries.shape[1])).T
        near = labels[channel.index[part]][np.arange(len(order))[:, None, None], order[..., :k]]
        counts = np.stack([(near == c).sum(axis=2) for c in range(n_classes)], axis=2)
        found[:, part] = counts.argmax(axis=2).T

    def completed(candidate):
        some = np.flatnonzero(undecided[candidate])
        if len(some):
            distances = channel.rows(some, queries[some, :, candidate], references[:, :, candidate])
            found[candidate, some] = channel_distances.votes(distances, labels, k, n_classes=n_classes,
                                                             rounding=channel.whole.rounding)

    _done(run(ranked, range(0, len(queries), _QUERIES)))
    _done(run(completed, range(len(found))))
    return found


def log_probability(channel: Channel, queries: np.ndarray, references: np.ndarray, *, labels: np.ndarray,
                    right: np.ndarray, tau: float, run: Callable) -> np.ndarray:
    """Mean log-probability of the right class when the listed references vote with exp(-D / tau): (candidates,).

    labels: int64 (r,), classes of the references. right: int64 (q,), those of the queries.
    """
    logs = np.empty((queries.shape[2], len(queries)))

    def one(start):
        part = slice(start, start + _QUERIES)
        totals = channel.totals(part, queries, references)
        shares = np.exp(((totals.min(axis=2, keepdims=True) - totals) / tau).astype(np.float32))
        same = (labels[channel.index[part]] == right[part][:, None]).astype(np.float32)
        logs[:, part] = log(np.einsum("blm,bm->bl", shares, same) / shares.sum(axis=2)).T

    _done(run(one, range(0, len(queries), _QUERIES)))
    return logs.mean(axis=1)


def log(probability: np.ndarray) -> np.ndarray:
    """The logarithm, of nothing below 1e-12."""
    return np.log(np.maximum(probability, _FLOOR))


def _done(results):
    """Wait for all of a map's results, which are None."""
    for _ in results:
        pass
