"""Gluon networks as backbones and backbones as Gluon blocks: any HybridBlock, and GluonCV's model zoo."""
from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mxelm.backbones.backbone import Backbone
from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.backbones.graph_parameters import is_input
from mxelm.errors import FileError, InputError
from mxelm.graphs import nodes
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

# GluonCV's custom, in pixel values: CIFAR's mean and standard deviation
_CIFAR = {"mean": (125.307, 122.961, 113.8575), "scale": (1 / 51.5865, 1 / 50.847, 1 / 51.255)}


def from_block(block: mx.gluon.HybridBlock, preprocessing: Preprocessing, *, cut: str | None = None,
               classes: Sequence[str] | None = None, name: str | None = None,
               ctx: str | mx.Context = "cpu") -> Backbone:
    """Any initialised gluon.HybridBlock as a Backbone, with a copy of its parameters as they are now.

    cut: name of an internal output of the traced graph, or None for the block's own output.
    Raises InputError for a block that cannot be traced or has parameters without values.
    """
    name = name or block.name
    symbol, arg_params, aux_params = _trace(block, preprocessing.shape, name)
    source = {"model": f"{type(block).__module__}.{type(block).__name__}"}
    return Backbone(name, symbol, arg_params, aux_params, preprocessing, cut=cut, classes=classes, source=source,
                    ctx=ctx)


def zoo(name: str, *, pretrained: bool = False, preprocessing: Preprocessing | None = None,
        ctx: str | mx.Context = "cpu", cut: str | None = None, **kwargs: Any) -> Backbone:
    """A classifier of GluonCV's model zoo ("resnet18_v1", "cifar_resnet20_v1", ...) as a Backbone.

    pretrained: fetch GluonCV's weights (or find them in `root`, ~/.mxnet/models); False initialises at random
    (mxelm.runtime.seed). preprocessing: None takes GluonCV's for the network's data set.
    cut: None takes the input of the last FullyConnected. kwargs: go to gluoncv.model_zoo.get_model.
    Raises InputError for an unknown name, FileError when the weights cannot be had.
    """
    from mxelm.runtime import gluoncv
    names = gluoncv.model_zoo.get_model_list()
    if name.lower() not in names:
        near = ", ".join(difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.3))
        raise InputError(f"GluonCV's zoo has no network {name!r}; the nearest are {near}")
    block = _pretrained(gluoncv, name, kwargs) if pretrained else gluoncv.model_zoo.get_model(name, **kwargs)
    if not pretrained:
        block.initialize(mx.init.Xavier(magnitude=2.24), ctx=mx.cpu())
    preprocessing = preprocessing or _usual_preprocessing(name)
    symbol, arg_params, aux_params = _trace(block, preprocessing.shape, name)
    classes = getattr(block, "classes", None) if pretrained else None
    source = {"model": f"gluoncv.model_zoo {name}", "pretrained": bool(pretrained)}
    return Backbone(name, symbol, arg_params, aux_params, preprocessing, cut=cut or _classifier_input(symbol, name),
                    classes=classes, source=source, ctx=ctx)


def as_block(backbone: Backbone) -> mx.gluon.SymbolBlock:
    """The features of a Backbone as a gluon.SymbolBlock on its context, images -> X, with a copy of its parameters."""
    block = mx.gluon.SymbolBlock(backbone.features, mx.sym.var("data", dtype="float32"))
    arg_params, aux_params = backbone.feature_params()
    block.collect_params().load_dict({**arg_params, **aux_params}, backbone.ctx)
    return block


def save_block(block: mx.gluon.HybridBlock, prefix: str | os.PathLike, preprocessing: Preprocessing,
               classes: Sequence[str], **source: Any) -> None:
    """Write a classifier, an initialised HybridBlock, as PREFIX-symbol.json, PREFIX-0000.params and PREFIX.json.

    preprocessing: Preprocessing. classes: names, one a score. source: JSON-able, into the sidecar.
    Raises FileError where nothing could be written, InputError for another number of names than of scores.
    """
    traced = from_block(block, preprocessing, classes=classes, name=Path(prefix).name)
    if len(classes) != traced.n_features:
        raise InputError(f"{len(classes)} names of classes do not fit a network of {traced.n_features} scores")
    save_checkpoint(prefix, traced.symbol, traced.arg_params, traced.aux_params,
                    {**preprocessing.to_json(), "classes": list(classes), **source})


