"""Options that several commands share, and what they mean."""
from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxelm.errors import InputError, MxelmError

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.data.dataset import Dataset
    from mxelm.fused.projection import Projection
    from mxelm.fused.selection import Selection
    from mxelm.fused.state import ELMState

log = logging.getLogger(__name__)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults behind the help of options, but no None and False."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


def add_common(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """What every command takes; settings: of `add_argument`."""
    for name, meaning in (("--json", "print the result as JSON, for scripts"),
                          ("--quiet", "no progress and no warnings: results and errors alone"),
                          ("--verbose", "say what is being done")):
        parser.add_argument(name, action="store_true", help=meaning, **settings)


def actions(parser: argparse.ArgumentParser) -> Callable[[str, str], argparse.ArgumentParser]:
    """What adds an action to a command: (name, summary) -> the action's parser.

    What every command takes may stand before the action or behind it.
    """
    found = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name, summary):
        made = found.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                formatter_class=HelpFormatter)
        add_common(made, default=argparse.SUPPRESS)
        return made

    return add


def add_data(parser: argparse.ArgumentParser) -> None:
    """--images or --data, exactly one, and where to look."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--images", metavar="PATH",
                       help="a folder of class folders, a .csv or .lst of paths, or a .rec file")
    group.add_argument("--data", metavar="NAME", help="a known set: digits, mnist, cifar10, caltech101, ...")
    parser.add_argument("--root", metavar="DIR", help="where the known set, or a list's images, lie; else MXELM_DATA")
    parser.add_argument("--split", help="of sets that have one: train or test")
    parser.add_argument("--kind", choices=("classes", "multilabel", "regression"),
                        help="what the numbers in a list or a .rec file are, where they do not tell it themselves")
    parser.add_argument("--download", action="store_true", help="get the known set where it is not at hand")
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count images that cannot be read")


def load_data(args: argparse.Namespace) -> Dataset:
    """The Dataset that --images or --data names."""
    from mxelm import data
    return data.load(**data_arguments(args), progress=progress(args))


def data_arguments(args: argparse.Namespace) -> dict:
    """What --images or --data and the options beside them say, as arguments of `data.load`, JSON-able."""
    given = {name: getattr(args, name) for name in ("split", "kind", "spectrum") if getattr(args, name, None)}
    # with ./ in front, a folder called digits is not taken for the known set
    name = args.data if args.images is None else os.path.join(os.curdir, args.images)
    return {"name": name, "root": args.root, "download": args.download, **given}


def progress(args: argparse.Namespace) -> bool:
    """Whether to show progress: to people at a terminal who have not asked for less."""
    return sys.stderr.isatty() and not (args.json or args.quiet or os.environ.get("TQDM_DISABLE"))


def add_backbone(parser: argparse.ArgumentParser, *, cut: str | None = "flatten_output",
                 usual: str = "the small network that ships, for pictures of 32x32 pixels") -> None:
    """The network in front, its cut and preprocessing, and where it computes; usual: what no --checkpoint means."""
    parser.add_argument("--checkpoint", metavar="PREFIX",
                        help=f"PREFIX of PREFIX-symbol.json and PREFIX-NNNN.params, or a known name; else {usual}")
    parser.add_argument("--epoch", type=int, help="the checkpoint's number, as in Inception21k-0009.params")
    parser.add_argument("--cut", default=cut,
                        help="the internal output or layer whose features are used; `mxelm info PREFIX --outputs`")
    parser.add_argument("--preprocessing", metavar="JSON", help="the network's preprocessing, if not in PREFIX.json")
    parser.add_argument("--pooling", choices=("valid", "full"),
                        help="how poolings round in a network of before October 2016 that does not say")
    add_ctx(parser)


def load_backbone(args: argparse.Namespace, dataset: Sequence = ()) -> Backbone:
    """The Backbone that `add_backbone`'s options name, for the images of `dataset`."""
    from mxelm.fused.job import usual_backbone
    args.checkpoint = args.checkpoint or usual_backbone(dataset)
    return read_backbone(args, **backbone_arguments(args))


def backbone_arguments(args: argparse.Namespace) -> dict:
    """What `add_backbone`'s options say, as arguments of `backbones.load`, JSON-able: preprocessing too, or None."""
    from mxelm.preprocessing import Preprocessing
    return {"prefix": args.checkpoint, "epoch": args.epoch, "cut": args.cut, "ctx": args.ctx,
            "pooling_convention": args.pooling,
            "preprocessing": Preprocessing.read(args.preprocessing).to_json() if args.preprocessing else None}


def read_backbone(args: argparse.Namespace, prefix: str, *, preprocessing: dict | None, **given: Any) -> Backbone:
    """The Backbone that `backbones.load` gives; preprocessing is JSON. It must not lie where --out is to be written."""
    from mxelm import backbones
    from mxelm.backbones.loading import resolve
    from mxelm.preprocessing import Preprocessing
    if Path(resolve(prefix)).resolve() == Path(args.out).resolve():
        raise InputError(f"--out {args.out} is the checkpoint that is read: choose another, or it would be overwritten")
    return backbones.load(prefix, **given, preprocessing=preprocessing and Preprocessing.from_json(preprocessing))


