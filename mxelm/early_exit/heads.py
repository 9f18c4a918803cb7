"""Classifiers at exits: any of scikit-learn's; what is linear is computed by one product of matrices."""
from __future__ import annotations

from typing import Any

import numpy as np

from mxelm.errors import InputError

NEVER = -1e30  # the score of a class that no training image was of


def classifier(kind: Any, seed: int = 0) -> Any:
    """A new scikit-learn classifier by name; any other object is cloned.

    "lr" (logistic regression), "rf" (random forest), "svm" (linear, one-versus-all, squared hinge) are the talk's;
    "ridge" (least squares) is ours, and a hundred times as fast to train. Source: Savchenko, Algorithm 2, line 7.
    """
    from sklearn.base import clone
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC
    if not isinstance(kind, str):
        return clone(kind)
    made = {"lr": lambda: LogisticRegression(C=100, max_iter=60, tol=1e-6),
            "rf": lambda: RandomForestClassifier(100, max_features="log2", random_state=seed),
            "svm": lambda: LinearSVC(dual=True, tol=1e-2, random_state=seed),
            "ridge": lambda: RidgeClassifier(alpha=0.1)}
    if kind not in made:
        raise InputError(f"the classifier at an exit is one of {', '.join(made)} or a scikit-learn one, not {kind!r}")
    return made[kind]()


def head(estimator: Any, n_classes: int) -> Linear | Estimator:
    """The scores of a fitted classifier as a function of features: a Linear where it is linear, else an Estimator."""
    general = Estimator(estimator, n_classes)
    count = len(estimator.classes_)
    if np.shape(getattr(estimator, "coef_", None))[:1] != (1 if count == 2 else count,):
        return general
    linear = Linear.of(estimator, n_classes)
    rows = np.eye(estimator.n_features_in_, dtype=np.float32)[:64]
    alike = np.allclose(linear(rows), general(rows), rtol=1e-3, atol=1e-3)
    return linear if alike else general  # what has a decision function of its own


class Linear:
    """s(x) = Wx + b, with a softmax where the classifier tells probabilities; float32 (n, d) -> (n, C)."""

    def __init__(self, W: np.ndarray, b: np.ndarray, probabilities: bool = False) -> None:
        """W: (C, d). b: (C,); NEVER for a class that was never seen."""
        self.W, self.b = np.ascontiguousarray(W, np.float32), np.asarray(b, np.float32)
        self.probabilities = bool(probabilities)

    @classmethod
    def of(cls, estimator: Any, n_classes: int) -> Linear:
        """The head of a fitted linear classifier; one of two classes has one row, which stands for both."""
        probabilities = hasattr(estimator, "predict_proba")
        coef, intercept = np.asarray(estimator.coef_), np.broadcast_to(estimator.intercept_, len(estimator.coef_))
        if len(coef) == 1:
            share = 0.5 if probabilities else 1
            coef, intercept = share * np.concatenate([-coef, coef]), share * np.concatenate([-intercept, intercept])
        W, b = np.zeros((n_classes, coef.shape[1])), np.full(n_classes, NEVER)
        W[estimator.classes_], b[estimator.classes_] = coef, intercept
        return cls(W, b, probabilities)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        scores = x @ self.W.T
        scores += self.b
        if self.probabilities:
            np.exp(scores - scores.max(axis=1, keepdims=True), out=scores)
            scores /= scores.sum(axis=1, keepdims=True)
        return scores


class Estimator:
    """The scores of any fitted classifier: probabilities where it has them, else its decision function."""

    def __init__(self, estimator: Any, n_classes: int) -> None:
        self.estimator, self.n_classes = estimator, n_classes

    def __call__(self, x: np.ndarray) -> np.ndarray:
        tells = "predict_proba" if hasattr(self.estimator, "predict_proba") else "decision_function"
        found = np.asarray(getattr(self.estimator, tells)(x), np.float32)
        if found.ndim == 1:
            found = np.stack([-found, found], axis=1)
        scores = np.full((len(x), self.n_classes), NEVER if tells == "decision_function" else 0, np.float32)
        scores[:, self.estimator.classes_] = found
        return scores


def held_out(kind: Any, x: np.ndarray, y: np.ndarray, n_classes: int, *, fraction: float = 0.3,
             seed: int = 0) -> tuple[Linear | Estimator, np.ndarray, np.ndarray]:
    """Fit on a stratified part, score the rest: (head, scores (n - K, C), held-out rows (n - K,)).

    fraction: 1 - delta, held out. Source: Savchenko, Algorithm 2, lines 6-7.
    """
    train, rest = split_rows(y, fraction, seed)
    fitted = head(classifier(kind, seed).fit(x[train], y[train]), n_classes)
    return fitted, fitted(x[rest]), rest


def cross_validated(kind: Any, x: np.ndarray, y: np.ndarray, n_classes: int, *, folds: int = 3,
                    seed: int = 0) -> np.ndarray:
    """Scores (n, C) of each row by a classifier that has not seen it, over stratified folds."""
    from sklearn.model_selection import StratifiedKFold
    scores = np.empty((len(x), n_classes), np.float32)
    for train, rest in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y):
        scores[rest] = head(classifier(kind, seed).fit(x[train], y[train]), n_classes)(x[rest])
    return scores


def split_rows(y: np.ndarray, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows (train, rest) of a stratified split with about `fraction` of the rows in `rest`."""
    from sklearn.model_selection import train_test_split
    try:
        train, rest = train_test_split(np.arange(len(y)), test_size=fraction, stratify=y, random_state=seed)
    except ValueError as error:
        raise InputError(f"{len(y)} images cannot be split by class: {error}") from None
    return np.sort(train), np.sort(rest)
