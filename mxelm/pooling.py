"""Rows from a layer's maps: means, means with standard deviations, rows of unit length."""
from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mxelm.runtime import mx


def mean(maps: np.ndarray | mx.nd.NDArray) -> np.ndarray:
    """Global average pooling: maps (n, c, h, w) -> float32 (n, c); rows (n, c) stay as they are.

    maps: NumPy array or NDArray. Source: Savchenko, "Adaptive CNNs" (GAP in each exit branch).
    """
    maps = _numpy(maps)
    if maps.ndim == 2:
        return maps
    n, c = maps.shape[:2]
    places = maps.reshape(n * c, -1)
    return (places @ _shares(places.shape[1])).reshape(n, c)


def l2_normalised(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) divided by their L2 norm; a row of zeros stays as it is. Source: Savchenko, "Adaptive CNNs"."""
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return rows / (norms + (norms == 0))[:, None]


def mean_and_deviation(maps: np.ndarray | mx.nd.NDArray) -> np.ndarray:
    """V = (mu_0, sigma_0, mu_1, ...): mean and standard deviation of |F_i| over each map's places.

    maps: (n, c, h, w), NumPy array or NDArray -> float32 (n, 2 c). Source: Anand et al., the feature vector V.
    """
    maps = np.abs(_numpy(maps))
    n, c = maps.shape[:2]
    places = maps.reshape(n, c, -1)
    return np.stack([places.mean(axis=2), places.std(axis=2)], axis=2).reshape(n, 2 * c)


@lru_cache(maxsize=64)
def _shares(count):
    """1 / count, so many times: what a map's places are multiplied with for their mean."""
    return np.full(count, 1 / count, np.float32)


def _numpy(maps):
    return maps if isinstance(maps, np.ndarray) else maps.asnumpy()
