"""When to leave: what an exit is sure of, and the thresholds that keep a promise about it."""
from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from mxelm.calibration import budgets, fewest_rows, largest_safe, threshold

CONFIDENCES = ("top", "margin", "single")
LEVELS = 30  # thresholds tried at an exit
_log = logging.getLogger(__name__)


def decide(scores: np.ndarray, t: float, confidence: str = "top") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (n,), confidences (n,), and whether each row leaves: confidence > t.

    scores: (n, C). confidence: "top" (the highest score; Savchenko, (3)), "margin" (best minus second best), or
    "single" (the highest score, where it is the only one above t: CDL's rule).
    """
    labels = scores.argmax(axis=1)
    if confidence == "top" or scores.shape[1] == 1:
        top = scores[np.arange(len(scores)), labels]
        return labels, top, top > t
    second, top = np.partition(scores, -2, axis=1)[:, -2:].T
    if confidence == "margin":
        sure = top - second
        return labels, sure, sure > t
    return labels, top, (top > t) & (second <= t)


def false_acceptance(scores: np.ndarray, y: np.ndarray, confidence: str = "top") -> tuple[np.ndarray, np.ndarray]:
    """What is accepted falsely when it exceeds a threshold: scores (n,), and whether each row counts, bool (n,).

    top: the highest score of another class than y's, of every row (Algorithm 2, line 10, which prints "intra-class").
    margin: the margins of the rows that are labelled wrongly.
    """
    if confidence == "top":
        others = scores.copy()
        others[np.arange(len(y)), y] = -np.inf
        return others.max(axis=1), np.ones(len(y), bool)
    labels, margins, _ = decide(scores, np.inf, confidence)
    return margins, labels != y


def far_thresholds(scores: Sequence[np.ndarray], y: np.ndarray, alpha: float, *, rule: str = "conformal",
                   weights: str = "paper", confidence: str = "top", pac: float | None = None,
                   names: Sequence[str] | None = None) -> np.ndarray:
    """A threshold for each exit from held-out scores, float64 (M,); the last is -inf, since all leave there.

    scores: M arrays (n, C), of the same held-out rows. alpha: the false acceptance rate of the whole. rule, weights:
    see mxelm.calibration; `pac` is that rule's confidence. names: what a warning calls the exits.
    Source: Savchenko, Algorithm 2, lines 8-12.
    """
    shares = budgets(alpha, len(scores), weights=weights)
    found = [threshold(*false_acceptance(s, y, confidence), share, rule=rule, confidence=pac)
             for s, share in zip(scores[:-1], shares)]
    for m, t in enumerate(found):
        if t == np.inf:
            _log.warning("%d held-out images are too few for a false acceptance rate of %.2g at %s: no image will "
                         "leave there", len(y), shares[m], names[m] if names else f"exit {m + 1}")
    return np.array([*found, -np.inf])


def risk_thresholds(scores: Sequence[np.ndarray], y: np.ndarray, max_loss: float, seconds: np.ndarray, *,
                    certainty: float = 0.9, confidence: str = "margin", seed: int = 0) -> np.ndarray:
    """The fastest thresholds (M,) that lose at most `max_loss` against the last exit, with probability `certainty`.

    scores: M arrays (n, C) of the same held-out rows. seconds: (M,), from the start up to each exit. A third of the
    rows lays out a path of thresholds; on the others the walk along it, from nobody leaving to the boldest, stops
    before the first member whose bound on what is harmed (the last exit right, the cascade wrong) exceeds `max_loss`.
    Source: Jazbec et al., Fast yet Safe, NeurIPS 2024.
    """
    judged = Judged(scores, y, confidence)
    rows = np.random.default_rng(seed).permutation(len(y))
    family = path(judged.take(rows[:len(y) // 3]), seconds)
    others = judged.take(rows[len(y) // 3:])
    boldest = largest_safe([others.harmed(t) for t in family], max_loss, certainty)
    if boldest < 0:
        needed = math.ceil(1.5 * fewest_rows(max_loss, rule="pac", confidence=certainty))
        _log.warning("%d scored images are too few to promise with certainty %g that %g points are lost at most: give "
                     "%d or allow a greater loss; no image will leave early", len(y), certainty, 100 * max_loss, needed)
    return family[max(boldest, 0)]


def leave_at(scores: Sequence[np.ndarray], thresholds: Sequence[float],
             confidence: str) -> tuple[np.ndarray, np.ndarray]:
    """The exit at which each row leaves and its label there, int (n,) both. scores: M arrays (n, C)."""
    exits, labels = np.full(len(scores[0]), -1), np.zeros(len(scores[0]), int)
    for m, (s, t) in enumerate(zip(scores, thresholds)):
        found, _, leaves = decide(s, t, confidence)
        leaves = (exits < 0) & (leaves | (m == len(scores) - 1))
        exits[leaves], labels[leaves] = m, found[leaves]
    return exits, labels


class Judged:
    """Labels, confidences and truth of the same rows at every exit: what any thresholds would make of them."""

    def __init__(self, scores: Sequence[np.ndarray], y: np.ndarray, confidence: str) -> None:
        found = [decide(s, np.inf, confidence)[:2] for s in scores]
        self.labels, self.confidences = (np.array(part) for part in zip(*found))  # both (M, n)
        self.y = np.asarray(y)

    def take(self, rows: np.ndarray) -> Judged:
        """The same of some rows."""
        part = object.__new__(Judged)
        part.labels, part.confidences, part.y = self.labels[:, rows], self.confidences[:, rows], self.y[rows]
        return part

    def of_exits(self, exits: Sequence[int]) -> Judged:
        """The same of some exits."""
        part = object.__new__(Judged)
        part.labels, part.confidences, part.y = self.labels[exits], self.confidences[exits], self.y
        return part

    def exits(self, thresholds: Sequence[float]) -> np.ndarray:
        """The exit at which each row leaves, int (n,)."""
        leaves = self.confidences > np.asarray(thresholds)[:, None]
        leaves[-1] = True
        return leaves.argmax(axis=0)

    def answers(self, thresholds: Sequence[float]) -> np.ndarray:
        """The label of each row where it leaves, int (n,)."""
        return self.labels[self.exits(thresholds), np.arange(len(self.y))]

    def harmed(self, thresholds: Sequence[float]) -> np.ndarray:
        """Whether the last exit has a row right and the cascade wrong, bool (n,)."""
        return (self.labels[-1] == self.y) & (self.answers(thresholds) != self.y)

    def loss(self, thresholds: Sequence[float]) -> float:
        """Accuracy that is lost against the last exit; what the cascade alone has right counts for it."""
        return float((self.labels[-1] == self.y).mean() - (self.answers(thresholds) == self.y).mean())

    def seconds(self, thresholds: Sequence[float], seconds: Sequence[float]) -> float:
        """Mean seconds a row. seconds: (M,), from the start up to each exit."""
        return float(np.asarray(seconds)[self.exits(thresholds)].mean())


def path(judged: Judged, seconds: Sequence[float], *, net: bool = False) -> np.ndarray:
    """Thresholds (members, M), from nobody leaving to everybody at the first exit.

    From each on one exit grows bolder, level by level: the one, and as far, as saves most time for what is harmed (net:
    for what is lost, so that rows which the cascade alone has right make up for others). To look one level ahead would
    not do: of whom a late exit is surest, an earlier one has often let go, so that its first levels save nothing.
    """
    levels = [np.array([np.inf, *np.quantile(c, np.linspace(1, 0, LEVELS)), -np.inf]) for c in judged.confidences[:-1]]
    reached = [0] * len(levels)
    family = [np.array([*(np.inf for _ in levels), -np.inf])]
    time, price = judged.seconds(family[0], seconds), 0.0
    while True:
        steps = []
        for m, place in [(m, place) for m, old in enumerate(reached) for place in range(old + 1, LEVELS + 2)]:
            bolder = _with(family[-1], m, levels[m][place])
            found = judged.seconds(bolder, seconds), judged.loss(bolder) if net else judged.harmed(bolder).mean()
            worth = (time - found[0]) / (max(found[1] - price, 0) + 0.5 / len(judged.y))
            steps.append((worth, m, place, *found))
        if not steps:
            return np.array(family)
        _, m, place, time, price = max(steps, key=lambda step: step[0])
        family += [_with(family[-1], m, level) for level in levels[m][reached[m] + 1:place + 1]]
        reached[m] = place


def _with(thresholds, m, level):
    """The same thresholds with another one at exit m."""
    changed = thresholds.copy()
    changed[m] = level
    return changed
