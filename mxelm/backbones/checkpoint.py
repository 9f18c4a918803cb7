"""Checkpoints: PREFIX-symbol.json, PREFIX-NNNN.params, and PREFIX.json with preprocessing, classes and hashes."""
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mxelm.backbones import inception21k, params_file, stored, symbol_file
from mxelm.backbones.graph_parameters import check_parameters
from mxelm.errors import FileError, InputError
from mxelm.files import read_bytes
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.stored import Stored

_MOST_BYTES = 1 << 24  # of a file of class names


def load_checkpoint(prefix: str | os.PathLike, *, epoch: int | None = None,
                    input_shape: tuple[int, int, int] | None = None,
                    pooling_convention: Literal["valid", "full"] | None = None
                    ) -> tuple[mx.sym.Symbol, dict, dict, dict]:
    """Read a checkpoint of any age: (symbol, arg_params, aux_params, sidecar), parameters as float32 NDArrays.

    epoch: the NNNN of the .params file; None takes what PREFIX.json lists, else the highest.
    input_shape: (channels, height, width), by which old poolings are judged; None takes the sidecar's.
    pooling_convention: "valid" or "full" for poolings that do not say; None finds out (mxelm.backbones.symbol_file).
    The sidecar is {} where there is no PREFIX.json; all three files are held against its hashes. Raises FileError
    naming the bad file.
    """
    return unpacked(stored.read(prefix, epoch), input_shape=input_shape, pooling_convention=pooling_convention)


def unpacked(found: Stored, *, input_shape: tuple[int, int, int] | None = None,
             pooling_convention: Literal["valid", "full"] | None = None,
             cut: str | None = None) -> tuple[mx.sym.Symbol, dict, dict, dict]:
    """What `load_checkpoint` gives, of a mxelm.backbones.stored.Stored; all of the network that `cut` needs."""
    sidecar, symbol_path = found.sidecar, found.files["symbol"].path
    if input_shape is None and "input_shape" in sidecar:
        input_shape = preprocessing_of(found).shape
    arg_arrays, aux_arrays = params_file.read_params(found.files["params"].path, found.content("params"))
    if found.content("symbol") is not None:
        symbol = symbol_file.load_symbol(symbol_path, arg_arrays, input_shape=input_shape,
                                         pooling_convention=pooling_convention,
                                         content=found.content("symbol"), cut=cut)
    elif inception21k.owns((*arg_arrays, *aux_arrays)):
        symbol = inception21k.symbol(len(arg_arrays["fc1_weight"]))
        sidecar = {**inception21k.sidecar(symbol_path.parent), **sidecar}
    else:
        raise FileError(f"there is no {symbol_path}: a checkpoint is PREFIX-symbol.json and PREFIX-0000.params")
    return symbol, _float32(arg_arrays), _float32(aux_arrays), sidecar


def save_checkpoint(prefix: str | os.PathLike, symbol: mx.sym.Symbol, arg_params: dict[str, mx.nd.NDArray],
                    aux_params: dict[str, mx.nd.NDArray], sidecar: dict, *, epoch: int = 0) -> None:
    """Write a checkpoint, or replace one as a whole: a killed process leaves the old one or the new one.

    arg_params, aux_params: dicts of name -> NumPy array or NDArray, stored as float32.
    sidecar: JSON-able dict (input_shape, mean, scale, channel_order, resize, features, classes, source, ...); `files`
    with bytes and SHA-256 is added. Raises InputError for parameters that do not fit the symbol, FileError where
    nothing could be written.
    """
    prefix = Path(prefix)
    arg_params, aux_params = _float32(arg_params), _float32(aux_params)
    if sidecar.get("input_shape"):
        check_parameters(symbol, arg_params, aux_params, sidecar["input_shape"], where=prefix.name)
    stored.write(prefix, epoch, sidecar, lambda path: path.write_text(symbol.tojson(), encoding="utf-8"),
                 lambda path: params_file.write_params(path, arg_params, aux_params,
                                                       shown=f"{prefix}-{epoch:04d}.params"))


def preprocessing_of(found: Stored) -> Preprocessing:
    """The Preprocessing that a Stored's sidecar tells; InputError names the file."""
    try:
        return Preprocessing.from_json(found.sidecar, strict=False)
    except InputError as error:
        raise InputError(f"{found.files['sidecar'].path}: {error}") from None


def classes_of(found: Stored) -> list[str] | None:
    """Class names of a Stored: its sidecar's list, or the lines of the file beside it that the sidecar names."""
    classes, name = found.sidecar.get("classes"), found.sidecar.get("classes_file")
    if classes is not None or name is None:
        return classes
    path = found.files["sidecar"].path.with_name(name)
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise FileError(f"cannot read the class names in {path}: it is missing, no plain file, or beyond "
                        f"{_MOST_BYTES:,} bytes")
    try:
        return read_bytes(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"cannot read the class names in {path}: {error}") from None


def _float32(arrays):
    made = {}
    for name, array in arrays.items():
        try:
            made[name] = mx.nd.array(array, dtype="float32")
        except (ValueError, TypeError):
            raise InputError(f"the parameter {name} is not an array of numbers") from None
    return made
