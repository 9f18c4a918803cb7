"""What paper 4's runs share: images, features of all exits from one pass, and what answers and thresholds are worth."""
import time

import numpy as np

from lab.kept import digest
from mxelm import backbones
from mxelm.chain import Chain
from mxelm.early_exit.features import exit_features
from mxelm.early_exit.fitting import seconds_of
from mxelm.early_exit.rules import leave_at
from mxelm.files import atomic_write


def images_of(settings, lab):
    """The images of a run, so many a class: those that every seed divides into training and test images."""
    images = lab.load(settings["set"])
    some = np.concatenate([part.positions for part in images.per_class(settings["train"], rest=settings["test"])])
    return images.take(np.sort(some))


def split(y, count, seed):
    """Rows that train, `count` a class, and all others."""
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:count] for c in np.unique(y)])
    return np.sort(train), np.setdiff1d(np.arange(len(y)), train)


def passed(settings, lab):
    """Features of all candidate exits, labels, and seconds up to each exit, from one pass that --work keeps."""
    images = images_of(settings, lab)
    file = lab.work / f"features-{digest([settings['backbone'], settings['candidates'], images.name])}.npz"
    if not file.exists():
        chain = Chain(backbones.load(settings["backbone"]), settings["candidates"])
        x, rows = exit_features(chain, images, progress=True)
        with atomic_write(file) as temporary:
            np.savez(temporary, *x, y=images.targets[rows], seconds=seconds_of(chain, clock=time.process_time))
    kept = np.load(file)
    return [kept[f"arr_{m}"] for m in range(len(settings["candidates"]) + 1)], kept["y"], kept["seconds"]


def accuracies(answers, y):
    """Accuracy and its mean over classes, in %."""
    right = answers == y
    return {"accuracy": 100 * right.mean(), "per_class": 100 * np.mean([right[y == c].mean() for c in np.unique(y)])}


def scored(scores, t, confidence, y, seconds):
    """What thresholds make of test images: accuracy, loss in points a class and speed-up against the last exit."""
    left, answers = leave_at(scores, t, confidence)
    last = accuracies(scores[-1].argmax(axis=1), y)
    found = accuracies(answers, y)
    return {**found, "loss": last["per_class"] - found["per_class"], "left": np.bincount(left, minlength=len(t)),
            "plain_loss": last["accuracy"] - found["accuracy"],
            "speedup": seconds[-1] / np.mean(np.take(seconds, left))}
