"""The intercept: a column of ones beside H, [H, 1], whose weight l2 leaves alone.

[H, 1]ᵀ[H, 1] holds the sums of H in its last row, [H, 1]ᵀY those of Y, so that the same two matrices tell the means.
Least squares on rows less their means shrink the answers towards the mean of Y rather than 0: targets of 1,983 ± 1
are learnt as well as those of 3 ± 1. Not printed in the paper, whose targets are classes.
"""
from __future__ import annotations

import numpy as np

from mxelm.errors import InputError
from mxelm.fused.solver import solve


def means(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h̄ (L,), ȳ (n_outputs,)) from A = [H, 1]ᵀ[H, 1] and B = [H, 1]ᵀY; InputError without a sample."""
    total = A[-1, -1]
    if not total > 0:
        raise InputError("there is nothing to solve: no sample of positive weight has been seen")
    return A[-1, :-1] / total, B[-1] / total


def about(A: np.ndarray, B: np.ndarray, yty: float, h: np.ndarray,
          y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(HtH (L, L), HtY (L, n_outputs), yty) of rows H - h and Y - y, from those of [H, 1] and Y."""
    n, H_sum, Y_sum = A[-1, -1], A[-1, :-1], B[-1]
    cross = np.outer(H_sum - n * h / 2, h)
    return (A[:-1, :-1] - cross - cross.T, B[:-1] - np.outer(H_sum, y) - np.outer(h, Y_sum - n * y),
            yty - 2 * Y_sum @ y + n * y @ y)


def solve_with_intercept(A: np.ndarray, B: np.ndarray, l2: float,
                         *, n_neurons: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(beta (n_neurons, n_outputs), intercept (n_outputs,)) of the model that l2 shrinks towards the mean of Y.

    A: [H, 1]ᵀ[H, 1], float64 (L + 1, L + 1). B: [H, 1]ᵀY, (L + 1, n_outputs).
    """
    h, y = means(A, B)
    HtH, HtY, _ = about(A, B, 0.0, h, y)
    beta = solve(HtH, HtY, l2, n_neurons=n_neurons)
    return beta, y - h[:len(beta)] @ beta
