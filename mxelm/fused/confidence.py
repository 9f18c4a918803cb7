"""Confidences: the softmax of scores over a temperature, so that of answers given with 0.8 about 80 % are right.

Least-squares scores estimate 0 and 1 but are no probabilities: they may be negative, and do not add up to 1. One
number, fitted on samples that the model has not seen, makes them so without changing an answer.
Source: Guo et al., "On calibration of modern neural networks", 2017 (arXiv:1706.04599).
"""
from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from mxelm.errors import InputError

BINS = 15


def confidences(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities float64 (n, n_classes), rows adding up to 1, of scores (n, n_classes)."""
    return softmax(np.asarray(scores, np.float64) / temperature, axis=1)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least cross-entropy of confidences with labels int64 (n,); scores (n, n_classes).

    No certainty follows from n samples that are all answered rightly: one sample's worth of doubt is spread evenly over
    the classes, so that the target of a label is (n + 1 / n_classes) / (n + 1). Platt, 1999, does so for two classes.
    Raises InputError where there is no sample.
    """
    n, n_classes = np.shape(scores)
    if not n:
        raise InputError("a temperature needs samples to be fitted on")
    targets = np.full((n, n_classes), 1 / n_classes / (n + 1))
    targets[np.arange(n), labels] += n / (n + 1)
    spread = float(np.std(scores)) or 1.0  # the scale on which temperatures are looked for

    def loss(log_temperature):
        return -np.sum(targets * log_softmax(scores / (spread * np.exp(log_temperature)), axis=1))

    return spread * float(np.exp(minimize_scalar(loss, bounds=(-7, 7), method="bounded").x))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over `bins` equal intervals of confidence, weighed by their samples.

    probabilities: (n, n_classes). labels: int64 (n,). Source: the expected calibration error of Guo et al., section 2.
    """
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.minimum((best * bins).astype(int), bins - 1)
    return sum(abs(best[place == b].sum() - right[place == b].sum()) for b in np.unique(place)) / len(labels)
