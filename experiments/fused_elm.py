"""Paper 1: an Extreme Learning Machine fused into a pre-trained network; the method section as a script.

    python experiments/fused_elm.py caltech101          accuracy, seconds and bytes beside stored-feature baselines
    python experiments/fused_elm.py seconds             its seconds alone, on a quiet machine
    python experiments/fused_elm.py claims              what the paper claims in words, measured
    python experiments/fused_elm.py demo                the figures of `mxelm demo`, several seeds
    python experiments/fused_elm.py caltech101 --quick  the same on digits in a minute, written elsewhere

Question: does the fused network, which stores no feature, learn as well as the usual classifiers on the stored
features of the same backbone? Protocol: 30 random training images a class, up to 50 of the rest as test images, which
are scored once; l2, the number of neurons and every baseline's own parameter are chosen on 20 % of the training
images, then solved again on all of them. The stand-in for Inception21k, whose weights can no longer be had, is
EfficientNet-Lite0. Source: Arcada, sections 2 and 3.
"""
import argparse
import logging
import time
from pathlib import Path

import numpy as np
from ending import in_sentences
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC
from tqdm import tqdm

from mxelm import backbones, data, fused
from mxelm.backbones import inception21k
from mxelm.backbones.features import features_of
from mxelm.cli import options
from mxelm.files import atomic_write, make_folder, read_json, write_json
from mxelm.fused.evaluation import evaluate
from mxelm.reporting import results
from mxelm.runtime import mx

SETTINGS = {
    "n_neurons": 4096,
    "scale": 1.0,  # standard deviation of XW
    "per_class": 30,  # training images
    "test_per_class": 50,  # at most
    "validation": 0.2,  # of the training images
}
QUICK = {**SETTINGS, "n_neurons": 256, "per_class": 20}


class RidgeOnTargets:
    """scikit-learn's Ridge on one-hot targets, the class of the largest score."""

    def __init__(self, alpha):
        self.ridge = Ridge(alpha=alpha)

    def fit(self, X, y):
        self.ridge.fit(X, np.eye(y.max() + 1)[y])
        return self

    def predict(self, X):
        return self.ridge.predict(X).argmax(axis=1)


BASELINES = {  # name -> (model of its parameter, values tried)
    "ridge": (RidgeOnTargets, [10.0 ** e for e in range(-2, 6)]),
    "logreg": (lambda C: make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=300, tol=1e-3)),
               [1e-3, 1e-2, 1e-1, 1.0]),
    "svm": (lambda C: make_pipeline(Normalizer(), LinearSVC(C=C, dual=True, max_iter=3000)), [0.3, 1.0, 3.0, 10.0]),
}


def one_seed(backbone, dataset, features, seed, settings):
    """Train and score the fused ELM and every baseline on one split; a dict of figures."""
    learning, test = dataset.per_class(settings["per_class"], seed, settings["test_per_class"])
    start = time.perf_counter()
    done = fused.fit(backbone, learning, n_neurons=settings["n_neurons"], validation=settings["validation"], seed=seed,
                     spread=settings["scale"], progress=True)
    seconds = time.perf_counter() - start
    score, _ = evaluate(done.predictor, test, progress=True)
    figures = {"seed": seed, "elm": score["accuracy"], "elm_per_class": score["mean_per_class"], "seconds": seconds,
               "state_bytes": done.state.nbytes, "feature_bytes": done.feature_bytes,
               "validation_bytes": done.validation_bytes, "l2": done.selection.l2,
               "n_neurons": done.selection.n_neurons, "learning_images": len(learning), "test_images": len(test)}
    place = {name: i for i, name in enumerate(dataset.ids)}
    rows, test_rows = (features[[place[i] for i in part.ids]] for part in (learning, test))
    chosen = learning.split(settings["validation"], seed)
    for name, (make, values) in tqdm(BASELINES.items(), desc=f"baselines of seed {seed}"):
        model, value = best_on_validation(make, values, learning, chosen, rows)
        model.fit(rows, learning.targets)
        decided = model.predict(test_rows)
        figures[f"{name}_per_class"] = balanced_accuracy_score(test.targets, decided)
        figures[f"{name}_parameter"] = value
    return figures


