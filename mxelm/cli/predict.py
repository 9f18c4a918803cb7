"""mxelm predict: the best classes of images."""
from __future__ import annotations

import argparse
import csv
import io
import os
import sys

from mxelm.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="PREFIX of a checkpoint that `mxelm fit` wrote, or of any "
                                                       "network whose PREFIX.json names its classes")
    parser.add_argument("images", metavar="IMAGE", nargs="+",
                        help="image files; of a folder all files below it, answered in a CSV")
    parser.add_argument("--top", type=options.positive, default=5, help="how many classes to name")
    parser.add_argument("--out", metavar="FILE", help="write the answers here, as CSV")
    options.add_ctx(parser)


def run(args: argparse.Namespace) -> dict:
    """Answers of every image that can be read; the exit code is 1 where one cannot."""
    from mxelm.backbones.features import features_of
    from mxelm.data.given import without_targets
    from mxelm.files import write_text
    from mxelm.fused import Predictor
    if args.out:
        options.require_out(args.out)
    predictor = Predictor.load(args.model, args.ctx)
    images = without_targets(args.images)
    scores, rows, skipped = features_of(predictor.network, images, skip_bad=True, progress=options.progress(args),
                                        description="predict")
    answers = {images.ids[row]: _answers(predictor, one, args.top) for row, one in zip(rows, scores)}
    result = {"kind": predictor.kind, "temperature": predictor.temperature, "predictions": answers,
              "failed": dict(skipped), "csv": any(map(os.path.isdir, args.images)), "exit_code": 1 if skipped else 0}
    if args.out:
        write_text(args.out, _csv(result))
        result["file"] = args.out
    return result


def _answers(predictor, scores, top):
    """[[name, score, confidence or None], ...] of one image: of classes the best, else all in their order."""
    sure = predictor.confidences(scores[None])[0].tolist() if predictor.gives_confidences else [None] * len(scores)
    order = scores.argsort()[::-1][:top] if predictor.kind == "classes" else range(len(scores))
    return [[predictor.classes[i], float(scores[i]), sure[i]] for i in order]


def show(result: dict) -> None:
    for path, reason in result["failed"].items():
        print(f"mxelm predict: {reason if path in reason else f'{path}: {reason}'}", file=sys.stderr)
    if "file" in result:
        print(f"wrote {result['file']}: {len(result['predictions'])} images")
    elif result["csv"]:
        print(_csv(result), end="")
    else:
        _show_each(result)


def _show_each(result):
    sure = result["kind"] == "classes" and any(best[0][2] is not None for best in result["predictions"].values())
    for path, best in result["predictions"].items():
        print(path)
        for name, score, confidence in best:
            print(f"  {confidence:8.1%}  {name}  (score {score:.3g})" if sure else f"  {score:9.3g}  {name}")
    if sure and result["temperature"] == 1:
        print("(% is the softmax that the network was trained with, not calibrated; scores are the network's)")
    elif sure:
        print("(% tells how often such answers are right, by images held out in training; scores are the network's)")


def _csv(result):
    """A line an image: of classes the best one, its confidence and score; else all scores."""
    text, predictions = io.StringIO(), result["predictions"]
    writer = csv.writer(text, lineterminator="\n")
    if result["kind"] == "classes":
        writer.writerow(["image", "class", "confidence", "score"])
        writer.writerows([path, name, "" if confidence is None else f"{confidence:.4f}", f"{score:.6g}"]
                         for path, [(name, score, confidence), *_] in predictions.items())
    else:
        names = [name for name, *_ in next(iter(predictions.values()), [])]
        writer.writerow(["image", *names])
        writer.writerows([path, *(f"{score:.6g}" for _, score, _ in all_of)] for path, all_of in predictions.items())
    return text.getvalue()
