"""mxelm info: what a file is."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

from mxelm.errors import FileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file, the PREFIX of a checkpoint, or a cascade's folder")
    parser.add_argument("--outputs", action="store_true",
                        help="of a network: what it can be cut at, each with its shape and share of the cost")


def run(args: argparse.Namespace) -> dict:
    path = Path(args.file)
    if (path / "cascade.json").is_file():
        return _cascade(path)
    if path.is_file() and path.suffix == ".params":
        return _params(path)
    if path.is_file() and not path.name.endswith("-symbol.json") and path.suffix != ".json":
        return _container(path)
    prefix = args.file
    for ending in ("-symbol.json", ".json"):
        prefix = prefix[:-len(ending)] if prefix.endswith(ending) else prefix
    return _network(prefix, args.outputs)


def _container(path):
    from mxelm.containers import container_kind, load_container
    from mxelm.knn_slicing.engine.file import is_engine
    from mxelm.row_files import is_row_file
    if is_engine(path):
        return _engine(path)
    if is_row_file(path):
        return _rows(path)
    kind = container_kind(path)
    if kind is None:
        raise FileError(f"{path} is neither a checkpoint nor a file that mxelm wrote")
    meta, arrays = load_container(path, kind)
    return {"file": str(path), "kind": kind, **meta,
            "arrays": {name: f"{a.dtype} {a.shape}" for name, a in arrays.items()}}


def _rows(path):
    from mxelm.row_files import RowFile
    with RowFile(path) as file:
        return {"file": str(path), "kind": file.kind, **file.identity, "rows": len(file),
                "arrays": {name: f"{dtype} {tuple(shape)} a row" for name, (dtype, shape) in file.columns.items()}}


def _engine(path):
    from mxelm.knn_slicing.engine.classifier import Engine
    engine = Engine.load(path)
    return {"file": str(path), "kind": "engine", "bytes": path.stat().st_size, "classes": list(engine.classes),
            "prototypes": len(engine.labels), "dimensions": len(engine.centre),
            "kernels": [len(engine.conv1.bias), len(engine.conv2.bias)],
            "bits": {"kernels": engine.conv1.weights.bits, "map": engine.projection.bits,
                     "prototypes": engine.prototypes.bits}}


def _cascade(path):
    """What a cascade is; reading it checks the hashes of all its files."""
    from mxelm import early_exit
    cascade = early_exit.load(path)
    return {"file": str(path), "kind": "cascade", "network": cascade.chain.backbone.name, "classes": cascade.classes,
            "confidence": cascade.confidence,
            "exits": {exit: _threshold(t) for exit, t in zip(cascade.chain.exits[:-1], cascade.thresholds)},
            "last exit": cascade.chain.exits[-1]}


def _threshold(t):
    """JSON knows no infinity."""
    return "nobody leaves" if t == float("inf") else "all leave" if t < -1e300 else float(t)


def _params(path):
    from mxelm.backbones.params_file import read_params
    arg_params, aux_params = read_params(path)
    arrays = {**arg_params, **aux_params}
    return {"file": str(path), "kind": "params", "numbers": int(sum(a.size for a in arrays.values())),
            "arrays": {name: f"{a.dtype} {a.shape}" for name, a in arrays.items()}}


def _network(prefix, outputs):
    from mxelm.backbones.anatomy import describe
    found = describe(prefix)
    costs = found.pop("costs")
    return {**found, "inner outputs": costs} if outputs else found


def show(result: dict) -> None:
    for name, value in result.items():
        if name == "inner outputs":
            _show_outputs(value)
        elif isinstance(value, dict):
            print(f"{name}:")
            for inner, text in value.items():
                print(f"  {inner}: {_short(text if isinstance(text, str) else json.dumps(text))}")
        else:
            print(f"{name}: {_short(str(value))}")


def _short(text):
    """A whole graph within a file is many lines; --json has all of it."""
    if len(text) <= 200 and "\n" not in text:
        return text
    return f"{' '.join(text[:120].split())} ... ({len(text):,} letters)"


def _show_outputs(rows):
    print("share of the cost, up to here, shape and name of each output (--cut):")
    so_far = 0.0
    for row in rows:
        so_far += row["share"]
        print(f"{row['share']:7.1%} {so_far:7.1%}  {'x'.join(map(str, row['shape'])):>14}  {row['name']}")
