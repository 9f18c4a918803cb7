"""Filters of conv1 judged by what conv2 makes of their maps: every channel changes, but most of the sum does not."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mxelm.knn_slicing.convolution import convolve_all, pool, respond
from mxelm.knn_slicing.evolution.candidates import Weights


class ThroughConv2:
    """conv2's responses to some images when filters of conv1 change; conv2 itself stays.

    images: float32 (n, h, w, 1), 0..1. maps: float32 (n, side, side, f1), conv1's pooled responses to them as it was.
    """

    def __init__(self, images: np.ndarray, maps: np.ndarray) -> None:
        self._images, self._maps, self._others = images, maps, {}

    def all_changed(self, weights: Weights, run: Callable) -> np.ndarray:
        """Responses when all of conv1 has changed: float32 (n, positions, f2)."""
        n, side = self._maps.shape[:2]
        maps = respond(self._images, weights.conv1, weights.bias1, run=run).reshape(n, side, side, -1)
        return respond(maps, weights.conv2, weights.bias2, run=run)

    def one_changed(self, weights: Weights, filter: int, run: Callable) -> np.ndarray:
        """Responses when one filter has changed: its map alone goes through conv2, the others' sum is kept."""
        n, side = self._maps.shape[:2]
        if filter not in self._others:
            others = self._maps.copy()
            others[..., filter] = 0
            self._others[filter] = convolve_all(others, weights.conv2, run=run)
        one = slice(filter, filter + 1)
        changed = respond(self._images, weights.conv1[one], weights.bias1[one], run=run).reshape(n, side, side, 1)
        total = self._others[filter] + convolve_all(changed, weights.conv2[:, one], run=run)
        out = np.empty((n, total.shape[1] // 2, total.shape[2] // 2, total.shape[3]), np.float32)
        pool(total, out)
        return np.maximum(out + weights.bias2, 0).reshape(n, -1, total.shape[3])
