"""Paper 3: gradually updated networks on CIFAR-10; what the report's, the original and their controls are worth.

    python experiments/gunn.py params              figure 6 and the original's counts
    python experiments/gunn.py speed               the fast forms against the step-by-step ones, time and memory
    python experiments/gunn.py checkpoint          the checkpoint that the report calls impossible
    python experiments/gunn.py train plain         one of the runs below; --seeds 0 1 2, --resume, --work FOLDER
    python experiments/gunn.py train plain --quick the same on digits in a minute, written elsewhere

Question: is a network whose layers update their channels gradually better than its simultaneous control (SUNN), and
what did the report measure? Runs of `train`:

    plain           the report's network with ReLU between the dense layers, augmented, with a schedule
    sunn            its control: the same parameters, every step reads the untouched input
    original        the original's GUNN-15, which has weights for every step
    original_sunn   its control
    printed         the report's network and recipe as printed (softmax between the dense layers)
    printed_plain   the same recipe and number of epochs with ReLU there: what the softmax costs
    as_published    printed, with the label rows that the published code makes
    batchnorm       one epoch of printed_plain, scored with the report's running statistics, which lag, and with settled
                    ones: what the lag costs
    ten             the original's GUNN-15 on all ten classes: 49,500 images, and the other 500 watched; four epochs
                    of images of 16x16, one of 24x24, one of 32x32, since that is what a few hours have room for

Protocol: classes airplane, automobile and bird; their first 5,000 training images; recipes fixed in advance, the last
epoch is scored, once, on all 3,000 test images (the first 100 of them are the report's); batchnorm and printed_plain
score their weights with settled statistics as well, and choose nothing by it. 500 further training images are watched,
and decide nothing, but when to stop with --patience. Images are normalised a channel where they are augmented, else by
the report's one scalar. Finished seeds and their curves (RUN.png) are kept in --work; --resume takes up those, and the
seeds in the result file whose rows hold accuracies. `sunn` and `original_sunn` say what the gradual run with the same
seed gains, where --work holds it. A call that changes a run (--epochs 3) has files of its own there; one whose rows
would replace those of other seeds, or of more epochs, is refused. Source: Radhakrishnan, sections 4 to 7.
"""
import argparse
import logging
import shlex
from pathlib import Path

import gunn_rows
import gunn_runs as runs
import gunn_speed
import numpy as np
from ending import in_sentences

from mxelm import gunn
from mxelm.backbones.gluon import count_parameters
from mxelm.cli import options
from mxelm.errors import InputError
from mxelm.files import make_folder
from mxelm.gunn import tasks
from mxelm.reporting import results
from mxelm.runtime import mx
from mxelm.training import fit, steps

RESULTS = Path("experiments/results/gunn.json")


def train(args):
    """One run over its seeds; rows of its accuracies, and the learning curves as a picture in --work."""
    settings = {**runs.RUNS[args.run], **args.changed}
    if args.not_run:
        return gunn_rows.not_run(args)
    if settings["network"] == "original" and (settings["head"] != "plain" or args.run in gunn_rows.TRAPS):
        raise InputError("the original's network ends in one linear layer and has its own BatchNorm: --head printed, "
                         f"{' and '.join(gunn_rows.TRAPS)} are for the report's alone")
    if settings["network"] == "report":
        settings.pop("sizes", None)  # its last pooling takes 8x8 places
    if args.quick:
        settings.update(images=min(settings["images"], 100), epochs=min(settings["epochs"], 2),
                        batch=min(settings["batch"], 25))
    make_folder(args.work)
    if args.resume and not args.quick:
        gunn_rows.take_up(args)
    gunn_rows.require_no_loss(args, settings)
    figures = []
    for seed in args.seeds:
        figures.append(runs.finished(args.run, settings, seed, args))
        logging.info("%s, seed %d: %.2f %% of the test images", args.run, seed, 100 * figures[-1]["test3000"])
    gunn_rows.draw_curves(args, figures)
    gunn_rows.require_no_loss(args, settings)  # nor what another process has written in the meantime
    return gunn_rows.ROWS.get(args.run, gunn_rows.accuracy_rows)(args, settings, figures)


def params(args):
    """Figure 6 row by row, and the original's totals; nothing is trained."""
    network = gunn.gunn15(3, "printed", "step-by-step")
    total = count_parameters(network)
    counts = {**{f"gunn.params.{row['layer']}": row["parameters"] for row in gunn.summary(network)},
              **{f"gunn.params.{name}": count for name, count in total.items()},
              "gunn.original.params.15": count_parameters(gunn.original_gunn15(10))["trainable"],
              "gunn.original.params.15_100": count_parameters(gunn.original_gunn15(100))["trainable"],
              "gunn.original.params.18": count_parameters(gunn.original_gunn18())["trainable"]}
    return [results.row(id, count, "parameters", "none", command=args.command) for id, count in counts.items()]


