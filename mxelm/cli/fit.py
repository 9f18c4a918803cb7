"""mxelm fit: images in, a trained checkpoint out."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mxelm.cli import options

if TYPE_CHECKING:
    from mxelm.fused.job import Fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_data(parser)
    options.add_backbone(parser)
    options.add_elm(parser)
    parser.add_argument("--l2", type=options.l2_value, default="auto",
                        help="a number >= 0, or auto: by generalized cross-validation")
    parser.add_argument("--validation", type=float, default=0.2,
                        help="fraction of images, at most 2,048, on which confidences are calibrated; all are "
                             "trained on in the end")
    parser.add_argument("--out", required=True, type=options.prefix, metavar="PREFIX", help="the checkpoint to write")
    parser.add_argument("--state", metavar="FILE", help="also keep the accumulated matrices here")


def run(args: argparse.Namespace) -> dict:
    from mxelm import fused
    options.require_out(f"{args.out}-symbol.json", *([args.state] if args.state else []))
    dataset = options.load_data(args)
    backbone = options.load_backbone(args, dataset)
    given = options.projection(args, backbone, dataset) if args.like else None
    done = fused.fit(backbone, dataset, n_neurons=args.neurons, l2=args.l2, validation=args.validation, seed=args.seed,
                     spread=args.spread, projection=given, method=args.method, batch=args.batch,
                     skip_bad=args.skip_bad, interface=args.interface, progress=options.progress(args))
    done.predictor.save(args.out)
    if args.state:
        done.state.save(args.state)
    numbered = done.predictor.kind == "classes" and all(name.lstrip("-").isdecimal() for name in done.predictor.classes)
    return {**summary(done, args.out), "numbered": numbered and args.images is not None}


def summary(done: Fit, prefix: str) -> dict:
    """What there is to say of a finished fit, JSON-able."""
    predictor = done.predictor
    return {
        "checkpoint": prefix,
        "kind": predictor.kind,
        "classes": len(predictor.classes),
        "l2": predictor.details["l2"],
        "n_neurons": predictor.details["n_neurons"],
        "n_samples": done.state.n_samples,
        "choice": options.choice_summary(done.selection),
        "temperature": predictor.temperature,
        "state_bytes": done.state.nbytes,
        "feature_bytes": done.feature_bytes,
        "validation_bytes": done.validation_bytes,
        "skipped": [list(entry) for entry in done.skipped],
    }


def show(result: dict) -> None:
    options.show_skipped(result)
    outputs = {"classes": "classes", "multilabel": "labels", "regression": "quantities"}[result["kind"]]
    hint = ", named by numbers (where these are quantities: --kind regression)" if result.get("numbered") else ""
    print(f"{result['n_samples']} images, {result['classes']} {outputs}{hint}")
    options.show_choice(result)
    if result["temperature"]:
        print(f"confidences are the softmax of scores / {result['temperature']:.3g}, which was fitted on "
              f"{result['validation_bytes']:,} bytes of validation rows")
    image_bytes = result["feature_bytes"] / result["n_samples"]
    print(f"kept {result['state_bytes']:,} bytes, however many images there are; their features would take "
          f"{result['feature_bytes']:,}, and more than that from {result['state_bytes'] / image_bytes:,.0f} images on")
    print(f"wrote {result['checkpoint']}-symbol.json, {result['checkpoint']}-0000.params, {result['checkpoint']}.json")
