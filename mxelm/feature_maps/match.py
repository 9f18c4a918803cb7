"""MatchingClassifier: an image whose maps are those of a cached image gets its label, and skips the deeper layers."""
from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from mxelm import backbones
from mxelm.backbones import Backbone, contained
from mxelm.backbones.gluon import from_block
from mxelm.calibration import RULES, budgets, fewest_rows, threshold
from mxelm.containers import load_container, save_container
from mxelm.data.given import with_classes, without_targets
from mxelm.errors import FileError, InputError, MxelmError, require_choice
from mxelm.feature_maps import gain
from mxelm.feature_maps.cache import Cache, described
from mxelm.feature_maps.layers import chain_of, require_finite
from mxelm.feature_maps.networks import PREPROCESSING
from mxelm.feature_maps.search import WAYS, Nearest
from mxelm.pooling import mean_and_deviation
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.data.dataset import Dataset

KIND = "matching-classifier"
SAME = 1e-6  # D of an image to itself, in float32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decisions:
    """How images were decided, a row each.

    labels: int64 (n,), class numbers. layer: int64 (n,), number of the layer that matched; -1 for the network's own
    answer. distance: float64 (n,), D to the nearest cached image where one matched, else NaN. neighbour: int64 (n,),
    that image's number in the cache, or -1.
    """

    labels: np.ndarray
    layer: np.ndarray
    distance: np.ndarray
    neighbour: np.ndarray


