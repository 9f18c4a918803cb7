"""What a network of anybody consists of: its inputs, outputs and parameters, and what each inner output costs.

Costs are multiplications and additions of one image, counted from shapes; what a layer takes in seconds,
mxelm.chain measures.
"""
from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mxelm.backbones import stored
from mxelm.backbones.checkpoint import classes_of, preprocessing_of, unpacked
from mxelm.backbones.graph_parameters import inner_shapes
from mxelm.backbones.images_in import fits, images_in
from mxelm.backbones.loading import resolve
from mxelm.backbones.symbol_file import load_symbol
from mxelm.errors import InputError
from mxelm.graphs import entry_names
from mxelm.runtime import mx

_FREE = ("Reshape", "reshape", "Flatten", "flatten", "Dropout", "BlockGrad", "transpose", "identity", "_copy")
# Tried in turn where nothing tells a network's input: sizes that networks are usually made for
_SIZES = (224, 112, 32, 28, 299, 227, 64, 96, 128, 160, 192, 256, 320, 331, 384, 416, 512, 12, 24, 48, 8, 16)


def describe(prefix: str | os.PathLike) -> dict:
    """What can be told of a checkpoint, or of a symbol file alone: a JSON-able dict.

    Without PREFIX.json the input's shape is the first usual one to which all parameters fit, and "input" says so.
    "costs" is a list of {name, shape, cost, share} of each output that the network can be cut at, in order.
    Raises FileError for files that are damaged or of which there are none.
    """
    symbol, arg_params, aux_params, sidecar, more = _read(prefix)
    shape, whence = _input_shape(symbol, arg_params, sidecar)
    symbol = images_in(symbol, arg_params, shape, prefix)
    rows = [] if shape is None else costs(symbol, shape, arg_params)
    arrays = {**arg_params, **aux_params}
    found = {"file": str(prefix), "kind": more.pop("kind"),
             "input": "unknown: no usual shape fits the parameters" if shape is None else
             f"{'x'.join(map(str, shape))} (channels, height, width){whence}",
             "outputs": symbol.list_outputs(), "parameters": len(arrays),
             "numbers": int(sum(array.size for array in arrays.values())),
             "multiply-adds": sum(row["cost"] for row in rows), **more, "costs": rows}
    if "elm" in sidecar:
        found.update(kind="predictor", elm=sidecar["elm"])
    return found


def _read(prefix):
    """Symbol, parameters and sidecar, as far as they are there, and what else there is to say."""
    path = Path(f"{prefix}-symbol.json")
    if path.is_file() and not stored.exists(prefix):
        return load_symbol(path, {}, cut=""), {}, {}, {}, {"kind": "symbol, without parameters"}
    found = stored.read(resolve(prefix))
    symbol, arg_params, aux_params, sidecar = unpacked(found, cut="")
    found = found._replace(sidecar=sidecar)
    more = {"kind": "checkpoint", "classes": len(classes_of(found) or ())}
    if "input_shape" in sidecar:
        more["preprocessing"] = preprocessing_of(found).to_json()
    return symbol, arg_params, aux_params, sidecar, more


def _input_shape(symbol, arg_params, sidecar):
    if "input_shape" in sidecar:
        return tuple(sidecar["input_shape"]), ""
    for size in _SIZES:
        for channels in (3, 1):
            shape = (channels, size, size)
            try:
                if fits(images_in(symbol, arg_params, shape, ""), arg_params, shape):
                    return shape, ", assumed: there is no PREFIX.json, and the parameters fit it"
            except InputError:
                return None, ""
    return None, ""


def costs(symbol: mx.sym.Symbol, input_shape: Sequence[int], arg_params: Mapping | None = None) -> list[dict]:
    """{name, shape, cost, share} of each inner output for one image (channels, height, width), in order.

    cost: multiplications and additions of the layer, counted together as one where they come in pairs; share: of all.
    """
    found, shapes = inner_shapes(symbol, input_shape, arg_params=arg_params)
    names = entry_names(symbol)
    rows = [{"name": names[i, k], "shape": list(shapes[i, k][1:]), "cost": _cost(node, shapes, i) if k == 0 else 0}
            for i, k in names if (node := found[i]).op != "null"]
    total = max(1, sum(row["cost"] for row in rows))
    return [{**row, "share": row["cost"] / total} for row in rows]


def _cost(node, shapes, i):
    """One pass over a weight for each output of a convolution or dense layer, one operation a number elsewhere."""
    out = math.prod(shapes[i, 0])
    if node.op in ("Convolution", "Convolution_v1", "FullyConnected"):
        weight = shapes[node.inputs[1]]
        return out * math.prod(weight[1:])
    if node.op == "Deconvolution":
        return math.prod(shapes[node.inputs[0]]) * math.prod(shapes[node.inputs[1]][1:])
    if node.op in _FREE:
        return 0
    return max(out, math.prod(shapes[node.inputs[0]])) if node.inputs else 0
