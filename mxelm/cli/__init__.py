"""The command `mxelm`: one module a command, each a few lines over the API.

A command module has `add_arguments(parser)`, `run(args) -> dict` (JSON-able) and `show(result)`.
"""
from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence

from mxelm import __version__
from mxelm.cli import options
from mxelm.errors import MxelmError
from mxelm.interrupts import Interrupted, terminable

COMMANDS = {
    "demo": "the main job on what ships with mxelm: digits in, a trained checkpoint out",
    "fit": "train on images: a checkpoint and a folder of class folders in, a trained checkpoint out",
    "accumulate": "one pass of images, or of a shard of them, kept as a state; resumable",
    "distribute": "one pass by several workers at once, on one machine or several: MXNet's dist_sync",
    "merge": "add states of disjoint samples",
    "subtract": "take a shard out of a state again",
    "solve": "a trained checkpoint from states, without an image",
    "predict": "the best classes of images, with confidences; a CSV for folders",
    "evaluate": "accuracy, accuracy per class and confusion matrix of a checkpoint that names its classes",
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
    if not argv:
        parser.print_help()
        return 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that the terminal's encoding has not are written out
            stream.reconfigure(errors="backslashreplace")
    args = parser.parse_args(argv)
    level = logging.INFO if args.verbose else logging.ERROR if args.quiet else logging.WARNING
    logging.basicConfig(level=level, format="mxelm: %(message)s")
    warnings.showwarning = _silence if args.quiet else _one_line_warning
    try:
        with terminable():
            result = commands[args.command].run(args)
        return _told(commands[args.command].show, args, result)
    except MxelmError as error:
        return _failed(args, error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mxelm":
            raise
        return _failed(args, f"the module {error.name} is missing: install mxelm with what it needs, without --no-deps")
    except MemoryError as error:  # NumPy's says how much was asked for
        return _failed(args, f"not enough memory ({error}): take fewer --neurons or a smaller --batch, where the "
                             "command has them")
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else 2
        return _failed(args, f"interrupted; {error if str(error) else 'nothing half-written is left'}", 128 + number)


def _failed(args, reason, code=1):
    print(f"mxelm {args.command}: {reason}", file=sys.stderr)
    return code


def _told(show, args, result):
    """Print a result; the exit code."""
    try:
        if args.json:
            print(json.dumps(result, indent=1))
        else:
            show(result)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails once more at its end
        if isinstance(error, BrokenPipeError):  # `mxelm ... | head`
            return 1
        return _failed(args, f"what was done cannot be printed: {error.strerror}")
    return result.get("exit_code", 0)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line of usage with all that is needed, instead of a dozen with all there is."""
        needed = self.format_usage()
        while re.search(r"\[[^][]*\]", needed):
            needed = re.sub(r"\s*\[[^][]*\]", "", needed)
        self.exit(2, f"{' '.join(needed.split())} [...]\n{self.prog}: error: {message}; see `{self.prog} --help`\n")


def _parser(argv):
    """The parser, with the arguments of the one command that `argv` names: the others' modules are not loaded."""
    parser = _Parser(
        prog="mxelm",
        description="What to do with a convolutional network's features: five works in Apache MXNet 1.9.1.",
        epilog="`mxelm COMMAND --help` tells what a command takes.")
    parser.add_argument("--version", action="version", version=f"mxelm {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    named = next((word for word in argv if word in COMMANDS), None)
    modules = {}
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                    formatter_class=options.HelpFormatter)
        options.add_common(sub)
        if name == named:
            modules[name] = importlib.import_module(f"mxelm.cli.{name}")
            modules[name].add_arguments(sub)
    return parser, modules


def _one_line_warning(message, category, filename, lineno, file=None, line=None):
    print(f"mxelm: warning: {message}", file=sys.stderr)


def _silence(*warning, **place):
    """In place of `warnings.showwarning`."""
