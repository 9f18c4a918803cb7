"""scikit-learn estimators over images: FusedELMClassifier and FusedELMRegressor.

Those over ready features are in mxelm.fused.row_estimators.
"""
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from mxelm import backbones
from mxelm.data import Dataset
from mxelm.data.sources import in_memory
from mxelm.errors import InputError
from mxelm.fused.job import fit
from mxelm.fused.row_estimators import ELMClassifier, ELMRegressor, decision

__all__ = ["ELMClassifier", "ELMRegressor", "FusedELMClassifier", "FusedELMRegressor"]
BATCH = 32  # images


class _FusedELM(BaseEstimator):
    """What the two estimators over images share."""

    def __init__(self, backbone="inception_small", n_neurons=4096, l2="auto", validation=0.2, seed=0):
        self.backbone = backbone
        self.n_neurons = n_neurons
        self.l2 = l2
        self.validation = validation
        self.seed = seed

    def _fit(self, dataset):
        backbone = self.backbone if isinstance(self.backbone, backbones.Backbone) else backbones.load(self.backbone)
        self.fit_ = fit(backbone, dataset, self.n_neurons, self.l2, self.validation, self.seed, batch=BATCH)
        self.predictor_ = self.fit_.predictor
        return self

    def _scores(self, images):
        check_is_fitted(self)
        if isinstance(images, Dataset):
            images = images.module_iter(BATCH, self.predictor_.preprocessing)
        return self.predictor_.scores(images)


class FusedELMClassifier(ClassifierMixin, _FusedELM):
    """An ELM fused into a pre-trained network, from images to classes; no feature is stored (`mxelm.fused.job`).

    backbone: a Backbone, or what `mxelm.backbones.load` takes. n_neurons: int. l2: a number >= 0, or "auto": chosen
    with the number of neurons on the fraction `validation` of the images. seed: of W and of that choice.
    Fitted: classes_, fit_ (mxelm.fused.Fit), predictor_ (mxelm.fused.Predictor).
    Source: Arcada, sections 2 and 3.
    """

    def fit(self, images, y=None):
        """Learn from uint8 images, an array (n, h, w[, 3]) or a list of any sizes, and labels y (n,); or a Dataset.

        With a Dataset, labels are the names of its classes.
        """
        if isinstance(images, Dataset):
            dataset = _own_targets(images, y, "classes")
            self.classes_ = np.array(dataset.classes)
        else:
            y = _labels(images, y)
            self.classes_, codes = np.unique(y, return_inverse=True)
            dataset = Dataset(in_memory(images), codes, self.classes_, "images")
        return self._fit(dataset)

    def decision_function(self, images):
        """Scores float32 (n, n_classes); of two classes, (n,), positive for classes_[1]."""
        return decision(self._scores(images))

    def predict(self, images):
        """Labels (n,) of images as `fit` takes them."""
        best = self._scores(images).argmax(axis=1)
        return self.classes_[best]

    def score(self, images, y=None):
        """Accuracy; y may be left out for a Dataset, whose classes are matched by name."""
        if isinstance(images, Dataset):
            y = np.array(_own_targets(images, y, "classes").classes)[images.targets]
        return float(accuracy_score(_labels(images, y), self.predict(images)))


class FusedELMRegressor(RegressorMixin, _FusedELM):
    """An ELM fused into a pre-trained network, from images to quantities; no feature is stored (`mxelm.fused.job`).

    backbone, n_neurons, l2, validation, seed: as of FusedELMClassifier. The fused model has no intercept.
    Fitted: fit_ (mxelm.fused.Fit), predictor_ (mxelm.fused.Predictor).
    Source: Arcada, sections 2 and 3.
    """

    def fit(self, images, y=None):
        """Learn from uint8 images, an array (n, h, w[, 3]) or a list of any sizes, and y (n,) or (n, n_outputs); or
        from a Dataset of kind "regression".
        """
        if isinstance(images, Dataset):
            dataset = _own_targets(images, y, "regression")
            self._output_shape = (dataset.n_outputs,)
        else:
            y = _quantities(images, y)
            self._output_shape = y.shape[1:]
            columns = y.reshape(len(y), -1)
            dataset = Dataset(in_memory(images), columns, [f"y{i}" for i in range(columns.shape[1])], "images",
                              "regression")
        return self._fit(dataset)

    def predict(self, images):
        """float32 (n,) or (n, n_outputs), as y was, for images as `fit` takes them."""
        return self._scores(images).reshape(-1, *self._output_shape)

    def score(self, images, y=None):
        """R², the mean over outputs; y may be left out for a Dataset."""
        if isinstance(images, Dataset):
            y = _own_targets(images, y, "regression").targets
        return float(r2_score(_quantities(images, y), self.predict(images)))


def _own_targets(dataset, y, kind):
    """The dataset, where its targets are of this kind and no others were given beside it."""
    if y is not None:
        raise InputError("a Dataset brings its own targets: leave y out")
    if dataset.kind != kind:
        raise InputError(f"{dataset.name} has {dataset.kind} targets, this estimator takes {kind}; "
                         "mxelm.fused.job takes every kind")
    return dataset


def _labels(images, y):
    y = column_or_1d(_given(images, y), warn=True)
    check_classification_targets(y)
    return y


def _quantities(images, y):
    return check_array(_given(images, y), ensure_2d=False, dtype=np.float64, input_name="y")


def _given(images, y):
    if y is None:
        raise InputError("images need their targets: fit(images, y), or give a Dataset")
    if len(y) != len(images):
        raise InputError(f"there are {len(images)} images and {len(y)} targets")
    return y
