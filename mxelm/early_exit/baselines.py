"""What early exit is compared with: cascaded inference by softmax confidence, and conditional deep learning (CDL)."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mxelm.early_exit.rules import decide


def cascaded_thresholds(scores: Sequence[np.ndarray], y: np.ndarray, epsilon: float) -> np.ndarray:
    """Cascaded inference's thresholds (M,): at each exit the least at which it is as accurate as it can be, but for
    `epsilon`, among the rows it is that sure of; the last is -inf.

    scores: M arrays (n, C) of softmax probabilities of held-out rows (the authors calibrate on training rows). They
    leave at confidence >= t, hence the next smaller number here. Source: Berestizshevsky and Even, ICANN 2019.
    """
    return np.array([*(_least_threshold(s, y, epsilon) for s in scores[:-1]), -np.inf])


def _least_threshold(scores, y, epsilon):
    labels, top, _ = decide(scores, np.inf)
    order = np.argsort(-top, kind="stable")
    accuracy = np.cumsum((labels == y)[order]) / np.arange(1, len(y) + 1)  # among the j surest
    whole = np.append(np.diff(top[order]) != 0, True)  # ties leave together
    best = accuracy[whole].max()
    return float(np.nextafter(top[order][np.flatnonzero(whole & (accuracy >= best - epsilon))[-1]], -np.inf))


def cdl_stages(scores: Sequence[np.ndarray], y: np.ndarray, seconds: Sequence[float], decision: float,
               t: float) -> list[int]:
    """Exits that CDL keeps, list of int: those at which what leaving rows save exceeds what the passing rows pay.

    scores: M arrays (n, C) of probabilities. seconds: (M,), up to each exit. decision: seconds of one exit's decision.
    t: the user's threshold; a row leaves where exactly one class exceeds it. The last exit always stays.
    Source: Panda, Sengupta and Roy, Conditional Deep Learning, DATE 2016.
    """
    passing, kept = np.ones(len(y), bool), []
    for m, s in enumerate(scores[:-1]):
        leaves = passing & decide(s, t, "single")[2]
        if (seconds[-1] - seconds[m]) * leaves.sum() > decision * passing.sum():
            kept.append(m)
            passing &= ~leaves
    return [*kept, len(scores) - 1]
