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
    batchnorm       one epoch of the report's network with the plain head, as it is and with the report's running
                    statistics, which lag
    ten             the original's GUNN-15 on all ten classes: 49,500 images, and the other 500 watched

Protocol: classes airplane, automobile and bird; their first 5,000 training images; recipes fixed in advance, the last
epoch is scored, once, on all 3,000 test images (the first 100 of them are the report's). 500 further training images
are watched, and decide nothing, but when to stop with --patience. Images are normalised a channel where they are
augmented, else by the report's one scalar. Finished seeds and their curves (RUN.png) are kept in --work; `sunn` and
`original_sunn` say what the gradual run with the same seed gains, where --work holds it. A call that changes a run
(--epochs 3) has files of its own there. Source: Radhakrishnan, sections 4 to 7.
"""
import argparse
import logging
import shlex
import sys
from pathlib import Path

import gunn_speed
import numpy as np

from mxelm import data, gunn
from mxelm.cli import options
from mxelm.errors import InputError, MxelmError
from mxelm.files import make_folder, read_json, require_writable, write_json
from mxelm.gunn import tasks
from mxelm.reporting import plots, results
from mxelm.runtime import mx
from mxelm.training import class_numbers, fit, flip_and_crop, steps, warmup_linear

ADAM = {"optimizer": "adam", "settings": {"epsilon": 1e-7}}  # Keras's epsilon
NESTEROV = {"optimizer": "nag", "settings": {"momentum": 0.9, "wd": 5e-4}}
REPORT = {
    "network": "report", "head": "plain", "layer": "fast", "labels": "real", "classes": 3, "images": 5000,
    "epochs": 14, "batch": 50, **ADAM, "peak": 1e-3, "schedule": "warmup-linear", "augmentation": "flip and crop",
    "momentum": 0.9,  # of BatchNorm's running statistics
}
PRINTED = {**REPORT, "head": "printed", "epochs": 50, "peak": 1e-3, "schedule": "constant", "augmentation": "none",
           "momentum": 0.99}
ORIGINAL = {**REPORT, "network": "original", **NESTEROV, "peak": 0.1}
RUNS = {
    "plain": REPORT,
    "sunn": {**REPORT, "layer": "sunn"},
    "original": ORIGINAL,
    "original_sunn": {**ORIGINAL, "layer": "sunn"},
    "printed": PRINTED,
    "printed_plain": {**PRINTED, "head": "plain"},
    "as_published": {**PRINTED, "labels": "as-published"},
    "batchnorm": {**REPORT, "epochs": 1, "augmentation": "none", "schedule": "constant", "peak": 1e-3},
    "ten": {**ORIGINAL, "classes": 10, "images": 49500, "batch": 100, "epochs": 6},
}
REPORTS_ALONE = ("printed_plain", "batchnorm")  # whose question the original's network does not ask
CONTROLS = {"sunn": "plain", "original_sunn": "original"}  # a simultaneous run -> the gradual one beside it
WATCHED = 500  # training images of the same classes beyond those trained on
SCHEDULES = {"warmup-linear": lambda peak: warmup_linear(peak, 0.15), "steps": steps,
             "constant": lambda peak: steps(peak, ())}
AUGMENTATIONS = {"none": None, "flip and crop": flip_and_crop, "flip, crop and cycle": tasks.flip_crop_and_cycle}


def build(settings, seed):
    """The network of a run, initialised from `seed`, compiled."""
    if settings["network"] == "original":
        network = gunn.original_gunn15(settings["classes"], settings["layer"], seed)
    else:
        network = gunn.gunn15(settings["classes"], settings["head"], settings["layer"], settings["momentum"], seed)
    network.hybridize(static_alloc=True, static_shape=True)
    return network


def load_task(settings, args):
    """(Task, Preprocessing) of a run."""
    if args.quick:
        train, test = data.load("digits").split(0.3)
        watched = 30
    else:
        train, test = (data.load("cifar10", root=args.data, split=part) for part in ("train", "test"))
        watched = WATCHED
    preprocessing = tasks.PER_CHANNEL if per_channel(settings, args) else tasks.one_scalar(train)
    return tasks.task(train, test, range(settings["classes"]), settings["images"], watched,
                      settings["labels"]), preprocessing


def per_channel(settings, args):
    """Whether a run normalises each channel by itself, as the original does, or all by the report's one scalar."""
    return settings["augmentation"] != "none" or args.quick


def one_seed(name, settings, seed, args):
    """Train one network and score it once; a dict of figures."""
    task, preprocessing = load_task(settings, args)
    network, prefix = build(settings, seed), args.work / f"{stem(name, args)}-{seed}"
    rows = settings["labels"] == "as-published"
    history = fit(
        network, task.train.gluon_loader(settings["batch"], preprocessing, shuffle=seed,
                                         augment=AUGMENTATIONS[settings["augmentation"]]),
        settings["epochs"], SCHEDULES[settings["schedule"]](settings["peak"]), settings["optimizer"],
        settings["settings"], mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not rows),
        task.validation.gluon_loader(250, preprocessing), f"{prefix}.state", args.resume, seed, progress=True,
        patience=settings.get("patience"), any_rows=rows)
    gunn.save(network, prefix, preprocessing, task.train.classes, trained_as=settings)
    answers = decide(network, task.test, preprocessing)
    right = answers == class_numbers(task.test.targets)
    always, share = tasks.constant_answer(task.test.targets, settings["classes"])
    few = task.test.targets[:100]
    return {"seed": seed, "test3000": float(right.mean()), "test100": float(right[:100].mean()),
            "answers": np.bincount(answers, minlength=settings["classes"]).tolist(),
            "answers_of_the_first_100": np.bincount(answers[:100], minlength=settings["classes"]).tolist(),
            "constant_answer": [always, share],
            "constant_answer_of_the_first_100": tasks.constant_answer(few, settings["classes"]),
            "minutes": sum(entry["seconds"] for entry in history) / 60, "history": history}


