"""Paper 1: an Extreme Learning Machine fused into a pre-trained network; the method section as a script.

    python experiments/fused_elm.py                                 the lesson: digits, half a minute
    python experiments/fused_elm.py caltech101 --seeds 0 1 2 3 4    beside stored-feature baselines, hours on a laptop
    python experiments/fused_elm.py demo --seeds 0 1 2 3 4          the figures of `mxelm demo`

Question: does the fused network, which stores no feature, learn as well as the usual classifiers on the stored
features of the same backbone? Protocol: 30 random training images a class, up to 50 of the rest as test images, which
are scored once; l2 and the number of neurons are chosen by generalized cross-validation, every baseline's own
parameter on 20 % of the training images, then solved again on all of them. The stand-in for Inception21k, whose weights
can no longer be had, is EfficientNet-Lite0. Costs: benchmarks/fused_speed.py. Source: Arcada, sections 2 and 3.

Evidence:

    fused.caltech101.elm_per_class     92.21 ± 0.53 % (n = 5), AMD EPYC x 2, f864578
    fused.caltech101.ridge_per_class   91.58 ± 0.43 % (n = 5), AMD EPYC x 2, f864578
    fused.caltech101.logreg_per_class  92.17 ± 0.57 % (n = 5), AMD EPYC x 2, f864578
    fused.caltech101.svm_per_class     92.02 ± 0.42 % (n = 5), AMD EPYC x 2, f864578
    fused.caltech101.state_bytes       70,434,816 ± 0 bytes (n = 5), AMD EPYC x 2, f864578
    fused.caltech101.feature_bytes     15,513,600 ± 0 bytes (n = 5), AMD EPYC x 2, f864578
    demo.accuracy                      98.22 ± 0.53 % (n = 5), AMD EPYC x 2, bf3468d
"""
import numpy as np
from lab import main, step, table
from lab.featured import features, rows_of
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from mxelm import backbones, fused
from mxelm.backbones.features import features_of
from mxelm.cli import demo
from mxelm.fused.confidence import fit_temperature
from mxelm.fused.evaluation import evaluate
from mxelm.reporting import plots, results

RUNS = {
    "caltech101": {
        "backbone": "efficientnet_lite0_224",
        "n_neurons": 4096,  # L, of which fewer may be chosen
        "scale": 1.0,  # standard deviation of XW
        "per_class": 30,  # training images
        "test_per_class": 50,  # at most
        "validation": 0.2,  # of the training images
        "batch": 32,
    },
    "demo": {"n_neurons": demo.NEURONS},
}
QUICK = {"backbone": "inception_small", "n_neurons": 256, "per_class": 20}  # on digits


# The method. N images, n features, L neurons, C classes: X (N, n) is never stored, W (n, L), H = tanh(XW) (N, L).

def fuse_and_solve(backbone, learning, settings, seed):
    """(Predictor, Selection, ELMState): what one pass over the learning images leaves behind, and what it gives."""
    train, held_out = learning.split(settings["validation"], seed)
    W = fused.calibrate(backbone, learning, settings["n_neurons"], spread=settings["scale"], seed=seed)
    step("Before: draw W, and scale it so that std(XW) is as set on a sample of the images.",
         W=W.W.T, factor=W.scale)

    state, _ = fused.accumulate(backbone, train, W, batch=settings["batch"])
    step("Steps 1 to 4: images -> X -> H = tanh(XW), and after each batch A += HᵀH, B += HᵀY. No row is kept.",
         A=state.HtH, B=state.HtY, images=state.n_samples, bytes=state.nbytes)

    held, _ = fused.accumulate(backbone, held_out, W, batch=settings["batch"])
    whole = state + held  # sums of parts are the sum of the whole
    choice = fused.select(whole)
    step("Choose l2 and the number of neurons by generalized cross-validation: every pair from this one state.",
         errors=choice.grid, l2=choice.l2, n_neurons=choice.n_neurons, best=choice.best)

    H = W.hidden(features_of(backbone, held_out).rows)[:, :choice.n_neurons]
    temperature = fit_temperature(H @ state.solve(choice.l2, choice.n_neurons)[0], held_out.targets)
    step("Beside the paper: a temperature makes confidences of scores, by images that a model has not seen.",
         temperature=temperature)

    beta = fused.solve(whole.HtH, whole.HtY, choice.l2, n_neurons=choice.n_neurons)
    step("Step 5: beta = (A + l2 I)⁻¹ B, on the sums of all learning images.", beta=beta)

    details = {"l2": choice.l2, "n_samples": whole.n_samples, "method": "blas", "temperature": temperature}
    predictor = fused.Predictor.of(backbone, W, beta, learning.classes, details=details)
    step("The predictor is one checkpoint, image -> scores.", network=predictor.details)
    return predictor, choice, whole


