"""Paper 4: leave the network as soon as an exit is sure: what that is worth in time, and what it costs in accuracy.

    python experiments/early_exit.py                          the lesson: digits, the network that ships, a minute
    python experiments/early_exit.py lite0 --seeds 0 1 2      the talk's table on Caltech-101, a frozen network; also
                                                              mobilenet, squeezenet; finetuned: MobileNet with heads
                                                              on all exits; cifar10: a network trained so

Question: the talk says that images can leave a frozen network early, and a fine-tuned one, 1.06 to 1.7 times as fast
as before without significant loss. Protocol: Caltech-101, 30 training images a class and up to 30 test images, a split
a seed; the features of all candidate exits come from one pass. Two exits or fewer are placed by measured CPU-seconds of
one image, and all thresholds chosen, on training images; test images are scored once. Classifiers: logistic regression,
random forest and one-versus-all SVM, which are the talk's; ours, for `risk` and `placed`, is ridge regression at early
exits and the SVM at the last, against which losses are counted. cifar10 goes on from weights that 1,000 training images
have never trained; these and 4,000 images of the test file, set aside before, choose the thresholds, and the other
6,000 are scored once. Costs of the machinery, milliseconds end to end and promises by simulation are in
benchmarks/exit_cost.py and exit_promise.py. Source: Savchenko, Algorithms 1 and 2, tables.

Evidence:

    exit.speedup.lite0.frozen       1.300 ± 0.020 ratio (n = 3), AMD EPYC x 2, 60b3ade
    exit.loss.lite0.frozen          −0.04 ± 0.92 points (n = 3), AMD EPYC x 2, 60b3ade
    exit.speedup.mobilenet.frozen   1.1404 ± 0.0074 ratio (n = 3), AMD EPYC x 2, 60b3ade
    exit.loss.mobilenet.frozen      0.52 ± 0.31 points (n = 3), AMD EPYC x 2, 60b3ade
    exit.speedup.squeezenet.frozen  1.135 ± 0.014 ratio (n = 3), AMD EPYC x 2, 274abf7 to 5792067
    exit.loss.squeezenet.frozen     0.60 ± 0.72 points (n = 3), AMD EPYC x 2, 274abf7 to 5792067
    exit.cifar10.speedup            1.692 ratio (n = 1), AMD EPYC x 2, 5c4be2e+
    exit.cifar10.loss               0.6833 points (n = 1), AMD EPYC x 2, 5c4be2e+
"""
import numpy as np
from lab import main, step, table
from lab.exit_rows import rows
from lab.exits import accuracies, passed, scored, split
from lab.exits_finetuned import finetuned
from lab.exits_trained import cifar10

from mxelm import backbones, data, early_exit
from mxelm.calibration import threshold
from mxelm.chain import Chain
from mxelm.early_exit.baselines import cascaded_thresholds, cdl_stages
from mxelm.early_exit.features import exit_features
from mxelm.early_exit.fitting import seconds_of, thresholds_of
from mxelm.early_exit.heads import classifier, cross_validated, head, held_out
from mxelm.early_exit.placement import area, curve, place
from mxelm.early_exit.rules import Judged, false_acceptance
from mxelm.reporting import plots

CALTECH = {"set": "caltech101", "train": 30, "test": 30,  # images a class
           "alpha": 0.05, "delta": 0.7, "max_loss": 0.005, "certainty": 0.9, "cascaded": 0.005, "cdl": 0.6}
