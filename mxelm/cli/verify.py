"""`mxelm verify`: whether a checkpoint is whole."""
from mxelm.errors import FileError


def add_arguments(parser):
    parser.add_argument("prefix", metavar="PREFIX", help="a checkpoint's path without -symbol.json, or a known name")
    parser.add_argument("--epoch", metavar="E", type=int, help="number of the .params file (default: the highest)")


def run(args):
    from mxelm.backbones import verify
    report = verify(args.prefix, args.epoch)
    if report["problems"]:
        more = len(report["problems"]) - 5
        raise FileError(f"{report['prefix']}: {'; '.join(report['problems'][:5])}"
                        + (f"; and {more} more problems" if more > 0 else ""))
    return report


def show(result):
    for file in result["files"]:
        hash_word = "as recorded" if file["expected"] else "no hash recorded"
        print(f"{file['name']:45} {file['bytes']:>12,} bytes  sha256 {file['sha256'][:12]}... {hash_word}")
    print(f"{result['parameters']} parameters, {result['numbers']:,} numbers, all finite and of the right shape"
          if "outputs" in result else f"{result['parameters']} parameters, {result['numbers']:,} numbers, all finite")
    if result["extra"]:
        print(f"without a layer, unused: {', '.join(result['extra'])}")
    for note in result["notes"]:
        print(f"note: {note}")
    print(f"{result['prefix']} is whole")
