"""The small engine: a whole image classifier in one small file that needs NumPy and nothing else.

An image of 28x28 grey pixels is deskewed; two layers of 3x3 kernels with ReLU and 2x2 max-pooling make 25 n numbers
of it (n kernels in the second layer); their square roots, divided by the length of the whole, go through a linear
map into a few dimensions, and the label of the nearest prototype there is the answer. Kernels, map and prototypes are
stored in a few bits a number; what is counted is the size of the file, with all that it takes to classify.
`mxelm.knn_slicing.engine.build` makes engines, `mxelm.knn_slicing.engine.images` brings any image to 28x28.
"""
from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from mxelm.errors import InputError
from mxelm.knn_slicing.deskew import deskew
from mxelm.knn_slicing.engine import file
from mxelm.knn_slicing.engine.file import CELLS
from mxelm.knn_slicing.engine.images import SIDE
from mxelm.knn_slicing.engine.quantised import Quantised

BLOCK = 64  # images at once: larger blocks leave the processor's cache


@dataclass(frozen=True, eq=False)
class Bank:
    """Kernels of one layer: weights Quantised (n_filters, 9 channels), place before channel; bias float32 (n_filters,).

    A row is a kernel (channels, 3, 3), transposed to (3, 3, channels) and laid out flat.
    """

    weights: Quantised
    bias: np.ndarray

    @classmethod
    def of(cls, kernels: np.ndarray, bias: np.ndarray, bits: int) -> Bank:
        """From float kernels (n_filters, channels, 3, 3) and biases (n_filters,)."""
        flat = np.asarray(kernels, np.float32).transpose(0, 2, 3, 1).reshape(len(kernels), -1)
        return cls(Quantised.of(flat, bits), np.asarray(bias, np.float32))

    @property
    def channels(self) -> int:
        """Number of maps that the layer takes."""
        return self.weights.levels.shape[1] // 9