def decide(network, dataset, preprocessing):
    """The class of the highest score for each image, int64 (n,)."""
    return np.concatenate([network(x).asnumpy().argmax(axis=1) for x, _ in dataset.gluon_loader(250, preprocessing)])


def stem(name, args):
    """How a run's files in --work begin: what a call changes is in it, so that no run takes up or replaces another."""
    return "".join([name, *(f",{key}={value}" for key, value in args.changed.items()), ",quick" if args.quick else ""])


def finished(name, settings, seed, args):
    """The figures of one seed: those that --work holds with --resume, else `one_seed`'s, which are left there."""
    file = args.work / f"{stem(name, args)}-{seed}.figures.json"
    if not (args.resume and file.exists() and read_json(file)["settings"] == settings):
        file.unlink(missing_ok=True)  # else an interrupted run would leave its checkpoint beside another one's figures
        commit = results.commit()
        write_json(file, {"settings": settings, "git": commit, **one_seed(name, settings, seed, args)})
    return read_json(file)


def beside(name, settings, figures, args):
    """The same seeds of a run that another one is compared with; what --work holds of it is never done again."""
    return [finished(name, settings, f["seed"], argparse.Namespace(**{**vars(args), "resume": True})) for f in figures]


def train(args):
    """One run over its seeds; rows of its accuracies, and the learning curves as a picture in --work."""
    settings = {**RUNS[args.run], **args.changed}
    if args.not_run:
        return not_run(args)
    if settings["network"] == "original" and (settings["head"] != "plain" or args.run in REPORTS_ALONE):
        raise InputError("the original's network ends in one linear layer and has its own BatchNorm: --head printed, "
                         f"{' and '.join(REPORTS_ALONE)} are for the report's alone")
    if args.quick:
        settings.update(images=min(settings["images"], 100), epochs=min(settings["epochs"], 2),
                        batch=min(settings["batch"], 25))
    make_folder(args.work)
    figures = []
    for seed in args.seeds:
        figures.append(finished(args.run, settings, seed, args))
        logging.info("%s, seed %d: %.2f %% of the test images", args.run, seed, 100 * figures[-1]["test3000"])
    draw_curves(args, figures)
    return ROWS.get(args.run, accuracy_rows)(args, settings, figures)


