"""One set beside another: runs with the same seeds, classifiers that were judged on the same test images."""
import numpy as np

from mxelm.reporting.statistics import discordant, mcnemar


def pairs(seeds, others):
    """[(Seed, the other run's Seed of the same number), ...] of those that both runs have."""
    beside = {other.seed: other for other in others}
    return [(seed, beside[seed.seed]) for seed in seeds if seed.seed in beside]


def p_value(one, other, part=slice(None)):
    """McNemar's exact test between two that were judged on the same test images, of which `part` is looked at.

    one, other: dicts of "test_images", a number, and "wrong", positions of those that were classified wrongly.
    """
    return mcnemar(*_rights(one, other, part))


def only_one_right(one, other, part=slice(None)):
    """On how many images of `part` only the one, and only the other is right: what the test goes by."""
    return discordant(*_rights(one, other, part))


def _rights(one, other, part):
    return [~np.isin(np.arange(found["test_images"]), found["wrong"])[part] for found in (one, other)]
