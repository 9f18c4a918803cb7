"""Paper 1: is the default choice of l2 and of the number of neurons a good one, from twenty images to thousands?

    python experiments/benchmarks/selection.py digits.100 --seeds 0 1 2 3 4 5 6 7 8 9      one set; RUNS names all
    python experiments/benchmarks/selection.py criteria --seeds 0 1 2 3 4 5 6 7 8 9        how the default was chosen
    python experiments/benchmarks/selection.py offset                                      quantities far from zero

Protocol: random training images of each class, the others test (up to `rest` a class, no fewer than 400 in all). The
default chooses from the training images alone. Hindsight is the best model of the same grid, solved on the same
training images: one half of the test images chooses it, the other half scores it, and the other way round; so it is not
the luck of the best of 700 on one half. RidgeClassifierCV and LogisticRegressionCV choose by themselves, on the
standardised features of the same images. 2,048 neurons are half of what `fit` draws and an eighth of its time;
`criteria`, with 512, holds all criteria of `fused.select` against the same hindsight on all sets. Features are kept in
--work; the sums are those of a fused pass (fused.unfused_agreement).
"""
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab is

from lab import main
from lab.featured import features, rows_of
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mxelm import backbones, data, fused
from mxelm.data import Dataset
from mxelm.download import search_folders
from mxelm.fused.criteria import grid_scores, solved
from mxelm.fused.job import state_of_rows
from mxelm.fused.selection import L2_GRID, default_sizes
from mxelm.fused.state import Origin
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import results

LITE = "efficientnet_lite0_224"


def recipe(name, backbone, per_class, rest, logistic=True, **more):
    """per_class: training images. rest: test images a class, at most. logistic: whether that is affordable."""
    return {"set": name, "backbone": backbone, "n_neurons": 2048, "per_class": per_class, "rest": rest,
            "logistic": logistic, **more}


RUNS = {
    "digits.100": recipe("digits", "inception_small", 10, 150),
    "digits.1000": recipe("digits", "inception_small", 100, 150),
    "caltech101_mini.5": recipe("caltech101-mini", "mobilenet_v1_0.75_224", 5, 35),
    "caltech5.30": recipe("caltech101", LITE, 30, 200, of_classes=5),  # other five classes each time, of 120 or more
    "caltech101.5": recipe("caltech101", LITE, 5, 20, logistic=False),
    "caltech101.15": recipe("caltech101", LITE, 15, 20, logistic=False),
    "caltech101.30": recipe("caltech101", LITE, 30, 20, logistic=False),
    "mnist.100": recipe("mnist", "inception_small", 10, 150, images=7000),
    "mnist.1000": recipe("mnist", "inception_small", 100, 150, images=7000),
    "mnist.5000": recipe("mnist", "inception_small", 500, 150, logistic=False, images=7000),
    "cifar10.100": recipe("cifar10", "inception_small", 10, 150, images=3000),
    "cifar10.1000": recipe("cifar10", "inception_small", 100, 150, images=3000),
    "criteria": {"set": "digits", "backbone": "inception_small", "n_neurons": 512, "validation": 0.2, "folds": 5},
    "offset": {"set": "digits", "backbone": "inception_small", "n_neurons": 512, "offset": 1980, "validation": 0.3},
}
QUICK = {"set": "digits", "backbone": "inception_small", "n_neurons": 64, "per_class": 10, "rest": 40}
SETS = tuple(name for name, settings in RUNS.items() if "logistic" in settings)
SPLIT = {"mnist": "train", "cifar10": "test"}  # the network was trained on CIFAR-10's training images
ALPHAS = np.logspace(-2, 5, 15)