def checkpoint(args):
    """A network trained a little, saved, and read again in four ways: the largest difference."""
    settings = {**runs.REPORT, "images": 100 if args.quick else 500, "epochs": 1, "batch": 25}
    make_folder(args.work)
    task, preprocessing = runs.load_task(settings, args)
    network = runs.build(settings, 0)
    fit(network, task.train.gluon_loader(settings["batch"], preprocessing, shuffle=0), 1, steps(1e-3, ()),
        optimizer="adam", progress=True)
    x = next(iter(task.test.gluon_loader(32, preprocessing)))[0]
    prefix = str(args.work / "checkpoint")
    gunn.save(network, prefix, preprocessing, task.train.classes)
    network.save_parameters(f"{prefix}.gluon")
    expected, found = network(x).asnumpy(), {}
    for layer in ("fast", "step-by-step"):
        other = gunn.gunn15(3, "plain", layer, seed=1)
        other.load_parameters(f"{prefix}.gluon")
        found[f"load_parameters, {layer}"] = other(x).asnumpy()
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(arg_params, aux_params)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    found["mx.model.load_checkpoint"] = module.get_outputs()[0].asnumpy()
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    found["SymbolBlock"] = block(x).asnumpy()
    differences = {name: float(np.abs(scores - expected).max() / np.abs(expected).max())
                   for name, scores in found.items()}
    return [results.row("gunn.checkpoint_agreement", max(differences.values()), "ratio", "lower", command=args.command,
                        conditions={"differences": differences, "images": len(x),
                                    "what": "largest difference of the scores, relative to the largest score"})]


OVERRIDES = {  # of a run's settings: what each is
    "network": "the report's or the original's", "head": "ReLU or, as printed, softmax between the dense layers",
    "layer": "how the channels are updated", "labels": "of the images", "classes": "the first so many of the ten",
    "images": "the first so many of these classes", "epochs": "of the training", "batch": "images a step",
    "augmentation": "of the training images", "schedule": "of the learning rate", "peak": "highest learning rate",
    "patience": "stop after so many epochs without a gain on the watched images"}
CHOICES = {"network": ("report", "original"), "head": ("plain", "printed"), "labels": tasks.LABELS,
           "layer": ("fast", "step-by-step", "sunn"), "augmentation": tuple(runs.AUGMENTATIONS),
           "schedule": tuple(runs.SCHEDULES)}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command_name", metavar="params|speed|checkpoint|train", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, default=Path("gunn-work"),
                        help="folder for checkpoints and finished seeds; `train --resume` goes on from it")
    common.add_argument("--data", help="folder of CIFAR-10 (default: MXELM_DATA and the cache)")
    common.add_argument("--quick", action="store_true", help="digits, and few steps; written to quick.json in --work")
    common.add_argument("--out", type=Path, help="result file (default: experiments/results/gunn.json)")
    for name in ("params", "speed", "checkpoint", "train"):
        command = commands.add_parser(name, parents=[common], help=COMMANDS[name].__doc__)
    command.add_argument("run", choices=tuple(runs.RUNS), help="what to train; `gunn.py --help` tells what each is")
    command.add_argument("--seeds", type=options.seed, nargs="+", default=[0],
                         help="each a run of its own (default: 0)")
    command.add_argument("--resume", action="store_true", help="keep finished seeds, also those of the result file, "
                         "and go on from the last whole epoch")
    command.add_argument("--not-run", metavar="WHY", help="train nothing: write the run's rows without a figure")
    changes = command.add_argument_group("instead of the run's own settings", "with a real set these need --out")
    for name, what in OVERRIDES.items():
        kind = type(runs.REPORT.get(name, 1))
        changes.add_argument(f"--{name}", type={int: options.positive, float: options.above_zero}.get(kind, kind),
                             choices=CHOICES.get(name), help=what,
                             metavar="{" + ", ".join(map(repr, CHOICES[name])) + "}" if name in CHOICES else None)
    args = parser.parse_args(argv)
    args.changed = {}
    if args.command_name == "train":
        given = {name: getattr(args, name) for name in OVERRIDES if getattr(args, name) is not None}
        args.changed = {name: value for name, value in given.items() if value != runs.RUNS[args.run].get(name)}
        if len(set(args.seeds)) < len(args.seeds):
            parser.error(f"seeds: each once, not {' '.join(map(str, args.seeds))}")
    if args.changed and not (args.quick or args.out):
        parser.error(f"with --{next(iter(args.changed))} it is another run than {args.run}: "
                     "name a result file with --out")
    args.command = " ".join(["python experiments/gunn.py", args.command_name, *(
        [args.run, "--seeds", *map(str, args.seeds)] if args.command_name == "train" else []),
        *(f"--{name} {shlex.quote(str(value))}" for name, value in args.changed.items()),
        *(["--quick"] if args.quick else ["--out FILE"] if args.changed else [])])
    return args


COMMANDS = {"params": params, "speed": gunn_speed.run, "checkpoint": checkpoint, "train": train}


def main(argv=None):
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.out = args.out or (args.work / "quick.json" if args.quick else RESULTS)
    results.require_writable(args.out, "gunn")
    rows = COMMANDS[args.command_name](args)
    for row in rows:
        print(results.line(row))
    results.write(args.out, "gunn", rows)
    if args.quick and args.command_name != "params":
        print("quick: a trial of the script under the table's names, no figures")


if __name__ == "__main__":
    with in_sentences("`train` goes on from its last whole epoch with --resume"):
        main()
