"""mxelm merge: add states of disjoint samples."""
from __future__ import annotations

import argparse

from mxelm.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("states", metavar="STATE", nargs="+", help="states of the same backbone, W and classes")
    parser.add_argument("--union-classes", action="store_true", help="also where their class lists differ")
    parser.add_argument("--out", required=True, metavar="STATE", help="the state to write")


def run(args: argparse.Namespace) -> dict:
    from mxelm import fused
    options.require_out(args.out)
    state = fused.merge(map(options.load_state, args.states), args.union_classes)
    state.save(args.out)
    return {"state": args.out, **options.state_summary(state)}


def show(result: dict) -> None:
    print(f"{result['state']}: {result['n_samples']} images, {result['n_outputs']} outputs")