def not_run(args):
    """The rows of a run for which there was no time: no value, and why."""
    classes = RUNS[args.run]["classes"]
    ids = ["gunn.10class"] if args.run == "ten" else [f"gunn.{classes}class.{args.run}.{which}"
                                                      for which in ("test3000", "test100")]
    return [results.row(id, None, "%", "higher", command=args.command, conditions={
        **RUNS[args.run], "reason": f"not run: {args.not_run}"}) for id in ids]


def draw_curves(args, figures):
    """RUN.png in --work: accuracy on the training images (a mean over the epoch) and on those that are watched."""
    lines, by_time = {}, args.run == "ten"
    for f in figures:
        epochs = np.arange(1, len(f["history"]) + 1)
        x = np.cumsum([entry["seconds"] for entry in f["history"]]) / 60 if by_time else epochs
        for key, images in (("accuracy", "training"), ("validation_accuracy", "watched")):
            lines[f"seed {f['seed']}, {images} images"] = x, [100 * entry[key] for entry in f["history"]]
    plots.curves(args.work / f"{stem(args.run, args)}.png", lines, "training time / minutes" if by_time else "epochs",
                 "accuracy / %")


def accuracy_rows(args, settings, figures):
    """The accuracies of a run on all and on the first 100 test images."""
    return [accuracy_row(args, settings, figures, f"gunn.{settings['classes']}class.{args.run}.{which}", which)
            for which in ("test3000", "test100")]


def accuracy_row(args, settings, figures, id, which, **conditions):
    """The row of one accuracy, with all that tells how it came about."""
    values = 100 * np.array([f[which] for f in figures])
    kept = ("seed", "git", "test3000", "test100", "answers", "answers_of_the_first_100", "constant_answer",
            "constant_answer_of_the_first_100", "minutes")
    conditions |= cut_short(args, settings, figures, conditions.get("reason"))
    conditions["normalisation"] = "a channel" if per_channel(settings, args) else "one scalar"
    conditions = {**settings, **conditions, "seeds": [{key: f[key] for key in kept} for f in figures], "curves": [
        [[round(e[key], 4) for key in ("loss", "accuracy", "validation_accuracy")] for e in f["history"]]
        for f in figures]}
    row = results.row(id, values.mean(), "%", "higher", std=values.std(ddof=1) if len(values) > 1 else None,
                      n=len(values), command=args.command, seconds=60 * sum(f["minutes"] for f in figures),
                      conditions=conditions)
    return {**row, "git": trained_at(figures)}


def trained_at(figures):
    """The commits that the seeds were trained with, which may be older than the one that writes the row."""
    return ", ".join(dict.fromkeys(f["git"] or "unknown" for f in figures))


def cut_short(args, settings, figures, *reasons):
    """{"reason": why a run is less than it should be}, or nothing."""
    reasons, whole = [reason for reason in reasons if reason], RUNS[args.run]["epochs"]
    other = {key: value for key, value in args.changed.items() if key not in ("epochs", "patience")}
    if other:
        reasons.append(f"another run than {args.run}: " + ", ".join(f"{key} {value}" for key, value in other.items()))
    if settings["epochs"] < whole:
        reasons.append(f"{settings['epochs']} of {whole} epochs: what there was time for")
    if any(len(f["history"]) < settings["epochs"] for f in figures):
        reasons.append(f"stopped early, after {', '.join(str(len(f['history'])) for f in figures)} epochs")
    return {"reason": "; ".join(reasons)} if reasons else {}


