"""Caltech-101: a network fine-tuned through linear heads on all its exits, then exits and thresholds (paper 4)."""
import time

import numpy as np
from sklearn.model_selection import StratifiedKFold

from lab.exits import accuracies, images_of, scored, split
from lab.exits_trained import ridge, trained
from mxelm.chain import Chain
from mxelm.early_exit import Recipe
from mxelm.early_exit.features import exit_features
from mxelm.early_exit.fitting import seconds_of, thresholds_of
from mxelm.early_exit.placement import place
from mxelm.early_exit.rules import Judged


def finetuned(settings, seed, lab):
    """Two thirds of the training images train the network; the others, new to it, choose exits and thresholds."""
    images = images_of(settings, lab)
    y, n_classes = images.targets, images.n_outputs
    train, test = split(y, settings["train"], seed)
    seen, aside = (train[rows] for rows in split(y[train], settings["train"] - settings["aside"], seed))
    chain = Chain(trained(settings, images.take(seen), seed, lab), settings["candidates"])
    seconds = seconds_of(chain, clock=time.process_time)
    x, _ = exit_features(chain, images, progress=True)

    known = [cross_fitted(part, y, seen, aside, n_classes, seed) for part in x]
    exits, placed, _ = place(Judged(known, y[aside], "margin"), seconds, settings["max_loss"], decision=1e-4)
    heads = [ridge(part[train], y[train], n_classes) for part in x]
    scores = [h(part[test]) for h, part in zip(heads, x)]
    figures = {"each": [accuracies(s.argmax(axis=1), y[test])["per_class"] for s in scores],
               "shares": seconds / seconds[-1], "exits": [chain.exits[m] for m in exits]}
    known, scores, seconds = ([values[m] for m in exits] for values in (known, scores, seconds))
    risk = Recipe("ridge", "risk", max_loss=settings["max_loss"], certainty=settings["certainty"], seed=seed)
    for name, t in (("placed", placed), ("risk", thresholds_of(known, y[aside], risk, seconds=seconds))):
        figures[name] = scored(scores, t, "margin", y[test], seconds)
    return figures


def cross_fitted(x, y, seen, aside, n_classes, seed):
    """Scores of the images set aside, each by a head of the images that trained the network and the other folds."""
    scores = np.empty((len(aside), n_classes), np.float32)
    for others, fold in StratifiedKFold(3, shuffle=True, random_state=seed).split(aside, y[aside]):
        rows = np.concatenate([seen, aside[others]])
        scores[fold] = ridge(x[rows], y[rows], n_classes)(x[aside[fold]])
    return scores