def output_name(block: mx.gluon.HybridBlock, child: str | None) -> str | None:
    """The name of the output of a block's child ("pool2", "features.3"); other names are left to the graph.

    Raises InputError for a child that gives no single output.
    """
    layer = block
    for part in (child or "").split("."):
        layer = getattr(layer, "_children", {}).get(part)
    if layer is None:
        return child
    seen = []
    hook = layer.register_forward_hook(lambda block, inputs, output: seen.append(output))
    try:
        block(mx.sym.var("data"))
    finally:
        hook.detach()
    if not seen or not isinstance(seen[-1], mx.sym.Symbol):
        raise InputError(f"the network's child {child!r} gives no single output to cut at: name another layer")
    return seen[-1].list_outputs()[0]


def count_parameters(block: mx.gluon.Block) -> dict[str, int]:
    """Numbers of parameters: dict of total, trainable and non_trainable (BatchNorm's running statistics)."""
    sizes = {name: (int(np.prod(p.shape)), p.grad_req != "null") for name, p in block.collect_params().items()}
    trainable = sum(size for size, learnt in sizes.values() if learnt)
    total = sum(size for size, _ in sizes.values())
    return {"total": total, "trainable": trainable, "non_trainable": total - trainable}


def _trace(block, shape, name):
    """The block as a symbol of "data", with copies of its parameters."""
    if not isinstance(block, mx.gluon.HybridBlock):
        raise InputError(f"{name} is a {type(block).__name__}: a gluon.HybridBlock is needed, which can be traced")
    values = _values(block, shape, name)
    try:
        symbol = block(mx.sym.var("data"))
    except Exception as error:  # the block's own code runs on a Symbol: anything can happen
        raise InputError(f"{name} cannot be traced to a symbol: {error}") from None
    if isinstance(symbol, (list, tuple)):
        symbol = mx.sym.Group(symbol)
    arg_params = {variable: values[variable] for variable in symbol.list_arguments() if not is_input(variable)}
    return symbol, arg_params, {variable: values[variable] for variable in symbol.list_auxiliary_states()}


def _values(block, shape, name):
    parameters = list(block.collect_params().values())
    try:
        if any(parameter.shape is None or 0 in parameter.shape for parameter in parameters):
            # deferred initialisation takes its shapes from a first batch
            block(mx.nd.zeros((1, *shape), ctx=parameters[0].list_ctx()[0]))
        return {parameter.name: parameter.data().as_in_context(mx.cpu()).astype("float32", copy=True)
                for parameter in parameters}
    except (RuntimeError, mx.MXNetError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{name} has parameters without values: initialise it first ({reason})") from None


def _pretrained(gluoncv, name, kwargs):
    try:
        return gluoncv.model_zoo.get_model(name, pretrained=True, **kwargs)
    except Exception as error:  # requests, urllib3, OSError, ValueError of a wrong hash: all mean no weights
        folder = kwargs.get("root", "~/.mxnet/models")
        try:
            file = f"{name}-{gluoncv.model_zoo.model_store.short_hash(name)}.params"
        except ValueError:
            raise InputError(f"GluonCV has no pretrained weights of {name}") from None
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise FileError(f"the weights of {name} cannot be fetched ({reason}): put {file} into {folder}, or use "
                        "efficientnet_lite0, which `mxelm fetch` gives to everyone") from None


def _usual_preprocessing(name):
    if "cifar" in name.lower():
        return Preprocessing((32, 32), resize="stretch", **_CIFAR)
    size = 299 if "inceptionv3" in name.lower() else 224
    return Preprocessing.usual("imagenet", (size, size))


def _classifier_input(symbol, name):
    found, _ = nodes(symbol)
    classifiers = [node for node in found if node.op == "FullyConnected"]
    if not classifiers:
        raise InputError(f"{name} has no FullyConnected layer, before which its features would be: give cut, the name "
                         f"of an output such as {symbol.get_internals().list_outputs()[-3]}")
    producer, _ = classifiers[-1].inputs[0]
    return f"{found[producer].name}_output"
