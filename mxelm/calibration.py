"""Thresholds that keep a promise: accept where score > t, and wrong acceptances stay within a budget.

An exit of a network and a hit in a cache make the same promise. The rows that calibrate must not be those that the
scorer was trained on: take held-out rows, or cross-validated scores.
"""
from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import stats

from mxelm.errors import InputError, require_choice, require_whole

RULES = ("paper", "conformal", "pac")
WEIGHTS = ("paper", "total", "equal")
_SLACK = 1e-9  # 0.29 * 100 is 28.999999999999996, and means 29


def threshold(scores: np.ndarray, wrong: np.ndarray, budget: float, *,
              rule: Literal["paper", "conformal", "pac"] = "conformal", confidence: float | None = None) -> float:
    """The threshold t such that accepting where score > t accepts wrongly in at most `budget` of all rows.

    scores: (n,). wrong: bool (n,), whether accepting the row would be wrong. budget: fraction of all rows, in (0, 1).
    rule: with j counted from the largest score of the wrong rows,
        "paper": the floor(budget n)-th. Source: Savchenko, Algorithm 2, line 12.
        "conformal": the floor(budget (n + 1))-th; the expected share of wrong acceptances is within the budget.
        "pac": the (k + 1)-th, k the most wrong acceptances that are still likely: with probability `confidence` (0.9
        by default) over the rows that calibrate, the share of wrong acceptances is within the budget.
    Returns +inf (accept nothing) if the rows are too few to promise it, -inf if every row may be accepted.
    Raises InputError for scores that are NaN, and a budget or a confidence outside (0, 1).

    >>> threshold([0.9, 0.8, 0.7, 0.6], [False, True, False, True], budget=0.5)
    0.6
    """
    scores, wrong = np.asarray(scores, float), np.asarray(wrong, bool)
    _require_fraction("budget", budget)
    require_choice("rule", rule, RULES)
    if scores.ndim != 1 or scores.shape != wrong.shape:
        raise InputError(f"scores and wrong must be rows of one length, got shapes {scores.shape} and {wrong.shape}")
    if np.isnan(scores).any():
        raise InputError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN: no threshold can be found")
    n = len(scores)
    if rule == "pac":
        place = _most_wrong(n, budget, 0.9 if confidence is None else confidence) + 1
    else:
        place = int(budget * (n if rule == "paper" else n + 1) + _SLACK)
    if place < 1:
        return np.inf
    falling = np.sort(scores[wrong])[::-1]
    return float(falling[place - 1]) if place <= len(falling) else -np.inf


def fewest_rows(budget: float, *, rule: Literal["paper", "conformal", "pac"] = "conformal",
                confidence: float = 0.9) -> int:
    """How many rows `threshold` needs, so that anything can be accepted within the budget.

    >>> fewest_rows(0.005), fewest_rows(0.005, rule="pac")
    (199, 460)
    """
    _require_fraction("budget", budget)
    _require_fraction("confidence", confidence)
    require_choice("rule", rule, RULES)
    if rule == "pac":
        return math.ceil(math.log(1 - confidence) / math.log1p(-budget))
    return math.ceil(1 / budget - _SLACK) - (rule == "conformal")


def budgets(alpha: float, n_exits: int, *, weights: Literal["paper", "total", "equal"] = "paper") -> np.ndarray:
    """The budget of each exit, float64 (n_exits,); the last exit accepts everything, so its entry is not used.

    alpha: in (0, 1), the budget of the whole decision. weights:
        "paper": alpha m / M, which adds up to more than alpha over the early exits for M > 3. Source: Savchenko, (4).
        "total": 2 m alpha / (M (M - 1)) for m < M and nothing for the last: adds up to alpha for any M.
        "equal": alpha at every exit.
    """
    _require_fraction("alpha", alpha)
    require_choice("weights", weights, WEIGHTS)
    require_whole("n_exits", n_exits)
    m = np.arange(1, n_exits + 1)
    if weights == "paper":
        return alpha * m / n_exits
    if weights == "equal":
        return np.full(n_exits, alpha, float)
    return np.where(m < n_exits, 2 * m * alpha / (n_exits * max(n_exits - 1, 1)), 0)


def largest_safe(losses: np.ndarray, epsilon: float, confidence: float) -> int:
    """The boldest of a family whose expected loss is at most `epsilon` with probability `confidence`; -1 for none.

    losses: bool (members, n), from the safest member to the boldest, in an order fixed without these rows: whether the
    member loses row i. The walk stops before the first member whose exact binomial bound (Clopper-Pearson) fails;
    testing in a fixed order needs no correction. Source: Jazbec et al., Fast yet Safe, NeurIPS 2024.
    """
    _require_fraction("epsilon", epsilon)
    losses = np.asarray(losses, bool)
    if losses.ndim != 2:
        raise InputError(f"losses must be (members, rows), got shape {losses.shape}")
    unsafe = losses.sum(axis=1) > _most_wrong(losses.shape[1], epsilon, confidence)
    return int(np.argmax(unsafe)) - 1 if unsafe.any() else len(losses) - 1


def _most_wrong(n, budget, confidence):
    """The largest k with P(Bin(n, budget) <= k) <= 1 - confidence; -1 where even k = 0 is too likely."""
    _require_fraction("confidence", confidence)
    k = np.arange(n + 1)
    return int((stats.binom.cdf(k, n, budget) <= 1 - confidence).sum()) - 1


def _require_fraction(name, value):
    if not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1, got {value}")
