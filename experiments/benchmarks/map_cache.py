"""Paper 5: what a cache of feature maps costs, and where it pays.

    python experiments/benchmarks/map_cache.py duplicates --seeds 0 1 2   near-duplicates among the queries: it pays
    python experiments/benchmarks/map_cache.py mnist                      a network so small that it does not
    python experiments/benchmarks/map_cache.py search                     1-NN over its bound, and over hnswlib
    python experiments/benchmarks/map_cache.py memory                     peak memory of a cache written to disk

Question: when is hit rate x cost skipped > search cost? Protocol: the network alone and with its cache decide the same
images, in turn, decoding included; for a quiet machine. The near-duplicates are cached pictures, saved again as JPEG,
smaller, or without their margin, half of the queries; thresholds are calibrated on other such queries.
"""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import cv2
import feature_maps as lesson
import numpy as np
from lab import in_a_process, in_turn, main, memory
from lab.measuring import forget_peak

from mxelm import backbones, data, fused
from mxelm.data import Dataset
from mxelm.data.sources import in_memory
from mxelm.feature_maps import Cache, MatchingClassifier, write
from mxelm.feature_maps.search import Nearest
from mxelm.reporting import plots, results

SMALL = {**lesson.TRAINING, "epochs": 1}
RUNS = {
    "duplicates": {"per_class": 15, "n_neurons": 1024, "queries": 400, "share": 0.5, "budget": 0.005, "batch": 32,
                   "layers": ["block2_add", "block4_add"], "rounds": 2},
    "mnist": {"cached": [1000, 5000, 30_000], "held": 2000, "queries": 500, "budget": 0.005, "batch": 32,
              "layers": ["relu2_fwd", "relu3_fwd"], "rounds": 2},
    "search": {"descriptors": 30_000, "numbers": 128, "queries": 2000, "rounds": 5},
    "memory": {"images": [1000, 30_000], "layers": ["relu3_fwd"]},
}
QUICK = {"per_class": 10, "queries": 60, "descriptors": 2000, "cached": [200], "held": 150, "images": [200, 1000],
         "rounds": 1}


def near_duplicate(image, rng):
    """The picture as somebody else would have saved it: as JPEG of quality 60 to 90, a fifth smaller, or cropped."""
    kind, (height, width) = rng.integers(3), image.shape[:2]
    if kind == 0:
        content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 91))])[1]
        return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if kind == 1:
        return cv2.resize(image, (round(0.8 * width), round(0.8 * height)), interpolation=cv2.INTER_AREA)
    return image[round(0.02 * height):round(0.98 * height), round(0.02 * width):round(0.98 * width)]


def queries(cached, others, settings, rng):
    """A Dataset of which `share` are near-duplicates of cached images, the rest other images."""
    copies = rng.permutation(len(cached))[:round(settings["share"] * settings["queries"])]
    new = rng.permutation(len(others))[:settings["queries"] - len(copies)]
    images = [*(near_duplicate(cached.image(i), rng) for i in copies), *(others.image(i) for i in new)]
    return Dataset(in_memory(images), np.concatenate([cached.targets[copies], others.targets[new]]), cached.classes,
                   "queries")


def timed(backbone, cache, layers, held, test, settings):
    """Figures of a cache at `layers`: its gain as calibrated, and both ways to decide the same images, in turn."""
    model = MatchingClassifier(backbone, layers, budget=settings["budget"], batch=settings["batch"], must_pay=False)
    model.fit(held, cache=cache)
    images = test.module_iter(settings["batch"], backbone.preprocessing, labels=False)
    seconds = in_turn({"network": lambda: backbone.extract(images), "cache": lambda: model.decide(test)},
                      settings["rounds"])
    own, decided = backbone.extract(images).argmax(axis=1), model.decide(test)
    hit = decided.layer >= 0
    return {"net_speedup": seconds["network"] / seconds["cache"], "hits": hit.mean(),
            "wrong_hits": np.mean(hit & (decided.labels != test.targets)),
            "accuracy": np.mean(decided.labels == test.targets), "network_accuracy": np.mean(own == test.targets),
            "gain": {**model.gain_.to_json(), "saved": model.gain_.saved}, "cached": len(cache.labels)}


