"""How far figures scatter, and whether two classifiers differ on the same images."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mxelm.errors import InputError


def discordant(right_a: np.ndarray, right_b: np.ndarray) -> tuple[int, int]:
    """On how many images only the one and only the other of two classifiers is right; bool (n,) both."""
    right_a, right_b = np.asarray(right_a), np.asarray(right_b)
    if right_a.ndim != 1 or right_a.shape != right_b.shape or {right_a.dtype.kind, right_b.dtype.kind} != {"b"}:
        raise InputError("McNemar's test compares two bool arrays (n,) over the same images, got "
                         f"{right_a.dtype} {right_a.shape} and {right_b.dtype} {right_b.shape}")
    return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Two-sided p of the images on which only one of two classifiers is right, exact by the binomial distribution.

    right_a, right_b: bool (n,), whether each image was classified rightly. 1.0 where they never differ.
    """
    from scipy.stats import binomtest
    only_a, only_b = discordant(right_a, right_b)
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation of one figure a seed, None where there is one seed or none."""
    values = np.asarray(values, float)
    return float(values.std(ddof=1)) if len(values) > 1 else None
