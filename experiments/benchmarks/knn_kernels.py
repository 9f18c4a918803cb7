"""Paper 2: kernels that nothing evolved, and short searches in the modes that the lesson does not use.

    python experiments/benchmarks/knn_kernels.py kmeans_4000 --seeds 0 1 2     BANK_4000, BANK_60000: minutes a seed
    python experiments/benchmarks/knn_kernels.py parallel --seeds 0 1          a short search, a minute or two a seed

Question: what is there for evolution to add, and do other ways to search find as much with as many evaluations? Banks:
raw (pixels), random, kmeans, pca, backprop (of a network trained as the talk's). Each learns from the references
alone, plain and deskewed. Searches of about 290 evaluations each: serial (as in the lesson), parallel (all filters
against the kernels as they were), talk_cma and talk_pso (the slides' formulas). Searches of a dozen or two, with fewer
queries, which show what the mode costs and not what it can find: conv1 (two of its filters, judged behind conv2),
layer (all numbers of conv2 as one individual, separable CMA-ES). Method and protocol are the lesson's,
experiments/knn_slicing.py; McNemar's exact test (seed 0) stands beside every difference of two banks.
"""
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab and the lesson are

import knn_slicing as lesson
from knn_networks import trained
from lab import main
from lab.beside import p_value
from lab.knn_rows import evolved

from mxelm.knn_slicing import banks
from mxelm.knn_slicing.deskew import deskew
from mxelm.reporting import results
from mxelm.reporting.statistics import spread

BANKS = ("raw", "random", "kmeans", "pca", "backprop")
BACKPROP = {"network": "64", "epochs": {4000: 20, 60000: 5}}  # the talk's epochs for so many images
SHORT = {**lesson.SEARCH, "filters": 4, "generations": 6}
# here every candidate passes its images through conv2 anew, which takes seconds
SHORTER = {**SHORT, "generations": 3, "population": 4, "queries": 1200, "n_queries": 300, "validation": 4000}
MODES = {
    "serial": SHORT, "parallel": {**SHORT, "mode": "parallel"}, "talk_cma": {**SHORT, "method": "cma-talk"},
    "talk_pso": {**SHORT, "method": "pso-talk"},
    "conv1": {**SHORTER, "layers": ["conv1"], "conv1": "conv2", "filters": 2},
    "layer": {**SHORTER, "mode": "layer", "method": "sepcma", "filters": None},
}
RUNS = {**{f"{bank}_{n}": {**lesson.KNN, "bank": bank, "references": n} for bank in BANKS for n in lesson.MAIN},
        **MODES}


def one_seed(run, settings, seed, lab):
    if run in MODES:
        return lesson.one_seed(run, settings, seed, lab)
    train, test = lesson.mnist(lab)
    n, found = settings["references"], {}
    for variant, form in (("plain", np.asarray), ("deskewed", deskew)):
        images, labels = form(train[0][:n]), train[1][:n]
        bank = bank_of(settings["bank"], images, labels, seed)
        found[variant] = lesson.judged(bank, (images, labels), (form(test[0]), test[1]), settings)
    return found


def bank_of(name, images, labels, seed):
    """The kernels of one bank, learned on these training images alone; None for the raw pixels."""
    if name == "backprop":
        epochs = BACKPROP["epochs"].get(len(images), 2)
        return banks.backprop(trained(BACKPROP["network"], images, labels, epochs, seed)[0])
    return None if name == "raw" else banks.BANKS[name](images, seed)


def rows(run, settings, seeds, lab):
    if run in MODES:
        return evolved({f"knn.modes.{run}": "test10000" if lab.quick else "test9000"}, settings, seeds, 4000, {})
    n, main_cut = settings["references"], "test10000" if lab.quick else lesson.MAIN[settings["references"]]
    beside = {bank: {seed.seed: seed for seed in lab.kept(f"{bank}_{n}")}.get(0) for bank in BANKS}
    conditions = {**lesson.KNN, "references": n, "test_images": main_cut,
                  "backprop": BACKPROP if settings["bank"] == "backprop" else None}
    for variant in ("plain", "deskewed"):
        found = {cut: [100 * seed[variant]["accuracy"][cut] for seed in seeds] for cut in seeds[0][variant]["accuracy"]}
        conditions[variant] = {cut: {"mean": np.mean(values), "std": spread(values)} for cut, values in found.items()}
        conditions[variant]["mcnemar_p"] = tests(settings["bank"], beside, variant, main_cut)
    return [results.over_seeds(f"knn.baseline.{settings['bank']}.{n}",
                               [100 * seed["plain"]["accuracy"][main_cut] for seed in seeds], "%", "higher",
                               conditions=conditions)]


def tests(bank, beside, variant, cut):
    """{other bank: McNemar's p} of seed 0: of the images that both get wrong where they are kept, else as told."""
    mine = beside[bank][variant] if beside[bank] else {}
    found = dict(mine.get("mcnemar_p", {}))
    for one, other in combinations(BANKS, 2):
        if bank in (one, other) and all(beside[b] and "wrong" in beside[b][variant] for b in (one, other)):
            p = p_value(beside[one][variant], beside[other][variant], lesson.CUTS[cut])
            found[other if one == bank else one] = p
    return found


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=lesson.QUICK)
