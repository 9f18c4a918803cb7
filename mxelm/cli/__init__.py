"""The command `mxelm`: one module a command, each a few lines over the API.

A command module has `add_arguments(parser)`, `run(args) -> dict` (JSON-able) and `show(result)`.
"""
from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from mxelm import __version__
from mxelm.errors import MxelmError

COMMANDS = {
    "demo": "the main job on what ships with mxelm: digits in, a trained checkpoint out",
    "fit": "train on images: a checkpoint and a folder of class folders in, a trained checkpoint out",
    "accumulate": "one pass of images, or of a shard of them, kept as a state; resumable",
    "distribute": "one pass by several workers at once, on one machine or several: MXNet's dist_sync",
    "merge": "add states of disjoint samples",
    "subtract": "take a shard out of a state again",
    "solve": "a trained checkpoint from states, without an image",
    "predict": "the five best classes of images",
    "evaluate": "accuracy, accuracy per class and confusion matrix of a trained checkpoint",
    "exits": "early exit: what a network's layers cost, a cascade fitted, images told by it, its curve",
    "engine": "build a small engine, or tell what images show by one: NumPy and Pillow suffice for that",
    "maps": "feature maps: pictures, caches, answers by matching, the most similar images",
    "info": "what a file is: a checkpoint, a predictor, a state, an engine, a .params file",
    "env": "versions, what is missing and how to get it, data and weights at hand",
    "convert": "a classifier in an ONNX file becomes a checkpoint: PyTorch's weights, to train on",
    "export": "a predictor, checkpoint or small engine as an ONNX model, to run without MXNet",
    "fetch": "get known weights or a known data set",
    "verify": "check a checkpoint's files, names, shapes and hashes",
    "report": "build RESULTS.md from the results of the experiments",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for an error that mxelm names, 2 for bad usage, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    parser, commands = _parser(argv)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="mxelm: %(message)s")
    warnings.showwarning = _one_line_warning
    try:
        result = commands[args.command].run(args)
        if args.json:
            print(json.dumps(result, indent=1))
        else:
            commands[args.command].show(result)
        sys.stdout.flush()
        return result.get("exit_code", 0)
    except MxelmError as error:
        print(f"mxelm {args.command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mxelm":
            raise
        print(f"mxelm {args.command}: the module {error.name} is missing: install mxelm with what it needs, without "
              "--no-deps", file=sys.stderr)
        return 1
    except MemoryError as error:  # NumPy's says how much was asked for
        print(f"mxelm {args.command}: not enough memory ({error}): take fewer --neurons or a smaller --batch, where "
              "the command has them", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"mxelm {args.command}: interrupted; nothing half-written is left", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `mxelm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(argv):
    """The parser, with the arguments of the one command that `argv` names: the others' modules are not loaded."""
    parser = argparse.ArgumentParser(
        prog="mxelm",
        description="What to do with a convolutional network's features: five works in Apache MXNet 1.9.1.",
        epilog="`mxelm COMMAND --help` tells what a command takes.")
    parser.add_argument("--version", action="version", version=f"mxelm {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    named = next((word for word in argv if word in COMMANDS), None)
    modules = {}
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.add_argument("--json", action="store_true", help="print the result as JSON, for scripts")
        sub.add_argument("--verbose", action="store_true", help="say what is being done")
        if name == named:
            modules[name] = importlib.import_module(f"mxelm.cli.{name}")
            modules[name].add_arguments(sub)
    return parser, modules


def _one_line_warning(message, category, filename, lineno, file=None, line=None):
    print(f"mxelm: warning: {message}", file=sys.stderr)
