"""Step 5: beta from the accumulated matrices.

Source: Arcada, section 2, step 5 and the two paragraphs after it.
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, lapack, solve_triangular

from mxelm.errors import InputError


class IllConditionedWarning(RuntimeWarning):
    """The system is singular to working precision: its solution is one of many; a larger l2 is advised."""


def solve(HtH: np.ndarray, HtY: np.ndarray, l2: float, *, n_neurons: int | None = None) -> np.ndarray:
    """beta of (HtH + l2 I) beta = HtY, float64 (n_neurons, n_outputs); the inputs are not changed.

    n_neurons: a smaller model, from the leading block of HtH (upper *left*: the paper's "upper right corner" is a
    slip) and the upper rows of HtY. There is no intercept: l2 goes on every diagonal element, here and nowhere else.
    A singular system gives its minimum-norm solution and an IllConditionedWarning, never NaN.
    Raises InputError for l2 < 0, a size outside 1..L, or matrices that are not finite or do not fit.
    Source: Arcada, section 2, step 5.

    >>> solve([[2.0, 0.0], [0.0, 4.0]], [[2.0], [5.0]], l2=1.0)
    array([[0.66666667],
           [1.        ]])
    """
    HtH, HtY = check(HtH, HtY)
    l = check_size(n_neurons, len(HtH))
    A = regularised(HtH[:l, :l], check_l2(l2))
    norm = lapack.dlange("1", A)
    try:
        R = cholesky(A, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return _minimum_norm(regularised(HtH[:l, :l], l2), HtY[:l])
    _warn_if_ill(R, norm, l2)
    return solve_triangular(R, solve_triangular(R, HtY[:l], trans="T", check_finite=False), check_finite=False)


def regularised(A: np.ndarray, l2: float) -> np.ndarray:
    """A copy of A with l2 added to its diagonal."""
    A = np.array(A, np.float64, order="F")
    A[np.diag_indices_from(A)] += l2
    return A


def check(HtH: np.ndarray, HtY: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrices in float64; InputError when they are not square, do not fit each other, or are not finite."""
    HtH, HtY = np.asarray(HtH, np.float64), np.asarray(HtY, np.float64)
    if HtH.ndim != 2 or HtH.shape[0] != HtH.shape[1] or HtY.ndim != 2 or len(HtY) != len(HtH) or not len(HtH):
        raise InputError(f"HtH must be (L, L) and HtY (L, n_outputs), got {HtH.shape} and {HtY.shape}")
    if not (np.isfinite(HtH).all() and np.isfinite(HtY).all()):
        raise InputError("HtH or HtY holds NaN or infinite values: the accumulation took a broken batch")
    return HtH, HtY


def check_l2(l2: Any) -> float:
    """l2 as a float; InputError when it is negative or not a number."""
    try:
        value = float(l2)
    except (TypeError, ValueError):
        value = np.nan
    if not (np.isfinite(value) and value >= 0):
        raise InputError(f"l2 must be a finite number >= 0, got {l2}")
    return value


def check_size(n_neurons: int | None, L: int) -> int:
    """n_neurons as an int, L where None; InputError outside 1..L."""
    if n_neurons is None:
        return L
    if int(n_neurons) != n_neurons or not 1 <= n_neurons <= L:
        raise InputError(f"the number of neurons must be 1 to {L}, got {n_neurons}")
    return int(n_neurons)


def _minimum_norm(A, B):
    warnings.warn("the system is singular to working precision: its minimum-norm solution is given; use a larger l2",
                  IllConditionedWarning, stacklevel=3)
    values, vectors = eigh(A)
    keep = values > len(A) * np.finfo(float).eps * values[-1]
    return vectors[:, keep] @ ((vectors[:, keep].T @ B) / values[keep, None])


def _warn_if_ill(R, norm, l2):
    reciprocal, _ = lapack.dpocon(R, norm)
    if reciprocal < len(R) * np.finfo(float).eps:
        warnings.warn(f"HtH + {l2:g} I has a condition number of about {1 / max(reciprocal, 1e-300):.0e}: "
                      "the solution is not unique to working precision; use a larger l2",
                      IllConditionedWarning, stacklevel=3)
