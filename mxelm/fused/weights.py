"""Weights of samples and classes, checked."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.class_weight import compute_class_weight

from mxelm.errors import InputError


def sample_weights(given: Sequence | None, n: int, *, some: bool = False) -> np.ndarray:
    """float64 (n,), ones for None; InputError for another number, for negative ones and, with `some`, for zeros alone.
    """
    if given is None:
        return np.ones(n)
    weights = check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.shape != (n,):
        raise InputError(f"sample_weight has shape {weights.shape}, expected ({n},)")
    if some and not weights.any():
        raise InputError("every sample_weight is zero: there is nothing to learn from")
    return _non_negative(weights, "sample_weight")


def class_weights(given: dict | Literal["balanced"] | None, classes: np.ndarray, codes: np.ndarray,
                  weights: np.ndarray) -> np.ndarray:
    """Weight of each class, (n_classes,), for samples of class numbers `codes` (n,) and `weights` (n,).

    "balanced" counts a sample as often as its weight says.
    """
    if isinstance(given, str):
        if given != "balanced":
            raise InputError(f"class_weight must be a dict, 'balanced' or None, got {given!r}")
        counts = np.bincount(codes, weights, minlength=len(classes))
        present = counts > 0
        return np.where(present, counts.sum() / present.sum() / np.where(present, counts, 1), 0)
    return _non_negative(compute_class_weight(given, classes=classes, y=classes), "class_weight")


def _non_negative(weights, name):
    if not (weights >= 0).all():
        raise InputError(f"{name} must not be negative, got {weights.min()}")
    return weights
