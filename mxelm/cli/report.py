"""`mxelm report`: RESULTS.md from the result files and the papers' printed figures; the evidence in the lessons."""
from __future__ import annotations

import argparse
from pathlib import Path

from mxelm.errors import InputError
from mxelm.files import write_text
from mxelm.reporting import evidence, results, tables
from mxelm.reporting.published import PUBLISHED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", metavar="DIR", default="experiments/results", help="folder of result files")
    parser.add_argument("--out", metavar="FILE", default="RESULTS.md", help="file to write")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is stale")


def run(args: argparse.Namespace) -> dict:
    """Write the report and the lessons' evidence, or with --check compare them: dict of the file, figures a status.

    Lessons are the scripts in the folder of the result files' folder, and below, that have a block of evidence.
    """
    rows = results.read(args.results)
    texts = {Path(args.out): tables.build(rows, PUBLISHED)}
    for script in evidence.scripts(Path(args.results).parent):
        texts[script] = evidence.filled(script.read_text(encoding="utf-8"), rows)
    for path, text in texts.items():
        if args.check:
            _refuse_stale(path, text)
        else:
            write_text(path, text)
    return {"file": args.out, "written": not args.check, "rows": len(rows),
            "statuses": tables.count(tables.compare(rows, PUBLISHED))}


def show(result: dict) -> None:
    print(f"{result['file']} {'written' if result['written'] else 'is up to date'}: {result['rows']} results")
    for status, count in result["statuses"].items():
        print(f"{count:6} {status}")


def _refuse_stale(path, text):
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        raise InputError(f"{path} is not what the result files say: run `mxelm report` and commit it")