RUNS = {
    "lite0": {**CALTECH, "backbone": "efficientnet_lite0_224", "candidates": [
        "block4_add", "block6_add", "block8_dw_relu", "block8_project", "block10_dw_relu", "block11_expand_relu",
        "block11_dw_relu", "block12_expand_relu", "block12_dw_relu", "block13_expand_relu", "block13_dw_relu",
        "block14_dw_relu", "block15_dw_relu"]},
    "mobilenet": {**CALTECH, "backbone": "mobilenet_v1_0.75_224", "candidates": [
        "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_6_relu", "conv_pw_7_relu", "conv_pw_8_relu", "conv_pw_9_relu",
        "conv_pw_10_relu", "conv_pw_11_relu", "conv_dw_12_relu", "conv_pw_12_relu"]},
    "squeezenet": {**CALTECH, "backbone": "squeezenet_v1.1", "candidates": [
        "fire3_concat", "fire4_concat", "fire5_concat", "fire6_concat", "fire7_concat", "fire8_concat"]},
    "finetuned": {**CALTECH, "backbone": "mobilenet_v1_0.75_224", "candidates": [
        "conv_pw_5_relu", "conv_pw_6_relu", "conv_pw_7_relu", "conv_pw_8_relu", "conv_pw_9_relu", "conv_pw_11_relu"],
        "aside": 10,  # of the training images a class: they choose exits and thresholds
        "frozen": "conv_pw_3_relu",  # up to it nothing is trained: half of the time for early maps
        "steepness": 10, "epochs": 3, "batch": 32, "peak": 1e-3, "warmup": 0.2, "momentum": 0.9, "weight_decay": 1e-4},
    "cifar10": {"backbone": "inception_small", "candidates": [f"ch_concat_{name}_chconcat" for name in
                                                              ("3a", "3b", "3c", "4a")],
                "steepness": 3, "epochs": 14, "batch": 128, "peak": 0.02, "warmup": 0.1,  # fraction of the run
                "momentum": 0.9, "weight_decay": 5e-4, "calibration": 4000, "max_loss": 0.002, "certainty": 0.9},
}
QUICK = {"backbone": "inception_small", "candidates": [f"ch_concat_{name}_chconcat" for name in ("3a", "3c", "4a")],
         "epochs": 1, "calibration": 100, "frozen": "ch_concat_2c_chconcat"}


def one_seed(run, settings, seed, lab):
    """One split of Caltech-101, frozen or fine-tuned, or one training on CIFAR-10: figures."""
    return {"cifar10": cifar10, "finetuned": finetuned}.get(run, frozen)(settings, seed, lab)


# The talk's table: features of all exits -> exits placed -> classifiers -> thresholds -> test images, once

def frozen(settings, seed, lab):
    """Each classifier at each exit by itself, then the cascades."""
    x, y, seconds = passed(settings, lab)
    train, test = split(y, settings["train"], seed)
    y_train, y_test, n_classes = y[train], y[test], int(y.max()) + 1
    kinds = [*("ridge" for _ in settings["candidates"]), "svm"]  # ours: ridge is better early, and fast
    known = [cross_validated(kind, part[train], y_train, n_classes, seed=seed) for kind, part in zip(kinds, x)]
    exits, placed, _ = place(Judged(known, y_train, "margin"), seconds, settings["max_loss"], decision=1e-4)
    x, known, seconds = ([values[m] for m in exits] for values in (x, known, seconds))
    names = [*settings["candidates"], "features"]
    figures = {"exits": [names[m] for m in exits], "shares": [s / seconds[-1] for s in seconds]}

    heads, held = {}, {}
    for kind in ("ridge", "lr", "rf", "svm"):
        heads[kind] = [head(classifier(kind, seed).fit(part[train], y_train), n_classes) for part in x]
        for where, m in zip(("first", "second", "last"), (0, len(x) - 2, len(x) - 1)):
            answers = heads[kind][m](x[m][test]).argmax(axis=1)
            figures[f"{kind}.{where}"] = accuracies(answers, y_test)
    heads["ours"] = [*heads["ridge"][:-1], heads["svm"][-1]]
    for kind in ("lr", "svm"):  # Algorithm 2, lines 6-11
        made = [held_out(kind, part[train], y_train, n_classes, fraction=1 - settings["delta"], seed=seed)
                for part in x]
        held[kind], aside = [m[1] for m in made], y_train[made[0][2]]

    stages = cdl_stages(held["lr"], aside, seconds, 1e-4, settings["cdl"])
    pooled = [np.concatenate(part) for part in zip(*(false_acceptance(s, aside) for s in held["svm"][:-1]))]
    paper = early_exit.Recipe("svm", "paper", alpha=settings["alpha"])
    risk = early_exit.Recipe("ridge", "risk", max_loss=settings["max_loss"], certainty=settings["certainty"], seed=seed)
    early = range(len(x) - 1)
    cascades = {
        "cascaded": ("lr", "top", cascaded_thresholds(held["lr"], aside, settings["cascaded"])),
        "cdl": ("lr", "single", [*(settings["cdl"] if m in stages else np.inf for m in early), -np.inf]),
        "fixed": ("svm", "top", [*(threshold(*pooled, settings["alpha"]) for _ in early), -np.inf]),
        "adaptive": ("svm", "top", thresholds_of(held["svm"], aside, paper)),
        "risk": ("ours", "margin", thresholds_of(known, y_train, risk, seconds=seconds)),
        "placed": ("ours", "margin", placed)}
    for name, (kind, confidence, t) in cascades.items():
        scores = [h(part[test]) for h, part in zip(heads[kind], x)]
        figures[name] = scored(scores, t, confidence, y_test, seconds)
        if seed == 0 and not lab.quick:  # for benchmarks/exit_cost.py, which times them
            chain = Chain(backbones.load(settings["backbone"]), figures["exits"][:-1])
            cascade = early_exit.Cascade(chain, heads[kind], t, list(map(str, range(n_classes))), confidence=confidence)
            early_exit.save(cascade, lab.work / f"{lab.run}-{name}")
    figures["area"] = area(*curve(Judged(known, y_train, "margin"), Judged(scores, y_test, "margin"), seconds))
    return figures


