"""scikit-learn estimators over images: FusedELMClassifier and FusedELMRegressor.

Those over ready features are in mxelm.fused.row_estimators.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted

from mxelm import backbones
from mxelm.data.given import with_classes, with_quantities
from mxelm.fused.job import fit, usual_backbone
from mxelm.fused.row_estimators import decision

if TYPE_CHECKING:
    import numpy as np

    from mxelm.data.dataset import Dataset


class _FusedELM(BaseEstimator):
    """What the two estimators over images share."""

    def __init__(self, backbone=None, n_neurons=4096, l2="auto", validation=0.2, random_state=0):
        self.backbone = backbone
        self.n_neurons = n_neurons
        self.l2 = l2
        self.validation = validation
        self.random_state = random_state

    def _fit(self, dataset):
        backbone = self.backbone or usual_backbone(dataset)
        if not isinstance(backbone, backbones.Backbone):
            backbone = backbones.load(backbone)
        self.fit_ = fit(backbone, dataset, n_neurons=self.n_neurons, l2=self.l2, validation=self.validation,
                        seed=self.random_state)
        self.predictor_ = self.fit_.predictor
        return self

    def _scores(self, images):
        check_is_fitted(self)
        return self.predictor_.scores(images)


class FusedELMClassifier(ClassifierMixin, _FusedELM):
    """An ELM fused into a pre-trained network, from images to classes; no feature is stored (`mxelm.fused.fit`).

    backbone: a Backbone, or what `mxelm.backbones.load` takes; None: the small network that ships, which is no good for
    photographs. n_neurons: int. l2: a number >= 0, or "auto": chosen with the number of neurons by cross-validation.
    validation: the fraction of images on which confidences are calibrated. random_state: seed of W and of the fraction.
    Images are what `mxelm.data.given` takes. scikit-learn's splitters index them, so that they take an array or list of
    images or of paths: cross_val_score(FusedELMClassifier("efficientnet_lite0"), paths, labels).
    Fitted: classes_, fit_ (mxelm.fused.Fit), predictor_ (mxelm.fused.Predictor).
    Source: Arcada, sections 2 and 3.
    """

    def fit(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> FusedELMClassifier:
        """Learn from images and labels y (n,), or from a Dataset of classes.

        With a Dataset, labels are the names of its classes.
        """
        dataset, self.classes_ = with_classes(images, y)
        return self._fit(dataset)

    def decision_function(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> np.ndarray:
        """Scores float32 (n, n_classes), least squares estimates of 0 and 1; of two classes, (n,), positive for
        classes_[1].
        """
        return decision(self._scores(images))

    def predict_proba(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> np.ndarray:
        """Confidences float64 (n, n_classes), rows adding up to 1, calibrated on the validation images."""
        scores = self._scores(images)
        return self.predictor_.confidences(scores)

    def predict(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> np.ndarray:
        """Labels (n,) of images as `fit` takes them."""
        best = self._scores(images).argmax(axis=1)
        return self.classes_[best]

    def score(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> float:
        """Accuracy; y may be left out for a Dataset, whose classes are matched by name."""
        dataset, classes = with_classes(images, y)
        return float(accuracy_score(classes[dataset.targets], self.predict(dataset)))


class FusedELMRegressor(RegressorMixin, _FusedELM):
    """An ELM fused into a pre-trained network, from images to quantities; no feature is stored (`mxelm.fused.fit`).

    backbone, n_neurons, l2, validation, random_state: as of FusedELMClassifier. The model has an intercept.
    Fitted: fit_ (mxelm.fused.Fit), predictor_ (mxelm.fused.Predictor).
    Source: Arcada, sections 2 and 3.
    """

    def fit(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> FusedELMRegressor:
        """Learn from images and y (n,) or (n, n_outputs), or from a Dataset of kind "regression"."""
        dataset, self._output_shape = with_quantities(images, y)
        return self._fit(dataset)

    def predict(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> np.ndarray:
        """float32 (n,) or (n, n_outputs), as y was, for images as `fit` takes them."""
        return self._scores(images).reshape(-1, *self._output_shape)

    def score(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> float:
        """R², the mean over outputs; y may be left out for a Dataset."""
        dataset, shape = with_quantities(images, y)
        return float(r2_score(dataset.targets.reshape(-1, *shape), self.predict(dataset)))
