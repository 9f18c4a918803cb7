"""Slightly distorted copies of digits: what handwriting varies in, as further training images."""
from __future__ import annotations

import numpy as np

from mxelm.errors import InputError

LINEAR = 0.07  # standard deviation of the four entries that are added to the identity: rotation, scale, shear
SHIFT = 0.6  # pixels, standard deviation
ELASTIC = 0.7  # pixels, standard deviation of the smooth displacement
KNOTS = 6  # a side; random displacements there are blended by Gaussians
BLOCK = 1024


def distort(images: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Each image under its own random linear map, shift and elastic displacement; uint8 (n, h, w) -> the same.

    rng: numpy Generator. strength: factor on all three deviations. Bilinear interpolation, black outside.
    Source: Simard, Steinkraus and Platt, ICDAR 2003, "Best practices for convolutional neural networks".
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise InputError(f"images to distort must be uint8 (n, height, width), got {images.dtype} {images.shape}")
    out = np.empty_like(images)
    for start in range(0, len(images), BLOCK):
        block = images[start:start + BLOCK]
        out[start:start + BLOCK] = _sampled(block, *_sources(*block.shape, rng, strength))
    return out


def _sources(n, height, width, rng, strength):
    """Where each pixel of the result comes from: rows and columns, float32 (n, h, w)."""
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    linear = np.eye(2) + rng.normal(0, LINEAR * strength, (n, 2, 2))
    shift = rng.normal(0, SHIFT * strength, (n, 2))
    knots = rng.normal(0, ELASTIC * strength, (n, 2, KNOTS, KNOTS)).astype(np.float32)
    elastic = _blend(height) @ knots @ _blend(width).T
    places = []
    for axis, size in enumerate((height, width)):
        a, b = linear[:, axis, 0, None, None], linear[:, axis, 1, None, None]
        along = a * y[:, None] + b * x + shift[:, axis, None, None] + (size - 1) / 2
        places.append(along.astype(np.float32) + elastic[:, axis])
    return places


def _blend(size):
    """(size, KNOTS) weights of the knots at each place, of unit length: the field keeps the knots' deviation."""
    gap = (size - 1) / (KNOTS - 1)
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - gap * np.arange(KNOTS)) / gap) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def _sampled(images, rows, columns):
    n, height, width = images.shape
    padded = np.zeros((n, height + 2, width + 2), np.float32)
    padded[:, 1:-1, 1:-1] = images
    rows, columns = np.clip(rows + 1, 0, height + 0.999), np.clip(columns + 1, 0, width + 0.999)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - top, columns - left
    flat = padded.reshape(-1)
    index = (np.arange(n, dtype=np.int32)[:, None, None] * (height + 2) + top) * (width + 2) + left
    upper = flat[index] * (1 - right) + flat[index + 1] * right
    index += width + 2
    lower = flat[index] * (1 - right) + flat[index + 1] * right
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)
