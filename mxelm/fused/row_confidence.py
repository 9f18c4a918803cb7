"""Confidences of an ELM over ready features: a temperature from rows that it has learnt, each judged without itself.

What a ridge regression on all other rows would answer is known without training it: with the leverage
h = z (A + P)⁻¹ zᵀ of a row z = [tanh(xWᵀ + bias), 1], times the row's weight, its score s and its target y, it is
(s - h y) / (1 - h). A row that counts several times leaves one of them out.
"""
from __future__ import annotations

import heapq
from operator import itemgetter

import numpy as np

from mxelm.errors import InputError
from mxelm.fused.confidence import HELD, fit_temperature
from mxelm.fused.row_elm import RowELM


class RowConfidence:
    """The temperature of a RowELM of classes, from a sample of HELD of its rows; they are held, whatever comes.

    running: RowELM. seed: of the sample, which does not depend on how rows are portioned.
    """

    def __init__(self, running: RowELM, seed: int) -> None:
        self._running, self._rng = running, np.random.default_rng([seed, 2])
        self._seen, self._fitted = 0, None
        self._held = []  # a heap of (-lot, place, x, code, times, weight of its class), of the lowest lots

    def add(self, X: np.ndarray, codes: np.ndarray, times: np.ndarray, weights: np.ndarray) -> None:
        """Rows X (n, n_features), class numbers (n,) and weights (n,) of samples and of their classes.

        The RowELM takes them in too, by the product of both weights.
        """
        counted = np.flatnonzero(times * weights > 0)
        lots = self._rng.random(len(counted))
        for place, lot in enumerate(lots, self._seen):
            if len(self._held) < HELD or -lot > self._held[0][0]:
                row = counted[place - self._seen]
                push = heapq.heappush if len(self._held) < HELD else heapq.heappushpop
                push(self._held, (-lot, place, X[row].copy(), codes[row], times[row], weights[row]))
        self._seen, self._fitted = self._seen + len(counted), None

    def temperature(self, l2: float) -> float:
        """The temperature of the model of this l2; InputError where no row of positive weight has come yet."""
        if self._fitted is None or self._fitted[0] != l2:
            if not self._held:
                raise InputError("there are no confidences: no sample of positive weight has been seen")
            rows = sorted(self._held, key=itemgetter(1))
            X, codes, times, weights = (np.array(column) for column in list(zip(*rows))[2:])
            scores = self._running.scores_left_out(X, codes, np.minimum(times, 1) * weights, l2)
            self._fitted = l2, fit_temperature(scores, codes, times)
        return self._fitted[1]
