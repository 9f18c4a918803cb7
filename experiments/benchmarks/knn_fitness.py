"""Paper 2: what a fitness evaluation and a whole search cost, and what slicing gains at inference.

    python experiments/benchmarks/knn_fitness.py fitness        the exact shortcut against everything anew, two threads
    python experiments/benchmarks/knn_fitness.py searches       the same as the searches of the table ask it
    python experiments/benchmarks/knn_fitness.py inference      the full network against the sliced one

Question: what does the exact shortcut (one channel's share of every distance) save against computing everything anew
for each candidate? Both run in turn, and their votes are compared; then a serial search is run, and its minutes are
taken for all 64 filters. Inference: network 128 against kernels and k-NN, image by image and batched; the small
engine, all of NumPy, deskewing included, runs beside them. Keep the machine idle meanwhile. Source: Radu, slides on
training times and k-NN slicing.
"""
import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab and the lesson are

import knn_slicing as lesson
import small_engine
from lab import in_a_process, in_turn, main

from mxelm.knn_slicing import banks, kernels, networks
from mxelm.knn_slicing.evolution.candidates import Task, plugged, vector_of, weights_of
from mxelm.knn_slicing.evolution.fitness import KernelFitness
from mxelm.knn_slicing.evolution.search import evolve
from mxelm.neighbours import References, nearest, vote
from mxelm.reporting import results
from mxelm.runtime import mx

RUNS = {
    "fitness": {"references": 4000, "queries": 1000, "population": 64, "generations": 100, "rounds": 5, "sigma": 0.3,
                "k": 9, "metric": "l2", "listed": 64, "threads": 2, "method": "cma", "filters_run": 4},
    "inference": {"rounds": 30, "references": [4000, 60000], "k": 9, "metric": "cosine"},
}
RUNS["searches"] = {**RUNS["fitness"], "queries": lesson.SEARCH["n_queries"], **{
    name: lesson.SEARCH[name] for name in ("population", "generations", "sigma", "metric", "listed", "fitness")}}
QUICK = {"queries": 60, "population": 8, "generations": 2, "rounds": 2, "filters_run": 2}


def one_seed(run, settings, seed, lab):
    images, labels = lesson.mnist(lab)[0]
    if run == "inference":
        return {str(batch): inference(settings, images, batch, lab.quick) for batch in (1, 32)}
    settings = {**settings, "references": 300 if lab.quick else settings["references"]}
    return in_a_process(costs, settings, images, labels, threads=settings["threads"])


def costs(settings, images, labels):
    """Seconds of an evaluation, naive and fast, and of a search over the first filters of conv2."""
    r, q = settings["references"], settings["queries"]
    images, labels, queries = images[:r + q], labels[:r + q], np.arange(r, r + q)
    bank = banks.kmeans(images[:r], 0)
    fitness = KernelFitness(images, labels, np.arange(r), kind=settings.get("fitness", "accuracy"),
                            metric=settings["metric"], k=settings["k"], listed=settings["listed"],
                            threads=settings["threads"])
    weights, rng = weights_of(bank), np.random.default_rng(0)
    start, sigma = vector_of(weights, "conv2", 0), settings["sigma"] * bank.conv2[0].std()
    candidates = start + sigma * rng.standard_normal((settings["population"], len(start)))
    task = Task(weights, "conv2", 0, queries, fitness.temperature(weights, "conv2", queries), candidates)
    before = time.perf_counter()
    fitness.evaluate(task._replace(vectors=candidates[:1]))
    preparation = time.perf_counter() - before  # once a filter, one candidate in it
    naive, turn = {}, itertools.cycle(range(len(candidates)))

    def full():
        i = next(turn)
        features = kernels.features(images, kernels.Kernels(*plugged(weights, "conv2", 0, candidates[i])))
        distances, indices = nearest(features[queries], features[:r], settings["k"], metric=settings["metric"])
        naive[i] = vote(distances, labels[indices], 10)

    seconds = in_turn({"naive": full, "fast": lambda: fitness.evaluate(task)}, settings["rounds"], "in turn")
    fast = seconds["fast"] / len(candidates) + preparation / (settings["generations"] * len(candidates))
    while len(naive) < len(candidates):
        full()
    votes = fitness.votes(task)
    plan = {name: settings[name] for name in ("method", "generations", "population", "sigma")}
    found = evolve(bank, fitness, queries, filters=settings["filters_run"], **plan)
    return {"naive_ms": 1e3 * seconds["naive"], "fast_ms": 1e3 * fast, "preparation_ms": 1e3 * preparation,
            "votes_equal": int(sum((votes[i] == naive[i]).sum() for i in naive)), "votes": int(votes.size),
            "speedup": seconds["naive"] / fast, "minutes_run": found.seconds / 60,
            "evaluations_run": found.evaluations, "cores": len(os.sched_getaffinity(0))}


