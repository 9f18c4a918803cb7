"""CIFAR-10: linear heads on all exits, the whole network trained through them, then exits and thresholds (paper 4)."""
import time

import numpy as np

from lab.exits import accuracies, scored
from mxelm import backbones, early_exit
from mxelm.chain import Chain
from mxelm.early_exit.features import exit_features
from mxelm.early_exit.fitting import seconds_of, thresholds_of
from mxelm.early_exit.heads import Linear, classifier, head
from mxelm.early_exit.placement import curve, place
from mxelm.early_exit.rules import Judged
from mxelm.runtime import seed as seed_mxnet
from mxelm.training import fit, flip_and_crop, warmup_linear


def cifar10(settings, seed, lab):
    """A network trained through all its exits; ridge heads; exits and thresholds by images that it has not seen."""
    train, aside = lab.load("cifar10", "train").split(0.02)  # the shipped weights' own split: 49,000 and 1,000
    test, more = lab.load("cifar10", "test").split(settings["calibration"] / (300 if lab.quick else 10000), seed=seed)
    chain = Chain(trained(settings, train, seed, lab), settings["candidates"])
    seconds = seconds_of(chain, clock=time.process_time)
    x = {name: exit_features(chain, part, batch=128, progress=True)[0]
         for name, part in (("train", train), ("aside", aside), ("more", more), ("test", test))}
    heads = [ridge(part, train.targets, train.n_outputs) for part in x["train"]]
    scores = {name: [h(part) for h, part in zip(heads, parts)] for name, parts in x.items()}
    known = [np.concatenate(pair) for pair in zip(scores["aside"], scores["more"])]
    y = np.concatenate([aside.targets, more.targets])
    figures = {"each": [accuracies(s.argmax(axis=1), test.targets)["accuracy"] for s in scores["test"]],
               "shares": seconds / seconds[-1]}
    exits, placed, _ = place(Judged(known, y, "margin"), seconds, settings["max_loss"])
    risk = early_exit.Recipe("ridge", "risk", max_loss=settings["max_loss"], certainty=settings["certainty"], seed=seed)
    known, asked, seconds = ([values[m] for m in exits] for values in (known, scores["test"], seconds))
    for name, t in (("placed", placed), ("risk", thresholds_of(known, y, risk, seconds=seconds))):
        figures[name] = scored(asked, t, "margin", test.targets, seconds)
    times, accurate = curve(Judged(known, y, "margin"), Judged(asked, test.targets, "margin"), seconds)
    lost = [(seconds[-1] / t, 100 * (accurate[0] - a)) for t, a in zip(times, accurate)]
    return {**figures, "exits": [chain.exits[m] for m in exits], "curve": lost[::3]}  # speed-up, points


def trained(settings, train, seed, lab):
    """The backbone after training with a linear head on every exit (Algorithm 2, line 1); --work keeps it."""
    backbone = backbones.load(settings["backbone"])
    some = train.take(np.arange(min(10_000, len(train))))  # heads begin as least squares of these
    x, _ = exit_features(Chain(backbone, settings["candidates"]), some, batch=128, progress=True)
    seed_mxnet(seed)
    np.random.seed(seed)  # MXNet's initialisers draw from both
    network = early_exit.HeadsOnAllExits(backbone, settings["candidates"], train.n_outputs)
    if "frozen" in settings:
        network.freeze(settings["frozen"])
    network.begin([begun(part, some.targets, train.n_outputs, settings["steepness"]) for part in x])
    network.hybridize(static_alloc=True, static_shape=True)
    fit(network, train.gluon_loader(settings["batch"], backbone.preprocessing, shuffle=seed, augment=flip_and_crop),
        settings["epochs"], warmup_linear(settings["peak"], settings["warmup"]),
        optimizer="nag", forward=early_exit.all_heads,
        settings={"momentum": settings["momentum"], "wd": settings["weight_decay"]},
        checkpoint=f"{lab.place(seed)}.state", resume=True, seed=seed, progress=True)
    return network.trained()


def begun(x, y, n_classes, steepness):
    """What a head begins as: least squares of labels -1 and 1, so many times as steep for the softmax behind it."""
    found = ridge(x, y, n_classes)
    return Linear(steepness * found.W, steepness * found.b)


def ridge(x, y, n_classes):
    """The head that least squares gives."""
    return head(classifier("ridge").fit(x, y), n_classes)
