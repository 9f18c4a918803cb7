"""Rows of searches for kernels (paper 2) from their seeds, and McNemar's tests beside each."""
import numpy as np

from lab.beside import only_one_right, p_value
from mxelm.reporting import results, tables
from mxelm.reporting.statistics import spread

CUTS = {"test1000": slice(0, 1000), "test9000": slice(1000, None), "test10000": slice(None)}
MAIN = {4000: "test9000", 60000: "test10000"}  # references -> the test images of a row that names none
DIFFERS = ("the talk says neither which images its fitness is computed on nor how many candidates it evaluates",
           "search, validation and refusal see training images only; the talk does not say which images its fitness is "
           "computed on, nor how many candidates it evaluates")


def rows(run, settings, seeds, lab):
    end = ".deskewed" if settings["deskew"] else ""
    if settings["fitness_on_test"]:
        ids = {4000: {f"knn.{settings['method']}.fitness_on_test.4000": "test1000"}}
    elif settings["method"] == "random":
        ids = {many: {f"knn.baseline.search.{many}": cut} for many, cut in MAIN.items()}
    else:
        ids = {many: {f"knn.{settings['method']}.{many}.{cut}{end}": cut for cut in CUTS} for many in MAIN}
    others = {other: {seed.seed: seed for seed in lab.kept(other)} for other in ("cma", "pso", "search")
              if other != run and run in ("cma", "pso", "search")}
    return [row for many, named in ids.items() if f"evolved.{many}" in seeds[0].figures
            for row in evolved(named, settings, seeds, many, others)]


def evolved(ids, settings, seeds, many, others):
    """The rows of id -> cut of the test images, for a number of references; beside each McNemar's tests.

    others: run -> seed -> the Seed of another search, for such a test too.
    """
    conditions = {**settings, "k_nn_references": many, "evaluations": seeds[0]["evaluations"],
                  "minutes": [seed["minutes"] for seed in seeds], "rounds": [seed["rounds"] for seed in seeds]}
    for cut in seeds[0][f"evolved.{many}"]["accuracy"]:
        found = {name: 100 * np.array([seed[f"{name}.{many}"]["accuracy"][cut] for seed in seeds])
                 for name in ("start", "evolved")}
        conditions[cut] = {f"{name}_{what}": call(values) for name, values in found.items()
                           for what, call in (("mean", np.mean), ("std", spread))}
        conditions[cut].update(tests(seeds, many, cut, others))
    refused = sum(not any(one["accepted"] for one in seed["rounds"]) for seed in seeds if seed["rounds"])
    refusal = refused and (f"the validation images refused what {refused} of {len(seeds)} searches found: there the "
                           "kernels are those that the search started from")
    return [tables.explained(results.over_seeds(
        id, 100 * np.array([seed[f"evolved.{many}"]["accuracy"][cut] for seed in seeds]), "%", "higher",
        seconds=60 * sum(seed["minutes"] for seed in seeds), conditions={**conditions, "test_images": cut}),
        DIFFERS[not settings["fitness_on_test"]], refusal) for id, cut in ids.items() if cut in conditions]


def tests(seeds, many, cut, others):
    """McNemar's p, {against what: [of each seed]}, and the counts behind it: [only here right, only there right].

    Against the start, other searches that are kept, and what old seeds, which have no counts, tell of others.
    """
    found, counts = {}, {}
    for seed in seeds:
        mine = seed[f"evolved.{many}"]
        for name, p in mine.get("mcnemar_p", {}).get(cut, {}).items():
            found.setdefault(name, []).append(p)
        if "wrong" in mine:
            beside = {"start": seed, **{run: kept[seed.seed] for run, kept in others.items() if seed.seed in kept}}
            for name, other in beside.items():
                theirs = other[f"{'start' if name == 'start' else 'evolved'}.{many}"]
                if "wrong" in theirs:
                    found.setdefault(name, []).append(p_value(mine, theirs, CUTS[cut]))
                    counts.setdefault(name, []).append(only_one_right(mine, theirs, CUTS[cut]))
    return {"mcnemar_p": found, **({"mcnemar_counts": counts} if counts else {})}
