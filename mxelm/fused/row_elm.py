"""An ELM over ready features, without scikit-learn: rows in, in any portions; the solution out, when asked for.

The same sums and the same solver as behind a network, in float64 throughout. Two things are added, a bias in every
neuron and an intercept. Pooled features are non-negative, but ready ones may lie on both sides of zero, and tanh(XWᵀ)
is odd there: without a bias no model could tell a circle from what surrounds it, without an intercept none could give
x and -x the same class where features are large.
"""
from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import blas

from mxelm.fused.gram import BLOCK, Blocks, Gram, mirrored
from mxelm.fused.intercept import about, means, solve_with_intercept
from mxelm.fused.solver import solve

if TYPE_CHECKING:
    from mxelm.fused.projection import Projection


class RowELM:
    """HᵀH and HᵀY of H = tanh(XWᵀ + bias) with a column of ones beside it, over rows that come in any portions.

    Rows wait until a block of them is full, then pass through W and into the sums together: the same rows in the
    same order give the same bits, however they were portioned and whenever a solution was asked for in between.
    projection: Projection. n_outputs: columns of Y. The bias follows from the projection: it varies as much as XWᵀ
    does on standardised features.
    """

    def __init__(self, projection: Projection, n_outputs: int) -> None:
        L, n_features = projection.W.shape
        spread = projection.scale * np.sqrt(n_features)
        # [W, bias] and a row of zeros below, for the column of ones: one product with rows [x, 1] gives all
        self._W = np.zeros((L + 1, n_features + 1))
        self._W[:-1, :-1] = projection.W
        self._W[:-1, -1] = spread * np.random.default_rng([projection.seed, 1]).standard_normal(L)
        self._sums = Gram(L + 1, n_outputs)
        self._blocks = Blocks((n_features, n_outputs, 1), self._take)
        self._solved = None  # (l2, beta, intercept)

    @property
    def bias(self) -> np.ndarray:
        """Biases of the neurons, float64 (n_neurons,)."""
        return self._W[:-1, -1]

    def add(self, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None) -> None:
        """Take rows X (n, n_features) and Y (n, n_outputs) in, each counting `weights` (n,) times.

        Rows of weight 0 leave no trace, not even in the boundaries of blocks.
        """
        counted = weights > 0
        if not counted.all():
            X, Y, weights = X[counted], Y[counted], weights[counted]
        if len(X):
            self._solved = None
            self._blocks.add(X, Y, weights[:, None])

    def solve(self, l2: float) -> tuple[np.ndarray, np.ndarray]:
        """(beta (n_neurons, n_outputs), intercept (n_outputs,)), float64; solved once for the same rows and l2.

        Raises InputError for l2 < 0 and where no row of positive weight has come yet.
        """
        if self._solved is None or self._solved[0] != l2:
            self._solved = (l2, *solve_with_intercept(*self._matrices(), l2))
        return self._solved[1:]

    def scores(self, X: np.ndarray, l2: float) -> np.ndarray:
        """H beta + intercept, float64 (n, n_outputs), in memory for a block of rows at a time."""
        weights = np.vstack(self.solve(l2))
        scores = np.empty((len(X), weights.shape[1]))
        for start in range(0, len(X), BLOCK):
            scores[start:start + BLOCK] = self._hidden(X[start:start + BLOCK].astype(np.float64)) @ weights
        return scores

    def scores_left_out(self, X: np.ndarray, codes: np.ndarray, weights: np.ndarray, l2: float) -> np.ndarray:
        """Scores of rows that were taken in, float64 (n, n_outputs), each by the model of all the others.

        X: (n, n_features). codes: class numbers (n,). weights: (n,), what of each is left out.
        """
        scores, A, B = self.scores(X, l2), *self._matrices()
        h, _ = means(A, B)
        H = self._hidden(X)[:, :-1] - h
        spread = solve(about(A, B, 0.0, *means(A, B))[0], H.T, l2)
        own = weights * (1 / A[-1, -1] + np.einsum("nl,ln->n", H, spread))
        targets = np.eye(scores.shape[1])[codes]
        # own is 1 where no other row tells anything of this one
        return (scores - own[:, None] * targets) / np.maximum(1 - own[:, None], 1e-9)

    def _hidden(self, X):
        """[tanh(XWᵀ + bias), 1], (n, n_neurons + 1), of rows X; by SciPy's BLAS, as all that follows.

        NumPy brings a BLAS of its own, whose threads would spin while SciPy's work, and the other way round.
        """
        X = np.hstack([X, np.ones((len(X), 1))])
        H = np.empty((len(X), len(self._W)))
        blas.dgemm(1.0, self._W.T, X.T, trans_a=1, c=H.T, overwrite_c=1)
        np.tanh(H, out=H)
        H[:, -1] = 1
        return H

    def _take(self, X, Y, weights):
        self._sums.add_block(*self._weighted(X, Y, weights))

    def _weighted(self, X, Y, weights):
        """[H, 1] and Y of rows X, each times the root of its weight (n, 1), as least squares want it."""
        rows = self._hidden(X)
        if (weights == 1).all():
            return rows, Y
        rows *= np.sqrt(weights)
        return rows, Y * np.sqrt(weights)

    def _matrices(self):
        """HᵀH and HᵀY over all rows so far; those that wait go on waiting."""
        waiting = self._blocks.waiting
        if not len(waiting[0]):
            return self._sums.matrices()
        sums = copy.copy(self._sums)
        sums.A, sums.B = sums.A.copy(order="F"), sums.B.copy(order="F")
        sums.add_block(*self._weighted(*waiting))
        return mirrored(sums.A), sums.B
