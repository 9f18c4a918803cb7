"""Paper 5: what a cache of feature maps costs, and where it pays.

    python experiments/benchmarks/map_cache.py duplicates --seeds 0 1 2   near-duplicates among the queries: it pays
    python experiments/benchmarks/map_cache.py caltech101 | cifar10       queries that are all new
    python experiments/benchmarks/map_cache.py mnist                      a network so small that it does not
    python experiments/benchmarks/map_cache.py search                     1-NN over its bound, and over hnswlib
    python experiments/benchmarks/map_cache.py memory                     peak memory of a cache written to disk

Question: when is hit rate x cost skipped > search cost? Protocol: the three figures are measured on held-out queries,
by layers and size of the cache; the layers with most to gain there then decide new queries, in turn with the network
alone, decoded pictures to labels; in CPU-seconds of one thread, which other processes move least. Near-duplicates are
cached pictures, saved again as JPEG, smaller, or without their margin: half of all queries, of the held-out ones too.
"""
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import cv2
import feature_maps as lesson
import numpy as np
from lab import in_a_process, in_turn, main, map_sets, memory
from lab.measuring import forget_peak

from mxelm import backbones, data, fused
from mxelm.chain import Chain
from mxelm.data import Dataset
from mxelm.data.sources import in_memory
from mxelm.feature_maps import Cache, MatchingClassifier, write
from mxelm.feature_maps.gain import DoesNotPay
from mxelm.feature_maps.search import Nearest
from mxelm.reporting import plots, results

MATCHING = {"budget": 0.005, "batch": 32, "rounds": 2, "clock": "CPU-seconds"}
COPIES = {**MATCHING, "batch": 8, "per_class": 15, "n_neurons": 1024, "held": 620, "queries": 400, "share": 0.5,
          "sizes": [250, 750, 1515],  # images in the cache
          "layers": [["block0_project"], ["block2_add"], ["block0_project", "block2_add"]]}
RUNS = {
    "duplicates": COPIES,
    "caltech101": {**COPIES, "share": 0.0},
    "cifar10": {**MATCHING, "cached": 20_000, "held": 1000, "queries": 1000, "sizes": [1000, 5000, 20_000],
                "layers": [["ch_concat_3a_chconcat"], ["ch_concat_3c_chconcat"], ["ch_concat_4b_chconcat"]]},
    "mnist": {**MATCHING, **lesson.TRAINING, "epochs": 1, "trained": 10_000, "held": 2000, "queries": 1000,
              "sizes": [1000, 5000, 30_000], "layers": [["relu2_fwd"], ["relu3_fwd"]]},
    "search": {"descriptors": 30_000, "numbers": 128, "queries": 2048, "rounds": 7, "bound": "products into one array"},
    "memory": {"images": [1000, 30_000], "layers": ["relu3_fwd"]},
}
QUICK = {"per_class": 10, "queries": 220, "descriptors": 2000, "sizes": [50, 100], "trained": 300, "cached": 100,
         "held": 220, "images": [200, 1000], "rounds": 1}


def near_duplicate(image, rng):
    """The picture as somebody else would have saved it: as JPEG of quality 60 to 90, a fifth smaller, or cropped."""
    kind, (height, width) = rng.integers(3), image.shape[:2]
    if kind == 0:
        content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 91))])[1]
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if kind == 1:
        return cv2.resize(image, (round(0.8 * width), round(0.8 * height)), interpolation=cv2.INTER_AREA)
    return image[round(0.02 * height):round(0.98 * height), round(0.02 * width):round(0.98 * width)]


def queries(cached, others, n, share, rng):
    """A Dataset of n images, of which `share` are near-duplicates of cached images, the rest other images."""
    copies = rng.permutation(len(cached))[:round(share * n)]
    new = rng.permutation(len(others))[:n - len(copies)]
    images = [*(near_duplicate(cached.image(i), rng) for i in copies), *(others.image(i) for i in new)]
    return Dataset(in_memory(images), np.concatenate([cached.targets[copies], others.targets[new]]), cached.classes,
                   "queries")