class MatchingClassifier(ClassifierMixin, BaseEstimator):
    """A network with a cache before its deeper layers, with fit, predict and score as scikit-learn has them.

    network: a trained classifier: a Backbone whose features are its scores, an initialised Gluon HybridBlock, or the
        prefix of a checkpoint.
    layers: at which the maps are compared with the cache, one after another; the first match decides.
    preprocessing: for a block; None takes 28x28 grey, pixel / 255.
    budget: fraction of all images that may get the label of a cached image of another class.
    rule: of `mxelm.calibration.threshold`: "paper", "conformal" or "pac".
    validation: fraction of the images given to `fit` that choose the thresholds and are not cached.
    search: "blas" or "hnsw". batch: images that pass through the network together.
    must_pay: refuse a cache that costs more time than it saves.
    Fitted: classes_, backbone_, cache_, thresholds_ (a D a layer), gain_ (mxelm.feature_maps.gain.Gain).
    Source: Anand et al., 2.3.1; Park and Kim, Applied Sciences 9(1), 2019 (layer by layer).
    """

    def __init__(self, network: mx.gluon.HybridBlock | Backbone | str | os.PathLike, layers: Sequence[str],
                 *, preprocessing: Preprocessing | None = None, budget: float = 0.005,
                 rule: Literal["paper", "conformal", "pac"] = "conformal", validation: float = 0.25,
                 search: Literal["blas", "hnsw"] = "blas", batch: int = 32, must_pay: bool = True,
                 random_state: int = 0) -> None:
        self.network = network
        self.layers = layers
        self.preprocessing = preprocessing
        self.budget = budget
        self.rule = rule
        self.validation = validation
        self.search = search
        self.batch = batch
        self.must_pay = must_pay
        self.random_state = random_state

    def fit(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None,
            *, cache: Cache | None = None) -> MatchingClassifier:
        """Cache most of the images and choose the thresholds on the rest, or, with a `cache`, on all of them.

        images, y: as for `mxelm.data.given.with_classes`; classes in the order of the network's scores.
        Raises InputError for one class, classes that the network has not, and a cache that does not pay; FileError for
        a cache of another network or preprocessing.
        """
        dataset, self.classes_ = with_classes(images, y)
        self.backbone_ = _classifier(self.network, self.preprocessing)
        self.chain_ = chain_of(self.backbone_, self.layers)
        if cache is not None:
            cache.require_network(self.chain_)
        self._check(dataset)
        if cache is None:
            kept, dataset = dataset.split(self.validation, self.random_state)
            cache = Cache.of(self.backbone_, kept, self.layers, batch=self.batch)
        if list(cache.classes) != dataset.classes:
            raise InputError(f"the cache has other classes than the images: {cache.classes[:3]}..., not "
                             f"{dataset.classes[:3]}...")
        self._keep(cache)
        self._calibrate(dataset)
        return self

    def _check(self, dataset):
        require_choice("rule", self.rule, RULES)
        require_choice("search", self.search, WAYS)
        if not 0 < self.budget < 1:
            raise InputError(f"budget must lie between 0 and 1, got {self.budget}")
        if len(np.unique(dataset.targets)) < 2:
            raise InputError("all images are of one class: every match would be right; give two classes or more")
        if self.backbone_.n_features != len(dataset.classes):
            raise InputError(f"the network gives {self.backbone_.n_features} scores and the images have "
                             f"{len(dataset.classes)} classes: cut it at its scores, one a class in the same order")

    def _keep(self, cache):
        self.cache_ = cache
        self.nearest_ = [Nearest(cache.descriptors[layer], self.search) for layer in self.chain_.exits[:-1]]

    def _calibrate(self, dataset):
        """The threshold of each layer on all held-out images, so that the layers' budgets add up to the whole one."""
        blocks = list(described(self.chain_, dataset, batch=self.batch))
        places = np.concatenate([index for _, index in blocks])
        y, ids = dataset.targets[places], [dataset.ids[place] for place in places]
        shares = budgets(self.budget, len(self.nearest_) + 1, weights="total")
        self.thresholds_, hits, passing = [], [], np.ones(len(y), bool)
        for layer, nearest, share in zip(self.chain_.exits, self.nearest_, shares):
            found = [nearest(rows[layer]) for rows, _ in blocks]
            D, number = (np.concatenate(part) for part in zip(*found))
            itself = [name for name, d, n in zip(ids, D, number) if d < SAME and self.cache_.ids[n] == name]
            if itself:
                raise InputError(f"{len(itself)} of the held-out images are in the cache, as {itself[0]}: an image "
                                 "matches itself, which tells nothing of others; hold out images that are not cached")
            wrong = self.cache_.labels[number] != y
            self.thresholds_.append(-threshold(-D, wrong, share, rule=self.rule))
            hit = passing & (self.thresholds_[-1] > D)
            hits.append(hit.mean())
            passing &= ~hit
        if np.isneginf(self.thresholds_).all():
            needed = fewest_rows(shares.max(), rule=self.rule)
            too_few = (f"{len(y)} held-out images are too few to keep wrong labels within {self.budget:g} of all "
                       f"images: give {needed} or more, or a greater budget")
            if self.must_pay:
                raise InputError(too_few)
            _log.warning("%s; nothing will match", too_few)
        x = next(dataset.module_iter(self.batch, self.backbone_.preprocessing, labels=False)).data[0]
        self.gain_ = gain.measured(self.chain_, self.nearest_, hits, x)
        if self.must_pay:
            self.gain_.require(len(self.cache_.labels), self.chain_.exits[:-1])

    def decide(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> Decisions:
        """The Decisions on images as `fit` takes them, without labels."""
        check_is_fitted(self)
        dataset = without_targets(images)
        n = len(dataset)
        made = Decisions(np.full(n, -1), np.full(n, -1), np.full(n, np.nan), np.full(n, -1))
        for part in dataset.module_iter(self.batch, self.backbone_.preprocessing, labels=False):
            self._decide(part.data[0], part.index, made, dataset)
        return made

    def _decide(self, x, rows, made, dataset):
        """Decide a batch; rows: where its images lie in `made`."""
        for m, (layer, maps) in enumerate(self.chain_.run(x)):
            if m == len(self.nearest_):
                made.labels[rows] = maps.asnumpy().argmax(axis=1)
                break
            V = mean_and_deviation(maps)
            require_finite(V, layer, [dataset.source.ids[dataset.positions[i]] for i in rows])
            D, number = self.nearest_[m](V)
            hit = self.thresholds_[m] > D
            matched = rows[hit]
            made.labels[matched], made.layer[matched] = self.cache_.labels[number[hit]], m
            made.distance[matched], made.neighbour[matched] = D[hit], number[hit]
            self.chain_.keep(np.flatnonzero(~hit))
            rows = rows[~hit]

    def predict(self, images: np.ndarray | Sequence[np.ndarray] | Dataset) -> np.ndarray:
        """Classes (n,) of images as `fit` takes them."""
        labels = self.decide(images).labels
        return self.classes_[labels]

    def score(self, images: np.ndarray | Sequence[np.ndarray] | Dataset, y: Sequence | None = None) -> float:
        """Accuracy, 0..1; y is left out for a Dataset."""
        dataset, classes = with_classes(images, y)
        return float(np.mean(self.predict(dataset) == classes[dataset.targets]))

    def save(self, path: str | os.PathLike) -> None:
        """Write all that `load` needs to one file: graph, parameters, cache, thresholds."""
        check_is_fitted(self)
        cache, (metadata, arrays) = self.cache_, contained.pack(self.backbone_)
        arrays = {**arrays, "labels": cache.labels, "ids": np.array([name.encode() for name in cache.ids], np.bytes_),
                  "classes": self.classes_, "thresholds": np.array(self.thresholds_),
                  **{f"V.{layer}": rows for layer, rows in cache.descriptors.items()}}
        save_container(path, KIND, {
            **metadata, "layers": self.chain_.exits[:-1], "search": self.search, "batch": self.batch,
            "budget": self.budget, "rule": self.rule, "gain": self.gain_.to_json(), "cache": cache.identity}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> MatchingClassifier:
        """Read what `save` wrote, as a fitted classifier; FileError for a damaged or foreign file."""
        meta, arrays = load_container(path, KIND)
        try:
            backbone = contained.unpack(meta, arrays)
            made = cls(backbone, meta["layers"], budget=meta["budget"], rule=meta["rule"], search=meta["search"],
                       batch=meta["batch"])
            made.backbone_, made.classes_ = backbone, arrays["classes"]
            made.chain_ = chain_of(backbone, meta["layers"])
            made.thresholds_, made.gain_ = arrays["thresholds"].tolist(), gain.Gain(**meta["gain"])
            made._keep(Cache(meta["cache"], {layer: arrays[f"V.{layer}"] for layer in meta["layers"]},
                             arrays["labels"], [name.decode() for name in arrays["ids"].tolist()]))
        except (MxelmError, KeyError, TypeError, ValueError, mx.MXNetError, json.JSONDecodeError) as error:
            raise FileError(f"{path} does not hold a matching classifier: {error}") from None
        return made


def _classifier(network, preprocessing):
    if isinstance(network, Backbone):
        return network
    if isinstance(network, mx.gluon.Block):
        return from_block(network, preprocessing or PREPROCESSING)
    if not isinstance(network, (str, os.PathLike)):
        raise InputError("network is a Gluon block, a Backbone or the prefix of a checkpoint, got "
                         f"{type(network).__name__}")
    return backbones.load(network, cut=None, preprocessing=preprocessing)