def best_on_validation(make, values, learning, chosen, rows):
    """A fresh model with the parameter that scored best on the validation part of the training images."""
    place = {name: i for i, name in enumerate(learning.ids)}
    train, held_out = (np.array([place[i] for i in part.ids]) for part in chosen)
    scores = [balanced_accuracy_score(learning.targets[held_out],
                                      make(v).fit(rows[train], learning.targets[train]).predict(rows[held_out]))
              for v in values]
    best = values[int(np.argmax(scores))]
    return make(best), best


def caltech101(args):
    """Accuracy beside the stored-feature baselines over several seeds; finished seeds are kept in --work."""
    settings = QUICK if args.quick else SETTINGS
    if args.quick:
        dataset, backbone = data.load("digits"), backbones.load("inception_small")
    else:
        dataset = data.load("caltech101", root=args.data, background=False)
        backbone = backbones.load(args.checkpoint)
    make_folder(args.work)
    kept = args.work / f"{dataset.name}-{backbone.name}-features.npy"
    if not kept.exists():  # for the baselines alone; the fused network stores none
        with atomic_write(kept) as temporary:
            np.save(temporary, features_of(backbone, dataset, progress=True).rows)
    features, figures = np.load(kept), []
    for seed in range(args.seeds):
        file = args.work / f"{dataset.name}-{backbone.name}-seed-{seed}.json"
        if not file.exists():
            write_json(file, one_seed(backbone, dataset, features, seed, settings))
        figures.append(read_json(file))
        logging.info("%s", figures[-1])
    conditions = {**settings, "backbone": backbone.name, "batch": 32}
    rows = [summary(f"fused.{dataset.name}.{name}", [f[name] for f in figures], unit, better, args, conditions)
            for name, unit, better in (
                ("elm", "%", "higher"), ("elm_per_class", "%", "higher"), ("ridge_per_class", "%", "higher"),
                ("logreg_per_class", "%", "higher"), ("svm_per_class", "%", "higher"), ("seconds", "s", "lower"),
                ("state_bytes", "bytes", "lower"), ("feature_bytes", "bytes", "none"))]
    return rows


def seconds(args):
    """Seconds from images to a solved model on the same splits: for a quiet machine; no test image is touched."""
    dataset = data.load("caltech101", root=args.data, background=False)
    backbone, times = backbones.load(args.checkpoint), []
    for seed in range(args.seeds):
        learning, _ = dataset.per_class(SETTINGS["per_class"], seed, SETTINGS["test_per_class"])
        start = time.perf_counter()
        fused.fit(backbone, learning, n_neurons=SETTINGS["n_neurons"], validation=SETTINGS["validation"], seed=seed,
                  spread=SETTINGS["scale"], progress=True)
        times.append(time.perf_counter() - start)
    conditions = {**SETTINGS, "backbone": backbone.name, "batch": 32, "images": len(learning)}
    return [summary("fused.caltech101.seconds", times, "s", "lower", args, conditions)]


def summary(id, values, unit, better, args, conditions):
    """A row from one value a seed: mean, sample deviation, n."""
    values = np.array(values, float) * (100 if unit == "%" else 1)
    return results.row(id, values.mean(), unit, better, std=values.std(ddof=1) if len(values) > 1 else None,
                       n=len(values), command=args.command, conditions=conditions)


def claims(args):
    """What the paper says in words: same solution, terabytes of features, a triangle for half the time."""
    if args.quick:
        dataset, backbone, L = data.load("digits").split(0.2)[1], backbones.load("inception_small"), 128
    else:
        dataset = data.load("caltech101", root=args.data, background=False).per_class(20)[0]
        backbone, L = backbones.load(args.checkpoint), 1024
    return [*agreement(args, backbone, dataset, L), *terabytes(args), syrk_over_dot(args, 256 if args.quick else 4096)]