def lesson(lab):
    """Three exits of the network that ships, on digits."""
    train, test = data.load("digits").split(0.5)
    chain = Chain(backbones.load("inception_small"), ["ch_concat_3a_chconcat", "ch_concat_3c_chconcat"])
    image = next(iter(test.gluon_loader(1, chain.backbone.preprocessing)))[0]
    step("The network in three segments; whoever stops asking has stopped it.",
         **{exit: f"maps {maps.shape}" for exit, maps in chain.run(image)})
    (x, _), (x_test, _), y, y_test = *(exit_features(chain, d) for d in (train, test)), train.targets, test.targets
    step("x_m: global average pooling and L2 norm, at all exits from one pass.", **dict(zip(("x_1", "x_2", "x_3"), x)))
    made = [held_out("svm", part, y, 10) for part in x]
    scores, aside = [m[1] for m in made], y[made[0][2]]
    step("A one-versus-all SVM at each exit on 70 % of the training images; the others are scored.",
         **{f"s_{m + 1}": s for m, s in enumerate(scores)},
         accuracy=[float(round(100 * (s.argmax(axis=1) == aside).mean(), 1)) for s in scores])
    seconds = seconds_of(chain, 32)
    recipes = {"paper": early_exit.Recipe(rule="paper", alpha=0.05),
               "conformal": early_exit.Recipe(rule="conformal", alpha=0.05),
               "risk": early_exit.Recipe(rule="risk", max_loss=0.02, scores="held_out")}
    chosen = {name: thresholds_of(scores, aside, recipe, seconds=seconds) for name, recipe in recipes.items()}
    step("Thresholds: s_m, the floor(alpha m (N - K) / M)-th largest inter-class score of the N - K = 270 (alpha 0.05, "
         "M = 3), and two other promises; paper then trains its SVMs anew on all images.",
         **{name: np.round(t[:-1], 2).tolist() for name, t in chosen.items()})
    judged = [m[0](part) for m, part in zip(made, x_test)]
    refit = [head(classifier("svm").fit(part, y), 10)(new) for part, new in zip(x, x_test)]  # the paper's line 13
    chosen["last exit"] = [np.inf, np.inf, -np.inf]
    lines = {name: scored(refit if name == "paper" else judged, t, getattr(recipes.get(name), "confidence", "top"),
                          y_test, seconds) for name, t in chosen.items()}
    table(["rule", "accuracy, %", "speed-up", "left at 1, 2, 3"],
          [[name, line["accuracy"], line["speedup"], line["left"].tolist()] for name, line in lines.items()])
    times, accurate = curve(Judged(scores, aside, "margin"), Judged(judged, y_test, "margin"), seconds)
    plots.curves(lab.work / "early_exit.png", {"digits": (100 * times / times[0], 100 * accurate)},
                 xlabel="time, % of the whole network", ylabel="accuracy, %")
    some = test.take(np.arange(0, len(test), len(test) // 12)[:12])
    cascade = early_exit.Cascade(chain, [m[0] for m in made], chosen["paper"], test.classes)
    found = cascade.answers(some.module_iter(12, chain.backbone.preprocessing, labels=False))
    above = [*(f" > {t:.2f}" for t in cascade.thresholds[:-1]), ""]
    captions = [f"{test.classes[label]} at exit {m + 1}\n{sure:.2f}{above[m]}"
                for label, m, sure in zip(found.labels, found.exits, found.confidences)]
    plots.gallery(lab.work / "images.png", [some.image(i) for i in range(12)], captions)
    print(f"\n    accuracy against time: {lab.work / 'early_exit.png'}; where images left: {lab.work / 'images.png'}")


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, lesson=lesson, quick=QUICK)
