"""The larger sets of paper 5, and what is counted on test images.

Each of SETS gives a network that is trained, images for its cache, held-out images and test images.
"""
import numpy as np

from mxelm import backbones, fused


def cifar10(settings, seed, lab):
    """The network that ships, trained on the cached images: held-out and test images are halves of the test file."""
    images, unseen = lab.load("cifar10", "train"), lab.load("cifar10", "test")
    backbone = backbones.load("inception_small", cut="fc1_output")
    cached = images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:settings["cached"]]))
    held, test = unseen.split(1 - settings["held"] / len(unseen), seed)
    return backbone, cached, held, test


def caltech101(settings, seed, lab):
    """EfficientNet-Lite0 with an ELM; its training images are cached, half of the others calibrate."""
    cached, rest = lab.load("caltech101", background=False).per_class(settings["per_class"], seed,
                                                                     2 * settings["test_per_class"])
    backbone = fused.fit(backbones.load("efficientnet_lite0_224"), cached, n_neurons=settings["n_neurons"],
                         seed=seed).predictor.network
    held, test = rest.split(0.5, seed)
    return backbone, cached, held, test


def decided(model, images):
    """What a MatchingClassifier decides: accuracy, hits, hits at each layer and wrong hits, as fractions of images."""
    found = model.decide(images)
    hit = found.layer >= 0
    return {"accuracy": np.mean(found.labels == images.targets), "hits": hit.mean(),
            "hits_by_layer": [np.mean(found.layer == m) for m in range(len(model.layers))],
            "wrong_hits": np.mean(hit & (found.labels != images.targets)), "images": len(images)}


def score(backbone, test):
    """Fraction of the test images whose highest score is at their class."""
    scores = backbone.extract(test.module_iter(100, backbone.preprocessing, labels=False))
    return float(np.mean(scores.argmax(axis=1) == test.targets))


SETS = {"cifar10": cifar10, "caltech101": caltech101}
