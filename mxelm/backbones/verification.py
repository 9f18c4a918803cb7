"""`verify`: everything that can be said about a checkpoint's files without running the network."""
from pathlib import Path

from mxelm.backbones.checkpoint import find_params, load_checkpoint, preprocessing_of, read_sidecar
from mxelm.backbones.graph_parameters import find_misfits, infer_shapes, missing_parameters
from mxelm.backbones.known import known
from mxelm.backbones.loading import read_classes, resolve
from mxelm.errors import MxelmError
from mxelm.files import sha256


def verify(prefix, epoch=None):
    """Check a checkpoint's files, hashes, names, shapes and finiteness; returns a report.

    The report is a JSON-able dict: prefix, files (name, bytes, sha256, expected or None), parameters, numbers,
    n_features and classes where known, extra (names of parameters without a layer), source, licence, notes, and
    problems, one sentence each: an empty list means that the checkpoint is whole.
    Raises FileError when there is no checkpoint at all.
    """
    prefix = resolve(prefix)
    params_path = find_params(prefix, epoch)
    report = {"prefix": prefix, "files": [], "extra": [], "notes": [], "problems": []}
    try:
        sidecar = read_sidecar(prefix)
        report["files"] = _files(prefix, params_path, sidecar)
        symbol, arg_params, aux_params, sidecar = load_checkpoint(prefix, epoch)
        report.update({key: sidecar[key] for key in ("source", "licence") if key in sidecar})
        report["classes"] = len(read_classes(prefix, sidecar) or ())
        _check(report, symbol, arg_params, aux_params, sidecar)
    except MxelmError as error:
        report["problems"].append(str(error))
    return report


def _files(prefix, params_path, sidecar):
    expected = sidecar.get("files", {})
    paths = (Path(f"{prefix}-symbol.json"), params_path, Path(f"{prefix}.json"))
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path),
             "expected": expected.get(path.name, {}).get("sha256")} for path in paths if path.is_file()]


def _check(report, symbol, arg_params, aux_params, sidecar):
    arrays = {**arg_params, **aux_params}
    variables = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    report["parameters"] = len(arrays)
    report["numbers"] = int(sum(array.size for array in arrays.values()))
    report["extra"] = [name for name in arrays if name not in variables]
    if not any(file["expected"] for file in report["files"]):
        note = known().get(Path(report["prefix"]).name, {}).get("sha256_note", "no hash of these files is at hand: "
                                                                "names, shapes and numbers are checked instead")
        report["notes"].append(note)
    report["problems"] += [f"the parameter {name} is missing"
                           for name in missing_parameters(symbol, arg_params, aux_params)]
    if "input_shape" not in sidecar:
        report["notes"].append("there is no PREFIX.json with an input_shape: the shapes are not checked")
        return
    shape = preprocessing_of(report["prefix"], sidecar).shape
    shapes, outputs = infer_shapes(symbol, shape, arg_params)
    report["outputs"] = {name: list(shape[1:]) for name, shape in zip(symbol.list_outputs(), outputs)}
    report["problems"] += find_misfits(shapes, arrays, shape)