@dataclass(frozen=True, eq=False)
class Engine:
    """Everything that classifies an image.

    conv1, conv2: Bank. projection: Quantised (n_dims, 25 n), the linear map. centre: float32 (n_dims,), taken off
    what the map gives. prototypes: Quantised (n_dims, n_prototypes), sorted by class. counts: int64 (n_classes,),
    prototypes of each class. classes: tuple of str.
    """

    conv1: Bank
    conv2: Bank
    projection: Quantised
    centre: np.ndarray
    prototypes: Quantised
    counts: np.ndarray
    classes: tuple

    @property
    def labels(self) -> np.ndarray:
        """int64 (n_prototypes,), the class of each prototype."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def bytes(self) -> int:
        """Size of the file that `save` writes."""
        return len(file.encode(self))

    def transform(self, images: np.ndarray) -> np.ndarray:
        """uint8 images (n, 28, 28), upright or not -> float32 (n, n_dims), where prototypes and images are compared."""
        return project(features(deskew(checked(images)), self.conv1, self.conv2), self.projection) - self.centre

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class numbers int64 (n,) of uint8 images (n, 28, 28); at equal distances the smaller number.

        Raises InputError for images of another type or shape.
        """
        return nearest_label(self.transform(images), self.prototypes.values.T, self.labels)

    def judged(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(class numbers int64 (n,), margins float64 (n,)) of images as `predict` takes them.

        margin: by how much of its own distance the nearest prototype of another class is farther than the nearest of
        all, from 0 (as near) to 1. What is no character at all has small margins, mostly.
        """
        x, prototypes = self.transform(images), self.prototypes.values.T
        numbers = nearest_label(x, prototypes, self.labels)
        squares = (x ** 2).sum(axis=1)[:, None] - 2 * x @ prototypes.T + (prototypes ** 2).sum(axis=1)
        own, distances = self.labels == numbers[:, None], np.sqrt(np.maximum(squares, 0, dtype=np.float64))
        nearest, other = (np.where(mask, distances, np.inf).min(axis=1) for mask in (own, ~own))
        return numbers, 1 - nearest / np.maximum(other, np.finfo(float).tiny)

    def score(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Share of images whose predicted class is the one in `labels` (n,)."""
        labels = np.asarray(labels)
        if len(labels) != len(images) or not len(labels):
            raise InputError(f"there must be one label for each image and at least one, got {len(labels)} labels "
                             f"for {len(images)} images")
        return float((self.predict(images) == labels).mean())

    def save(self, path: str | os.PathLike) -> None:
        """Write the engine as one file, whole or not at all; FileError where that cannot be done."""
        file.write(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Engine:
        """The engine in a file; FileError if it is missing, cut, damaged or not an engine."""
        found = file.read(path)
        return cls(Bank(*found["conv1"]), Bank(*found["conv2"]), found["projection"], found["centre"],
                   found["prototypes"], found["counts"], found["classes"])


def checked(images: np.ndarray) -> np.ndarray:
    """`images` as an array; InputError unless they are uint8 (n, 28, 28)."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise InputError(f"the engine takes uint8 images (n, {SIDE}, {SIDE}), got {images.dtype} {images.shape}: "
                         "bring others to that form with mxelm.knn_slicing.engine.images")
    return images


def features(images: np.ndarray, conv1: Bank, conv2: Bank) -> np.ndarray:
    """uint8 (n, 28, 28), upright -> float32 (n, 25 n_filters): square roots of the activations, rows of length 1.

    Order: place of the 5x5 map, then filter. A row without any activation stays 0. The square root of a
    histogram-like vector makes its inner products those of Hellinger's kernel.
    """
    made = np.empty((len(images), CELLS * len(conv2.bias)), np.float32)
    weights1, weights2 = conv1.weights.values.T, conv2.weights.values.T
    for start in range(0, len(images), BLOCK):
        maps = images[start:start + BLOCK, :26, :26, None] * np.float32(1 / 255)  # the last pooling leaves out the rest
        maps = _relu_pool(_convolve(maps, weights1), conv1.bias)
        maps = _relu_pool(_convolve(maps, weights2), conv2.bias)
        made[start:start + BLOCK] = maps.reshape(len(maps), -1)
    length = np.sqrt(made.sum(axis=1, keepdims=True))
    np.sqrt(made, out=made)
    return np.divide(made, np.where(length > 0, length, 1), out=made)


def project(features: np.ndarray, projection: Quantised) -> np.ndarray:
    """float32 (n, 25 n_filters) through the linear map -> float32 (n, n_dims)."""
    return features @ projection.values.T


def nearest_label(points: np.ndarray, prototypes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of the nearest prototype (n_prototypes, n_dims) of each point (n, n_dims); ties to the first."""
    found = np.empty(len(points), np.int64)
    half = (prototypes * prototypes).sum(axis=1) / 2
    for start in range(0, len(points), 1024):
        block = points[start:start + 1024]
        found[start:start + 1024] = labels[(half - block @ prototypes.T).argmin(axis=1)]
    return found


def _convolve(maps, weights):
    """Valid 3x3 cross-correlation: (n, h, w, c) and (9 c, n_filters) -> (n, h - 2, w - 2, n_filters)."""
    n, height, width, channels = maps.shape
    height, width = height - 2, width - 2
    columns = np.empty((n, height, width, 9, channels), np.float32)
    for place in range(9):
        y, x = divmod(place, 3)
        columns[:, :, :, place] = maps[:, y:y + height, x:x + width]
    return (columns.reshape(-1, 9 * channels) @ weights).reshape(n, height, width, -1)


def _relu_pool(maps, bias):
    """Largest of each 2x2, plus bias, ReLU: what ReLU before the pooling gives too, on a quarter of the numbers."""
    height, width = maps.shape[1] // 2 * 2, maps.shape[2] // 2 * 2
    maps = maps[:, :height, :width]
    rows = np.maximum(maps[:, ::2], maps[:, 1::2])
    pooled = np.maximum(rows[:, :, ::2], rows[:, :, 1::2])
    return np.maximum(pooled + bias, 0)
