"""EarlyExitClassifier: scikit-learn's fit, predict and score over images, with a cascade inside."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from mxelm import backbones
from mxelm.data import Dataset
from mxelm.data.sources import in_memory
from mxelm.early_exit.cascade import Answers
from mxelm.early_exit.fitting import Recipe, fit
from mxelm.errors import InputError

BATCH = 32  # images


class EarlyExitClassifier(ClassifierMixin, BaseEstimator):
    """Images -> labels through a network that stops as soon as an exit is sure.

    backbone: a Backbone, or what `mxelm.backbones.load` takes. exits: layers, in the order of computation. The other
    parameters are those of mxelm.early_exit.Recipe.
    Fitted: classes_, cascade_ (mxelm.early_exit.Cascade). Source: Savchenko, Algorithms 1 and 2.
    """

    def __init__(self, *, backbone: str | backbones.Backbone = "inception_small",
                 exits: Sequence[str] | str = ("ch_concat_3a_chconcat", "ch_concat_3c_chconcat"),
                 classifier: Any = "svm", rule: str = "risk", alpha: float = 0.05, max_loss: float = 0.005,
                 certainty: float = 0.9, thresholds: Sequence[float] | None = None,
                 scores: str | None = None, weights: str | None = None, confidence: str | None = None,
                 random_state: int = 0) -> None:
        self.backbone = backbone
        self.exits = exits
        self.classifier = classifier
        self.rule = rule
        self.alpha = alpha
        self.max_loss = max_loss
        self.certainty = certainty
        self.thresholds = thresholds
        self.scores = scores
        self.weights = weights
        self.confidence = confidence
        self.random_state = random_state

    def fit(self, images: Any, y: np.ndarray | None = None) -> EarlyExitClassifier:
        """Learn from uint8 images, an array (n, h, w[, 3]) or a list of any sizes, and labels y (n,); or a Dataset."""
        recipe = Recipe(self.classifier, self.rule, self.alpha, self.max_loss, self.certainty, self.thresholds,
                        self.scores, self.weights, self.confidence, seed=self.random_state)
        backbone = self.backbone if isinstance(self.backbone, backbones.Backbone) else backbones.load(self.backbone)
        if isinstance(images, Dataset):
            self.classes_, dataset = np.array(images.classes), images
        elif y is None:
            raise InputError("a list of images needs labels: fit(images, y), or fit(dataset)")
        else:
            self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
            dataset = Dataset(in_memory(images), codes, self.classes_, "images")
        self.cascade_ = fit(backbone, dataset, self.exits, recipe=recipe, batch=BATCH)
        return self

    def answers(self, images: Any) -> Answers:
        """The cascade's Answers: labels as class numbers, exits, confidences, seconds by exit."""
        check_is_fitted(self)
        if not isinstance(images, Dataset):
            images = Dataset(in_memory(images), np.zeros(len(images), int), [""], "images")
        preprocessing = self.cascade_.chain.backbone.preprocessing
        return self.cascade_.answers(images.module_iter(BATCH, preprocessing, labels=False))

    def predict(self, images: Any) -> np.ndarray:
        """Labels (n,) of images as `fit` takes them."""
        return self.classes_[self.answers(images).labels]

    def score(self, images: Any, y: np.ndarray | None = None) -> float:
        """Accuracy; y may be left out for a Dataset, whose classes are matched by name."""
        if isinstance(images, Dataset) and y is None:
            y = np.array(images.classes)[images.targets]
        return float((self.predict(images) == np.asarray(y)).mean())
