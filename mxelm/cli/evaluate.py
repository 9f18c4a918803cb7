"""mxelm evaluate: how good a trained checkpoint is on images that it has not seen."""
from __future__ import annotations

import argparse
import csv
import io

from mxelm.cli import options
from mxelm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="PREFIX of a checkpoint that `mxelm fit` wrote, or of any "
                                                       "network whose PREFIX.json names its classes")
    options.add_data(parser)
    parser.add_argument("--out", type=options.prefix, metavar="PREFIX",
                        help="write PREFIX.csv and PREFIX.png, the confusion matrix")
    options.add_ctx(parser)


def run(args: argparse.Namespace) -> dict:
    """Figures of every image that can be read; the exit code is 1 where one cannot, unless it was said to skip it."""
    from mxelm.files import write_text
    if args.out:
        options.require_out(f"{args.out}.csv", f"{args.out}.png")
    from mxelm.fused import Predictor
    from mxelm.fused.evaluation import evaluate
    predictor = Predictor.load(args.model, args.ctx)
    if args.out and predictor.kind != "classes":
        raise InputError(f"{args.model} was trained on {predictor.kind}: without classes there is no confusion matrix "
                         "to write to --out")
    result, confusion = evaluate(predictor, options.load_data(args), skip_bad=True, progress=options.progress(args))
    result["exit_code"] = 1 if result["skipped"] and not args.skip_bad else 0
    if confusion is not None:
        result["confusion"] = {"classes": predictor.classes, "counts": confusion.tolist()}
    if args.out:
        from mxelm.reporting.plots import confusion_matrix
        write_text(f"{args.out}.csv", _csv(confusion, predictor.classes))
        confusion_matrix(f"{args.out}.png", confusion, predictor.classes)
        result["files"] = [f"{args.out}.csv", f"{args.out}.png"]
    return result


def _csv(confusion, classes):
    """Rows are true classes, columns predicted ones."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["true \\ predicted", *classes])
    writer.writerows([name, *map(int, row)] for name, row in zip(classes, confusion))
    return text.getvalue()


def show(result: dict) -> None:
    options.show_skipped(result)
    for name, value in result.get("per_class", {}).items():
        print(f"  {value:7.2%}  {name}")
    if "accuracy" in result:
        print(f"accuracy {result['accuracy']:.2%}, mean of classes {result['mean_per_class']:.2%}, "
              f"{result['n_samples']} images")
        if result["calibration_error"] is not None:
            print(f"confidences are off by {result['calibration_error']:.2%} in the mean")
    else:
        if "exact_match" in result:
            print(f"labels right {result['label_accuracy']:.2%}, images with all labels right "
                  f"{result['exact_match']:.2%}")
        print(f"mean squared error {result['mse']:.5g}, R2 {result['r2']:.4f}, {result['n_samples']} images")
    for path in result.get("files", []):
        print(f"wrote {path}")
