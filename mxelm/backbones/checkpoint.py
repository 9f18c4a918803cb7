"""Checkpoints: PREFIX-symbol.json, PREFIX-NNNN.params, and PREFIX.json with preprocessing, classes and hashes."""
import contextlib
import json
import re
from pathlib import Path

from mxelm.backbones import inception21k, params_file, symbol_file
from mxelm.backbones.graph_parameters import check_parameters
from mxelm.errors import FileError, InputError
from mxelm.files import atomic_write, read_json, sha256
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx


def load_checkpoint(prefix, epoch=None, input_shape=None, pooling_convention=None):
    """Read a checkpoint of any age: (symbol, arg_params, aux_params, sidecar), parameters as float32 NDArrays.

    epoch: the NNNN of the .params file; None takes the highest there is.
    input_shape: (channels, height, width), by which old poolings are judged; None takes the sidecar's.
    pooling_convention: "valid" or "full" for poolings that do not say; None finds out (mxelm.backbones.symbol_file).
    The sidecar is {} where there is no PREFIX.json; its hashes are verified. Raises FileError naming the bad file.
    """
    prefix = str(prefix)
    params_path = find_params(prefix, epoch)
    sidecar = read_sidecar(prefix)
    verify_hashes(prefix, sidecar, params_path)
    if input_shape is None and "input_shape" in sidecar:
        input_shape = preprocessing_of(prefix, sidecar).shape
    arg_arrays, aux_arrays = params_file.read_params(params_path)
    symbol_path = Path(f"{prefix}-symbol.json")
    if symbol_path.is_file():
        symbol = symbol_file.load_symbol(symbol_path, arg_arrays, input_shape, pooling_convention)
    elif inception21k.owns((*arg_arrays, *aux_arrays)):
        symbol = inception21k.symbol(len(arg_arrays["fc1_weight"]))
        sidecar = {**inception21k.sidecar(Path(prefix).parent), **sidecar}
    else:
        raise FileError(f"there is no {symbol_path}: a checkpoint is PREFIX-symbol.json and PREFIX-0000.params")
    to_nd = {name: mx.nd.array(array, dtype="float32") for name, array in arg_arrays.items()}
    return symbol, to_nd, {name: mx.nd.array(array, dtype="float32") for name, array in aux_arrays.items()}, sidecar


def save_checkpoint(prefix, symbol, arg_params, aux_params, sidecar, epoch=0):
    """Write a checkpoint: all files beside their places first, then moved there, the sidecar last.

    arg_params, aux_params: dicts of name -> NumPy array or NDArray, stored as float32.
    sidecar: JSON-able dict (input_shape, mean, scale, channel_order, resize, features, classes, source, ...); `files`
    with bytes and SHA-256 is added. Raises InputError for parameters that do not fit the symbol, FileError where
    nothing could be written.
    """
    prefix = Path(prefix)
    arg_params, aux_params = _float32(arg_params), _float32(aux_params)
    if sidecar.get("input_shape"):
        check_parameters(symbol, arg_params, aux_params, sidecar["input_shape"], prefix.name)
    symbol_path, params_path = Path(f"{prefix}-symbol.json"), Path(f"{prefix}-{epoch:04d}.params")
    with contextlib.ExitStack() as stack:  # leaves in reverse order: the sidecar, entered first, is moved last
        written = {path: stack.enter_context(atomic_write(path))
                   for path in (Path(f"{prefix}.json"), params_path, symbol_path)}
        params_file.write_params(written[params_path], arg_params, aux_params)
        written[symbol_path].write_text(symbol.tojson(), encoding="utf-8")
        files = {path.name: {"bytes": written[path].stat().st_size, "sha256": sha256(written[path])}
                 for path in (symbol_path, params_path)}
        text = json.dumps({**sidecar, "files": files}, indent=1, ensure_ascii=False) + "\n"
        written[Path(f"{prefix}.json")].write_text(text, encoding="utf-8")


def find_params(prefix, epoch=None):
    """Path of PREFIX-NNNN.params; with epoch None the highest there is. FileError says what is there instead."""
    prefix = Path(prefix)
    pattern = re.compile(re.escape(prefix.name) + r"-(\d{4,})\.params")
    there = {}
    if prefix.parent.is_dir():
        there = {int(m.group(1)): path for path in prefix.parent.iterdir() for m in [pattern.fullmatch(path.name)] if m}
    if not there:
        raise FileError(f"there is no checkpoint {prefix}: no file {prefix}-0000.params or with another number; "
                        "give the path without -symbol.json and -0000.params")
    if epoch is None:
        return there[max(there)]
    if epoch not in there:
        raise FileError(f"there is no {prefix}-{epoch:04d}.params; the epochs there are {sorted(there)}")
    return there[epoch]


def read_sidecar(prefix):
    """The content of PREFIX.json, {} where there is none."""
    path = Path(f"{prefix}.json")
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise FileError(f"{path} is not a checkpoint's JSON file: it must hold one object")
    files = content.get("files", {})
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise FileError(f"{path}: files must be an object of file name -> bytes and sha256")
    return content


def preprocessing_of(prefix, sidecar):
    """The Preprocessing that a sidecar tells; InputError names the file."""
    try:
        return Preprocessing.from_json(sidecar)
    except InputError as error:
        raise InputError(f"{prefix}.json: {error}") from None


def verify_hashes(prefix, sidecar, *paths):
    """Raise FileError naming the file whose size or SHA-256 is not what the sidecar says; absent entries pass."""
    files = sidecar.get("files", {})
    for path in (Path(f"{prefix}-symbol.json"), *map(Path, paths)):
        said = files.get(path.name)
        if not said:
            continue
        if not path.is_file():
            raise FileError(f"there is no {path}, which {prefix}.json lists")
        if path.stat().st_size != said.get("bytes", path.stat().st_size):
            raise FileError(f"{path} is damaged: it has {path.stat().st_size} bytes, {prefix}.json says "
                            f"{said['bytes']}; restore it from a copy")
        if sha256(path) != said.get("sha256", sha256(path)):
            raise FileError(f"{path} is damaged or was exchanged: its SHA-256 is not the one in {prefix}.json")


def _float32(arrays):
    made = {}
    for name, array in arrays.items():
        try:
            made[name] = mx.nd.array(array, dtype="float32")
        except (ValueError, TypeError):
            raise InputError(f"the parameter {name} is not an array of numbers") from None
    return made