def one_seed(run, settings, seed, lab):
    if run == "criteria":
        return {name: criteria({**RUNS[name], **settings, **QUICK} if lab.quick else
                               {**settings, **RUNS[name], "n_neurons": settings["n_neurons"]}, seed, lab)
                for name in SETS}
    dataset, X = featured(settings, seed, lab)
    if run == "offset":
        return offset(dataset, X, settings, seed)
    learning, test, rows = split(dataset, settings, seed)
    W = projection(X[rows[0]], settings["n_neurons"], seed)
    H = [W.hidden(X[part]) for part in rows]
    state = state_of(learning, H[0], W)
    choice = fused.select(state)
    beta, _ = state.solve(choice.l2, choice.n_neurons)
    right = (H[1][:, :len(beta)] @ beta).argmax(axis=1) == test.targets
    found = {"default": right.mean(), "hindsight": hindsight(state, H[1], test.targets, seed),
             "l2": choice.l2, "n_neurons": choice.n_neurons, "learning_images": len(learning), "test_images": len(test)}
    models = {"ridgecv": RidgeClassifierCV(ALPHAS)}
    if settings["logistic"]:
        models["logregcv"] = LogisticRegressionCV(Cs=[1e-3, 1e-2, 1e-1, 1.0], cv=3, max_iter=200, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # folds without a class, iterations that run out
        for name, model in models.items():
            fitted = make_pipeline(StandardScaler(), model).fit(X[rows[0]], learning.targets)
            found[name] = fitted.score(X[rows[1]], test.targets)
    return {name: float(value) for name, value in found.items()}


def featured(settings, seed, lab):
    """(Dataset, features float32 (n, n_features)) of a run's set; features are kept in --work."""
    name = settings["set"]
    options = {"background": False} if name == "caltech101" else {}
    if name not in data.KNOWN:  # a folder beside the known sets
        name = next(str(folder / name) for folder in search_folders() if (folder / name).is_dir())
    dataset = lab.load(name, SPLIT.get(name), **options)
    if settings.get("images", len(dataset)) < len(dataset):
        dataset = dataset.take(np.sort(np.random.default_rng(7).permutation(len(dataset))[:settings["images"]]))
    X = features(backbones.load(settings["backbone"]), dataset, lab)
    if "of_classes" in settings and not lab.quick:
        large = np.flatnonzero(np.bincount(dataset.targets) >= 120)
        chosen = np.random.default_rng(seed).choice(large, settings["of_classes"], replace=False)
        rows = np.flatnonzero(np.isin(dataset.targets, chosen))
        return dataset.take(rows).only([dataset.classes[c] for c in np.sort(chosen)]), X[rows]
    return dataset, X


def split(dataset, settings, seed):
    """Learning and test images, and the rows of both."""
    learning, test = dataset.per_class(settings["per_class"], seed, settings["rest"])
    return learning, test, rows_of(dataset, learning, test)


def projection(X, n_neurons, seed):
    """W with std(XW) = 1 on a sample of the training images, as `fused.calibrate` draws it."""
    unit = fused.Projection(n_neurons, X.shape[1], seed)
    sample = np.random.default_rng(seed).permutation(len(X))[:256]
    return fused.Projection(n_neurons, X.shape[1], seed, 1 / float(np.std(X[sample] @ unit.W.T, dtype=np.float64)))


def state_of(dataset, H, W):
    """The state that a pass over `dataset` would leave."""
    intercept = dataset.kind == "regression"
    origin = Origin({}, "", Preprocessing((1, 1)), W, dataset.kind, tuple(dataset.classes), intercept=intercept)
    return state_of_rows(dataset, H, origin)


def hindsight(state, H, labels, seed):
    """Accuracy of the grid's best model, which one half of the test images chooses and the other scores."""
    halves = np.array_split(np.random.default_rng(seed).permutation(len(H)), 2)
    sizes = default_sizes(state.n_neurons)
    right = np.empty((len(halves), len(L2_GRID), len(sizes)))
    for i, l2 in enumerate(L2_GRID):
        R, z = solved(state.HtH, state.HtY, l2)
        for j, scores in enumerate(grid_scores(R, z, H.astype(np.float64), sizes)):
            hit = scores.argmax(axis=1) == labels
            right[:, i, j] = [hit[half].mean() for half in halves]
    best = [np.unravel_index(part.argmax(), part.shape) for part in right]
    return np.mean([right[1][best[0]], right[0][best[1]]])


def criteria(settings, seed, lab):
    """Points below hindsight of the choice by each criterion; "accuracy" and "mse" by images held out."""
    dataset, X = featured(settings, seed, lab)
    learning, test, rows = split(dataset, settings, seed)
    W = projection(X[rows[0]], settings["n_neurons"], seed)
    H, H_test = (W.hidden(X[part]) for part in rows)
    state = state_of(learning, H, W)
    rest, held_out = learning.split(settings["validation"], seed)
    train, held = rows_of(learning, rest, held_out)
    before, by = state_of(rest, H[train], W), (H[held], held_out.targets)
    folds = [state_of(learning.take(fold), H[fold], W) for fold in
             np.array_split(np.random.default_rng(seed).permutation(len(learning)), settings["folds"])]
    choices = {"gcv": fused.select(state), "cv": fused.select(folds, criterion="cv"),
               "mse": fused.select(before, by), "accuracy": fused.select(before, by, criterion="accuracy")}
    best, found = hindsight(state, H_test, test.targets, seed), {}
    for name, choice in choices.items():
        beta, _ = state.solve(choice.l2, choice.n_neurons)
        found[name] = float(100 * (best - ((H_test[:, :len(beta)] @ beta).argmax(axis=1) == test.targets).mean()))
    return found


def offset(dataset, X, settings, seed):
    """R2 on new digits of their ink, as it is and `offset` added to all of it."""
    ink = np.array([[dataset.image(i).mean() / 25] for i in range(len(dataset))], np.float32)
    found = {}
    for name, more in (("near", 0), ("far", settings["offset"])):
        quantities = Dataset(dataset.source, ink + more, ["ink"], dataset.name, kind="regression")
        learning, test = quantities.split(settings["validation"], seed)
        rows = rows_of(quantities, learning, test)
        W = projection(X[rows[0]], settings["n_neurons"], seed)
        state = state_of(learning, W.hidden(X[rows[0]]), W)
        choice = fused.select(state)
        beta, intercept = state.solve(choice.l2, choice.n_neurons)
        found[name] = float(r2_score(test.targets, W.hidden(X[rows[1]])[:, :len(beta)] @ beta + intercept))
    return found


def rows(run, settings, seeds, lab):
    if run == "criteria":
        return [criterion_row(name, settings, seeds) for name in ("gcv", "cv", "mse", "accuracy")]
    if run == "offset":
        near = np.mean([seed["near"] for seed in seeds])
        return [results.over_seeds("fused.regression_offset", [seed["far"] for seed in seeds], "R2", "higher",
                                   conditions={**settings, "R2 of the same without the offset": float(near)})]
    ways = ("default", "ridgecv", *(["logregcv"] if settings["logistic"] else []), "hindsight")
    return [*(results.over_seeds(f"fused.selection.{way}.{run}", [100 * seed[way] for seed in seeds], "%", "higher",
                                 conditions=settings) for way in ways), worst_loss(lab)]


def criterion_row(name, settings, seeds):
    """Points lost against hindsight by one criterion: mean over the sets, and the worst of all."""
    lost = np.array([[seed[one][name] for one in SETS] for seed in seeds])
    conditions = {**settings, "worst": float(lost.max()), "where": SETS[int(lost.max(axis=0).argmax())],
                  "mean of each set": dict(zip(SETS, lost.mean(axis=0)))}
    return results.over_seeds(f"fused.selection.loss_by.{name}", list(lost.mean(axis=1)), "points", "lower",
                              conditions=conditions)


def worst_loss(lab):
    """Points by which the default lies below hindsight where that is worst, over all kept seeds of all sets."""
    losses, ridge = (losses_against(other, lab) for other in ("hindsight", "ridgecv"))
    means, against_ridge = ({name: float(np.mean(values)) for name, values in found.items()}
                            for found in (losses, ridge))
    worst = max(losses, key=lambda name: max(losses[name]))
    return results.row("fused.selection.worst_loss", max(losses[worst]), "points", "lower",
                       n=sum(map(len, losses.values())),
                       conditions={"where": worst, "mean loss": float(np.mean(list(means.values()))),
                                   "mean loss of each set": means,
                                   "mean loss against RidgeCV": float(np.mean(list(against_ridge.values()))),
                                   "of each set": against_ridge})


def losses_against(other, lab):
    """Set -> points by which the default lies below `other`, one a kept seed."""
    kept = {name: lab.kept(name) for name in SETS}
    return {name: [100 * (seed[other] - seed["default"]) for seed in seeds] for name, seeds in kept.items() if seeds}


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