def control_rows(args, settings, figures):
    """The control's accuracies, and the points by which the gradual run is better with the same seeds."""
    gradual = CONTROLS[args.run]
    wanted, pairs = {**settings, "layer": RUNS[gradual]["layer"]}, []
    for f in figures:
        file = args.work / f"{stem(gradual, args)}-{f['seed']}.figures.json"
        other = read_json(file) if file.exists() else None
        if other and other["settings"] == wanted:
            pairs.append((other, f))
    gains = np.array([100 * (other["test3000"] - f["test3000"]) for other, f in pairs])
    few = "" if len(pairs) > 2 else f"{len(pairs)} seed{'s' * (len(pairs) != 1)} of both: what there was time for"
    conditions = {**settings, "what": f"points of {gradual} less points of {args.run}, all test images, seed by seed",
                  "seeds": [f["seed"] for _, f in pairs], "by_seed": gains.tolist(),
                  **cut_short(args, settings, figures, few)}
    row = results.row(f"gunn.{settings['classes']}class.{args.run}.gain", gains.mean() if len(pairs) else None, "%",
                      "none", std=gains.std(ddof=1) if len(pairs) > 1 else None, n=max(len(pairs), 1),
                      command=args.command, conditions=conditions)
    return [*accuracy_rows(args, settings, figures), {**row, "git": trained_at([f for pair in pairs for f in pair])}]


def printed_rows(args, settings, figures):
    """The printed recipe's accuracies, those on its training images too, of which the report prints last and best."""
    rows = accuracy_rows(args, settings, figures)
    for id, call in (("train_last", lambda curve: curve[-1]), ("train_best", max)):
        found = [{**f, id: call([entry["accuracy"] for entry in f["history"]])} for f in figures]
        rows.append(accuracy_row(args, settings, found, f"gunn.{settings['classes']}class.printed.{id}", id))
    return rows


def ten_rows(args, settings, figures):
    curve = [[round(np.cumsum([e["seconds"] for e in f["history"]])[i] / 60, 2), e["validation_accuracy"]]
             for f in figures for i, e in enumerate(f["history"])]
    reason = (f"{len(figures[0]['history'])} epochs on a processor, where the original trained 300 on four GPUs, and "
              "kept the epoch with the best test error")
    return [accuracy_row(args, settings, figures, "gunn.10class", "test3000", minutes_and_validation_accuracy=curve,
                         test_images=sum(figures[0]["answers"]), reason=reason)]


def published_rows(args, settings, figures):
    task = f"gunn.{settings['classes']}class"
    constant = {f"constant_answer.{name}": figure for name, figure in constant_answers(args, settings).items()}
    rows = [accuracy_row(args, settings, figures, f"{task}.as_published.test100", "test100")]
    return rows + [results.row(f"{task}.{name}", 100 * figure, "%", "none", command=args.command,
                               conditions={"test_images": 100}) for name, figure in constant.items()]


def constant_answers(args, settings):
    """How often one answer for all is right on the report's 100 test images, by its labels and by the real ones."""
    found = {}
    for name in tasks.LABELS:
        task, _ = load_task({**settings, "labels": name}, args)
        found[name.replace("-", "_")] = tasks.constant_answer(task.test.targets[:100], settings["classes"])[1]
    return found


def batchnorm_rows(args, settings, figures):
    """The same weights, bit for bit, with running statistics that lag less: what the lag costs after an epoch."""
    late = beside("batchnorm-lagging", {**settings, "momentum": 0.99}, figures, args)
    return [lost_row(args, settings, "gunn.batchnorm.running_statistics", "points lost with momentum 0.99",
                     {"accuracy_with_0.9": figures, "accuracy_with_0.99": late}, momenta=[0.9, 0.99])]


def softmax_rows(args, settings, figures):
    """Points that the softmax between the dense layers costs: `printed` with the same seeds and epochs beside it."""
    with_softmax = beside("printed", {**settings, "head": "printed"}, figures, args)
    return [lost_row(args, settings, "gunn.softmax_head", "points lost to softmax between the dense layers",
                     {"plain": figures, "softmax": with_softmax})]


def lost_row(args, settings, id, what, sides, **conditions):
    """The row of what the second of two sides loses, seed by seed, on all test images."""
    accuracies = {name: [f["test3000"] for f in figures] for name, figures in sides.items()}
    better, worse = accuracies.values()
    lost, figures = 100 * (np.array(better) - np.array(worse)), next(iter(sides.values()))
    row = results.row(id, lost.mean(), "%", "lower", n=len(lost), std=lost.std(ddof=1) if len(lost) > 1 else None,
                      command=args.command, conditions={
                          **settings, **conditions, **cut_short(args, settings, figures), "what": what, **accuracies,
                          "seeds": [f["seed"] for f in figures]})
    return {**row, "git": trained_at([f for side in sides.values() for f in side])}


