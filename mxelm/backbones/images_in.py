"""The images' way into a network of anybody: under whatever name it takes them, and with its channels first or last."""
from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from mxelm.backbones.graph_parameters import infer_shapes
from mxelm.errors import InputError
from mxelm.graphs import nodes
from mxelm.runtime import mx

_log = logging.getLogger(__name__)


def images_in(symbol: mx.sym.Symbol, arg_params: Mapping, input_shape: Sequence[int] | None,
              where: str | os.PathLike) -> mx.sym.Symbol:
    """The network with its images coming in as `data`, (n, channels, height, width).

    An input of another name is renamed. input_shape: (channels, height, width), None where unknown; a network whose
    parameters fit (n, height, width, channels) alone, as gluoncv.utils.export_block writes it, gets a transposition in
    front. where: what messages call the network. Raises InputError where it cannot be told what takes the images.
    """
    if "data" not in symbol.list_arguments():
        name = _image_input(symbol, arg_params, where)
        _log.info("%s takes its images as %s", where, name)
        symbol = symbol(**{name: mx.sym.var("data")})
    if input_shape is not None and not fits(symbol, arg_params, input_shape):
        turned = symbol(data=mx.sym.transpose(mx.sym.var("data"), axes=(0, 2, 3, 1), name="data_channels_last"))
        if fits(turned, arg_params, input_shape):
            _log.info("%s takes images (n, height, width, channels): it gets them transposed", where)
            return turned
    return symbol


def _image_input(symbol, arg_params, where):
    """The one variable without values that an operator reads as its first input (weights and labels come later)."""
    found, _ = nodes(symbol)
    first = {found[node.inputs[0][0]].name for node in found if node.inputs}
    free = [name for name in symbol.list_arguments() if name not in arg_params and name in first]
    if len(free) != 1:
        raise InputError(f"{where} has no input called data, and which of its variables takes the images cannot be "
                         f"told: {', '.join(free[:3]) or 'all of them have values'}")
    return free[0]


def fits(symbol: mx.sym.Symbol, arg_params: Mapping, input_shape: Sequence[int]) -> bool:
    """Whether the layers fit together at an input of this shape (channels, height, width), and to these parameters."""
    try:
        shapes, _ = infer_shapes(symbol, input_shape, arg_params=arg_params)
    except InputError:
        return False
    return all(tuple(array.shape) == tuple(shapes[name]) for name, array in arg_params.items() if name in shapes)
