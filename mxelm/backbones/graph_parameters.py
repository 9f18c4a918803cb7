"""Parameters held against the graph they are for, before anything is bound: MXNet itself stays silent too often."""
from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import InputError
from mxelm.graphs import nodes

if TYPE_CHECKING:
    from mxelm.runtime import mx

_RESHAPES = ("Reshape", "reshape", "_np_reshape", "_npx_reshape")
_MOST_NUMBERS = 1 << 28  # of one output for two images: 1 GB

_log = logging.getLogger(__name__)


def infer_shapes(symbol: mx.sym.Symbol, input_shape: tuple[int, int, int],
                 *, arg_params: dict[str, mx.nd.NDArray] | None = None,
                 batch: int = 1) -> tuple[dict[str, tuple], list[tuple]]:
    """Shapes of a graph's variables for `batch` inputs (channels, height, width): dict of name -> shape; the outputs'.

    arg_params: known parameters, asked only where the graph alone does not tell a shape.
    Raises InputError when the layers do not fit together at this input, for batches of one and of two.
    """
    for n in (1, 2):  # MXNet itself finds nothing wrong with a Reshape to a fixed number of images, and crashes
        found, shapes = inner_shapes(symbol, input_shape, arg_params=arg_params, batch=n)
        for i, node in enumerate(found):
            if node.op in _RESHAPES and math.prod(shapes[i, 0]) != math.prod(shapes[node.inputs[0]]):
                raise InputError(f"the network does not fit batches of {n}: its {node.name} makes "
                                 f"{shapes[node.inputs[0]]} into {shapes[i, 0]}; write 0 or -1 in the place of the "
                                 f"number of images in its shape, {node.attributes.get('shape')}")
            if any(math.prod(shapes[i, k]) > _MOST_NUMBERS for k in range(2) if (i, k) in shapes):
                raise InputError(f"the network does not fit an input of shape {tuple(input_shape)}: its {node.name} "
                                 f"would be {shapes[i, 0]}")
    return _inferred(symbol, input_shape, arg_params, batch)


def inner_shapes(symbol: mx.sym.Symbol, input_shape: tuple[int, int, int],
                 *, arg_params: dict[str, mx.nd.NDArray] | None = None, batch: int = 1) -> tuple[list, dict]:
    """All that a graph computes: ([mxelm.graphs.Node], dict of (node, output) -> shape), for `batch` inputs."""
    internals = symbol.get_internals()
    found, entries = nodes(internals)
    return found, dict(zip(entries, _inferred(internals, input_shape, arg_params, batch)[1]))


def _inferred(symbol, input_shape, arg_params, batch):
    known = {"data": (batch, *input_shape)}
    try:
        found = symbol.infer_shape_partial(**known)
        if not _complete(found):
            wanted = set(symbol.list_arguments()) - {"data"}
            known.update({name: array.shape for name, array in (arg_params or {}).items() if name in wanted})
            found = symbol.infer_shape_partial(**known)
    except Exception as error:  # MXNetError, and what its Python part raises for sizes beyond 2^31
        raise InputError(f"the network does not fit an input of shape {tuple(input_shape)}: {_reason(error)}") from None
    if not _complete(found):
        raise InputError(f"the shapes of the network cannot be inferred from an input of shape {tuple(input_shape)}")
    args, outputs, aux = found
    return {**dict(zip(symbol.list_arguments(), args)), **dict(zip(symbol.list_auxiliary_states(), aux))}, outputs


def _complete(found):
    return None not in found and all(shape and min(shape) > 0 for part in found for shape in part)


def check_parameters(symbol: mx.sym.Symbol, arg_params: dict[str, mx.nd.NDArray], aux_params: dict[str, mx.nd.NDArray],
                     input_shape: tuple[int, int, int], *, where: str = "the network") -> None:
    """Raise InputError that names the first parameter of `symbol` that is missing, misshapen or not finite.

    where: what the message calls the parameters' place (a file's prefix or a network's name).
    """
    if "data" not in symbol.list_arguments():
        raise InputError(f"{where} has no input called data; its variables are "
                         f"{', '.join(symbol.list_arguments()[:3])}, ...")
    missing = missing_parameters(symbol, arg_params, aux_params)
    if missing:
        raise InputError(f"{where} misses the parameter {missing[0]} ({len(missing)} missing): the .params file is "
                         "not the one of this network")
    shapes, _ = infer_shapes(symbol, input_shape, arg_params=arg_params)
    misfits = find_misfits(shapes, {**arg_params, **aux_params}, input_shape)
    if misfits:
        raise InputError(f"{where}: {misfits[0]}")


def find_misfits(shapes: dict[str, tuple], arrays: dict, input_shape: tuple[int, int, int]) -> list[str]:
    """A sentence for each array that has not the shape that `shapes` (name -> shape) needs, or is not finite."""
    found = []
    for name, array in arrays.items():
        if name not in shapes:
            continue
        if tuple(array.shape) != tuple(shapes[name]):
            found.append(f"the parameter {name} has shape {tuple(array.shape)}, the network needs "
                         f"{tuple(shapes[name])} for an input of shape {tuple(input_shape)}")
        elif not np.isfinite(_numpy(array)).all():
            found.append(f"the parameter {name} holds NaN or infinite numbers")
    return found


def missing_parameters(symbol: mx.sym.Symbol, arg_params: dict[str, mx.nd.NDArray],
                       aux_params: dict[str, mx.nd.NDArray]) -> list[str]:
    """Names of the graph's variables, inputs and labels aside, that the parameters do not have."""
    return [name for name in symbol.list_arguments() if name not in arg_params and not is_input(name)] + \
           [name for name in symbol.list_auxiliary_states() if name not in aux_params]


def warn_of_extra(symbol: mx.sym.Symbol, arg_params: dict[str, mx.nd.NDArray], aux_params: dict[str, mx.nd.NDArray],
                  where: str) -> None:
    """Log a warning that names parameters which the whole network has no use for."""
    known = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    extra = [name for name in (*arg_params, *aux_params) if name not in known]
    if extra:
        _log.warning("%s: %d parameters are of no layer of the network and stay unused: %s", where, len(extra),
                     ", ".join(extra[:5]) + (", ..." if len(extra) > 5 else ""))


def is_input(name: str) -> bool:
    """Whether a variable is fed with each batch (the images, or a loss layer's label) and not a parameter."""
    return name == "data" or name.endswith("label")


def _numpy(array):
    return array if isinstance(array, np.ndarray) else array.asnumpy()


def _reason(error):
    lines = [line.strip() for line in str(error).splitlines() if "rror in operator" in line or "Check failed" in line]
    said = str(error).strip() or type(error).__name__
    return "; ".join(line.split("]: ")[-1] for line in lines[:2]) or said.splitlines()[-1]
