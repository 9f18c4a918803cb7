"""Options that several commands share."""
import argparse

from mxelm.errors import InputError


def add_data(parser):
    """--images or --data, exactly one, and where to look."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--images", metavar="PATH",
                       help="a folder of class folders, a .csv or .lst of paths, or a .rec file")
    group.add_argument("--data", metavar="NAME", help="a known set: digits, mnist, cifar10, caltech101, ...")
    parser.add_argument("--root", metavar="DIR", help="where the known set (or the list's images) lies; else MXELM_DATA")
    parser.add_argument("--split", help="of sets that have one: train or test")
    parser.add_argument("--download", action="store_true", help="get the known set where it is not at hand")
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count images that cannot be read")


def load_data(args):
    """The Dataset that --images or --data names."""
    from mxelm import data
    options = {"split": args.split} if args.split else {}
    return data.load(args.images or args.data, root=args.root, download=args.download, **options)


def add_ctx(parser):
    parser.add_argument("--ctx", default="cpu", help="cpu, gpu or gpu(1)")


def positive(text):
    """An argparse type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def l2_value(text):
    """An argparse type: "auto" or a number >= 0."""
    if text == "auto":
        return text
    from mxelm.fused.solver import check_l2
    try:
        return check_l2(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from None
