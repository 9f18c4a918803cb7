"""Fitness of convolution kernels: how well k-NN classifies training images by training images.

The exact shortcut: after a layer's ReLU and pooling a channel depends on its own filter alone, so a candidate for one
filter is measured by its channel's share of every distance (see `channel_distances`), against the nearest references
without that channel; the few queries whose votes these lists do not certify are computed in full.
"""
from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from mxelm.errors import InputError, require_choice, require_whole
from mxelm.knn_slicing.evolution import channel_distances, channel_votes
from mxelm.knn_slicing.evolution.candidates import Task, Weights, digest, plugged, vector_of
from mxelm.knn_slicing.evolution.responses import Responses, Shared
from mxelm.runtime import blas_threads

KINDS = ("accuracy", "nca")
Kind = Literal["accuracy", "nca"]
Layer = Literal["conv1", "conv2"]


class KernelFitness:
    """k-NN among training images as a function of the kernels.

    images: uint8 (n, 28, 28), training images only.
    labels: integers from 0, (n,).
    references: indices of the images that vote. A query that is among them does not vote for itself, so hold-out and
        leave-one-out differ in the queries alone.
    kind: "accuracy" of the k nearest, exact; or "nca", the mean log-probability of the right class when references
        vote with exp(-D / tau): smooth. For one filter its votes are summed over the `listed` references that are
        nearest without the filter's channel: exactly, and over all of them where `listed` is as large. With fewer,
        nearly all candidates keep the order that the whole sum gives them.
    metric: "l2" (D squared) or "cosine".
    k: neighbours that vote for "accuracy".
    listed: references kept for each query while one filter is searched.
    conv1: filters of the first layer are judged by the maps they give ("pool1", 13 x 13 x 32), or by what the second
        layer makes of these ("conv2", slow: every channel changes).
    threads: threads of this process; they do not change any bit.
    Raises InputError for unknown options, sizes that do not match, one class only, a k the references cannot give.
    Source: Radu, slides on k-NN slicing; for "nca" Goldberger et al., "Neighbourhood Components Analysis", 2004.
    """

    TAU = 0.2  # in medians of the k-th neighbour's distance; chosen on training images that no search saw

    def __init__(self, images: np.ndarray, labels: np.ndarray, references: np.ndarray, *, kind: Kind = "nca",
                 metric: Literal["l2", "cosine"] = "l2", k: int = 9, listed: int = 64,
                 conv1: Literal["pool1", "conv2"] = "pool1", threads: int = 1) -> None:
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 3 or min(images.shape[1:]) < 10:
            raise InputError(f"images must be uint8 (n, height, width) of 10x10 or more, got {images.dtype} "
                             f"{images.shape}")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
            raise InputError(f"labels must be integers from 0, one for each of {len(images)} images; got "
                             f"{labels.dtype} {labels.shape}")
        self.kind = require_choice("kind", kind, KINDS)
        self.metric = require_choice("metric", metric, channel_distances.METRICS)
        self.conv1 = require_choice("conv1", conv1, ("pool1", "conv2"))
        self.images, self.labels, self.n_classes = images, labels.astype(np.int64), int(labels.max(initial=0)) + 1
        self.references = self.indices_of(references, "references")
        if len(np.unique(self.labels[self.references])) < 2:
            raise InputError("the references have one class only: there is nothing to tell apart")
        self.k = require_whole("k, the number of neighbours among the references,", k, 1, len(self.references) - 2)
        self.threads = require_whole("threads", threads)
        self.listed = max(listed, k + 1)
        self._forget()

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._forget()

    def _forget(self):
        self._lock, self._responses, self._shared = threading.Lock(), Responses(self.images), (None, None)

    def evaluate(self, task: Task) -> np.ndarray:
        """Fitness of each of `task.vectors` (candidates, N) in the filter's place: float64 (candidates,).

        A pure function of the task, to the bit, in whatever process and after whatever other tasks.
        """
        with self._running() as run:
            shared = self._prepared(task, run)
            vectors = self._vectors(task)
            if self._changes_all(task):
                return np.array([self._in_full(task, vector, shared, run) for vector in vectors])
            if self.kind == "nca":
                return channel_votes.log_probability(
                    shared.channel(task.filter, run), *shared.of_candidates(vectors, run),
                    labels=self.labels[self.references], right=self.labels[task.queries], tau=task.tau, run=run)
            return (self._votes(task, vectors, shared, run) == self.labels[task.queries]).mean(axis=1)

    def votes(self, task: Task) -> np.ndarray:
        """The classes that the k nearest give the queries under each candidate, int64 (candidates, queries)."""
        if self._changes_all(task):
            raise InputError("votes are given for one filter whose layer's maps are compared")
        with self._running() as run:
            return self._votes(task, self._vectors(task), self._prepared(task, run), run)

    def score(self, weights: Weights, layer: Layer, queries: np.ndarray, *, kind: Kind = "accuracy",
              tau: float | None = None) -> float:
        """Fitness of weights as they are, all in full; "accuracy" and "nca" as above, nothing approximated."""
        with self._running() as run:
            return self._judge(self._distances(weights, layer, queries, run), queries, kind, tau)

    def temperature(self, weights: Weights, layer: Layer, queries: np.ndarray) -> float:
        """tau for "nca": TAU times the median distance of the k-th neighbour under these weights."""
        with self._running() as run:
            distances = self._distances(weights, layer, queries, run).distances
        return self.TAU * float(np.median(np.partition(distances, self.k - 1, axis=1)[:, self.k - 1])) or 1.0

    def indices_of(self, indices: np.ndarray, name: str) -> np.ndarray:
        """`indices` as int64 (n,); InputError, which calls them `name`, unless they are images' here, each once."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
            raise InputError(f"{name} must be a list of indices of images, one or more")
        if indices.min() < 0 or indices.max() >= len(self.images) or len(np.unique(indices)) < len(indices):
            raise InputError(f"{name} must be indices in 0..{len(self.images) - 1}, each once")
        return indices.astype(np.int64)

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

    def _prepared(self, task, run):
        """What the task shares with the others of its search; computed again when another search has begun."""
        key = (digest(*task.weights, task.queries, np.array([task.tau or 0.0])), task.layer, self._changes_all(task))
        if self._shared[0] != key:
            self._shared = None, None  # its memory is free before the next one's is asked for
            self.indices_of(task.queries, "queries")
            self._shared = key, Shared(task, self._responses, self.references, layer=self._compared(task.layer),
                                       measure=self._measured, listed=self.listed, run=run)
        return self._shared[1]

    def _compared(self, layer):
        """The layer whose responses the distances are taken from, for a search in `layer`."""
        return "conv2" if self.conv1 == "conv2" else layer

    def _changes_all(self, task):
        """Whether a candidate changes more than one channel of the features."""
        return task.filter is None or self._compared(task.layer) != task.layer

    def _distances(self, weights, layer, queries, run):
        """All distances between queries and references, of the layer's responses to them."""
        queries = self.indices_of(queries, "queries")
        both = (self._responses.of(weights, self._compared(layer), rows, run) for rows in (queries, self.references))
        return self._measured(*both, queries)

    def _measured(self, q, r, queries):
        if not (np.isfinite(q).all() and np.isfinite(r).all()):
            raise InputError("the kernels give NaN or infinite responses: make them smaller")
        return channel_distances.WHOLE[self.metric](q, r, queries[:, None] == self.references)

    def _votes(self, task, vectors, shared, run):
        return channel_votes.votes(shared.channel(task.filter, run), *shared.of_candidates(vectors, run), run=run,
                                   labels=self.labels[self.references], k=self.k, n_classes=self.n_classes)

    def _in_full(self, task, vector, shared, run):
        """Fitness of a candidate that changes every channel: a whole layer, or a filter of conv1 seen by conv2."""
        weights = plugged(task.weights, task.layer, task.filter, vector)
        if self._compared(task.layer) == task.layer:
            responses = shared.of(weights, run)
        elif task.filter is None:
            responses = shared.through_conv2.all_changed(weights, run)
        else:
            responses = shared.through_conv2.one_changed(weights, task.filter, run)
        return self._judge(self._measured(*shared.apart(responses), task.queries), task.queries, self.kind, task.tau)

    def _judge(self, whole, queries, kind, tau):
        """Accuracy, or mean log-probability, from all distances."""
        labels, right = self.labels[self.references], self.labels[queries]
        if kind == "accuracy":
            found = channel_distances.votes(whole.distances, labels, self.k, n_classes=self.n_classes,
                                            rounding=whole.rounding)
            return float((found == right).mean())
        distances = whole.distances
        shares = np.exp((distances.min(axis=1, keepdims=True) - distances) / tau)
        share = (shares * (labels == right[:, None])).sum(axis=1) / shares.sum(axis=1)
        return float(channel_votes.log(share).mean())
