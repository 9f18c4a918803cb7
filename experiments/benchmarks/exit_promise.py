"""Paper 4's promises: what each rule's exits accept falsely, and what `risk` harms, over 200 splits of MNIST.

    python experiments/benchmarks/exit_promise.py promise
    python experiments/benchmarks/exit_promise.py digits    asks 719 of scikit-learn's digits, which blurs the rates

Three exits stand for a network's: block means of an image, its middle rows, all of its pixels, rows of L2 norm 1; a
one-versus-all SVM at each. A split trains and calibrates on 1,078 images and asks 20,000 others, both of MNIST's
training file: so many that a rate over its budget is hardly their own chance.
Source: Savchenko, Algorithm 2; Jazbec et al., Fast yet Safe.
"""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import numpy as np
from lab import main
from tqdm import tqdm

from mxelm import early_exit
from mxelm.early_exit.fitting import thresholds_of
from mxelm.early_exit.heads import classifier, cross_validated, head, held_out
from mxelm.early_exit.rules import Judged, false_acceptance, path
from mxelm.pooling import l2_normalised
from mxelm.reporting import results

PROMISE = {"splits": 200, "alpha": 0.06, "max_loss": 0.02, "certainty": 0.9, "train": 1078, "test": 20_000}
RUNS = {"promise": PROMISE, "digits": {**PROMISE, "test": 719}}


def exits_of(run, lab):
    """Rows that three exits see of the same images, and labels; MNIST's images are halved in size first."""
    images = lab.load("digits") if run == "digits" else lab.load("mnist", "train")
    pixels = images.source.images[images.positions].astype(np.float32)
    pixels = pixels.reshape(len(pixels), 14, 2, 14, 2).mean((2, 4)) if len(pixels[0]) == 28 else pixels
    n, side = pixels.shape[:2]
    blocks = pixels.reshape(n, side // 2, 2, side // 2, 2).mean((2, 4))
    middle = pixels[:, side // 4:-(side // 4)] + 1e-3  # some are black there
    return [l2_normalised(part.reshape(n, -1)) for part in (blocks, middle, pixels)], images.targets


def one_seed(run, settings, seed, lab):
    """Rates over alpha_m by rule, (splits, 2); harm and time over hindsight of risk, (splits,)."""
    x, y = exits_of(run, lab)
    budget = settings["alpha"] * np.array([1, 2]) / 3
    rates, harmed, spent = {name: [] for name in ("paper", "paper_without_refit", "conformal", "pac")}, [], []
    for number in tqdm(range(5 if lab.quick else settings["splits"]), desc="splits"):
        rows = np.random.default_rng([seed, number]).permutation(len(y))
        rows = rows[:settings["train"] + settings["test"]]
        train, test = rows[:settings["train"]], rows[settings["train"]:]
        made = [held_out("svm", part[train], y[train], 10, seed=number) for part in x[:2]]
        refitted = [head(classifier("svm", number).fit(part[train], y[train]), 10) for part in x[:2]]
        scores, aside = [m[1] for m in made], y[train][made[0][2]]
        for name in rates:
            recipe = early_exit.Recipe("svm", name.partition("_")[0], settings["alpha"], weights="paper",
                                       certainty=settings["certainty"])
            t = thresholds_of([*scores, scores[-1]], aside, recipe)  # the third exit's scores set no threshold
            heads = refitted if name == "paper" else [m[0] for m in made]
            rates[name].append([(false_acceptance(h(part[test]), y[test])[0] > t[m]).mean() / budget[m]
                                for m, (h, part) in enumerate(zip(heads, x))])
        loss, time = risked([part[rows] for part in x], y[rows], settings, number)
        harmed.append(loss)
        spent.append(time)
    return {"rates": rates, "harmed": harmed, "over_hindsight": spent}


def risked(x, y, settings, seed):
    """Share of the test images that `risk` harms, and its time over that of thresholds chosen with hindsight."""
    n = settings["train"]
    scores = [cross_validated("ridge", part[:n], y[:n], 10, seed=seed) for part in x]
    recipe = early_exit.Recipe("ridge", "risk", max_loss=settings["max_loss"], certainty=settings["certainty"],
                               seed=seed)
    seconds = [1, 2, 3]
    t = thresholds_of(scores, y[:n], recipe, seconds=seconds)
    heads = [head(classifier("ridge").fit(part[:n], y[:n]), 10) for part in x]
    test = Judged([h(part[n:]) for h, part in zip(heads, x)], y[n:], "margin")
    safe = [one for one in path(test, seconds) if test.harmed(one).mean() <= settings["max_loss"]]
    best = min(test.seconds(one, seconds) for one in safe)
    return float(test.harmed(t).mean()), test.seconds(t, seconds) / best


def rows(run, settings, seeds, lab):
    """Rows of the first kept seed, whose splits are the n."""
    splits, end = settings["splits"], ".digits" if run == "digits" else ""
    made = [results.row(f"exit.far.{rule}{end}", float(np.mean(seeds[0]["rates"][rule])), "ratio", "lower",
                        std=float(np.std(np.mean(seeds[0]["rates"][rule], axis=1), ddof=1)), n=splits,
                        conditions={"unit": "false acceptance rate over alpha_m, mean of two exits",
                                    "over_alpha": float((np.array(seeds[0]["rates"][rule]) > 1).mean())})
            for rule in seeds[0]["rates"]]
    harmed, budget = np.array(seeds[0]["harmed"]), 1 - settings["certainty"]
    chance = 100 * np.sqrt(budget * (1 - budget) / splits)
    broken = 100 * float((harmed > settings["max_loss"]).mean())
    return [*made, results.row(f"exit.promise.risk{end}", broken, "%", "lower", n=splits, conditions={
        "reason": f"promised are {100 * budget:.0f} %, which {splits} splits show to within {chance:.1f} points (a "
                  f"standard error); {settings['test']} images are asked a split",
        "mean_harm": float(harmed.mean()), "allowed": settings["max_loss"], "promised": 100 * budget,
        "time_over_hindsight": float(np.mean(seeds[0]["over_hindsight"]))})]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows)
