"""Deskewing: upright digits by a shear that their second moments give. NumPy alone, as the small engine needs it."""
from __future__ import annotations

import numpy as np

from mxelm.errors import InputError

_BLOCK = 2048  # images


def deskew(images: np.ndarray) -> np.ndarray:
    """Shear each image so that the covariance of its ink's rows and columns vanishes; its centre of mass stays.

    images: uint8 (n, height, width), ink bright on black; the same comes back. Row y moves by skew * (y - mean y)
    pixels, skew = mu11 / mu02, with linear interpolation; blank images, and ink in one row, stay as they are.
    Raises InputError for another dtype or shape.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise InputError(f"images to deskew must be uint8 (n, height, width), got {images.dtype} {images.shape}")
    out = np.empty_like(images)
    for start in range(0, len(images), _BLOCK):
        out[start:start + _BLOCK] = _sheared(images[start:start + _BLOCK])
    return out


def _shifts(images):
    """How far to the right of each row of the result its source lies, float64 (n, height)."""
    _, height, width = images.shape
    y, x = np.arange(height), np.arange(width)
    by_row = images.sum(axis=2, dtype=np.float64)
    mass = np.maximum(by_row.sum(axis=1), 1)
    row_moment = images @ x.astype(np.float64)  # (n, height): sum of x * ink in each row
    mean_y, mean_x = by_row @ y / mass, row_moment.sum(axis=1) / mass
    down = y - mean_y[:, None]
    mu02 = (by_row * down ** 2).sum(axis=1)
    mu11 = ((row_moment - mean_x[:, None] * by_row) * down).sum(axis=1)
    skew = np.divide(mu11, mu02, out=np.zeros_like(mu11), where=mu02 > 1e-9 * mass)
    return skew[:, None] * down


def _sheared(images):
    n, height, width = images.shape
    source = np.clip(np.arange(width) + _shifts(images)[..., None], -1, width)
    left = np.minimum(np.floor(source), width - 1).astype(np.intp)
    padded = np.zeros((n, height, width + 2), np.float64)  # a black column on both sides
    padded[..., 1:-1] = images
    a, b = (np.take_along_axis(padded, left + step, axis=2) for step in (1, 2))
    return np.rint(a + (b - a) * (source - left)).astype(np.uint8)
