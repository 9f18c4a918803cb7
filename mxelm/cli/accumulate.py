"""mxelm accumulate: one pass of a set, or of a shard of it, kept as a state."""
from __future__ import annotations

import argparse
from pathlib import Path

from mxelm.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_data(parser)
    options.add_backbone(parser)
    options.add_elm(parser)
    parser.add_argument("--shard", metavar="i/n", type=options.shard, help="part i of n of the images, i from 1 to n")
    parser.add_argument("--class-weight", choices=("balanced",), help="weigh the classes alike, whatever their counts")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out if it is there")
    parser.add_argument("--out", required=True, metavar="STATE", help="the state to write, as the pass goes")


def run(args: argparse.Namespace) -> dict:
    from mxelm import fused
    from mxelm.files import require_writable
    from mxelm.fused.passes import require_resumable
    require_writable(args.out)
    dataset = whole = options.load_data(args)
    if args.shard:
        dataset = whole.shard(*args.shard)
    if args.resume and Path(args.out).exists():  # W would be calibrated on other images, which is not the point
        require_resumable(args.out, dataset)
    backbone = options.load_backbone(args, whole)
    projection = options.projection(args, backbone, whole)
    class_weight = fused.balanced(whole) if args.class_weight else None
    state, skipped = fused.accumulate(
        backbone, dataset, projection, method=args.method, batch=args.batch, skip_bad=args.skip_bad,
        class_weight=class_weight, save=args.out, resume=args.resume, interface=args.interface,
        progress=options.progress(args))
    return {"state": args.out, **options.state_summary(state), "skipped": [list(entry) for entry in skipped]}


def show(result: dict) -> None:
    options.show_skipped(result)
    print(f"{result['state']}: {result['n_samples']} images, {result['n_neurons']} neurons, {result['n_outputs']} "
          f"outputs, {result['bytes']:,} bytes")
