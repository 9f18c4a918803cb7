"""Confidences: the softmax of scores over a temperature, so that of answers given with 0.8 about 80 % are right.

Least-squares scores estimate 0 and 1 but are no probabilities: they may be negative, and do not add up to 1. One
number, fitted on samples that the model has not seen, makes them so without changing an answer.
Source: Guo et al., "On calibration of modern neural networks", 2017 (arXiv:1706.04599).
"""
from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from mxelm.errors import InputError

BINS = 15
HELD = 2048  # samples at most whose rows are kept for a temperature


def confidences(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities float64 (n, n_classes), rows adding up to 1, of scores (n, n_classes).

    >>> confidences([[0.9, 0.1]], temperature=0.2).round(3)
    array([[0.982, 0.018]])
    """
    return softmax(np.asarray(scores, np.float64) / temperature, axis=1)


def fit_temperature(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature of the least cross-entropy of confidences with labels int64 (n,); scores (n, n_classes).

    weights: how often each sample counts, (n,); None counts each once. No certainty follows from n samples that are all
    answered rightly: one sample's worth of doubt is spread evenly over the classes, so that the target of a label is
    (n + 1 / n_classes) / (n + 1). Platt, 1999, does so for two classes. Raises InputError where there is no sample.
    """
    rows, n_classes = np.shape(scores)
    weights = np.ones(rows) if weights is None else weights
    n = weights.sum()
    if not n:
        raise InputError("a temperature needs samples to be fitted on")
    targets = np.full((rows, n_classes), 1 / n_classes / (n + 1))
    targets[np.arange(rows), labels] += n / (n + 1)
    scores = scores - np.average(scores, axis=1)[:, None]
    spread = float(np.sqrt(np.average(np.square(scores).mean(axis=1), weights=weights))) or 1.0
    coldest, hottest = 1 / np.exp(7), np.exp(7)  # in units of the scores' spread

    def slope(inverse):
        """Of the cross-entropy, which is convex in 1 / temperature."""
        return weights @ ((softmax(scores * (inverse / spread), axis=1) - targets) * scores).sum(axis=1)

    if slope(coldest) * slope(hottest) >= 0:
        return spread / (coldest if slope(coldest) >= 0 else hottest)
    return spread / brentq(slope, coldest, hottest)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over `bins` equal intervals of confidence, weighed by their samples.

    probabilities: (n, n_classes). labels: int64 (n,). Source: the expected calibration error of Guo et al., section 2.
    """
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.minimum((best * bins).astype(int), bins - 1)
    return sum(abs(best[place == b].sum() - right[place == b].sum()) for b in np.unique(place)) / len(labels)
