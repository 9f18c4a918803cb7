"""A backbone: a pre-trained network, cut at its features, together with its preprocessing."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mxelm.backbones.graph_parameters import check_parameters, infer_shapes, is_input, warn_of_extra
from mxelm.errors import InputError
from mxelm.graphs import bind as bind_graph
from mxelm.graphs import computing, nodes, without_loss
from mxelm.graphs import cut as cut_at
from mxelm.runtime import context, mx

if TYPE_CHECKING:
    from mxelm.preprocessing import Preprocessing

_BATCH = 32


class Backbone:
    """images -> float32 (n_samples, n_features).

    symbol: mx.sym.Symbol, the whole network; cut: name of the internal output that is its features ("flatten_output"),
    None for the network's own output. A map (n, c, h, w) at the cut is flattened.
    arg_params, aux_params: dicts of name -> float32 NDArray. preprocessing: mxelm.preprocessing.Preprocessing.
    classes: list of names or None. source: dict, where it came from. ctx: "cpu", "gpu(0)" or an MXNet context.
    Raises InputError for missing, misshapen or non-finite parameters of the features, and names them.
    """

    def __init__(self, name: str, symbol: mx.sym.Symbol, arg_params: dict[str, mx.nd.NDArray],
                 aux_params: dict[str, mx.nd.NDArray], preprocessing: Preprocessing, *,
                 cut: str | None = "flatten_output", classes: Sequence[str] | None = None, source: dict | None = None,
                 ctx: str | mx.Context = "cpu") -> None:
        self.name = name
        self.symbol = symbol
        self.arg_params = arg_params
        self.aux_params = aux_params
        self.preprocessing = preprocessing
        self.cut = cut
        self.classes = None if classes is None else list(classes)
        self.source = dict(source or {})
        self.ctx = context(ctx)
        features = cut_at(symbol, cut) if cut is not None else _own_output(symbol, self.classes, preprocessing.shape,
                                                                           arg_params)
        check_parameters(features, arg_params, aux_params, preprocessing.shape, where=name)
        warn_of_extra(symbol, arg_params, aux_params, name)
        self.features, self.n_features = _flat(features, preprocessing.shape, arg_params)
        self.place = None  # of a network read from a checkpoint: dict of prefix, a path or a known name, and epoch
        self._digest = None

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, {self.preprocessing.shape} -> {self.n_features}, cut={self.cut!r})"

    def feature_params(self) -> tuple[dict, dict]:
        """The parameters that the features need, of all there are: (arg_params, aux_params)."""
        args = {name: self.arg_params[name] for name in self.features.list_arguments() if not is_input(name)}
        return args, {name: self.aux_params[name] for name in self.features.list_auxiliary_states()}

    @property
    def digest(self) -> dict[str, str]:
        """What the features are a function of: dict with SHA-256 of the graph ("symbol") and of its "params"."""
        if self._digest is None:
            args, aux = self.feature_params()
            self._digest = {"symbol": graph_digest(self.features), "params": _params_digest({**args, **aux})}
        return dict(self._digest)

    def bind(self, batch: int) -> mx.mod.Module:
        """An mx.mod.Module of the features for inference, parameters set, inputs of shape (batch, c, h, w)."""
        labels = [name for name in self.features.list_arguments() if is_input(name) and name != "data"]
        if labels:
            raise InputError(f"{self.name} ends in a loss layer, which wants {labels[0]}: cut it at the layer before")
        return bind_graph(self.features, {"data": (batch, *self.preprocessing.shape)}, *self.feature_params(),
                          ctx=self.ctx)

    def extract(self, images: np.ndarray | Sequence[np.ndarray] | mx.io.DataIter) -> np.ndarray:
        """Features of images, float32 (n_samples, n_features).

        images: a module_iter (any mx.io.DataIter; read from its start, rows of padding left out), a list of uint8
        images (h, w) or (h, w, 3) of any size, or a preprocessed float32 array (n_samples, c, h, w).
        """
        rows = [features for features, _ in self.stream(self._batches(images))]
        return np.concatenate(rows) if rows else np.empty((0, self.n_features), np.float32)

    def stream(self, batches: Iterable[mx.io.DataBatch]) -> Iterator[tuple[np.ndarray, mx.io.DataBatch]]:
        """Yield (features float32 (n, n_features), batch) for each mx.io.DataBatch, rows of padding left out."""
        module = None
        for batch in batches:
            data = self._checked(batch.data[0])
            with computing(self.name):
                module = module or self.bind(data.shape[0])
                module.forward(mx.io.DataBatch([data]), is_train=False)
                rows = module.get_outputs()[0].asnumpy()
            yield rows[:data.shape[0] - (batch.pad or 0)], batch

    def _batches(self, images):
        if isinstance(images, mx.io.DataIter):
            images.reset()
            yield from images
            return
        ready = isinstance(images, np.ndarray) and images.dtype == np.float32
        if ready and images.ndim != 4:
            raise InputError(f"preprocessed images must be (n, channels, height, width), got {images.shape}")
        for start in range(0, len(images), _BATCH):
            part = images[start:start + _BATCH]
            if not ready:
                part = np.stack([self.preprocessing(image) for image in part])
            yield mx.io.DataBatch([mx.nd.array(part, dtype="float32")])

    def _checked(self, data):
        if tuple(data.shape[1:]) != self.preprocessing.shape:
            raise InputError(f"{self.name} takes images of shape {self.preprocessing.shape}, got "
                             f"{tuple(data.shape[1:])}: use its preprocessing")
        return data


def graph_digest(symbol: mx.sym.Symbol) -> str:
    """SHA-256 of a graph in canonical form: operators, their attributes, connections and the variables' names.

    Names of inner nodes, nodes that no output needs and the stamp of MXNet's version do not count.
    """
    found, heads = nodes(symbol)
    canonical = []
    for node in found:
        variable = node.op == "null"
        attributes = {} if variable else {k: v for k, v in node.attributes.items() if not k.startswith("__")}
        canonical.append([node.op, node.name if variable else "", sorted(attributes.items()), node.inputs])
    return hashlib.sha256(json.dumps([canonical, heads]).encode()).hexdigest()


def _params_digest(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name].asnumpy().astype("<f4", copy=False)
        digest.update(f"{name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _own_output(symbol, classes, input_shape, arg_params):
    """The network's answers: its output, or of several the one with a column for each class; no loss layer on it."""
    outputs = [without_loss(output) for output in symbol]
    if len(outputs) == 1:
        return outputs[0]
    _, shapes = infer_shapes(mx.sym.Group(outputs), input_shape, arg_params=arg_params)
    fitting = [output for output, shape in zip(outputs, shapes) if shape == (1, len(classes or ()))]
    return fitting[0] if len(fitting) == 1 else symbol


def _flat(features, input_shape, arg_params):
    _, outputs = infer_shapes(features, input_shape, arg_params=arg_params)
    if len(outputs) != 1:
        raise InputError(f"the features must be one output, the network has {len(outputs)} "
                         f"({', '.join(features.list_outputs())}): cut it at one of them")
    twice = infer_shapes(features, input_shape, arg_params=arg_params, batch=2)[1]
    if [shape[0] for shape in (*outputs, *twice)] != [1, 2]:
        raise InputError(f"the features must be a row an image, {features.list_outputs()[0]} has the shapes "
                         f"{outputs[0]} for one and {twice[0]} for two: cut the network at another output")
    if len(outputs[0]) == 2:
        return features, outputs[0][1]
    return mx.sym.Flatten(features, name=f"{features.name}_flat"), int(np.prod(outputs[0][1:]))
