"""Paper 5: feature maps seen, cached, matched and trained on; the method section as a script.

    python experiments/feature_maps.py                         the lesson: on digits, under a minute
    python experiments/feature_maps.py mnist --seeds 0 1 2     hits, wrong hits and accuracy of matching on MNIST
    python experiments/feature_maps.py cifar10 | caltech101    the same on larger sets and networks
    python experiments/feature_maps.py pairs --seeds 0 1 2 3 4     a new network trained on maps (two digits)

Question: can an image whose feature maps are those of an earlier image take its label and skip the deeper layers? And
does a network learn from maps what it learns from images? Protocol: a network is trained on one part of the training
images, which are cached; the threshold of a match is calibrated on others, so that at most a budget of all images gets
a wrong label; test images are scored once. MNIST's network and epochs were chosen on training images alone, in
benchmarks/map_recipes.py. Times: map_cache.py there; sounds: similar_sounds.py. Source: Anand et al., sections 2 and 5.

Evidence:

    maps.network_accuracy.mnist                    98.400 ± 0.060 % (n = 3), AMD EPYC x 2, 7337b06
    maps.accuracy.mnist                            98.520 ± 0.062 % (n = 3), AMD EPYC x 2, 7337b06
    maps.hits.mnist.relu3_fwd.0_5pc                94.91 ± 0.75 % (n = 3), AMD EPYC x 2, 7337b06
    maps.wrong_hits.mnist.relu3_fwd.0_5pc          0.433 ± 0.067 % (n = 3), AMD EPYC x 2, 7337b06
    maps.half_labelled.accuracy                    98.55 ± 0.28 % (n = 3), AMD EPYC x 2, 7337b06
    maps.hits.cifar10.ch_concat_4b_chconcat.0_5pc  47.9 ± 4.4 % (n = 10), AMD EPYC x 2, b2b70a5 to e79847b
    maps.hits.caltech101.block15_project.0_5pc     6.0 ± 1.0 % (n = 3), AMD EPYC x 2, 7337b06 to 0bb1541
    maps.model1.3-8                                98.4 ± 1.5 % (n = 5), AMD EPYC x 2, 392b25e to 0bb1541
    maps.model2.conv3.3-8                          65 ± 18 % (n = 5), AMD EPYC x 2, 392b25e to 0bb1541
    maps.net_speedup.mnist                         0.3496 ratio (n = 1), AMD EPYC x 2, 7337b06
    maps.net_speedup.duplicates                    1.355 ± 0.047 ratio (n = 3), AMD EPYC x 2, b2b70a5 to 0bb1541
    maps.points_lost.duplicates                    −0.08 ± 0.38 points (n = 3), AMD EPYC x 2, b2b70a5 to 0bb1541
"""
import numpy as np
from lab import main, step, table
from lab.map_rows import rows
from lab.map_sets import SETS, decided, score

from mxelm import data, training
from mxelm.backbones.gluon import from_block
from mxelm.calibration import threshold
from mxelm.feature_maps import Cache, MatchingClassifier, map_images, maps_figure, maps_of, network
from mxelm.feature_maps.gain import DoesNotPay
from mxelm.feature_maps.networks import PREPROCESSING
from mxelm.feature_maps.search import Nearest, distance
from mxelm.pooling import mean_and_deviation
from mxelm.reporting import plots
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet

TRAINING = {"epochs": 2, "batch": 50, "rate": 0.1, "momentum": 0.9}  # rate: falls linearly to zero
LAYERS = ["relu1_fwd", "relu2_fwd", "relu3_fwd"]
BUDGETS = [0.001, 0.002, 0.005, 0.01, 0.02]  # of all images: wrong labels from the cache
RUNS = {
    "mnist": {**TRAINING, "epochs": 3, "mean": True, "cached": 30_000, "held": 5_000, "labelled": 2_000,
              "layers": LAYERS[1:], "budgets": BUDGETS},  # epochs and mean: chosen by benchmarks/map_recipes.py
    "cifar10": {"cached": 20_000, "held": 5_000, "layers": ["ch_concat_3a_chconcat", "ch_concat_3c_chconcat",
                                                          "ch_concat_4b_chconcat"], "budgets": BUDGETS},
    "caltech101": {"per_class": 30, "test_per_class": 20, "n_neurons": 1024, "budgets": [0.005, 0.01, 0.02],
                   "layers": ["block2_add", "block4_add", "block8_project", "block15_project"]},
    "pairs": {**TRAINING, "pairs": ["3-8", "4-9", "1-7"], "images": 2000, "per_image": 2, "layers": LAYERS},
}
QUICK = {"images": 250, "cached": 700, "held": 300, "epochs": 12, "batch": 20}


def trained(images, settings, seed, preprocessing=PREPROCESSING):
    """The paper's small network after its training, as a Backbone image -> scores."""
    seed_mxnet(seed)
    net = network(len(images.classes), mean=settings.get("mean", True))
    net.initialize(mx.init.Xavier())
    training.fit(net, images.gluon_loader(settings["batch"], preprocessing, shuffle=seed), settings["epochs"],
                 lambda done: settings["rate"] * (1 - done), settings={"momentum": settings["momentum"]}, seed=seed)
    return from_block(net, preprocessing)


