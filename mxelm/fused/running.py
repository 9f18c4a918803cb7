"""An ELM over ready features, without scikit-learn: rows in, in any portions; the solution out, when asked for.

The same sums and the same solver as behind a network, in float64 throughout. Two things are added, a bias in every
neuron and an intercept. Pooled features are non-negative, but ready ones may lie on both sides of zero, and tanh(XWᵀ)
is odd there: without a bias no model could tell a circle from what surrounds it, without an intercept none could give
x and -x the same class where features are large.
"""
import copy

import numpy as np

from mxelm.errors import InputError
from mxelm.fused.solver import solve
from mxelm.fused.sums import BLOCK, Sums


class RunningELM:
    """HᵀH and HᵀY of H = tanh(XWᵀ + bias) with a column of ones beside it, over rows that come in any portions.

    Rows wait until a block of them is full, then pass through W and into the sums together: the same rows in the
    same order give the same bits, however they were portioned and whenever a solution was asked for in between.
    projection: Projection. n_outputs: columns of Y. The bias follows from the projection: it varies as much as XWᵀ
    does on standardised features.
    """

    def __init__(self, projection, n_outputs):
        self.W = projection.W.astype(np.float64)  # (n_neurons, n_features)
        spread = projection.scale * np.sqrt(projection.n_features)
        self.bias = spread * np.random.default_rng([projection.seed, 1]).standard_normal(projection.n_neurons)
        self._sums = Sums(projection.n_neurons + 1, n_outputs)
        self._X = np.empty((BLOCK, projection.n_features))
        self._Y = np.empty((BLOCK, n_outputs))
        self._weights = np.empty(BLOCK)
        self._filled = 0
        self._solved = None  # (l2, beta, intercept)

    def add(self, X, Y, weights):
        """Take rows X (n, n_features) and Y (n, n_outputs) in, each counting `weights` (n,) times.

        Rows of weight 0 leave no trace, not even in the boundaries of blocks.
        """
        counted = weights > 0
        if not counted.all():
            X, Y, weights = X[counted], Y[counted], weights[counted]
        while len(X):
            n = min(len(X), BLOCK - self._filled)
            place = slice(self._filled, self._filled + n)
            self._X[place], self._Y[place], self._weights[place] = X[:n], Y[:n], weights[:n]
            X, Y, weights = X[n:], Y[n:], weights[n:]
            self._filled += n
            self._solved = None
            if self._filled == BLOCK:
                self._sums.add(*self._waiting_rows())
                self._filled = 0

    def solve(self, l2):
        """(beta (n_neurons, n_outputs), intercept (n_outputs,)), float64; solved once for the same rows and l2.

        Raises InputError for l2 < 0 and where no row of positive weight has come yet.
        """
        if self._solved is None or self._solved[0] != l2:
            self._solved = (l2, *solve_with_intercept(*self._matrices(), l2))
        return self._solved[1:]

    def scores(self, X, l2):
        """H beta + intercept, float64 (n, n_outputs), in memory for a block of rows at a time."""
        beta, intercept = self.solve(l2)
        scores = np.empty((len(X), len(intercept)))
        for start in range(0, len(X), BLOCK):
            rows = slice(start, start + BLOCK)
            scores[rows] = self._hidden(X[rows].astype(np.float64, copy=False)) @ beta + intercept
        return scores

    def _hidden(self, X, out=None):
        """tanh(XWᵀ + bias), (n, n_neurons), into `out` where given."""
        H = np.matmul(X, self.W.T, out=out)
        H += self.bias
        return np.tanh(H, out=H)

    def _waiting_rows(self):
        """[H, 1] and Y of the rows that wait, each row times the root of its weight, as least squares want it."""
        rows, Y = np.empty((self._filled, len(self.W) + 1)), self._Y[:self._filled]
        self._hidden(self._X[:self._filled], out=rows[:, :-1])
        rows[:, -1] = 1
        weights = self._weights[:self._filled, None]
        if (weights == 1).all():
            return rows, Y
        rows *= np.sqrt(weights)
        return rows, Y * np.sqrt(weights)

    def _matrices(self):
        """The sums over all rows so far; those that wait go on waiting."""
        sums = self._sums
        if self._filled:
            sums = copy.deepcopy(sums)
            sums.add(*self._waiting_rows())
        return sums.matrices()


def solve_with_intercept(A, B, l2):
    """(beta (L, n_outputs), intercept (n_outputs,)) of the model that l2 shrinks towards the mean of Y, not to 0.

    A: [H, 1]ᵀ[H, 1], float64 (L + 1, L + 1), overwritten. B: [H, 1]ᵀY, (L + 1, n_outputs). Taking the means out of
    both, A - n h̄h̄ᵀ and B - n h̄ȳᵀ, leaves the intercept out of the penalty.
    """
    total, H_sum, Y_sum = A[-1, -1], A[-1, :-1].copy(), B[-1]
    if not total > 0:
        raise InputError("there is nothing to solve: no sample of positive weight has been seen")
    root = H_sum / np.sqrt(total)
    HtH = A[:-1, :-1]
    HtH -= np.outer(root, root)
    beta = solve(HtH, B[:-1] - np.outer(H_sum, Y_sum / total), l2)
    return beta, (Y_sum - H_sum @ beta) / total
