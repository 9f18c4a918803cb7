"""mxelm subtract: take a bad or withdrawn shard out of a state again."""
from __future__ import annotations

import argparse

from mxelm.cli import options
from mxelm.cli.merge import show  # noqa: F401  part of what a command module offers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", metavar="STATE")
    parser.add_argument("shard", metavar="SHARD", help="a state whose samples are all in STATE")
    parser.add_argument("--out", required=True, metavar="STATE", help="the state to write")


def run(args: argparse.Namespace) -> dict:
    options.require_out(args.out)
    state = options.load_state(args.state) - options.load_state(args.shard)
    state.save(args.out)
    return {"state": args.out, **options.state_summary(state)}
