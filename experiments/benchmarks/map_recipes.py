"""Paper 5: which network and how long a training the matching on MNIST shall have, asked of training images alone.

    python experiments/benchmarks/map_recipes.py mnist --seeds 0 1

Question: the paper leaves the network open; which one has most hits within the budget? Protocol: as in feature_maps.py,
but the last 10,000 images of the training file stand for the test images, and no recipe learns from, caches or
calibrates on them. Of the recipes whose wrong hits keep within the budget of 0.5 %, the one with most hits is what
`feature_maps.py mnist` takes. Test images are not read here.
"""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import feature_maps as lesson
import numpy as np
from lab import main

from mxelm.feature_maps import Cache
from mxelm.reporting import results

BUDGET = 0.005
RUNS = {"mnist": {**lesson.TRAINING, "cached": 30_000, "held": 5_000, "development": 10_000,
                  "layers": lesson.LAYERS[2:], "budgets": [BUDGET],
                  "recipes": {"mean-1": {"mean": True, "epochs": 1}, "mean-3": {"mean": True, "epochs": 3},
                              "whole-1": {"mean": False, "epochs": 1}, "whole-3": {"mean": False, "epochs": 3}}}}
QUICK = {"cached": 600, "held": 300, "development": 300, "batch": 20}


def one_seed(run, settings, seed, lab):
    """Each recipe's figures on the development images."""
    images = lab.load("mnist", "train")
    others, development = np.split(np.arange(len(images)), [len(images) - settings["development"]])
    order = np.random.default_rng(seed).permutation(others)
    cached, held = (images.take(np.sort(part))
                    for part in np.split(order, [settings["cached"], settings["cached"] + settings["held"]])[:2])
    figures = {}
    for name, recipe in settings["recipes"].items():
        backbone = lesson.trained(cached, {**settings, **recipe}, seed)
        cache = Cache.of(backbone, cached, settings["layers"], batch=100)
        figures[name] = lesson.matched(backbone, cache, held, images.take(development), settings)
    return figures


def rows(run, settings, seeds, lab):
    """Hits, wrong hits and the network's own accuracy of each recipe on the development images."""
    layer = f"{settings['layers'][-1]}_output"

    def row(what, name, better, value):
        return results.over_seeds(f"maps.development.{what}.{name}", [100 * value(s[name]) for s in seeds], "%", better,
                                  conditions={**settings, "recipe": settings["recipes"][name]})

    return [made for name in settings["recipes"] for made in (
        row("hits", name, "higher", lambda figures: figures[layer][str(BUDGET)]["hits"]),
        row("wrong_hits", name, "lower", lambda figures: figures[layer][str(BUDGET)]["wrong_hits"]),
        row("network_accuracy", name, "higher", lambda figures: figures["network_accuracy"]))]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
