"""mxelm export: a predictor, checkpoint or engine as an ONNX model."""
from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="PREFIX of a predictor or checkpoint, or an engine")
    parser.add_argument("out", metavar="OUT.onnx", help="the model to write")
    parser.add_argument("--cut", metavar="OUTPUT", help="export the features at this output instead of the scores")


def run(args: argparse.Namespace) -> dict:
    from mxelm.files import require_writable
    from mxelm.knn_slicing.engine.file import is_engine
    require_writable(args.out)
    return _engine(args) if is_engine(args.model) else _network(args)


def _network(args):
    from mxelm import backbones
    from mxelm.backbones.onnx import export
    backbone = backbones.load(args.model, cut=args.cut)
    found = export(backbone, args.out)
    return {"model": args.out, "inputs": ["image", "float32", ["batch", *backbone.preprocessing.shape]],
            "outputs": backbone.n_features, "classes": len(backbone.classes or ()), "difference": found}


def _engine(args):
    from mxelm.backbones.onnx import require_onnx
    require_onnx()
    from mxelm.knn_slicing.engine import Engine, to_onnx
    engine = Engine.load(args.model)
    to_onnx.export(engine, args.out)
    return {"model": args.out, "inputs": ["image", "float32", ["batch", 1, 28, 28]], "outputs": len(engine.counts),
            "classes": len(engine.classes), "difference": None}


def show(result: dict) -> None:
    name, kind, shape = result["inputs"]
    print(f"wrote {result['model']}: {name} {kind} ({', '.join(map(str, shape))}) -> {result['outputs']} numbers, "
          f"{result['classes']} class names")
    if result["difference"] is not None:
        print(f"onnxruntime's answer to random images differs by {result['difference']:.1e} of the largest number")