def inference(settings, images, batch, quick):
    """Milliseconds of a batch by name: the full network, features alone, the small engine, each number of references.
    """
    references = [400, 1200] if quick else settings["references"]
    full, bank = networks.network("128"), banks.random(0)
    full.initialize(mx.init.Xavier())
    features = networks.from_kernels(bank)
    for network in (full, features):
        network.hybridize(static_alloc=True, static_shape=True)
    labels, small = np.arange(max(references)) % 10, small_engine.untrained(small_engine.SIZES["75k"])
    indexes = {n: References(kernels.features(images[:n], bank), metric=settings["metric"]) for n in references}
    x = mx.nd.array(images[:batch, None] / np.float32(255))

    def sliced(index):
        distances, found = index.nearest(features(x).asnumpy(), settings["k"])
        return vote(distances, labels[found], 10)

    calls = {"full": lambda: full(x).asnumpy(), "features": lambda: features(x).asnumpy(),
             "small engine": lambda: small.predict(images[:batch]),
             **{str(n): lambda index=index: sliced(index) for n, index in indexes.items()}}
    seconds = in_turn(calls, settings["rounds"], f"batches of {batch}")
    return {name: 1e3 * value for name, value in seconds.items()}


def rows(run, settings, seeds, lab):
    if run == "inference":
        return [inference_row(settings, [seed[batch] for seed in seeds], batch) for batch in ("1", "32")]
    filters, last = settings["filters_run"], seeds[-1].figures
    if run == "searches":
        return [results.over_seeds("knn.fitness_speedup.searches", [seed["speedup"] for seed in seeds], "ratio",
                                   "higher", conditions={**settings, **last})]
    shared = {**settings, "filters": 64, "cores": last["cores"]}
    what = f"the first {filters} of 64 filters run to the end, times {64 / filters:g}"
    return [
        results.over_seeds("knn.fitness_speedup", [seed["speedup"] for seed in seeds], "ratio", "higher", conditions={
            **settings, **last, "what": "naive: forward of all images and exact k-NN by mxelm.neighbours for each "
            "candidate; fast: its share of a batch and of the filter's preparation; wall time, medians in turn"}),
        results.over_seeds("knn.evolution_minutes", [seed["minutes_run"] * 64 / filters for seed in seeds], "minutes",
                           "lower", seconds=60 * sum(seed["minutes_run"] for seed in seeds), conditions={
                               **shared, "minutes_run": last["minutes_run"],
                               "evaluations_run": last["evaluations_run"], "what": what, "reason": what})]


def inference_row(settings, found, batch):
    """Time of the full network over time of the sliced one with the fewer references."""
    few, many = [name for name in found[-1] if name.isdigit()]
    ratio = {name: found[-1]["full"] / milliseconds for name, milliseconds in found[-1].items()}
    return results.over_seeds(
        f"knn.inference_speedup.b{batch}", [one["full"] / one[few] for one in found], "ratio", "higher", conditions={
            **settings, "batch": int(batch), "milliseconds": found[-1], f"speedup_{many}_references": ratio[many],
            "speedup_without_knn": ratio["features"], "speedup_of_small_engine": ratio["small engine"],
            "what": f"network 128 over kernels and k-NN in {few} references, medians of runs in turn; the small engine "
                    "has 75,264 bytes, NumPy alone, and deskews"})


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
