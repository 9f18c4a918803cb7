"""Predictor: a trained network as one ordinary MXNet checkpoint, image -> scores, in float32."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mxelm.backbones import Backbone, load
from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.data.given import without_targets
from mxelm.errors import InputError
from mxelm.fused.confidence import confidences
from mxelm.fused.symbol import apart, predictor
from mxelm.graphs import operator
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.fused.projection import Projection

BATCH = 32  # images


class Predictor:
    """images -> scores (n, n_outputs) and, for classes, confidences: `tanh(XW) beta` behind a backbone, or any network
    whose classes are known.

    network: a Backbone cut at its scores. Make one with `Predictor.of`, read one with `Predictor.load`.
    classes: names of the scores. kind: "classes", "multilabel" or "regression".
    """

    def __init__(self, network: Backbone) -> None:
        if network.classes is None:
            raise InputError(f"{network.name} does not say what its {network.n_features} outputs are: it is no "
                             "classifier, or its class names are missing in PREFIX.json; `mxelm fit` trains one")
        if len(network.classes) != network.n_features:
            raise InputError(f"{network.name} names {len(network.classes)} classes and has {network.n_features} "
                             "outputs")
        self.network = network
        self.details = network.source.setdefault("elm", {"kind": "classes", "temperature": 1.0})
        self.classes, self.kind = network.classes, self.details["kind"]
        self._softmax = operator(network.features) in ("softmax", "SoftmaxActivation")  # then scores are confidences
        self.preprocessing = network.preprocessing

    def __repr__(self) -> str:
        return (f"<Predictor {self.network.name}: images {self.preprocessing.shape} -> {len(self.classes)} {self.kind},"
                f" {', '.join(self.classes[:3])}{', ...' if len(self.classes) > 3 else ''}>")

    @classmethod
    def of(cls, backbone: Backbone, projection: Projection, beta: np.ndarray, classes: Sequence[str],
           *, kind: Literal["classes", "multilabel", "regression"] = "classes", details: dict | None = None,
           intercept: np.ndarray | None = None) -> Predictor:
        """The predictor of a solved beta, float64 (n_neurons, n_outputs), with the leading n_neurons rows of W.

        intercept: (n_outputs,), added to the scores, or None.
        """
        n_neurons, n_outputs = beta.shape
        if kind == "classes" and n_outputs < 2:
            raise InputError(f"{classes[0]} is the only class: there is nothing to tell apart")
        backbone = apart(backbone)
        symbol = predictor(backbone.features, n_neurons, n_outputs, intercept=intercept is not None)
        arg_params, aux_params = backbone.feature_params()
        arg_params = {**arg_params, "W": mx.nd.array(projection.W[:n_neurons]),
                      "beta": mx.nd.array(np.ascontiguousarray(beta.T), dtype="float32")}
        if intercept is not None:
            arg_params["intercept"] = mx.nd.array(intercept, dtype="float32")
        elm = {"kind": kind, "backbone": backbone.name, "n_neurons": n_neurons, "seed": projection.seed,
               "scale": projection.scale, **(details or {})}
        source = {"model": f"{backbone.name} with an ELM of {n_neurons} neurons", "elm": elm,
                  **{k: v for k, v in backbone.source.items() if k in ("licence", "source")}}
        network = Backbone(name=f"{backbone.name}_elm", symbol=symbol, arg_params=arg_params, aux_params=aux_params,
                           preprocessing=backbone.preprocessing, classes=list(classes), source=source, cut=None,
                           ctx=backbone.ctx)
        return cls(network)

    def scores(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """float32 (n, n_outputs) of a Dataset, image files or folders of them by path, uint8 images, one or several,
        a module_iter, or a prepared float32 batch.
        """
        if not (isinstance(images, mx.io.DataIter) or isinstance(images, np.ndarray) and images.dtype == np.float32):
            images = without_targets(images).module_iter(BATCH, self.preprocessing, labels=False)
        return self.network.extract(images)

    def predict(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """What `images`, as `scores` takes them, show: names (n,) for classes; 0 or 1 (n, n_outputs) for multi-label;
        the scores for regression.
        """
        decided = decide(self.scores(images), self.kind)
        return np.array(self.classes)[decided] if self.kind == "classes" else decided

    @property
    def temperature(self) -> float | None:
        """That of the confidences, None where none was fitted; 1 for a network trained otherwise, by a softmax."""
        return self.details.get("temperature")

    @property
    def gives_confidences(self) -> bool:
        """Whether there are confidences beside the scores."""
        return self.kind == "classes" and (self._softmax or self.temperature is not None)

    def predict_proba(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Confidences float64 (n, n_classes), rows adding up to 1, of `images` as `scores` takes them.

        Raises InputError where the kind is not classes or no temperature was fitted.
        """
        return self.confidences(self.scores(images))

    def confidences(self, scores: np.ndarray) -> np.ndarray:
        """The same from scores (n, n_classes)."""
        if self._softmax:
            return np.asarray(scores, np.float64)
        if not self.gives_confidences:
            raise InputError(f"{self.network.name} has no confidences: they are for classes, and fitted on images held "
                             "out, as `mxelm fit` does, and `mxelm solve` with --confidences")
        return confidences(scores, self.temperature)

    def save(self, prefix: str | os.PathLike) -> None:
        """Write PREFIX-symbol.json, PREFIX-0000.params and PREFIX.json, which MXNet alone can load."""
        network = self.network
        sidecar = {**network.preprocessing.to_json(), "features": network.features.list_outputs()[0],
                   "feature_dim": len(self.classes), "classes": self.classes, **network.source}
        save_checkpoint(prefix, network.features, network.arg_params, network.aux_params, sidecar)

    @classmethod
    def load(cls, prefix: str | os.PathLike, ctx: str | mx.Context = "cpu") -> Predictor:
        """Read a saved predictor, or any checkpoint that names its classes; InputError where it does not."""
        return cls(load(prefix, cut=None, ctx=ctx))


def decide(scores: np.ndarray, kind: str) -> np.ndarray:
    """Decisions from scores (n, n_outputs), by the kind of targets the model was trained on."""
    if kind == "classes":
        return scores.argmax(axis=1)
    return (scores > 0.5).astype(np.int64) if kind == "multilabel" else scores