ROWS = {"ten": ten_rows, "as_published": published_rows, "batchnorm": batchnorm_rows, "printed_plain": softmax_rows,
        "printed": printed_rows, **dict.fromkeys(CONTROLS, control_rows)}


def params(args):
    """Figure 6 row by row, and the original's totals; nothing is trained."""
    network = gunn.gunn15(3, "printed", "step-by-step")
    total = gunn.count_parameters(network)
    counts = {**{f"gunn.params.{row['layer']}": row["parameters"] for row in gunn.summary(network)},
              **{f"gunn.params.{name}": count for name, count in total.items()},
              "gunn.original.params.15": gunn.count_parameters(gunn.original_gunn15(10))["trainable"],
              "gunn.original.params.15_100": gunn.count_parameters(gunn.original_gunn15(100))["trainable"],
              "gunn.original.params.18": gunn.count_parameters(gunn.original_gunn18())["trainable"]}
    return [results.row(id, count, "parameters", "none", command=args.command) for id, count in counts.items()]


def checkpoint(args):
    """A network trained a little, saved, and read again in four ways: the largest difference."""
    settings = {**REPORT, "images": 100 if args.quick else 500, "epochs": 1, "batch": 25}
    make_folder(args.work)
    task, preprocessing = load_task(settings, args)
    network = build(settings, 0)
    fit(network, task.train.gluon_loader(settings["batch"], preprocessing, shuffle=0), 1, steps(1e-3, ()), "adam",
        progress=True)
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


OVERRIDES = ("network", "head", "layer", "labels", "classes", "images", "epochs", "batch", "augmentation", "schedule",
             "peak", "patience")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command_name", metavar="params|speed|checkpoint|train", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, default=Path("gunn-work"),
                        help="folder for checkpoints and finished seeds; a second call with --resume goes on from it")
    common.add_argument("--data", help="folder of CIFAR-10 (default: MXELM_DATA and the cache)")
    common.add_argument("--quick", action="store_true", help="digits, and few steps; written to quick.json in --work")
    common.add_argument("--out", type=Path, help="result file (default: experiments/results/gunn.json)")
    for name in ("params", "speed", "checkpoint", "train"):
        command = commands.add_parser(name, parents=[common], help=COMMANDS[name].__doc__)
    command.add_argument("run", choices=tuple(RUNS))
    command.add_argument("--seeds", type=options.seed, nargs="+", default=[0])
    command.add_argument("--resume", action="store_true", help="keep finished seeds, go on from the last whole epoch")
    command.add_argument("--not-run", metavar="WHY", help="train nothing: write the run's rows without a figure")
    for name in OVERRIDES:
        kind = type(REPORT.get(name, 1))
        choices = {"network": ("report", "original"), "head": ("plain", "printed"), "labels": tasks.LABELS,
                   "layer": ("fast", "step-by-step", "sunn"), "augmentation": tuple(AUGMENTATIONS),
                   "schedule": tuple(SCHEDULES)}.get(name)
        command.add_argument(f"--{name}", type=options.positive if kind is int else kind, choices=choices, help=(
            "stop after so many epochs without a gain on the watched images" if name == "patience" else
            "instead of the run's own") + "; needs --out")
    args = parser.parse_args(argv)
    args.changed = {}
    if args.command_name == "train":
        given = {name: getattr(args, name) for name in OVERRIDES if getattr(args, name) is not None}
        args.changed = {name: value for name, value in given.items() if value != RUNS[args.run].get(name)}
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
    out = args.out or (args.work / "quick.json" if args.quick else Path("experiments/results/gunn.json"))
    make_folder(out.parent)
    require_writable(out)  # before hours of work
    rows = COMMANDS[args.command_name](args)
    for row in rows:
        print(results.line(row))
    results.write(out, "gunn", rows)


if __name__ == "__main__":
    try:
        main()
    except MxelmError as error:
        sys.exit(f"gunn.py: {error}")
    except KeyboardInterrupt:
        sys.exit("gunn.py: interrupted; `train` goes on from its last whole epoch with --resume")