def compared(backbone, cache, held, test, settings):
    """The Gain by layers and size of the cache; the best layers of the whole cache, timed beside the network alone."""
    ways = {"+".join(layers): layers for layers in settings["layers"]}
    models = {(way, n): MatchingClassifier(backbone, layers, budget=settings["budget"], batch=settings["batch"],
                                           must_pay=False).fit(held, cache=_first(cache, n))
              for (way, layers), n in product(ways.items(), settings["sizes"])}
    n = settings["sizes"][-1]
    best = max(ways, key=lambda way: models[way, n].gain_.speedup)
    try:
        refused = models[best, n].gain_.require(n, ways[best])
    except DoesNotPay as refusal:
        refused = str(refusal)
    return {"gains": {way: {str(n): {**models[way, n].gain_.to_json(), "saved": models[way, n].gain_.saved}
                            for n in settings["sizes"]} for way in ways},
            "layers": best, "cached": n, "refused": refused, **timed(models[best, n], test, settings["rounds"])}


def _first(cache, n):
    return replace(cache, descriptors={layer: rows[:n] for layer, rows in cache.descriptors.items()},
                   labels=cache.labels[:n], ids=cache.ids[:n])


def timed(model, test, rounds):
    """The network alone, bound once as the other is, and with its cache: both decide the same images, in turn."""
    whole = Chain(model.backbone_, [])

    def network():
        return np.concatenate([scores.asnumpy().argmax(axis=1)
                               for part in test.module_iter(model.batch, model.backbone_.preprocessing, labels=False)
                               for _, scores in whole.run(part.data[0])])

    seconds = in_turn({"network": network, "cache": lambda: model.decide(test)}, rounds, clock=time.process_time)
    return {"net_speedup": seconds["network"] / seconds["cache"], **map_sets.decided(model, test),
            "network_accuracy": np.mean(network() == test.targets),
            "ms": {way: 1e3 * value / len(test) for way, value in seconds.items()}}


def caltech101(settings, seed, lab):
    """EfficientNet-Lite0 with an ELM, its training images cached; a share of the queries are near-duplicates."""
    name = "digits" if lab.quick else "caltech101"
    cached, rest = lab.load(name, **({} if lab.quick else {"background": False})).per_class(settings["per_class"], seed)
    backbone = fused.fit(backbones.load("efficientnet_lite0_224"), cached, n_neurons=settings["n_neurons"],
                         seed=seed).predictor.network
    cached = cached.take(np.random.default_rng(seed).permutation(len(cached)))
    held, test = (queries(cached, part, settings[n], settings["share"], np.random.default_rng([seed, i]))
                  for i, (part, n) in enumerate(zip(rest.split(0.5, seed), ("held", "queries"))))
    return compared(backbone, Cache.of(backbone, cached, _all_layers(settings)), held, test, settings)


def _all_layers(settings):
    return list(dict.fromkeys(layer for layers in settings["layers"] for layer in layers))


def cifar10(settings, seed, lab):
    backbone, cached, held, test = map_sets.cifar10(settings, seed, lab)
    cached, test = cached.take(np.random.default_rng(seed).permutation(len(cached))), test.take(
        np.arange(settings["queries"]))
    return compared(backbone, Cache.of(backbone, cached, _all_layers(settings), batch=100), held, test, settings)


def mnist(settings, seed, lab):
    images, test = lab.load("mnist", "train"), lab.load("mnist", "test")
    order, n = np.random.default_rng(seed).permutation(len(images)), settings["sizes"][-1]
    backbone = lesson.trained(images.take(order[:settings["trained"]]), settings, seed)
    cache = Cache.of(backbone, images.take(order[:n]), _all_layers(settings), batch=100)
    return compared(backbone, cache, images.take(order[n:n + settings["held"]]),
                    test.take(np.arange(settings["queries"])), settings)


