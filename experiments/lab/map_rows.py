"""Rows of paper 5 from its seeds: hits, wrong hits, accuracies; and the picture of hits over budgets."""
from itertools import product

import numpy as np

from mxelm.reporting import plots, results

RECIPE = "chosen on training images alone: maps.development.*, benchmarks/map_recipes.py"


def rows(run, settings, seeds, lab):
    """Hit rates, wrong hits and accuracies of a set; the two models' accuracies of the digit pairs."""
    if run == "mnist":
        settings = {**settings, "recipe": RECIPE}

    def row(id, value, better="higher", **conditions):
        return results.over_seeds(f"maps.{id}", [100 * value(s) for s in seeds], "%", better,
                                  conditions={**settings, **conditions})

    if run == "pairs":
        return [row(f"{name if name == 'model1' else f'model2.{name}'}.{pair}",
                    lambda s, pair=pair, name=name: s[pair][name])
                for pair in settings["pairs"] for name in seeds[0][pair]]
    layers = [layer for layer in seeds[0].figures if layer.endswith("_output")]
    made = [row(f"network_accuracy.{run}", lambda s: s["network_accuracy"]),
            row(f"accuracy.{run}", lambda s: s[layers[-1]]["0.005"]["accuracy"], layer=layers[-1], budget=0.005)]
    for layer, budget, what in product(layers, settings["budgets"], ("hits", "wrong_hits")):
        made.append(row(f"{what}.{run}.{layer[:-7]}.{_name(budget)}", lambda s: s[layer][str(budget)][what],  # noqa: B023
                        "higher" if what == "hits" else "lower"))
    if run == "mnist":
        made.append(row("half_labelled.accuracy", lambda s: s["half_labelled"]["accuracy"], budget=0.005,
                        what="labels given to images of the other half, layer by layer, by the network where none hits",
                        measured=[{name: s[name] for name in ("half_labelled", "layer_by_layer", "gain")}
                                  for s in seeds]))
    if run == "caltech101":
        made.append(row("similar.images", lambda s: s[layers[-1]]["nearest"], layer=layers[-1]))
    plots.curves(lab.work / f"{run}-hits.png", {
        layer[:-7]: (100 * np.array(settings["budgets"]),
                     [100 * np.mean([s[layer][str(budget)]["hits"] for s in seeds]) for budget in settings["budgets"]])
        for layer in layers}, xlabel="budget of wrong hits, % of all images", ylabel="hits, % of test images")
    return made


def _name(budget):
    """0.005 -> "0_5pc": an id has no second decimal point."""
    return f"{100 * budget:g}pc".replace(".", "_")