BASELINES = {  # on stored features: name -> (model of its parameter, values tried)
    "ridge": (RidgeClassifier, [10.0 ** e for e in range(-2, 6)]),
    "logreg": (lambda C: make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=300, tol=1e-3)),
               [1e-3, 1e-2, 1e-1, 1.0]),
    "svm": (lambda C: make_pipeline(Normalizer(), LinearSVC(C=C, dual=True, max_iter=3000)), [0.3, 1.0, 3.0, 10.0]),
}


def baselines(X, X_test, learning, test, settings, seed):
    """Name -> (accuracy per class on the test images, the parameter chosen on the same validation images)."""
    y, (train, held) = learning.targets, rows_of(learning, *learning.split(settings["validation"], seed))
    found = {}
    for name, (model, values) in BASELINES.items():
        scores = [balanced_accuracy_score(y[held], model(v).fit(X[train], y[train]).predict(X[held])) for v in values]
        best = values[int(np.argmax(scores))]
        found[name] = balanced_accuracy_score(test.targets, model(best).fit(X, y).predict(X_test)), best
    return found


# What is measured

def one_seed(run, settings, seed, lab):
    """Train and score the fused ELM and every baseline on one split."""
    if run == "demo":
        return demo.measure(seed)[1]
    dataset, backbone = lab.load("caltech101", background=False), backbones.load(settings["backbone"])
    learning, test = dataset.per_class(settings["per_class"], seed, settings["test_per_class"])
    predictor, choice, state = fuse_and_solve(backbone, learning, settings, seed)
    score, _ = evaluate(predictor, test)
    figures = {"elm": score["accuracy"], "elm_per_class": score["mean_per_class"], "state_bytes": state.nbytes,
               "feature_bytes": 4 * state.n_samples * backbone.n_features, "l2": choice.l2,
               "n_neurons": choice.n_neurons, "learning_images": len(learning), "test_images": len(test),
               "calibration_error": score["calibration_error"]}
    X = [features(backbone, dataset, lab)[part] for part in rows_of(dataset, learning, test)]
    for name, (accuracy, parameter) in baselines(*X, learning, test, settings, seed).items():
        figures.update({f"{name}_per_class": accuracy, f"{name}_parameter": parameter})
    return figures


def rows(run, settings, seeds, lab):
    if run == "demo":
        conditions = {**settings, "test_images": seeds[0]["test_images"]}
        return [results.over_seeds(f"demo.{name}", [100 * seed[name] for seed in seeds], "%", "higher",
                                   conditions=conditions) for name in ("accuracy", "ridge_raw")]
    figures = {**dict.fromkeys(("elm", "elm_per_class", *(f"{name}_per_class" for name in BASELINES)), "higher"),
               "calibration_error": "lower", "state_bytes": "lower", "feature_bytes": "none"}
    conditions = {**settings, **{name: [seed[name] for seed in seeds] for name in ("l2", "n_neurons", "test_images")}}
    return [results.over_seeds(f"fused.{run}.{name}", [seed[name] * (1 if "bytes" in name else 100) for seed in seeds],
                               "bytes" if "bytes" in name else "%", better, conditions=conditions)
            for name, better in figures.items()]


def lesson(lab):
    """All of it on 1,797 digits, through a network that was trained on photographs."""
    settings = {**RUNS["caltech101"], "n_neurons": 1024}
    backbone = backbones.load("inception_small")
    learning, test = lab.load("digits").split(0.3)
    step("A network trained on CIFAR-10 photographs, cut at its last pooled features, and digits that it never saw.",
         backbone=backbone, learning_images=len(learning), test_images=len(test))
    predictor, choice, state = fuse_and_solve(backbone, learning, settings, seed=0)

    same = fused.fit(backbone, learning, n_neurons=settings["n_neurons"])
    ours, its = (p.network.arg_params["beta"].asnumpy() for p in (predictor, same.predictor))
    assert ours.shape == its.shape and np.abs(ours - its).max() <= 1e-4 * np.abs(its).max()
    step("`fused.fit(backbone, learning)` does all of this; its beta is the same.",
         largest_difference=float(np.abs(ours - its).max() / np.abs(its).max()))

    score, _ = evaluate(predictor, test)
    stored = 4 * state.n_samples * backbone.n_features
    X = [features_of(backbone, part).rows for part in (learning, test)]
    table(["on the test images, once", "accuracy per class / %", "kept for training / bytes"], [
        ["fused ELM", 100 * score["mean_per_class"], f"{state.nbytes:,} (any number of images)"],
        *([f"{name} on stored features", 100 * accuracy, f"{stored:,} (of these images)"]
          for name, (accuracy, _) in baselines(*X, learning, test, settings, 0).items())])
    picture = lab.work / "grid.png"
    plots.grid_heatmap(picture, choice.grid, l2s=choice.l2s, sizes=choice.sizes, chosen=(choice.l2, choice.n_neurons),
                       error="squared error a new image, by generalized cross-validation")
    step("What to try next:", picture=picture, your_images="mxelm fit --images FOLDER --out my-model",
         by_batch="python experiments/fused_elm.py caltech101 --quick",
         speed="python experiments/benchmarks/fused_speed.py overhead --quick")


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, lesson=lesson, quick=QUICK)
