"""Pooled responses of many 3x3 filters at once: what a candidate changes in the features, by one matrix product.

NumPy alone, so that worker processes need no MXNet; equal to MXNet's operators up to float32 rounding.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

BLOCK = 16  # images at once: their patches (1.8 MB for conv2) stay in a core's cache


def respond(maps: np.ndarray, weights: np.ndarray, biases: np.ndarray, *, run: Callable = map) -> np.ndarray:
    """ReLU and 2x2 max-pooling of 3x3 convolutions: float32 (n, positions, filters), of maps (n, h, w, channels).

    maps: float32, channels last, C order. weights: (filters, channels, 3, 3), biases: (filters,). Valid padding; of
    an odd output the last row and column belong to no pool and are not computed. run: `map`, or a thread pool's.
    """
    matrix = matrix_of(weights)
    side = pooled_side(maps)
    out = np.empty((len(maps), side, side, len(weights)), np.float32)

    def one(start):
        pool(convolve(maps[start:start + BLOCK], matrix), out[start:start + BLOCK])

    for _ in run(one, range(0, len(maps), BLOCK)):
        pass
    out += np.asarray(biases, np.float32)  # after the pooling: both ReLU and bias keep the order
    np.maximum(out, 0, out=out)
    return out.reshape(len(maps), side * side, len(weights))


def pooled_side(maps: np.ndarray) -> int:
    """Height, and width, of the pooled output of (n, h, w, channels)."""
    return (maps.shape[1] - 2) // 2


def matrix_of(weights: np.ndarray) -> np.ndarray:
    """Weights (filters, channels, 3, 3) as float32 (9 * channels, filters), in the order of `convolve`'s patches."""
    return np.ascontiguousarray(np.asarray(weights, np.float32).transpose(2, 3, 1, 0)).reshape(-1, len(weights))


def convolve(maps: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """What 2x2 pooling uses of a 3x3 convolution, without bias: float32 (n, side, side, filters), side even."""
    n, _, _, channels = maps.shape
    side = 2 * pooled_side(maps)
    rows, columns = maps.strides[1], maps.strides[2]
    windows = as_strided(maps, (n, side, side, 3, 3 * channels), (maps.strides[0], rows, columns, rows, maps.itemsize),
                         writeable=False)
    return (windows.reshape(-1, 9 * channels) @ matrix).reshape(n, side, side, -1)


def convolve_all(maps: np.ndarray, weights: np.ndarray, *, run: Callable = map) -> np.ndarray:
    """`convolve` of all maps, in blocks."""
    matrix, side = matrix_of(weights), 2 * pooled_side(maps)
    out = np.empty((len(maps), side, side, len(weights)), np.float32)

    def one(start):
        out[start:start + BLOCK] = convolve(maps[start:start + BLOCK], matrix)

    for _ in run(one, range(0, len(maps), BLOCK)):
        pass
    return out


def pool(convolved: np.ndarray, out: np.ndarray) -> None:
    """2x2 max-pooling of (n, side, side, filters) into `out`."""
    n, side, _, filters = convolved.shape
    pairs = convolved.reshape(n, side // 2, 2, side, filters)
    rows = np.maximum(pairs[:, :, 0], pairs[:, :, 1]).reshape(n, side // 2, side // 2, 2, filters)
    np.maximum(rows[:, :, :, 0], rows[:, :, :, 1], out=out)
