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
    parser.add_argument("--l2", type=options.l2_value, default="auto", help="a number >= 0, or auto: by validation")
    parser.add_argument("--validation", type=float, default=0.2, help="fraction of images to choose l2 and size on")
    parser.add_argument("--out", required=True, type=options.prefix, metavar="PREFIX", help="the checkpoint to write")
    parser.add_argument("--state", metavar="FILE", help="also keep the accumulated matrices here")


def run(args: argparse.Namespace) -> dict:
    from mxelm import fused
    from mxelm.files import require_writable
    require_writable(f"{args.out}-symbol.json")
    if args.state:
        require_writable(args.state)
    dataset = options.load_data(args)
    backbone = options.load_backbone(args)
    given = options.projection(args, backbone, dataset) if args.like else None
    done = fused.fit(backbone, dataset, n_neurons=args.neurons, l2=args.l2, validation=args.validation, seed=args.seed,
                     spread=args.spread, projection=given, method=args.method, batch=args.batch,
                     skip_bad=args.skip_bad, interface=args.interface, progress=not args.json)
    done.predictor.save(args.out)
    if args.state:
        done.state.save(args.state)
    return summary(done, args.out)


def summary(done: Fit, prefix: str) -> dict:
    """What there is to say of a finished fit, JSON-able."""
    choice = done.selection
    return {
        "checkpoint": prefix,
        "l2": done.predictor.details["l2"],
        "n_neurons": done.predictor.details["n_neurons"],
        "n_samples": done.state.n_samples,
        "classes": len(done.predictor.classes),
        "validation": None if choice is None else {"criterion": choice.criterion, "best": choice.best,
                                                   "models": int(choice.grid.size)},
        "state_bytes": done.state.nbytes,
        "feature_bytes": done.feature_bytes,
        "validation_bytes": done.validation_bytes,
        "skipped": [list(entry) for entry in done.skipped],
    }


def show(result: dict) -> None:
    options.show_skipped(result)
    if result["validation"]:
        choice = result["validation"]
        print(f"chosen of {choice['models']} models by validation {choice['criterion']} {choice['best']:.4f}: "
              f"l2 {result['l2']:g}, {result['n_neurons']} neurons")
        print(f"the choice held {result['validation_bytes']:,} bytes of the validation images for its time")
    print(f"{result['n_samples']} images, {result['classes']} outputs; kept {result['state_bytes']:,} bytes where "
          f"their features take {result['feature_bytes']:,} (and grow with every image)")
    print(f"wrote {result['checkpoint']}-symbol.json, {result['checkpoint']}-0000.params, {result['checkpoint']}.json")
