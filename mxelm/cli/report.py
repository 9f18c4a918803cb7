"""`mxelm report`: RESULTS.md from the result files and the papers' printed figures."""
from pathlib import Path

from mxelm.errors import InputError
from mxelm.files import write_text
from mxelm.reporting import results, tables
from mxelm.reporting.published import PUBLISHED


def add_arguments(parser):
    parser.add_argument("--results", metavar="DIR", default="experiments/results", help="folder of result files")
    parser.add_argument("--out", metavar="FILE", default="RESULTS.md", help="file to write")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is stale")


def run(args):
    """Write the report, or with --check compare it: dict of the file, whether it was written, figures a status."""
    rows = results.read(args.results)
    text = tables.build(rows, PUBLISHED)
    if args.check:
        _refuse_stale(Path(args.out), text)
    else:
        write_text(args.out, text)
    return {"file": args.out, "written": not args.check, "rows": len(rows),
            "statuses": tables.count(tables.compare(rows, PUBLISHED))}


def show(result):
    print(f"{result['file']} {'written' if result['written'] else 'is up to date'}: {result['rows']} results")
    for status, count in result["statuses"].items():
        print(f"{count:6} {status}")


def _refuse_stale(path, text):
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        raise InputError(f"{path} is not what the result files say: run `mxelm report` and commit it")
