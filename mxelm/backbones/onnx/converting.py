"""ONNX in: a classifier's file becomes a checkpoint, cut at its last hidden layer."""
from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.backbones.graph_parameters import infer_shapes
from mxelm.backbones.onnx import agreement, reading
from mxelm.backbones.onnx.graph import Graph, variable
from mxelm.backbones.onnx.support import opset_of
from mxelm.backbones.onnx.values import BATCH
from mxelm.errors import InputError, MxelmError
from mxelm.files import require_writable, sha256
from mxelm.preprocessing import USUAL, Preprocessing
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.onnx.reading import Image

FEATURES = "flatten_output"
TOLERANCE = 1e-4  # of the largest score
TOLERANCE_HALF = 1e-2  # where onnxruntime computes in float16, and MXNet in float32


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote. difference: to onnxruntime, None where that is not installed."""

    prefix: str
    opset: int
    nodes: int
    parameters: int
    input_shape: tuple
    n_features: int
    n_outputs: int
    difference: float


def convert(path: str | os.PathLike, prefix: str | os.PathLike, *, preprocessing: Preprocessing,
            size: int | tuple[int, int] | None = None) -> Converted:
    """Write the classifier in an ONNX file as a checkpoint: PREFIX-symbol.json, PREFIX-0000.params, PREFIX.json.

    preprocessing: what the network wants of an image, a Preprocessing or a name in mxelm.preprocessing.USUAL; an ONNX
    file does not tell it. size: (height, width), for a model that leaves them open and a preprocessing by name.
    The last hidden layer is called "flatten", so that the default cut finds it. Opsets 6 to 21, float weights.
    Before anything is written, the scores of random images are compared with onnxruntime's, where it is installed.
    Raises FileError for a file that cannot be read, InputError for a model that is no classifier of images, for
    nodes that are not supported (all of them are named) and for scores that differ by more than 1e-4.
    """
    require_writable(f"{prefix}-symbol.json")
    model = reading.read_model(path)
    with _naming(path):
        image = reading.image_of(model)
        reading.require_one_output(model)
        preprocessing = _preprocessing(preprocessing, image, size)
        symbol, graph = network(model, image, preprocessing.size)
        args, aux = graph.arg_params, graph.aux_params
        _, outputs = infer_shapes(symbol, preprocessing.shape, arg_params=args)
        _, features = infer_shapes(symbol.get_internals()[FEATURES], preprocessing.shape, arg_params=args)
        n_features = int(np.prod(features[0][1:]))
        _refuse_nan({**args, **aux})
        found = _difference(path, model, image, graph, preprocessing.shape)
        _require_agreement(found, model)
    sidecar = {"model": Path(path).name, **preprocessing.to_json(), "features": FEATURES, "feature_dim": n_features,
               **_classes(model, outputs[-1][1]),
               "source": f"{Path(path).name}, ONNX opset {opset_of(model)}, SHA-256 {sha256(path)}"}
    save_checkpoint(prefix, symbol, args, aux, sidecar)
    return Converted(str(prefix), opset_of(model), len(model.graph.node),
                     sum(array.size for array in (*args.values(), *aux.values())), preprocessing.shape, n_features,
                     outputs[-1][1], found)


def network(model: onnx.ModelProto, image: Image, size: tuple[int, int]) -> tuple[mx.sym.Symbol, Graph]:
    """(symbol of "data" (batch, channels, height, width), the Graph with its parameters).

    Where the last layer of weights is a convolution over a map, the features are the map's mean, an output beside the
    scores.
    """
    data, shape = mx.sym.var("data"), image.shape(size)
    value = variable(image.name, data, (BATCH, image.channels, *size), image.elem_type)
    if image.channels_last:
        symbol = mx.sym.transpose(data, axes=(0, 2, 3, 1))
        value = variable(image.name, symbol, shape, image.elem_type, origin=(value, (0, 2, 3, 1)))
    edge = reading.hidden_of(model)
    graph = Graph(model, {image.name: value}, static_batch=image.static_batch, marked=edge)
    scores = graph.outputs[0]
    if scores.symbol is None or BATCH not in scores.shape[:1] or len(scores.shape) < 2:
        raise InputError("its output has no batch axis")
    hidden = graph.value(edge) if edge else None
    if edge is None or hidden.symbol is None:
        return mx.sym.Flatten(scores.symbol, name="flatten"), graph
    if np.prod(hidden.shape[2:]) > 1:
        rest = hidden.symbol
        if len(hidden.shape) == 4:
            rest = mx.sym.Pooling(rest, kernel=(1, 1), global_pool=True, pool_type="avg", name="flatten_pool")
        return mx.sym.Group([mx.sym.Flatten(rest, name="flatten"), scores.symbol]), graph
    return scores.symbol, graph


def _preprocessing(given, image, size):
    if isinstance(given, str):
        size = size or image.size
        if size is None:
            raise InputError("it leaves height and width open: give a size (--size 224)")
        given = Preprocessing.usual(given, size, "RGB" if image.channels == 3 else "GREY")
    if given is None:
        raise InputError("an ONNX file does not tell what its network wants of an image: give its preprocessing, by "
                         f"name ({', '.join(f'{name}: {entry.what}' for name, entry in USUAL.items())}) or as JSON")
    if given.channels != image.channels or image.size not in (None, given.size):
        raise InputError(f"it takes images of {image.channels} channels and size {image.size or 'free'}, the "
                         f"preprocessing makes {given.shape}")
    return given


def _difference(path, model, image, graph, shape):
    """Between onnxruntime and MXNet before the last activation, relative; None where onnxruntime is not installed.

    MXNet takes twice the batch that the model fixes: images must not meet there.
    """
    if agreement.runtime() is None:
        return None
    edge, rng, n = reading.before_activation(model), np.random.default_rng(0), image.static_batch or 1
    whole = edge == model.graph.output[0].name
    dtype = onnx.helper.tensor_dtype_to_np_dtype(image.elem_type)
    batch = (rng.integers(0, 128, (2 * n, *shape)) if dtype.kind in "iu" else rng.normal(size=(2 * n, *shape)))
    fed = (batch.transpose(0, 2, 3, 1) if image.channels_last else batch).astype(dtype)
    judged, place = (model, path) if whole else (_ending(model, edge), None)
    wanted = agreement.outputs(judged, place, [{image.name: fed[:n]}, {image.name: fed[n:]}])
    symbol = graph.value(edge).symbol
    args, aux = ({name: mx.nd.array(part[name]) for name in names if name in part} for part, names in
                 ((graph.arg_params, symbol.list_arguments()), (graph.aux_params, symbol.list_auxiliary_states())))
    return agreement.difference(agreement.forward(symbol, args, aux, batch.astype(np.float32))[0], wanted)


def _ending(model, edge):
    """The model with this edge as its output."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info(edge))
    return made


def _require_agreement(found, model):
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    if found is not None and not found < (TOLERANCE_HALF if half else TOLERANCE):
        raise InputError(f"the converted network's scores differ from onnxruntime's by {found:.1e} of the largest: "
                         "nothing was written")


def _classes(model, n_outputs):
    """Class names in the model's metadata, as `export` writes them."""
    told = {entry.key: entry.value for entry in model.metadata_props}.get("classes")
    with contextlib.suppress(ValueError, TypeError):
        names = json.loads(told)
        if isinstance(names, list) and len(names) == n_outputs and all(isinstance(name, str) for name in names):
            return {"classes": names}
    return {}


def _refuse_nan(arrays):
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise InputError(f"its weight {bad[0]!r} holds NaN or infinite numbers ({len(bad)} such weights)")


@contextlib.contextmanager
def _naming(path):
    """Put the file's name before an error's sentence."""
    try:
        yield
    except MxelmError as error:
        raise type(error)(f"{path}: {error}") from None