def place(find: Callable[[str], Any], name: str) -> str | None:
    """Where `find` finds what is called `name`, or None."""
    from mxelm.errors import FileError
    try:
        return str(find(name))
    except FileError:
        return None


def add_ctx(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ctx", default="cpu", help="cpu, gpu or gpu(1)")


def add_elm(parser: argparse.ArgumentParser) -> None:
    """W and the way of accumulation."""
    parser.add_argument("--neurons", type=positive, default=4096, help="hidden neurons L; fewer may be chosen later")
    parser.add_argument("--spread", type=float, default=1.0, help="standard deviation of XW, which sets W's scale")
    parser.add_argument("--seed", type=seed, default=0, help="of W and of splits")
    parser.add_argument("--like", metavar="STATE", help="use the W of this state")
    parser.add_argument("--method", choices=("blas", "paper"), default="blas", help="paper: float32, as printed")
    parser.add_argument("--interface", choices=("symbol", "gluon"), default="symbol",
                        help="MXNet's: a Module over a Symbol, or a hybridized Gluon block")
    parser.add_argument("--batch", type=positive, default=32, help="images a batch")


def projection(args: argparse.Namespace, backbone: Backbone, dataset: Dataset) -> Projection:
    """The W of --like, else a new one by --seed, calibrated on a sample of `dataset`."""
    from mxelm import fused
    if args.like:
        origin = fused.ELMState.load(args.like).origin
        if origin is None:
            raise InputError(f"{args.like} does not say which W it was made with")
        return origin.projection
    return fused.calibrate(backbone, dataset, args.neurons, spread=args.spread, seed=args.seed)


def load_state(path: str | os.PathLike) -> ELMState:
    """The ELMState in a file; a warning where the pass that writes it has not come to its end."""
    from mxelm.fused import ELMState
    state = ELMState.load(path)
    if state.progress and state.progress["done"] < state.progress["of"]:
        log.warning("%s holds %d of %d images: the rest comes with `mxelm accumulate --resume`", path,
                    state.progress["done"], state.progress["of"])
    return state


def readable(paths: Sequence[str]) -> tuple[Dataset, dict[str, str]]:
    """A Dataset of the image files that can be read, and {path: reason} of the others.

    Raises InputError where none can be read.
    """
    from mxelm.data.given import without_targets
    images, failed = without_targets(paths), {}
    for i, path in enumerate(images.ids):
        try:
            images.image(i)
        except MxelmError as error:
            failed[path] = str(error)
    kept = [i for i, path in enumerate(images.ids) if path not in failed]
    if not kept:
        raise InputError("; ".join(failed.values()))
    return images.take(kept), failed


def show_failed(result: dict) -> None:
    """Say on stderr which images could not be read."""
    for reason in result.get("failed", {}).values():
        print(f"mxelm: {reason}", file=sys.stderr)


def require_out(*files: str | os.PathLike) -> None:
    """Refuse, before hours of work, files that could not be written; say which are there and will be replaced.

    Every command but `accumulate`, whose pass may be meant to go on, replaces what is at --out, whole, at its end.
    """
    from mxelm.files import require_writable
    for file in files:
        require_writable(file)
        if Path(file).exists():
            log.warning("%s is there: it will be replaced", file)


def state_summary(state: ELMState) -> dict:
    """What there is to say of a state, JSON-able."""
    return {"n_samples": state.n_samples, "n_neurons": state.n_neurons, "n_outputs": state.HtY.shape[1],
            "bytes": state.nbytes}


def choice_summary(choice: Selection | None) -> dict | None:
    """What there is to say of a Selection, or of None where l2 was given, JSON-able."""
    return choice and {"criterion": choice.criterion, "best": choice.best, "models": int(choice.grid.size),
                       "edges": choice.edges}


def show_choice(result: dict) -> None:
    """How l2 and the number of neurons came about."""
    choice = result["choice"]
    model = f"l2 {result['l2']:g}, {result['n_neurons']} neurons"
    if choice is None:
        print(f"{model}, as given")
        return
    from mxelm.fused.selection import CRITERIA
    print(f"chosen of {choice['models']} models by {CRITERIA[choice['criterion']]}, {choice['best']:.4g}: {model}")
    if choice["edges"]:
        print(f"(at the edge of the grid, {' and '.join(choice['edges'])}: a better model may lie beyond)")


def show_skipped(result: dict) -> None:
    for name, reason in result["skipped"]:
        print(f"skipped {name}: {reason}")


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def above_zero(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def seed(text: str) -> int:
    """An argparse type: an integer from 0 to 2^32 - 1, which is what all of NumPy's generators take."""
    if not text.isdecimal() or int(text) >= 2 ** 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 4294967295")
    return int(text)


def prefix(text: str) -> str:
    """An argparse type: a path to which -symbol.json can be added."""
    if not os.path.basename(text):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in a name")
    return text


def shard(text: str) -> tuple[int, int]:
    """An argparse type: "2/5" as (2, 5)."""
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n with i from 1 to n, such as 2/5")
    return int(i), int(n)


def l2_value(text: str) -> float | str:
    """An argparse type: "auto" or a number >= 0."""
    if text == "auto":
        return text
    from mxelm.fused.solver import check_l2
    try:
        return check_l2(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from None