def search(settings, seed, lab):
    """CPU-seconds of the nearest of all descriptors for each query, beside the product of matrices alone."""
    rng = np.random.default_rng(seed)
    cached, asked = (np.abs(rng.normal(size=(n, settings["numbers"]))).astype(np.float32)
                     for n in (settings["descriptors"], settings["queries"]))
    blas, block = Nearest(cached), 128
    product = np.empty((block, len(cached)), np.float32)  # one for all: new memory at each product would cost more
    seconds = in_turn({"blas": lambda: blas(asked),
                       "product": lambda: [np.matmul(part, cached.T, out=product[:len(part)])
                                               for part in np.array_split(asked, -(-len(asked) // block))]},
                      settings["rounds"], clock=time.process_time)
    graph = Nearest(cached, "hnsw")
    single = in_turn({way: lambda one=one: [one(asked[i:i + 1]) for i in range(100)]
                      for way, one in (("blas", blas), ("hnsw", graph))}, settings["rounds"], clock=time.process_time)
    return {"over_bound": seconds["blas"] / seconds["product"], "ms_a_query": 1e3 * seconds["blas"] / len(asked),
            "single_ms": {way: 1e3 * value / 100 for way, value in single.items()},
            "hnsw_agrees": np.mean(graph(asked)[1] == blas(asked)[1])}


def peak(n, layers, root, folder):
    """Highest memory, bytes, of a process while it caches n images in a file."""
    images = data.load("mnist", root=root, split="train") if root != "quick" else data.load("digits")
    backbone = lesson.trained(images.take(np.arange(100)), {**lesson.TRAINING, "epochs": 1}, 0)
    part = images.take(np.arange(n))
    forget_peak()
    write(backbone, part, layers, Path(folder) / f"{n}.rows")
    return memory("VmHWM")


def memory_growth(settings, seed, lab):
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        few, many = (in_a_process(peak, n, settings["layers"], "quick" if lab.quick else lab.root, folder)
                     for n in settings["images"])
    return {"peak_mb": [few / 1e6, many / 1e6], "growth_mb": (many - few) / 1e6}


def one_seed(run, settings, seed, lab):
    return {"duplicates": caltech101, "caltech101": caltech101, "cifar10": cifar10, "mnist": mnist, "search": search,
            "memory": memory_growth}[run](settings, seed, lab)


def rows(run, settings, seeds, lab):
    def row(id, values, unit, better="higher", **conditions):
        return results.over_seeds(f"maps.{id}", values, unit, better, conditions={**settings, **conditions})

    if run == "search":
        return [row("search_over_bound", [s["over_bound"] for s in seeds], "ratio", "lower",
                    **{key: [s[key] for s in seeds] for key in ("ms_a_query", "single_ms", "hnsw_agrees")})]
    if run == "memory":
        return [row("cache.peak_mb_growth", [s["growth_mb"] for s in seeds], "MB", "lower",
                    peak_mb=[s["peak_mb"] for s in seeds])]
    plots.curves(lab.work / f"{run}-saved.png", {
        way: (settings["sizes"], [100 * np.mean([_share_saved(s["gains"][way][str(n)]) for s in seeds])
                                  for n in settings["sizes"]]) for way in seeds[0]["gains"]},
        xlabel="cached images", ylabel="time saved, % of the network's own (below 0: lost)")
    refused = [s["refused"] for s in seeds if s["refused"]]
    return [row(f"net_speedup.{run}", [s["net_speedup"] for s in seeds], "ratio", measured=[s.figures for s in seeds],
                **({"reason": refused[0]} if refused else {})),
            row(f"points_lost.{run}", [100 * (s["network_accuracy"] - s["accuracy"]) for s in seeds], "points",
                "lower")]


def _share_saved(gain):
    return gain["saved"] / gain["network"]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
