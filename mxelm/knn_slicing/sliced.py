"""The sliced classifier: any network cut after a layer, and k-NN on what that layer gives."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from mxelm import backbones
from mxelm.backbones import Backbone, contained
from mxelm.backbones.features import features_of
from mxelm.backbones.gluon import from_block, output_name
from mxelm.containers import load_container, save_container
from mxelm.data.given import with_classes, without_targets
from mxelm.errors import FileError, InputError, MxelmError, require_choice, require_whole
from mxelm.knn_slicing import networks
from mxelm.knn_slicing.kernels import Kernels
from mxelm.neighbours import METRICS, WEIGHTS, References, vote
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.data.dataset import Dataset

KIND = "sliced-classifier"
BATCH = 250  # images


class SlicedClassifier(ClassifierMixin, BaseEstimator):
    """k-NN on the activations of a network's layer, with fit, predict and score as scikit-learn has them.

    network: a Kernels, an initialised Gluon HybridBlock, a Backbone, or the prefix of a checkpoint.
    cut: for a block the name of a child ("pool2", "features.3") or of an internal output; for a prefix the name of an
    output; None takes the block's own output, or the checkpoint's "flatten_output". preprocessing: for a block; None
    takes that of the talk's networks (28x28 grey, pixel / 255). k: neighbours. weights: "uniform" (majority) or
    "distance". metric: "cosine" or "l2". Neighbours are ordered by (distance, index); ties of votes go to the class
    that comes first in classes_.
    Fitted: classes_, backbone_, references_ float32 (n, n_features), labels_ int64 (n,), numbers of classes_, index_
    (mxelm.neighbours.References).
    Source: Radu, slides on k-NN slicing (k = 9).
    """

    def __init__(self, network: Kernels | mx.gluon.HybridBlock | Backbone | str | os.PathLike,
                 *, cut: str | None = None, preprocessing: Preprocessing | None = None, k: int = 9,
                 weights: Literal["uniform", "distance"] = "uniform",
                 metric: Literal["cosine", "l2"] = "cosine") -> None:
        self.network = network
        self.cut = cut
        self.preprocessing = preprocessing
        self.k = k
        self.weights = weights
        self.metric = metric

    def fit(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> SlicedClassifier:
        """Keep the activations of uint8 images, an array (n, h, w[, 3]) or a list of any sizes, with labels y (n,).

        A Dataset brings its own labels: the names of its classes. Raises InputError for fewer than two classes, k
        larger than the number of images, and activations that are not finite.
        """
        dataset, classes = with_classes(images, y)
        labels = dataset.targets
        if len(np.unique(labels)) < 2:
            raise InputError("all images are of one class: k-NN needs references of two classes or more")
        _check_choices(self.k, self.weights, self.metric, len(labels))
        backbone = _sliced(self.network, self.cut, self.preprocessing)
        return self._keep(backbone, classes, _activations(backbone, dataset), labels)

    def _keep(self, backbone, classes, references, labels):
        self.backbone_, self.classes_, self.references_, self.labels_ = backbone, classes, references, labels
        self.index_ = References(references, metric=self.metric)
        return self

    def kneighbors(self, images: np.ndarray | Sequence[np.ndarray] | Dataset,
                   k: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Distances float64 (n, k) and indices int64 (n, k) of the nearest references of each image."""
        check_is_fitted(self)
        found = _activations(self.backbone_, without_targets(images))
        return self.index_.nearest(found, self.k if k is None else k)

    def predict(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> np.ndarray:
        """Classes (n,) of images as `fit` takes them."""
        distances, indices = self.kneighbors(images)
        return self.classes_[vote(distances, self.labels_[indices], len(self.classes_), weights=self.weights)]

    def score(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> float:
        """Accuracy, 0..1; y is left out for a Dataset, whose classes are matched by name."""
        dataset, classes = with_classes(images, y)
        check_is_fitted(self)
        if (classes.dtype.kind == "U") != (self.classes_.dtype.kind == "U"):
            raise InputError(f"labels like {classes[0]!r} cannot be compared with the classes of the fit, like "
                             f"{self.classes_[0]!r}: give both as names or both as numbers")
        return float(np.mean(self.predict(dataset) == classes[dataset.targets]))

    @property
    def bytes(self) -> dict[str, int]:
        """What the fitted classifier holds: {"kernels": ..., "references": ...}, references with their labels."""
        check_is_fitted(self)
        params = {name: array for part in self.backbone_.feature_params() for name, array in part.items()}
        return {"kernels": sum(4 * array.size for array in params.values()),
                "references": self.references_.nbytes + self.labels_.nbytes}

    def save(self, path: str | os.PathLike) -> None:
        """Write all that `load` needs to one file: graph, parameters, references, labels."""
        check_is_fitted(self)
        metadata, arrays = contained.pack(self.backbone_)
        save_container(path, KIND, {**metadata, "k": int(self.k), "weights": self.weights, "metric": self.metric},
                       {**arrays, "classes": self.classes_, "references": self.references_, "labels": self.labels_})

    @classmethod
    def load(cls, path: str | os.PathLike) -> SlicedClassifier:
        """Read what `save` wrote, as a fitted classifier; FileError for a damaged or foreign file."""
        meta, arrays = load_container(path, KIND)
        try:
            backbone = contained.unpack(meta, arrays)
            made = cls(backbone, k=meta["k"], weights=meta["weights"], metric=meta["metric"])
            made._keep(backbone, arrays["classes"], arrays["references"], arrays["labels"])
            _check_choices(made.k, made.weights, made.metric, len(made.labels_))
            fits = (made.references_.shape == (len(made.labels_), backbone.n_features)
                    and 0 <= made.labels_.min() <= made.labels_.max() < len(made.classes_))
        except (MxelmError, KeyError, TypeError, ValueError, mx.MXNetError) as error:
            raise FileError(f"{path} does not hold a sliced classifier: {error}") from None
        if not fits:
            raise FileError(f"{path} does not hold a sliced classifier: its references, labels and network do not fit")
        return made


def _sliced(network, cut, preprocessing):
    """The network up to the cut, as a Backbone."""
    if isinstance(network, Backbone):
        if cut is not None:
            raise InputError("a Backbone is cut already: leave cut out, or load it with another one")
        return network
    if isinstance(network, Kernels):
        network = networks.from_kernels(network)
    if isinstance(network, mx.gluon.Block):
        return from_block(network, preprocessing or networks.PREPROCESSING, cut=output_name(network, cut))
    if not isinstance(network, (str, os.PathLike)):
        raise InputError("network is a Kernels, a Gluon block, a Backbone or the prefix of a checkpoint, got "
                         f"{type(network).__name__}")
    return backbones.load(network, **({} if cut is None else {"cut": cut}), preprocessing=preprocessing)


def _activations(backbone, dataset):
    found = features_of(backbone, dataset, batch=BATCH).rows
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise InputError(f"the activations of image {bad[0]} are not finite ({len(bad)} of {len(found)} images): check "
                         "the network's weights")
    return found


def _check_choices(k, weights, metric, n):
    require_whole("k, the number of neighbours among the references,", k, 1, n)
    require_choice("weights", weights, WEIGHTS)
    require_choice("metric", metric, METRICS)
