"""k-NN slicing: what a fitness evaluation costs, and a whole serial search.

A part of knn_slicing.py, which parses and writes. Question: what does the exact shortcut (one channel's share of every
distance) save against computing everything anew for each candidate? Both run in turn, and their votes are compared.
"""
import itertools
import os
import time

import numpy as np
from knn_baselines import KNN, load_mnist
from timing import in_turn

from mxelm.cli import options
from mxelm.knn_slicing import banks, kernels
from mxelm.knn_slicing.evolution.candidates import Task, plugged, vector_of, weights_of
from mxelm.knn_slicing.evolution.fitness import KernelFitness
from mxelm.knn_slicing.evolution.search import Plan, evolve
from mxelm.knn_slicing.evolution.strategies import METHODS
from mxelm.knn_slicing.kernels import Kernels
from mxelm.neighbours import nearest, vote
from mxelm.reporting import results

COST = {"references": 4000, "queries": 1000, "population": 64, "generations": 100, "rounds": 5, "sigma": 0.3}
QUICK_COST = {**COST, "references": 300, "queries": 60, "population": 8, "generations": 2, "rounds": 2}


def add_arguments(parser):
    """The flags of `fitness`, which `evolve` shares."""
    parser.add_argument("--method", choices=METHODS, default="cma", help="of the search (default: cma)")
    for name, what in (("generations", "of each search"), ("population", "candidates a generation"),
                       ("filters", "the first so many of a layer (default: all)"),
                       ("listed", "references a query is measured against before the certificate")):
        parser.add_argument(f"--{name}", type=options.positive, help=what)
    parser.add_argument("--sigma", type=options.above_zero,
                        help="of the start, in standard deviations of a filter's weights")
    parser.add_argument("--threads", type=options.positive, default=1, help="of this process")


def chosen(args, defaults):
    """The defaults with what was given on the command line."""
    return {name: value if getattr(args, name, None) is None else getattr(args, name)
            for name, value in defaults.items()}


def run(args):
    """What a fitness evaluation costs beside a naive one, votes compared, and a whole serial search of conv2."""
    settings = chosen(args, QUICK_COST if args.quick else COST)
    r, q = settings["references"], settings["queries"]
    train, _ = load_mnist(args)
    images, labels = train.source.images[:r + q], train.targets[:r + q]
    bank, queries, threads = banks.kmeans(images[:r], 0), np.arange(r, r + q), args.threads
    fitness = KernelFitness(images, labels, np.arange(r), "accuracy", "l2", KNN["k"], args.listed or 64,
                            threads=threads)
    weights, rng = weights_of(bank), np.random.default_rng(0)
    plan = {"method": args.method, "filters": args.filters or (2 if args.quick else None),
            **{name: settings[name] for name in ("generations", "population", "sigma")}}
    Plan(**plan).stages(weights)  # what cannot be searched is refused before anything is timed
    start, spread_ = vector_of(weights, "conv2", 0), settings["sigma"] * bank.conv2[0].std()
    candidates = start + spread_ * rng.standard_normal((settings["population"], len(start)))
    task = Task(weights, "conv2", 0, queries, None, candidates)
    before = time.perf_counter()
    fitness.evaluate(task._replace(vectors=candidates[:1]))
    preparation = time.perf_counter() - before  # once a filter, one candidate in it
    naive, turn = {}, itertools.cycle(range(len(candidates)))

    def full():
        i = next(turn)
        naive[i] = naively(plugged(weights, "conv2", 0, candidates[i]), images, labels, queries, r)

    seconds = in_turn({"naive": full, "fast": lambda: fitness.evaluate(task)}, settings["rounds"], "in turn")
    fast = seconds["fast"] / len(candidates) + preparation / (settings["generations"] * len(candidates))
    votes = fitness.votes(task)
    while len(naive) < len(candidates):
        full()
    equal = int(sum((votes[i] == naive[i]).sum() for i in naive))
    conditions = {**settings, "k": KNN["k"], "metric": "l2", "listed": fitness.listed, "threads": threads,
                  "cores": len(os.sched_getaffinity(0)), "naive_ms": 1e3 * seconds["naive"], "fast_ms": 1e3 * fast,
                  "preparation_ms": 1e3 * preparation, "votes_equal": equal, "votes": int(votes.size),
                  "what": "naive: forward of all images and exact k-NN by mxelm.neighbours for each candidate; fast: "
                          "its share of a batch and of the filter's preparation; wall time, medians in turn"}
    rows = [results.row("knn.fitness_speedup", seconds["naive"] / fast, "ratio", "higher", command=args.command,
                        conditions=conditions)]
    return rows + [whole_search(args, settings, fitness, bank, queries, plan)]


def naively(weights, images, labels, queries, r):
    """Classes of the queries, int64 (q,), by everything anew."""
    features = kernels.features(images, Kernels(*weights))
    distances, indices = nearest(features[queries], features[:r], KNN["k"], "l2")
    return vote(distances, labels[indices], 10)


def whole_search(args, settings, fitness, bank, queries, plan):
    """Minutes of the serial optimisation of conv2's 64 filters; of --filters of them, and the rest in proportion."""
    began = time.perf_counter()
    filters = plan["filters"] or 64
    found = evolve(bank, fitness, queries, progress=True, **plan)
    minutes = (time.perf_counter() - began) / 60
    conditions = {**settings, "method": args.method, "threads": args.threads, "filters": 64, "filters_run": filters,
                  "minutes_run": minutes, "evaluations_run": found.evaluations, "listed": fitness.listed,
                  "cores": len(os.sched_getaffinity(0)),
                  "what": "all filters run to the end"}
    if filters < 64:
        conditions["what"] = conditions["reason"] = f"the first {filters} of 64 filters run to the end, times " \
                                                    f"{64 / filters:g}"
    return results.row("knn.evolution_minutes", minutes * 64 / filters, "minutes", "lower", command=args.command,
                       seconds=60 * minutes, conditions=conditions)
