"""`verify`: everything that can be said about a checkpoint's files without running the network."""
from __future__ import annotations

import os
from pathlib import Path

from mxelm.backbones import stored
from mxelm.backbones.checkpoint import classes_of, preprocessing_of, unpacked
from mxelm.backbones.graph_parameters import find_misfits, infer_shapes, missing_parameters
from mxelm.backbones.loading import resolve
from mxelm.backbones.manifest import known
from mxelm.errors import MxelmError


def verify(prefix: str | os.PathLike, epoch: int | None = None) -> dict:
    """Check a checkpoint's files, hashes, names, shapes and finiteness; returns a report.

    The report is a JSON-able dict: prefix, files (name, bytes, sha256, expected or None), parameters, numbers,
    n_features and classes where known, extra (names of parameters without a layer), source, licence, notes, and
    problems, one sentence each: an empty list means that the checkpoint is whole.
    Raises FileError when there is no checkpoint at all.
    """
    prefix = resolve(prefix)
    stored.params_path(prefix, epoch)
    report = {"prefix": prefix, "files": [], "extra": [], "notes": [], "problems": []}
    try:
        found = stored.look(prefix, epoch)
        report["files"] = [_told(file) for file in found.files.values() if file.content is not None]
        found = stored.read(prefix, epoch)
        report.update({key: found.sidecar[key] for key in ("source", "licence") if key in found.sidecar})
        report["classes"] = len(classes_of(found) or ())
        _check(report, *unpacked(found, cut="")[:3], found)
    except MxelmError as error:
        report["problems"].append(str(error))
    return report


def _told(file):
    return {"name": file.path.name, "bytes": len(file.content), "sha256": stored.digest(file),
            "expected": file.recorded.get("sha256")}


def _check(report, symbol, arg_params, aux_params, found):
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
    if "input_shape" not in found.sidecar:
        report["notes"].append("there is no PREFIX.json with an input_shape: the shapes are not checked")
        return
    shape = preprocessing_of(found).shape
    shapes, outputs = infer_shapes(symbol, shape, arg_params=arg_params)
    report["outputs"] = {name: list(shape[1:]) for name, shape in zip(symbol.list_outputs(), outputs)}
    report["problems"] += find_misfits(shapes, arrays, shape)
