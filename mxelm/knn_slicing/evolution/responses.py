"""What kernels answer to a fitness's images, and what all candidates of one search share; kept from task to task."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from mxelm.errors import InputError
from mxelm.knn_slicing.convolution import pooled_side, respond
from mxelm.knn_slicing.evolution.candidates import Task, Weights, digest, layer_of
from mxelm.knn_slicing.evolution.channel_votes import Channel
from mxelm.knn_slicing.evolution.through_conv2 import ThroughConv2


class Responses:
    """Pooled responses of a layer to images, uint8 (n, h, w); the maps before it are kept for the last weights."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self._maps = (None, None)

    def maps(self, weights: Weights, layer: str, run: Callable) -> np.ndarray:
        """The maps that go into a layer, of all images: float32 (n, h, w, channels)."""
        key = layer if layer == "conv1" else digest(weights.conv1, weights.bias1)
        if self._maps[0] != key:
            maps = as_maps(self.images)
            if layer == "conv2":
                side = pooled_side(maps)
                maps = respond(maps, weights.conv1, weights.bias1, run=run).reshape(len(maps), side, side, -1)
            self._maps = key, maps
        return self._maps[1]

    def of(self, weights: Weights, layer: str, rows: np.ndarray, run: Callable) -> np.ndarray:
        """The layer's responses to the images at `rows`: float32 (len(rows), positions, filters)."""
        return respond(self.maps(weights, layer, run)[rows], *layer_of(weights, layer), run=run)


class Shared:
    """What the tasks of one search share: the maps of its queries and references, and each channel's distances.

    task: the first of the search's tasks. references: int64 (r,), indices of the images that vote. layer: the one whose
    responses are compared. measure: (queries' responses, references' responses, queries) -> distances.
    listed: references that a channel's lists hold for each query.
    """

    def __init__(self, task: Task, responses: Responses, references: np.ndarray, *, layer: str, measure: Callable,
                 listed: int, run: Callable) -> None:
        self._task, self._layer, self._measure, self._listed = task, layer, measure, listed
        rows = np.unique(np.concatenate([task.queries, references]))
        self._places = [np.searchsorted(rows, part) for part in (task.queries, references)]
        self._images, self._maps = responses.images[rows], responses.maps(task.weights, layer, run)[rows]
        self._now, self._channels = None, {}

    @functools.cached_property
    def through_conv2(self) -> ThroughConv2:
        """conv2's responses to the search's images under changed filters of conv1."""
        return ThroughConv2(as_maps(self._images), self._maps)

    def apart(self, responses: np.ndarray) -> Iterator[np.ndarray]:
        """Responses to all images of the search as those of the queries and those of the references."""
        return (responses[places] for places in self._places)

    def of(self, weights: Weights, run: Callable) -> np.ndarray:
        """Responses of some weights to all images of the search: float32 (n, positions, filters)."""
        return respond(self._maps, *layer_of(weights, self._layer), run=run)

    def of_candidates(self, vectors: np.ndarray, run: Callable) -> Iterator[np.ndarray]:
        """Responses to each candidate for one filter: queries' (q, positions, candidates), references' (r, ...)."""
        shape = (len(vectors), *layer_of(self._task.weights, self._layer)[0].shape[1:])
        responses = respond(self._maps, vectors[:, :-1].reshape(shape), vectors[:, -1], run=run)
        if not np.isfinite(responses).all():
            raise InputError("candidates give infinite responses: lower the search's sigma")
        return self.apart(responses)

    def channel(self, filter: int, run: Callable) -> Channel:
        """The distances without one filter's channel, with each query's list of nearest references."""
        if self._now is None:
            queries, references = self.apart(self.of(self._task.weights, run))
            self._now = self._measure(queries, references, self._task.queries), queries, references
        if filter not in self._channels:
            distances, *both = self._now
            here = (np.ascontiguousarray(part[..., filter]) for part in both)
            self._channels[filter] = distances.channel(*here, self._listed)
        return self._channels[filter]


def as_maps(images: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w) -> float32 (n, h, w, 1), 0..1: what goes into conv1."""
    return images[..., None].astype(np.float32) / 255
