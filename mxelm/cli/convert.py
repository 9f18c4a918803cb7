"""mxelm convert: a classifier in an ONNX file becomes a checkpoint."""
from __future__ import annotations

import argparse
from pathlib import Path

from mxelm.cli import options
from mxelm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("prefix", type=options.prefix, metavar="PREFIX", help="the checkpoint to write")
    parser.add_argument("--preprocessing", metavar="NAME|JSON",
                        help="imagenet, unit (0..1), symmetric (-1..1), pixels (0..255), or a JSON file")
    parser.add_argument("--size", type=_size, metavar="PIXELS",
                        help="224 or HEIGHTxWIDTH, for a model that leaves them open")


def run(args: argparse.Namespace) -> dict:
    from mxelm.backbones.onnx import convert
    return vars(convert(args.model, args.prefix, preprocessing=_preprocessing(args.preprocessing), size=args.size))


def _size(text):
    """An argparse type: "224" as (224, 224), "48x192" as (48, 192)."""
    height, _, width = text.partition("x")
    return options.positive(height), options.positive(width or height)


def _preprocessing(given):
    """A name is left to `convert`, which knows the network's size."""
    from mxelm.preprocessing import USUAL, Preprocessing
    if given is None or given in USUAL:
        return given
    if not Path(given).is_file():
        raise InputError(f"--preprocessing {given} is neither a JSON file nor one of {', '.join(USUAL)}")
    return Preprocessing.read(given)


def show(result: dict) -> None:
    print(f"opset {result['opset']}, {result['nodes']} nodes, {result['parameters']:,} parameters: images "
          f"{tuple(result['input_shape'])} -> {result['n_features']} features -> {result['n_outputs']} outputs")
    if result["difference"] is None:
        print("not compared with onnxruntime, which is not installed")
    else:
        print(f"scores of random images differ from onnxruntime's by {result['difference']:.1e} of the largest")
    print(f"wrote {result['prefix']}-symbol.json, {result['prefix']}-0000.params, {result['prefix']}.json; "
          f"train on it with `mxelm fit --checkpoint {result['prefix']}`")
