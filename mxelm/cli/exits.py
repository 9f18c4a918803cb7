"""mxelm exits: a network that answers as soon as one of its exits is sure."""
from __future__ import annotations

import argparse
import warnings

from mxelm.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = options.actions(parser)
    costs = action("costs", "how much of the time has passed at each layer where a network can be left")
    costs.add_argument("checkpoint", metavar="CHECKPOINT", help="PREFIX of a checkpoint, or a known name")
    fit = action("fit", "train classifiers at the exits, and thresholds that keep a promise")
    options.add_data(fit)
    options.add_backbone(fit)
    fit.add_argument("--exits", default="auto", help="layers, with commas between, in order; auto: placed by cost")
    fit.add_argument("--classifier", choices=("svm", "lr", "ridge"), default="svm", help="at each exit")
    fit.add_argument("--rule", choices=("paper", "conformal", "pac", "risk"), default="risk", help="of the thresholds")
    fit.add_argument("--alpha", type=options.above_zero, help="false acceptance rate of all rules but risk (0.05)")
    fit.add_argument("--max-loss", type=options.above_zero, metavar="POINTS",
                     help="accuracy that may be lost against the whole network, in points, by the rule risk and where "
                          "exits are placed (0.5)")
    fit.add_argument("--certainty", type=options.above_zero, help="of what pac and risk promise (0.9)")
    fit.add_argument("--seed", type=options.seed, default=0, help="of splits and folds")
    fit.add_argument("--out", required=True, metavar="CASCADE", help="the folder to write")
    predict = action("predict", "what images show, and at which exit that was sure")
    predict.add_argument("cascade", metavar="CASCADE")
    predict.add_argument("images", metavar="IMAGE", nargs="+")
    curve = action("curve", "accuracy against time on labelled images: a CSV file and a picture; half of the images "
                            "lays out the thresholds, the other half is scored")
    curve.add_argument("cascade", metavar="CASCADE")
    options.add_data(curve)
    curve.add_argument("--out", default="curve", metavar="PREFIX", help="of PREFIX.csv and PREFIX.png")


def run(args: argparse.Namespace) -> dict:
    return {"costs": _costs, "fit": _fit, "predict": _predict, "curve": _curve}[args.action](args)


def _costs(args):
    from mxelm import backbones
    from mxelm.early_exit.placement import candidates
    from mxelm.pooling import mean
    chain, seconds = candidates(backbones.load(args.checkpoint), 20)
    features = [mean(maps).shape[1] for _, maps in chain.run(chain.noise(1))]
    return {"milliseconds": 1000 * seconds[-1], "layers": [
        {"layer": exit, "share": share, "features": count}
        for exit, share, count in zip(chain.exits, (seconds / seconds[-1]).tolist(), features)]}


