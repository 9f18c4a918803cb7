"""`mxelm verify`: whether a checkpoint is whole."""
from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", help="a checkpoint's path without -symbol.json, or a known name")
    parser.add_argument("--epoch", metavar="E", type=int, help="number of the .params file, if another is meant")


def run(args: argparse.Namespace) -> dict:
    """The report of mxelm.backbones.verify; the exit code is 1 where there are problems."""
    from mxelm.backbones import verify
    report = verify(args.prefix, args.epoch)
    return {**report, "exit_code": 1 if report["problems"] else 0}


def show(result: dict) -> None:
    for file in result["files"]:
        match = {None: "no hash recorded", file["sha256"]: "as recorded"}.get(file["expected"], "NOT AS RECORDED")
        print(f"{file['name']:40} {file['bytes']:>12,} bytes  sha256 {file['sha256'][:12]}...  {match}")
    if "numbers" in result:
        print(f"{result['parameters']} parameters, {result['numbers']:,} numbers")
    if result["extra"]:
        print(f"of no layer, unused: {', '.join(result['extra'])}")
    for note in result["notes"]:
        print(f"note: {note}")
    for problem in result["problems"]:
        print(f"mxelm verify: {problem}", file=sys.stderr)
    if not result["problems"]:
        print(f"{result['prefix']} is whole")
