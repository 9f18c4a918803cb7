"""Candidates: kernels as plain arrays, a filter or a layer as the vector that a search moves, a task for a worker.

No MXNet: worker processes import this.
"""
from __future__ import annotations

import collections
import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from mxelm.knn_slicing.kernels import Kernels

LAYERS = ("conv1", "conv2")
Weights = collections.namedtuple("Weights", "conv1 bias1 conv2 bias2")  # a Kernels as plain arrays, for workers
Task = collections.namedtuple("Task", "weights layer filter queries tau vectors")


def weights_of(kernels: Kernels) -> Weights:
    """The four arrays of a Kernels object, float32, as Weights."""
    return Weights(*(np.ascontiguousarray(getattr(kernels, name), np.float32) for name in Weights._fields))


def vector_of(weights: Weights, layer: Literal["conv1", "conv2"], filter: int | None = None) -> np.ndarray:
    """Weights and bias of one filter, or of a whole layer (filter None), as float64 (N,)."""
    conv, bias = layer_of(weights, layer)
    if filter is None:
        return np.concatenate([conv.ravel(), bias]).astype(np.float64)
    return np.append(conv[filter].ravel(), bias[filter]).astype(np.float64)


def plugged(weights: Weights, layer: Literal["conv1", "conv2"], filter: int | None, vector: np.ndarray) -> Weights:
    """Weights with `vector` (see `vector_of`) in the place of the filter, or of the whole layer."""
    conv, bias = (array.copy() for array in layer_of(weights, layer))
    if filter is None:
        conv, bias = vector[:conv.size].reshape(conv.shape), vector[conv.size:]
    else:
        conv[filter], bias[filter] = vector[:-1].reshape(conv.shape[1:]), vector[-1]
    number = LAYERS.index(layer) + 1
    return weights._replace(**{f"conv{number}": conv.astype(np.float32), f"bias{number}": bias.astype(np.float32)})


def layer_of(weights: Weights, layer: Literal["conv1", "conv2"]) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of a layer."""
    return (weights.conv1, weights.bias1) if layer == "conv1" else (weights.conv2, weights.bias2)


def digest(*arrays: np.ndarray) -> str:
    """Hexadecimal digest of the arrays' bytes, in order."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