def _fit(args):
    from sklearn.exceptions import ConvergenceWarning

    from mxelm import early_exit
    from mxelm.errors import InputError
    early_exit.require_place(args.out)
    if (args.max_loss or 0) >= 100:
        raise InputError(f"--max-loss is in points of accuracy and below 100, got {args.max_loss:g}")
    if args.alpha and args.rule == "risk":
        raise InputError("--alpha is of the other rules: risk goes by --max-loss")
    if args.max_loss and args.rule != "risk" and args.exits != "auto":
        raise InputError(f"--max-loss is of the rule risk and of exits that are placed: {args.rule} goes by --alpha")
    if args.certainty and args.rule in ("paper", "conformal"):
        raise InputError(f"--certainty is of the rules pac and risk: {args.rule} has none")
    given = {"alpha": args.alpha, "max_loss": args.max_loss and args.max_loss / 100, "certainty": args.certainty}
    recipe = early_exit.Recipe(args.classifier, args.rule, seed=args.seed,
                               **{name: value for name, value in given.items() if value})
    exits = args.exits if args.exits == "auto" else [exit.strip() for exit in args.exits.split(",")]
    dataset = options.load_data(args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # logistic regression stops after 60 steps
        cascade = early_exit.fit(options.load_backbone(args, dataset), dataset, exits, recipe=recipe,
                                 skip_bad=args.skip_bad, progress=options.progress(args))
    early_exit.save(cascade, args.out)
    return {"cascade": args.out, "classes": len(cascade.classes), "confidence": cascade.confidence,
            "exits": [{"layer": exit, "threshold": float(t) if abs(t) < float("inf") else None}
                      for exit, t in zip(cascade.chain.exits, cascade.thresholds)]}


def _predict(args):
    from mxelm import early_exit
    cascade = early_exit.load(args.cascade)
    images, failed = options.readable(args.images)
    found = cascade.answers(images.module_iter(32, cascade.chain.backbone.preprocessing, labels=False))
    return {"predictions": {path: {"class": cascade.classes[label], "exit": cascade.chain.exits[exit],
                                   "confidence": float(sure)}
                            for path, label, exit, sure in zip(images.ids, found.labels, found.exits,
                                                               found.confidences)},
            "confidence": cascade.confidence, "failed": failed, "exit_code": 1 if failed else 0}


def _curve(args):
    import csv
    import io

    import numpy as np

    from mxelm import early_exit
    from mxelm.early_exit.fitting import seconds_of
    from mxelm.early_exit.placement import curve
    from mxelm.early_exit.rules import path
    from mxelm.errors import InputError
    from mxelm.files import write_text
    from mxelm.reporting.plots import curves
    cascade, images = early_exit.load(args.cascade), options.load_data(args)
    if images.kind != "classes" or len(images) < 4:
        raise InputError(f"a curve needs four or more images with classes; {images.name} has {len(images)}")
    judged = cascade.judged(images, skip_bad=args.skip_bad, progress=options.progress(args))
    rows = np.random.default_rng(0).permutation(len(judged.y))
    half = len(rows) // 2
    known, scored, up_to = judged.take(rows[:half]), judged.take(rows[half:]), seconds_of(cascade.chain)
    seconds, accuracies = curve(known, scored, up_to)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["milliseconds", "accuracy", *(f"threshold at {exit}" for exit in cascade.chain.exits[:-1])])
    lines.writerows([f"{1000 * s:.6g}", f"{a:.6g}", *(f"{one:.6g}" for one in t[:-1])]
                    for s, a, t in zip(seconds, accuracies, path(known, up_to, net=True)))
    write_text(f"{args.out}.csv", text.getvalue())
    curves(f"{args.out}.png", {cascade.chain.backbone.name: (1000 * seconds, 100 * accuracies)},
           xlabel="mean time an image (ms)", ylabel="accuracy (%)")
    return {"csv": f"{args.out}.csv", "picture": f"{args.out}.png", "points": len(seconds), "images": len(rows) - half}


def show(result: dict) -> None:
    if "layers" in result:
        print(f"{result['milliseconds']:.2f} ms an image; up to a selection of layers, spaced evenly in time:")
        for entry in result["layers"]:
            print(f"  {entry['share']:6.1%}  {entry['features']:5d} features  {entry['layer']}")
    elif "predictions" in result:
        options.show_failed(result)
        for path, found in result["predictions"].items():
            print(f"{path}: {found['class']} ({found['confidence']:.3g} at {found['exit']})")
        what = "best score less the second best" if result["confidence"] == "margin" else "best score"
        print(f"({what} of the classifier at that exit: what its threshold is compared with, no probability; all leave "
              "at the last)")
    elif "csv" in result:
        print(f"wrote {result['csv']} and {result['picture']}: {result['points']} points on {result['images']} images")
    else:
        print(f"wrote {result['cascade']}: {result['classes']} classes")
        for entry in result["exits"][:-1]:
            leaves = "nobody leaves" if entry["threshold"] is None else f"leaves above {entry['threshold']:.3g}"
            print(f"  {entry['layer']}: {leaves} ({result['confidence']})")
