"""Learning vector quantisation: prototypes, and the linear map in front of them, moved by the samples they decide.

A sample x of class y lies at z = x W; prototype p_j has the label c_j and the squared distance d_j = |z - p_j|^2. The
cost is one of the distances alone, and gives g_j = d cost / d d_j, and with it every gradient:

    d cost / d p_j = -2 sum over samples g_j (z - p_j)        d cost / d z = 2 sum_j g_j (z - p_j)

Source: Seo and Obermayer, Neural Computation 15, 2003 (robust soft LVQ); Schneider, Biehl and Hammer, Neural
Computation 21, 2009 (the map learned along: matrix LVQ).
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Quantiser:
    """A map W (n_features, n_dims), prototypes (n_prototypes, n_dims) and their labels, refined in place by Adam.

    projection: float32, or None if samples are given in the space in which they are compared.
    """

    def __init__(self, projection: np.ndarray | None, prototypes: np.ndarray, labels: np.ndarray,
                 *, sharpness: float = 0.5) -> None:
        self.parameters = [np.array(prototypes, np.float32)]
        if projection is not None:
            self.parameters.append(np.array(projection, np.float32))
        self.labels, self.sharpness = np.asarray(labels), sharpness
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        self.steps = 0

    @property
    def prototypes(self) -> np.ndarray:
        return self.parameters[0]

    @property
    def projection(self) -> np.ndarray | None:
        return self.parameters[1] if len(self.parameters) > 1 else None

    def epoch(self, x: np.ndarray, y: np.ndarray, rates: Sequence[float], rng: np.random.Generator,
              *, batch: int = 512) -> float:
        """One pass over samples x (n, n_features) of classes y, in random order; the mean cost on the way.

        rates: Adam's step for the first and for the last batch. x may be float16, which is enough for samples.
        """
        order = rng.permutation(len(x))
        starts = range(0, len(x), batch)
        total = 0.0
        for rate, start in zip(np.linspace(*rates, len(starts)), starts):
            rows = order[start:start + batch]
            total += self._step(x[rows].astype(np.float32), y[rows], rate)
        return total / len(starts)

    def _step(self, x, y, rate):
        z = x if self.projection is None else x @ self.projection
        distances = ((z * z).sum(axis=1)[:, None] - 2 * (z @ self.prototypes.T)
                     + (self.prototypes ** 2).sum(axis=1))
        value, g = soft_cost(distances, self.labels == y[:, None], self.sharpness)
        g /= len(x)
        gradients = [-2 * (g.T @ z - g.sum(axis=0)[:, None] * self.prototypes)]
        if self.projection is not None:
            gradients.append(x.T @ (2 * (g.sum(axis=1)[:, None] * z - g @ self.prototypes)))
        self._adam(gradients, rate)
        return value

    def _adam(self, gradients, rate, b1=0.9, b2=0.999):
        self.steps += 1
        rate = rate * np.sqrt(1 - b2 ** self.steps) / (1 - b1 ** self.steps)
        for parameter, gradient, (first, second) in zip(self.parameters, gradients, self.moments):
            first += (1 - b1) * (gradient - first)
            second += (1 - b2) * (gradient * gradient - second)
            parameter -= np.float32(rate) * first / (np.sqrt(second) + 1e-8)


def soft_cost(distances: np.ndarray, own: np.ndarray, sharpness: float) -> tuple[float, np.ndarray]:
    """Robust soft LVQ: -log of the share of exp(-sharpness d_j) that falls to prototypes of the sample's own class."""
    scores = -sharpness * distances
    scores -= scores.max(axis=1, keepdims=True)
    every = np.exp(scores)
    every /= every.sum(axis=1, keepdims=True)
    share = np.maximum((every * own).sum(axis=1, keepdims=True), 1e-30)
    g = sharpness * (every * own / share - every)
    return float(-np.log(share).mean()), g.astype(np.float32)