def agreement(args, backbone, dataset, L):
    """Both methods against float64 NumPy on the stored features of the same images."""
    projection = fused.calibrate(backbone, dataset, L)
    features = features_of(backbone, dataset, progress=True).rows.astype(np.float64)
    H, Y = np.tanh(features @ projection.W.T.astype(np.float64)), dataset.target_matrix().astype(np.float64)
    HtH, HtY = H.T @ H, H.T @ Y
    beta = fused.solve(HtH, HtY, 1.0)
    rows = []
    for id, method in (("fused.unfused_agreement", "blas"), ("fused.paper_float32_error", "paper")):
        state, _ = fused.accumulate(backbone, dataset, projection, method=method, progress=True)
        own = fused.solve(state.HtH, state.HtY, 1.0)
        errors = {"HtH": relative(state.HtH, HtH), "HtY": relative(state.HtY, HtY), "beta": relative(own, beta),
                  "scores": relative(H @ own, H @ beta)}
        conditions = {**errors, "what": "Frobenius distance to float64 NumPy, relative; the larger of HtH and HtY",
                      "l2": 1.0, "n_neurons": L, "images": len(dataset), "method": method, "backbone": backbone.name,
                      "batch": 32}
        rows.append(results.row(id, max(errors["HtH"], errors["HtY"]), "ratio", "lower", command=args.command,
                                conditions=conditions))
    return rows


def relative(a, b):
    """Frobenius distance of a to b, relative to b."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def terabytes(args):
    """The number of images whose float32 features of Inception21k take 10^12 bytes: pooled, and the last map."""
    symbol = inception21k.symbol()
    rows = []
    for which, output in (("pooled", "flatten_output"), ("map", "ch_concat_5b_chconcat_output")):
        _, shapes, _ = symbol.get_internals()[output].infer_shape(data=(1, *inception21k.PREPROCESSING.shape))
        rows.append(results.row(f"fused.terabyte_images.{which}", 1e12 / (4 * np.prod(shapes[0])), "images", "none",
                                command=args.command, conditions={"output": output, "shape": list(shapes[0])}))
    return rows


def syrk_over_dot(args, L, K=32, repeats=15):
    """MXNet's linalg_syrk against its dot on H (32, 4096), in turn; the paper expects about a half."""
    H = mx.nd.random.normal(shape=(K, L))
    times = {"syrk": [], "dot": []}
    for _ in range(repeats + 2):
        for name, call in (("syrk", lambda: mx.nd.linalg.syrk(H, transpose=True)),
                           ("dot", lambda: mx.nd.dot(H, H, transpose_a=True))):
            start = time.perf_counter()
            call().wait_to_read()
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values[2:])) for name, values in times.items()}
    return results.row("fused.syrk_over_dot", medians["syrk"] / medians["dot"], "ratio", "lower", command=args.command,
                       conditions={"n_neurons": L, "rows": K, "repeats": repeats, **{f"{k}_seconds": v for k, v in
                                                                                    medians.items()},
                                   "reason": "MXNet 1.9.1 mirrors the computed triangle by a naive loop, which costs "
                                             "more than the half product that it saves; BLAS in place does save it"})


def demo(args):
    """The figures that `mxelm demo` prints, over several seeds."""
    from mxelm.cli.demo import NEURONS, measure
    figures = [measure(seed, progress=True)[1] for seed in range(args.seeds)]
    conditions = {"n_neurons": NEURONS, "test_images": figures[0]["test_images"]}
    return [summary(id, [f[name] for f in figures], "%", "higher", args, conditions)
            for id, name in (("demo.accuracy", "accuracy"), ("demo.ridge_raw", "ridge_raw"))]


RUNS = {"caltech101": caltech101, "seconds": seconds, "claims": claims, "demo": demo}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", choices=tuple(RUNS))
    parser.add_argument("--checkpoint", default="efficientnet_lite0_224", help="backbone: prefix or known name")
    parser.add_argument("--data", help="folder of Caltech-101 (default: MXELM_DATA and the cache)")
    parser.add_argument("--seeds", type=options.positive, default=5)
    parser.add_argument("--work", type=Path, default=Path("fused_elm-work"),
                        help="folder for finished seeds and the baselines' features; a second call goes on from it")
    parser.add_argument("--quick", action="store_true", help="digits and the small network; results go into --work")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    changed = [f" --{name} {getattr(args, name)}" for name in ("checkpoint", "seeds")
               if getattr(args, name) != parser.get_default(name)]
    args.command = f"python experiments/fused_elm.py {args.run}{''.join(changed)}"
    start = time.perf_counter()
    file = args.work / "quick.json" if args.quick else Path("experiments/results/fused_elm.json")
    results.require_writable(file, "fused_elm")
    rows = RUNS[args.run](args)
    for row in rows:
        print(results.line(row))
    results.write(file, "fused_elm", rows)
    logging.info("%.0f s in all", time.perf_counter() - start)


if __name__ == "__main__":
    with in_sentences("what is finished in --work is not done again"):
        main()