def duplicates(settings, seed, lab):
    name = "digits" if lab.quick else "caltech101"
    cached, rest = lab.load(name, **({} if lab.quick else {"background": False})).per_class(settings["per_class"], seed)
    backbone = fused.fit(backbones.load("efficientnet_lite0_224"), cached, n_neurons=settings["n_neurons"],
                         seed=seed).predictor.network
    held, test = (queries(cached, part, settings, np.random.default_rng([seed, i]))
                  for i, part in enumerate(rest.split(0.5, seed)))
    cache = Cache.of(backbone, cached, settings["layers"])
    return {layer: timed(backbone, cache, [layer], held, test, settings) for layer in settings["layers"]}


def mnist(settings, seed, lab):
    images, test = lab.load("mnist", "train"), lab.load("mnist", "test")
    order = np.random.default_rng(seed).permutation(len(images))
    most = max(settings["cached"])
    backbone = lesson.trained(images.take(order[:min(most, 10_000)]), SMALL, seed)
    held, test = images.take(order[most:most + settings["held"]]), test.take(np.arange(settings["queries"]))
    figures = {}
    for n in settings["cached"]:
        cache = Cache.of(backbone, images.take(order[:n]), settings["layers"], batch=100)
        figures[str(n)] = {layer: timed(backbone, cache, [layer], held, test, settings)
                           for layer in settings["layers"]}
    return figures


def search(settings, seed, lab):
    """Seconds of the nearest of all descriptors for each query, beside the product of matrices alone."""
    rng = np.random.default_rng(seed)
    cached, asked = (np.abs(rng.normal(size=(n, settings["numbers"]))).astype(np.float32)
                     for n in (settings["descriptors"], settings["queries"]))
    blas, block = Nearest(cached), 512
    seconds = in_turn({"blas": lambda: blas(asked),
                       "product": lambda: [asked[i:i + block] @ cached.T for i in range(0, len(asked), block)]},
                      settings["rounds"])
    graph = Nearest(cached, "hnsw")
    single = in_turn({way: lambda one=one: [one(asked[i:i + 1]) for i in range(100)]
                      for way, one in (("blas", blas), ("hnsw", graph))}, settings["rounds"])
    return {"over_bound": seconds["blas"] / seconds["product"], "ms_a_query": 1e3 * seconds["blas"] / len(asked),
            "single_ms": {way: 1e3 * value / 100 for way, value in single.items()},
            "hnsw_agrees": np.mean(graph(asked)[1] == blas(asked)[1])}


def peak(n, layers, root, folder):
    """Highest memory, bytes, of a process while it caches n images in a file."""
    images = data.load("mnist", root=root, split="train") if root != "quick" else data.load("digits")
    backbone = lesson.trained(images.take(np.arange(100)), SMALL, 0)
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
    return {"duplicates": duplicates, "mnist": mnist, "search": search,
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
    if run == "mnist":
        plots.curves(lab.work / "saved.png", {
            layer: (settings["cached"], [1e3 * np.mean([s[str(n)][layer]["gain"]["saved"] for s in seeds])
                                         for n in settings["cached"]]) for layer in settings["layers"]},
            xlabel="cached images", ylabel="time saved, ms an image (below 0: lost)")
        last = str(max(settings["cached"]))
        return [row("net_speedup.mnist", [s[last][settings["layers"][-1]]["net_speedup"] for s in seeds], "ratio",
                    layer=settings["layers"][-1], measured=[s.figures for s in seeds],
                    reason="hit rate x cost skipped is less than the search cost (measured: gain): what follows the "
                           "last convolution is a pooling and a small product, and comparing an image with 30,000 "
                           "descriptors of 128 numbers takes twice the network's multiplications; must_pay refuses it")]
    best = max(settings["layers"], key=lambda layer: np.mean([s[layer]["net_speedup"] for s in seeds]))
    return [row("net_speedup.caltech101", [s[best]["net_speedup"] for s in seeds], "ratio", layer=best,
                measured=[s.figures for s in seeds]),
            row("net_points_lost.caltech101",
                [100 * (s[best]["network_accuracy"] - s[best]["accuracy"]) for s in seeds], "points", "lower",
                layer=best)]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
