"""mxelm predict: the best classes of images."""
from __future__ import annotations

import argparse

from mxelm.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="PREFIX of a checkpoint that `mxelm fit` wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--top", type=options.positive, default=5, help="how many classes to name")
    options.add_ctx(parser)


def run(args: argparse.Namespace) -> dict:
    from mxelm.data import Dataset
    from mxelm.data.sources import FileSource
    from mxelm.fused import Predictor
    predictor = Predictor.load(args.model, args.ctx)
    images = Dataset(FileSource("", args.images), [0] * len(args.images), ["unknown"], "images")
    batches = images.module_iter(32, predictor.preprocessing, labels=False)
    rows = {}
    for path, scores in zip(args.images, predictor.scores(batches)):
        order = scores.argsort()[::-1][:args.top] if predictor.kind == "classes" else range(len(scores))
        rows[path] = [[predictor.classes[i], float(scores[i])] for i in order]
    return {"kind": predictor.kind, "predictions": rows}


def show(result: dict) -> None:
    for path, best in result["predictions"].items():
        print(path)
        for name, score in best:
            print(f"  {score:9.3g}  {name}")
