"""mxelm demo: the main job on what ships, scikit-learn's digits through the small pretrained checkpoint."""
from __future__ import annotations

import argparse
import time

from mxelm.cli import options
from mxelm.cli.fit import summary

NEURONS = 1024
TEST = 0.3  # of the 1,797 digits, seen by nothing but the final score
SHOWN_SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="mxelm-demo", metavar="DIR", help="folder for the checkpoint and the picture")
    parser.add_argument("--seed", type=options.seed, default=0, help="of the splits and of W")


def run(args: argparse.Namespace) -> dict:
    from mxelm.files import make_folder
    folder = make_folder(args.out, "choose another with --out")
    options.require_out(folder / "digits-symbol.json")
    start = time.perf_counter()
    if not (args.json or args.quiet):
        print("1,797 digits of scikit-learn, 8x8 pixels, through a network trained on CIFAR-10 photographs")
    done, result = measure(args.seed, progress=options.progress(args))
    done.predictor.save(str(folder / "digits"))
    from mxelm.fused.selection import CRITERIA
    from mxelm.reporting.plots import grid_heatmap
    choice = done.selection
    grid_heatmap(folder / "grid.png", choice.grid, l2s=choice.l2s, sizes=choice.sizes,
                 chosen=(choice.l2, choice.n_neurons), error=CRITERIA[choice.criterion])
    return {**summary(done, str(folder / "digits")), **result, "picture": str(folder / "grid.png"),
            "grid": {"l2": choice.l2s, "sizes": choice.sizes, "error": choice.grid.tolist()},
            "seconds": time.perf_counter() - start}


def measure(seed: int = 0, progress: bool = False) -> dict:
    """One run of the demo's job: (Fit, figures); test images are scored once, by the chosen model and by Ridge."""
    from sklearn.linear_model import RidgeClassifier

    from mxelm import backbones, data, fused
    from mxelm.fused.evaluation import evaluate
    learning, test = data.load("digits").split(TEST, seed)
    backbone = backbones.load("inception_small")
    done = fused.fit(backbone, learning, n_neurons=NEURONS, seed=seed, progress=progress)
    score, _ = evaluate(done.predictor, test, progress=progress)
    ridge = RidgeClassifier().fit(_pixels(learning), learning.targets)
    return done, {"accuracy": score["accuracy"], "calibration_error": score["calibration_error"],
                  "ridge_raw": float(ridge.score(_pixels(test), test.targets)),
                  "test_images": len(test), "learning_images": len(learning)}


def show(result: dict) -> None:
    print("\nsquared error a new digit, estimated from the sums alone (rows: l2, columns: neurons)")
    sizes = result["grid"]["sizes"]
    shown = [sizes.index(size) for size in SHOWN_SIZES if size in sizes]
    print("   l2   " + "".join(f"{sizes[i]:7d}" for i in shown))
    for l2, row in zip(result["grid"]["l2"], result["grid"]["error"]):
        print(f"{l2:8.3g}" + "".join(f"{row[i]:7.3f}" for i in shown))
    print(f"\nchosen of {result['choice']['models']} models, none of which needed a second pass: "
          f"l2 {result['l2']:g}, {result['n_neurons']} neurons")
    print(f"accuracy on {result['test_images']} test images: {result['accuracy']:.2%}    "
          f"(RidgeClassifier on raw pixels: {result['ridge_raw']:.2%})")
    print(f"kept {result['state_bytes']:,} bytes, whatever the number of images; the stored features of these "
          f"{result['n_samples']:,} images take {result['feature_bytes']:,} bytes, of a million images "
          f"{result['feature_bytes'] // result['n_samples'] * 10**6:,}\n"
          f"(confidences held {result['validation_bytes']:,} bytes of validation rows for their time; they are off by "
          f"{result['calibration_error']:.1%} on the test images)")
    print(f"wrote {result['checkpoint']}-symbol.json, -0000.params, .json and {result['picture']} "
          f"in {result['seconds']:.0f} s")


def _pixels(dataset):
    import numpy as np
    return np.stack([dataset.image(i).ravel() for i in range(len(dataset))]) / 255.0
