"""Fitness of convolution kernels: how well k-NN classifies training images by training images.

The exact shortcut: after a layer's ReLU and pooling a channel depends on its own filter alone, so a candidate for one
filter is measured by its channel's share of every distance (see `channel_distances`), against the nearest references
without that channel; the few queries whose votes these lists do not certify are computed in full.
"""
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mxelm.errors import InputError, require_choice, require_whole
from mxelm.knn_slicing.convolution import convolve_all, pool, pooled_side, respond
from mxelm.knn_slicing.evolution import channel_distances
from mxelm.knn_slicing.evolution.candidates import digest, layer_of, plugged, vector_of
from mxelm.runtime import blas_threads

KINDS = ("accuracy", "nca")
_QUERIES = 64  # whose lists are ranked at once
_FLOOR = 1e-12  # least probability that the logarithm sees: a hopeless query is no reason to move


class KernelFitness:
    """k-NN among training images as a function of the kernels.

    images: uint8 (n, 28, 28), training images only. labels: integers from 0, (n,). references: indices of those that
    vote; a query that is among them does not vote for itself, so hold-out and leave-one-out differ in the queries.
    kind: "accuracy" of the k nearest, exact; or "nca", the mean log-probability of the right class when references
        vote with exp(-D / tau) (Goldberger et al., "Neighbourhood Components Analysis", 2004): smooth. For one filter
        the votes are summed over the `listed` references that are nearest without its channel, exactly; that is all
        of them where listed is as large. It orders candidates as the whole sum does, but for a few.
    metric: "l2" (D squared) or "cosine". conv1: filters of the first layer are judged by the maps they give
        ("pool1", 13 x 13 x 32) or "conv2", by what the second layer makes of these (slow: every channel changes).
    threads: threads of this process; they do not change any bit.
    Raises InputError for unknown options, sizes that do not match, one class only, a k the references cannot give.
    """

    TAU = 0.2  # in medians of the k-th neighbour's distance; chosen on training images that no search saw

    def __init__(self, images, labels, references, kind="nca", metric="l2", k=9, listed=64, conv1="pool1", threads=1):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 3 or min(images.shape[1:]) < 10:
            raise InputError(f"images must be uint8 (n, height, width) of 10x10 or more, got {images.dtype} "
                             f"{images.shape}")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
            raise InputError(f"labels must be integers from 0, one for each of {len(images)} images; got "
                             f"{labels.dtype} {labels.shape}")
        for name, value, known in (("kind", kind, KINDS), ("metric", metric, channel_distances.METRICS),
                                   ("conv1", conv1, ("pool1", "conv2"))):
            require_choice(name, value, known)
        self.images, self.labels, self.n_classes = images, labels.astype(np.int64), int(labels.max(initial=0)) + 1
        self.references = self.indices_of(references, "references")
        if len(np.unique(self.labels[self.references])) < 2:
            raise InputError("the references have one class only: there is nothing to tell apart")
        self.kind, self.metric, self.conv1 = kind, metric, conv1
        self.k = require_whole("k (at most the number of references less two)", k, 1, len(self.references) - 2)
        self.threads = require_whole("threads", threads)
        self.listed = max(listed, k + 1)
        self._forget()

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._forget()

    def _forget(self):
        self._lock, self._maps, self._whole, self._channels = threading.Lock(), (None, None), (None, None), {}

    def evaluate(self, task):
        """Fitness of each of `task.vectors` (candidates, N) in the filter's place: float64 (candidates,).

        A pure function of the task, to the bit, in whatever process and after whatever other tasks.
        """
        with self._running() as run:
            channel, maps, rows = self._prepared(task, run)
            if channel is None:
                return np.array([self._in_full(task, vector, maps, run) for vector in self._vectors(task)])
            queries, references = self._responses(task, maps, rows, run)
            if self.kind == "nca":
                return self._soft(task, channel, queries, references, run)
            found = self._votes(channel, task.queries, queries, references, run)
            return (found == self.labels[task.queries]).mean(axis=1)

    def votes(self, task):
        """The classes that the k nearest give the queries under each candidate, int64 (candidates, queries)."""
        with self._running() as run:
            channel, maps, rows = self._prepared(task, run)
            if channel is None:
                raise InputError("votes are given for one filter whose layer's maps are compared")
            return self._votes(channel, task.queries, *self._responses(task, maps, rows, run), run)

    def score(self, weights, layer, queries, kind="accuracy", tau=None):
        """Fitness of weights as they are, all in full; "accuracy" and "nca" as above, nothing approximated."""
        with self._running() as run:
            return self._judge(self._distances(weights, layer, queries, run), queries, kind, tau)

    def temperature(self, weights, layer, queries):
        """tau for "nca": TAU times the median distance of the k-th neighbour under these weights."""
        with self._running() as run:
            distances = self._distances(weights, layer, queries, run).distances
        return self.TAU * float(np.median(np.partition(distances, self.k - 1, axis=1)[:, self.k - 1])) or 1.0

    @contextlib.contextmanager
    def _running(self):
        """One task at a time, BLAS on one thread (its bits may depend on their number), own threads instead."""
        with self._lock, blas_threads(1):
            if self.threads == 1:
                yield map
            else:
                with ThreadPoolExecutor(self.threads) as executor:
                    yield executor.map

    def _vectors(self, task):
        vectors = np.asarray(task.vectors, np.float64)
        wanted = len(vector_of(task.weights, task.layer, task.filter))
        if vectors.ndim != 2 or vectors.shape[1] != wanted or not np.isfinite(vectors).all():
            raise InputError(f"candidates must be finite numbers (candidates, {wanted}), got shape {vectors.shape}")
        return vectors

    def indices_of(self, indices, name):
        """`indices` as int64 (n,); InputError, which calls them `name`, unless they are images' here, each once."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
            raise InputError(f"{name} must be a list of indices of images, one or more")
        if indices.min() < 0 or indices.max() >= len(self.images) or len(np.unique(indices)) < len(indices):
            raise InputError(f"{name} must be indices in 0..{len(self.images) - 1}, each once")
        return indices.astype(np.int64)

    def _inputs(self, weights, layer, run):
        """The maps that go into a layer, of all images: float32 (n, h, w, channels)."""
        key = layer if layer == "conv1" else digest(weights.conv1, weights.bias1)
        if self._maps[0] != key:
            maps = self.images[..., None].astype(np.float32) / 255
            if layer == "conv2":
                side = pooled_side(maps)
                maps = respond(maps, weights.conv1, weights.bias1, run).reshape(len(maps), side, side, -1)
            self._maps = key, maps
        return self._maps[1]

    def _distances(self, weights, layer, queries, run):
        """All distances between queries and references, of the layer's responses to them."""
        queries = self.indices_of(queries, "queries")
        if layer == "conv1" and self.conv1 == "conv2":
            layer = "conv2"
        maps = self._inputs(weights, layer, run)
        q, r = (respond(maps[rows], *layer_of(weights, layer), run) for rows in (queries, self.references))
        return self._measured(q, r, queries)

    def _measured(self, q, r, queries):
        if not (np.isfinite(q).all() and np.isfinite(r).all()):
            raise InputError("the kernels give NaN or infinite responses: make them smaller")
        return channel_distances.WHOLE[self.metric](q, r, queries[:, None] == self.references)

    def _prepared(self, task, run):
        """The channel's lists, or None where candidates change more than a channel; maps; rows of the two sets."""
        key = digest(*task.weights, task.queries, np.array([task.tau or 0.0])) + task.layer
        key += str(self._changes_all(task))
        if self._whole[0] != key:
            self._channels = {}
            self.indices_of(task.queries, "queries")
            rows = np.unique(np.concatenate([task.queries, self.references]))
            layer = "conv2" if self.conv1 == "conv2" else task.layer
            maps = self._inputs(task.weights, layer, run)[rows]
            self._whole = key, (maps, rows, self._base(task, maps, rows, run))
        maps, rows, (distances, q, r) = self._whole[1]
        if self._changes_all(task):
            return None, maps, rows
        if task.filter not in self._channels:
            here = np.ascontiguousarray(q[..., task.filter]), np.ascontiguousarray(r[..., task.filter])
            self._channels[task.filter] = distances.channel(*here, self.listed)
        return self._channels[task.filter], maps, rows

    def _changes_all(self, task):
        return task.filter is None or (task.layer == "conv1" and self.conv1 == "conv2")

    def _base(self, task, maps, rows, run):
        """Distances and responses (queries, references) under the task's weights; nothing where each is in full."""
        if self._changes_all(task):
            return None, None, None
        responses = respond(maps, *layer_of(task.weights, task.layer), run)
        q, r = responses[np.searchsorted(rows, task.queries)], responses[np.searchsorted(rows, self.references)]
        return self._measured(q, r, task.queries), q, r

    def _responses(self, task, maps, rows, run):
        """What queries and references answer to each candidate: float32 (q, positions, candidates), (r, ...)."""
        vectors = self._vectors(task)
        shape = (len(vectors), *layer_of(task.weights, task.layer)[0].shape[1:])
        responses = respond(maps, vectors[:, :-1].reshape(shape), vectors[:, -1], run)
        if not np.isfinite(responses).all():
            raise InputError("candidates give infinite responses: lower the search's sigma")
        return responses[np.searchsorted(rows, task.queries)], responses[np.searchsorted(rows, self.references)]

    def _votes(self, channel, indices, queries, references, run):
        """int64 (candidates, queries): from the lists where these certify it, else from all references."""
        found = np.empty((queries.shape[2], len(indices)), np.int64)
        open_ = np.empty(found.shape, bool)
        labels = self.labels[self.references]

        def ranked(start):
            part = slice(start, start + _QUERIES)
            totals = channel.totals(part, queries, references)
            order = np.argpartition(totals, (self.k - 1, self.k), axis=2)[..., :self.k + 1]
            edge = np.take_along_axis(totals, order[..., -2:], axis=2)
            kth, following = edge[..., 0], np.minimum(edge[..., 1], channel.bound(part, queries))
            open_[:, part] = ~(following - kth > channel.tolerance(kth, queries.shape[1])).T
            near = labels[channel.index[part]][np.arange(len(order))[:, None, None], order[..., :self.k]]
            counts = np.stack([(near == c).sum(axis=2) for c in range(self.n_classes)], axis=2)
            found[:, part] = counts.argmax(axis=2).T

        def completed(candidate):
            some = np.flatnonzero(open_[candidate])
            if len(some):
                distances = channel.rows(some, queries[some, :, candidate], references[:, :, candidate])
                found[candidate, some] = channel_distances.votes(distances, labels, self.k, self.n_classes,
                                                        channel.whole.rounding)

        for work, over in ((ranked, range(0, len(indices), _QUERIES)), (completed, range(len(found)))):
            for _ in run(work, over):
                pass
        return found

    def _soft(self, task, channel, queries, references, run):
        """Mean log-probability of the right class, float64 (candidates,)."""
        logs = np.empty((queries.shape[2], len(task.queries)))
        labels = self.labels[self.references]

        def one(start):
            part = slice(start, start + _QUERIES)
            totals = channel.totals(part, queries, references)
            shares = np.exp(((totals.min(axis=2, keepdims=True) - totals) / task.tau).astype(np.float32))
            same = (labels[channel.index[part]] == self.labels[task.queries[part]][:, None]).astype(np.float32)
            logs[:, part] = _log(np.einsum("blm,bm->bl", shares, same) / shares.sum(axis=2)).T

        for _ in run(one, range(0, len(task.queries), _QUERIES)):
            pass
        return logs.mean(axis=1)

    def _in_full(self, task, vector, maps, run):
        """Fitness of a candidate that changes every channel: a whole layer, or a filter of conv1 seen by conv2."""
        weights, rows = plugged(task.weights, task.layer, task.filter, vector), self._whole[1][1]
        if task.layer == "conv1" and self.conv1 == "conv2":
            responses = self._through_conv2(task, weights, maps, rows, run)
        else:
            responses = respond(maps, *layer_of(weights, task.layer), run)
        q, r = responses[np.searchsorted(rows, task.queries)], responses[np.searchsorted(rows, self.references)]
        return self._judge(self._measured(q, r, task.queries), task.queries, self.kind, task.tau)

    def _through_conv2(self, task, weights, maps, rows, run):
        """conv2's responses when filters of conv1 change: for one, only its own map goes through conv2 again."""
        images = self.images[rows][..., None].astype(np.float32) / 255
        side = maps.shape[1]
        if task.filter is None:
            maps = respond(images, weights.conv1, weights.bias1, run).reshape(len(rows), side, side, -1)
            return respond(maps, weights.conv2, weights.bias2, run)
        if task.filter not in self._channels:
            others = maps.copy()
            others[..., task.filter] = 0
            self._channels[task.filter] = convolve_all(others, weights.conv2, run)
        one = slice(task.filter, task.filter + 1)
        changed = respond(images, weights.conv1[one], weights.bias1[one], run).reshape(len(rows), side, side, 1)
        total = self._channels[task.filter] + convolve_all(changed, weights.conv2[:, one], run)
        out = np.empty((len(rows), total.shape[1] // 2, total.shape[2] // 2, total.shape[3]), np.float32)
        pool(total, out)
        return np.maximum(out + weights.bias2, 0).reshape(len(rows), -1, total.shape[3])

    def _judge(self, whole, queries, kind, tau):
        labels = self.labels[self.references]
        if kind == "accuracy":
            found = channel_distances.votes(whole.distances, labels, self.k, self.n_classes, whole.rounding)
            return float((found == self.labels[queries]).mean())
        distances = whole.distances
        shares = np.exp((distances.min(axis=1, keepdims=True) - distances) / tau)
        right = (shares * (labels == self.labels[queries][:, None])).sum(axis=1)
        return float(_log(right / shares.sum(axis=1)).mean())


def _log(probability):
    return np.log(np.maximum(probability, _FLOOR))
