"""Predictor: the trained network as one ordinary MXNet checkpoint, image -> scores, in float32."""
import numpy as np

from mxelm.backbones import Backbone, load
from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.errors import InputError
from mxelm.fused.symbol import apart, predictor
from mxelm.runtime import mx

OUTPUT = "elm_output"


class Predictor:
    """image -> scores (n_outputs), the network `tanh(XW) beta` behind a backbone.

    network: a Backbone cut at its scores. Make one with `Predictor.of`, read one with `Predictor.load`.
    """

    def __init__(self, network):
        if "elm" not in network.source:
            raise InputError(f"{network.name} is a checkpoint, but no trained ELM: train one with `mxelm fit`")
        self.network = network
        self.details = network.source["elm"]
        self.classes, self.kind = network.classes, self.details["kind"]
        self.preprocessing = network.preprocessing

    @classmethod
    def of(cls, backbone, projection, beta, classes, kind="classes", details=None):
        """The predictor of a solved beta, float64 (n_neurons, n_outputs), with the leading n_neurons rows of W."""
        n_neurons, n_outputs = beta.shape
        backbone = apart(backbone)
        symbol = predictor(backbone.features, n_neurons, n_outputs)
        arg_params, aux_params = backbone.feature_params()
        arg_params = {**arg_params, "W": mx.nd.array(projection.W[:n_neurons]),
                      "beta": mx.nd.array(np.ascontiguousarray(beta.T), dtype="float32")}
        elm = {"kind": kind, "backbone": backbone.name, "n_neurons": n_neurons, "seed": projection.seed,
               "scale": projection.scale, **(details or {})}
        source = {"model": f"{backbone.name} with an ELM of {n_neurons} neurons", "elm": elm,
                  **{k: v for k, v in backbone.source.items() if k in ("licence", "source")}}
        network = Backbone(name=f"{backbone.name}_elm", symbol=symbol, arg_params=arg_params, aux_params=aux_params,
                           preprocessing=backbone.preprocessing, classes=list(classes), source=source, cut=None,
                           ctx=backbone.ctx)
        return cls(network)

    def scores(self, images):
        """float32 (n, n_outputs) of a module_iter, a list of uint8 images, or a prepared float32 batch."""
        return self.network.extract(images)

    def predict(self, images):
        """Class numbers int64 (n,) for classes; 0/1 (n, n_outputs) for multi-label; the scores for regression."""
        return decide(self.scores(images), self.kind)

    def save(self, prefix):
        """Write PREFIX-symbol.json, PREFIX-0000.params and PREFIX.json, which MXNet alone can load."""
        network = self.network
        sidecar = {**network.preprocessing.to_json(), "features": OUTPUT, "feature_dim": len(self.classes),
                   "classes": self.classes, **network.source}
        save_checkpoint(prefix, network.features, network.arg_params, network.aux_params, sidecar)

    @classmethod
    def load(cls, prefix, ctx="cpu"):
        """Read a saved predictor; InputError when the checkpoint is no trained ELM."""
        return cls(load(prefix, cut=None, ctx=ctx))


def decide(scores, kind):
    """Decisions from scores (n, n_outputs), by the kind of targets the model was trained on."""
    if kind == "classes":
        return scores.argmax(axis=1)
    return (scores > 0.5).astype(np.int64) if kind == "multilabel" else scores
