"""scikit-learn estimators over ready features: ELMClassifier and ELMRegressor.

Source: Arcada, section 2; class and sample weights are those of weighted least squares.
"""
from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from mxelm.errors import InputError
from mxelm.fused.confidence import confidences
from mxelm.fused.gram import BLOCK
from mxelm.fused.projection import Projection
from mxelm.fused.row_confidence import RowConfidence
from mxelm.fused.row_elm import RowELM
from mxelm.fused.solver import check_l2
from mxelm.fused.weights import class_weights, sample_weights

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn before 1.6
    def validate_data(estimator, *args, **kwargs):
        return estimator._validate_data(*args, **kwargs)

FLOATS = [np.float64, np.float32]  # taken as they come: rows turn into float64 a block at a time


class _ELM(BaseEstimator):
    """What the two estimators over ready features share: W, the running sums, and the scores."""

    def __init__(self, n_neurons=1000, l2=1.0, scale=None, random_state=None):
        self.n_neurons = n_neurons
        self.l2 = l2
        self.scale = scale
        self.random_state = random_state

    @property
    def bias_(self):
        """Biases of the neurons, float64 (n_neurons,)."""
        check_is_fitted(self)
        return self._running.bias

    @property
    def beta_(self):
        """Weights of the neurons, float64 (n_neurons, n_outputs); solved when first asked for."""
        check_is_fitted(self)
        return self._running.solve(self.l2)[0]

    @property
    def intercept_(self):
        """float64 (n_outputs,)."""
        check_is_fitted(self)
        return self._running.solve(self.l2)[1]

    def _begin(self, n_outputs):
        """Draw W and begin empty sums. Nothing here looks at a value of the data, or batches could not agree."""
        if not isinstance(self.n_neurons, numbers.Integral):
            raise InputError(f"n_neurons must be an integer of at least 1, got {self.n_neurons!r}")
        check_l2(self.l2)
        scale = 1 / np.sqrt(self.n_features_in_) if self.scale is None else self.scale
        if not isinstance(scale, numbers.Real):
            raise InputError(f"scale must be a positive number or None, got {scale!r}")
        seed = _seed(self.random_state)
        self.projection_ = Projection(int(self.n_neurons), self.n_features_in_, seed, float(scale))
        self._running = RowELM(self.projection_, n_outputs)

    def _accumulate(self, X, weights, targets):
        """Add all rows; targets: callable(slice) -> Y float64 (n, n_outputs) of these rows."""
        for rows in gen_batches(len(X), BLOCK):
            self._running.add(X[rows], targets(rows), weights[rows])
        return self

    def _scores(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        return self._running.scores(X, self.l2)


class ELMClassifier(ClassifierMixin, _ELM):
    """An ELM over feature rows X (n_samples, n_features): scores tanh(XWᵀ + bias) beta + intercept.

    n_neurons: int, size of the hidden layer. l2: number >= 0; it may be changed after fitting, the next prediction
    solves again from the same sums. scale: standard deviation of W's entries, 1/sqrt(n_features) by default, which
    suits standardised features. random_state: an int is the seed of W, as in `mxelm.fused.Projection`.
    class_weight: dict of class -> weight, or "balanced" (`fit` only), times sample_weight.
    Fitted: classes_, n_features_in_, projection_ (its W is (n_neurons, n_features)), bias_ (n_neurons,),
    beta_ (n_neurons, n_classes), intercept_ (n_classes,), temperature_ (mxelm.fused.row_confidence).
    Raises InputError (a ValueError) for values that cannot be used.
    Source: Arcada, section 2, with a bias and an intercept (see mxelm.fused.row_elm).

    >>> X, y = [[-2.0], [-1.0], [1.0], [2.0]], ["left", "left", "right", "right"]
    >>> model = ELMClassifier(n_neurons=20, random_state=0).fit(X, y)
    >>> model.predict([[-3.0], [3.0]])
    array(['left', 'right'], dtype='<U5')
    """

    def __init__(self, *, n_neurons: int = 1000, l2: float = 1.0, scale: float | None = None,
                 random_state: int | np.random.RandomState | None = None,
                 class_weight: dict | Literal["balanced"] | None = None) -> None:
        super().__init__(n_neurons, l2, scale, random_state)
        self.class_weight = class_weight

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> ELMClassifier:
        """Learn from X (n_samples, n_features) and labels y (n_samples,), and forget what was learnt before."""
        X, y = self._checked(X, y, reset=True)
        weights = sample_weights(sample_weight, len(X), some=True)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._begin_classes()
        return self._add(X, codes, weights)

    def partial_fit(self, X: np.ndarray, y: np.ndarray, classes: Sequence | None = None,
                    sample_weight: np.ndarray | None = None) -> ELMClassifier:
        """Add rows to the sums, which is all it does; beta is solved when a prediction asks for it.

        classes: all labels there will be, needed at the first call. The same rows in the same order give exactly
        what `fit` gives, in any portions.
        """
        if isinstance(self.class_weight, str):
            raise InputError(f"partial_fit cannot know class_weight={self.class_weight!r} before all labels are seen: "
                             "give a dict of class -> weight, or use fit")
        first = not hasattr(self, "classes_")
        self._check_classes(first, classes)
        X, y = self._checked(X, y, reset=first)
        known = np.unique(classes) if first else self.classes_
        unknown = np.setdiff1d(y, known)
        if len(unknown):
            raise InputError(f"label {unknown[0]!r} is none of the classes {list(known[:10])}: name all classes in "
                             "the first call of partial_fit")
        weights = sample_weights(sample_weight, len(X))
        if first:
            self.classes_ = known
            self._begin_classes()
        codes = np.searchsorted(self.classes_, y)
        return self._add(X, codes, weights)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Scores float64 (n_samples, n_classes); of two classes, (n_samples,), positive for classes_[1].

        Scores are least squares estimates of 0 and 1, no probabilities.
        """
        return decision(self._scores(X))

    @property
    def temperature_(self) -> float:
        """That of the confidences; fitted when first asked for, on rows of the training judged without themselves."""
        check_is_fitted(self)
        return self._confidence.temperature(self.l2)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Confidences float64 (n_samples, n_classes), rows adding up to 1: the softmax of scores / temperature_."""
        scores = self._scores(X)
        return confidences(scores, self.temperature_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class of the largest score, (n_samples,)."""
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def _begin_classes(self):
        self._begin(len(self.classes_))
        self._confidence = RowConfidence(self._running, self.projection_.seed)

    def _checked(self, X, y, reset):
        X, y = validate_data(self, X, y, dtype=FLOATS, reset=reset)
        check_classification_targets(y)
        return X, y

    def _check_classes(self, first, classes):
        if first and classes is None:
            raise InputError("the first call of partial_fit must name all classes: classes=[...]")
        if not first and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise InputError(f"classes differ from those of the first call, {list(self.classes_[:10])}")

    def _add(self, X, codes, weights):
        of_class = class_weights(self.class_weight, self.classes_, codes, weights)[codes]
        self._confidence.add(X, codes, weights, of_class)
        return self._accumulate(X, weights * of_class, lambda rows: _one_hot(codes[rows], len(self.classes_)))


class ELMRegressor(MultiOutputMixin, RegressorMixin, _ELM):
    """An ELM over feature rows X (n_samples, n_features): tanh(XWᵀ + bias) beta + intercept, the estimate of y.

    n_neurons, l2, scale, random_state: as of ELMClassifier.
    Fitted: n_features_in_, projection_, bias_ (n_neurons,), beta_ (n_neurons, n_outputs), intercept_ (n_outputs,).
    Raises InputError (a ValueError) for values that cannot be used.
    Source: Arcada, section 2, with a bias and an intercept (see mxelm.fused.row_elm).
    """

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> ELMRegressor:
        """Learn from X (n_samples, n_features) and y (n_samples,) or (n_samples, n_outputs), and forget the rest."""
        X, y = self._checked(X, y, reset=True)
        weights = sample_weights(sample_weight, len(X), some=True)
        self._start(y)
        return self._add(X, y, weights)

    def partial_fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> ELMRegressor:
        """Add rows to the sums, which is all it does; beta is solved when a prediction asks for it.

        The same rows in the same order give exactly what `fit` gives, in any portions.
        """
        first = not hasattr(self, "projection_")
        X, y = self._checked(X, y, reset=first)
        weights = sample_weights(sample_weight, len(X))
        if first:
            self._start(y)
        elif y.shape[1:] != self._output_shape:
            raise InputError(f"y has columns of shape {y.shape[1:]}, earlier calls had {self._output_shape}")
        return self._add(X, y, weights)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """float64, of the shape of y: (n_samples,) or (n_samples, n_outputs)."""
        return self._scores(X).reshape(-1, *self._output_shape)

    def _checked(self, X, y, reset):
        X, y = validate_data(self, X, y, dtype=FLOATS, y_numeric=True, multi_output=True, reset=reset)
        return X, check_array(y, ensure_2d=False, dtype=np.float64)  # a sparse y is refused here

    def _start(self, y):
        self._output_shape = y.shape[1:]
        self._begin(y[0].size)

    def _add(self, X, y, weights):
        columns = y.reshape(len(y), -1)
        return self._accumulate(X, weights, lambda rows: columns[rows])


def decision(scores: np.ndarray) -> np.ndarray:
    """Scores (n, n_classes) as scikit-learn wants them: (n,) for two classes, positive for the second."""
    if scores.shape[1] > 2:
        return scores
    return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores[:, 0]


def _one_hot(codes, n_classes):
    Y = np.zeros((len(codes), n_classes))
    Y[np.arange(len(codes)), codes] = 1
    return Y


def _seed(random_state):
    """An int is the seed itself; anything else draws one."""
    generator = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, numbers.Integral) else int(generator.randint(2**31 - 1))