def matched(backbone, cache, held, test, settings):
    """Figures of matching layer by layer: what the paper's plan asks, spelled out.

    V of every cached image -> D of a query to the nearest V -> a threshold on held-out images -> hits on test images.
    """
    U_held, U = (Cache.of(backbone, part, settings["layers"], batch=100) for part in (held, test))
    own = backbone.extract(test.module_iter(100, backbone.preprocessing, labels=False)).argmax(axis=1)
    figures = {"network_accuracy": np.mean(own == test.targets), "cached": len(cache.labels), "held": len(held)}
    for layer, T in cache.descriptors.items():
        nearest = Nearest(T)
        D_held, number = nearest(U_held.descriptors[layer])
        wrong = cache.labels[number] != held.targets
        D, number = nearest(U.descriptors[layer])
        label = cache.labels[number]
        figures[layer] = {"nearest": np.mean(label == test.targets)}
        for budget in settings["budgets"]:
            hit = -threshold(-D_held, wrong, budget) > D
            figures[layer][str(budget)] = {"hits": hit.mean(), "wrong_hits": np.mean(hit & (label != test.targets)),
                                           "accuracy": np.mean(np.where(hit, label, own) == test.targets)}
    return figures


def mnist(settings, seed, lab):
    """Half of the images train the network and are cached; of the others a part calibrates, the rest is labelled."""
    images, test = lab.load("mnist", "train"), lab.load("mnist", "test")
    order = np.random.default_rng(seed).permutation(len(images))
    n, m = settings["cached"], settings["held"]
    cached, held, rest = (images.take(np.sort(part)) for part in np.split(order[:n + m + settings["labelled"]],
                                                                               [n, n + m]))
    backbone = trained(cached, settings, seed)
    cache = Cache.of(backbone, cached, settings["layers"], batch=100)
    figures = matched(backbone, cache, held, test, settings)
    model = MatchingClassifier(backbone, settings["layers"], must_pay=False, batch=100).fit(held, cache=cache)
    return {**figures, "half_labelled": decided(model, rest), "layer_by_layer": decided(model, test),
            "gain": model.gain_.to_json()}


def pairs(settings, seed, lab):
    """Model 1 learns from images of two digits, model 2 from maps of model 1; both are tested on the same images."""
    figures = {}
    for pair in settings["pairs"]:
        learn, test = (lab.load("mnist", split).only(pair.split("-")) for split in ("train", "test"))
        learn = learn.take(np.sort(np.random.default_rng(seed).permutation(len(learn))[:settings["images"]]))
        model1 = trained(learn, settings, seed)
        figures[pair] = {"model1": score(model1, test)}
        for name, layers in [*((f"conv{i}", [layer]) for i, layer in enumerate(settings["layers"], 1)),
                             ("all", settings["layers"])]:
            maps = map_images(model1, learn, layers, per_image=settings["per_image"], seed=seed)
            model2 = trained(maps, {**settings, "epochs": max(1, settings["epochs"] // 2)}, seed)
            figures[pair][name] = score(model2, test)
    return figures


def one_seed(run, settings, seed, lab):
    if run not in SETS:
        return {"mnist": mnist, "pairs": pairs}[run](settings, seed, lab)
    backbone, cached, held, test = SETS[run](settings, seed, lab)
    return matched(backbone, Cache.of(backbone, cached, settings["layers"], batch=100), held, test, settings)


def lesson(lab):
    """On scikit-learn's digits: every step with its shapes and numbers."""
    settings = {**RUNS["mnist"], "epochs": 10, "batch": 20, "cached": 700, "held": 558, "layers": LAYERS,
                "budgets": [0.005, 0.02]}
    learn, test = data.load("digits").split(0.3, seed=0)
    order = np.random.default_rng(0).permutation(len(learn))
    cached, held = (learn.take(np.sort(part)) for part in np.split(order, [settings["cached"]]))
    backbone = trained(cached, settings, 0)
    step("The network, trained on the cached images, and its maps of one image", network=repr(backbone))
    x = np.stack([PREPROCESSING(test.image(i)) for i in range(2)])
    for layer, maps in maps_of(backbone, x, LAYERS).items():
        step(f"{layer}: V = (mu_0, sigma_0, mu_1, ...), mean and deviation of each map", maps=maps[0],
             V=mean_and_deviation(maps)[0], D_of_two_images=distance(*mean_and_deviation(maps)))
        plots.save(maps_figure(maps[0], layer), lab.work / f"{layer}.png")
    cache = Cache.of(backbone, cached, LAYERS)
    figures = matched(backbone, cache, held, test, settings)
    step("A match where D < t; t is calibrated so that at most a budget of all images gets a wrong label",
         cached=len(cached), held=len(held), test=len(test), network_accuracy=100 * figures["network_accuracy"])
    table(("layer, %", "budget", "hits", "wrong hits", "accuracy"),
          [(layer, 100 * budget, *(100 * float(value) for value in figures[layer][str(budget)].values()))
           for layer in figures if layer.endswith("_output") for budget in settings["budgets"]])
    try:
        MatchingClassifier(backbone, LAYERS[-1:]).fit(held, cache=cache)
    except DoesNotPay as refusal:
        step("Does it pay? hit rate x cost skipped > search cost", refused=str(refusal))
    twos = [part.only(["3", "8"]) for part in (cached, test)]
    model1 = trained(twos[0], settings, 0)
    found = [("images (model 1)", len(twos[0]), 100 * score(model1, twos[1]))]
    for layer in LAYERS:
        maps = map_images(model1, twos[0], [layer], per_image=4)
        model2 = trained(maps, {**settings, "epochs": 5}, 0)
        found.append((f"maps of {layer} (model 2)", len(maps), 100 * score(model2, twos[1])))
    step("Training on maps, 3 against 8: both models are tested on the same original images")
    table(("learnt from", "n", "accuracy, %"), found)
    print(f"\nPictures of the maps: {lab.work}/*.png. Next: `mxelm maps show inception_small IMAGE --out maps`,\n"
          "`mxelm maps cache --data digits --out digits.maps`, `python experiments/feature_maps.py mnist`")


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, lesson=lesson, quick=QUICK)
