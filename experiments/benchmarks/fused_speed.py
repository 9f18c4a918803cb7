"""Paper 1: what fusing costs: the fused pass against the bare network plus BLAS, and all else that should be cheap.

    python experiments/benchmarks/fused_speed.py overhead      fused pass / (bare forward + GEMM + SYRK)
    python experiments/benchmarks/fused_speed.py inception21k  the same for the paper's own architecture
    python experiments/benchmarks/fused_speed.py head          the accumulation against its BLAS bound, 1 and 2 threads
    python experiments/benchmarks/fused_speed.py grid          20 l2 x 4,000 sizes = 80,000 exact models from one state
    python experiments/benchmarks/fused_speed.py decode        throughput from JPEG files against decoded arrays
    python experiments/benchmarks/fused_speed.py memory        peak memory at N and 4 N images
    python experiments/benchmarks/fused_speed.py seconds       from images to a solved model, Caltech-101

Every timing is a ratio of medians of runs taken in turn on the same machine, in a process of its own with its own
number of threads; a seed is a repetition. Keep the machine idle meanwhile. Source: Arcada, sections 2 and 3.
"""
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab and the lesson are

import fused_elm as lesson
from lab import in_a_process, in_turn, main, memory
from scipy.linalg import blas
from tqdm import tqdm

from mxelm import backbones, data, fused
from mxelm.backbones import inception21k
from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.fused import ELMState, FusedAccumulator, Projection, grid_mse, solve
from mxelm.fused.gram import BLOCK, Gram
from mxelm.reporting import results
from mxelm.runtime import blas_threads, mx

SIZES = {"n_neurons": 4096, "batch": 32, "n_outputs": 101}
NETWORK = {**SIZES, "network": "efficientnet_lite0_224"}
RUNS = {
    "overhead": {**NETWORK, "rounds": 5}, "inception21k": {**SIZES, "network": "inception21k", "rounds": 3},
    "head": {**SIZES, "rounds": 9}, "grid": {"L": 4000, "n_outputs": 101},
    "decode": {**NETWORK, "images": 1000, "rounds": 3}, "memory": {**NETWORK, "images": 1000},
    "seconds": {**lesson.RUNS["caltech101"]},
}
QUICK = {"n_neurons": 128, "batch": 16, "n_outputs": 10, "images": 200, "network": "inception_small", "rounds": 1,
         "L": 200, "backbone": "inception_small", "per_class": 20}
CORES = len(os.sched_getaffinity(0))


def one_seed(run, settings, seed, lab):
    if run == "seconds":
        return seconds(settings, seed, lab)
    if run == "head":
        return {str(threads): in_a_process(head, settings, threads=threads) for threads in (1, 2)}
    if run == "decode":
        return {str(threads): in_a_process(decode, settings, lab.root, threads=threads) for threads in (1, CORES)}
    if run == "memory":
        return {str(n): in_a_process(peak, {**settings, "images": n}, threads=CORES)
                for n in (settings["images"], 4 * settings["images"])}
    return in_a_process(grid if run == "grid" else overhead, settings, threads=CORES)


def make_backbone(name):
    """A known checkpoint, or the Inception21k symbol with random weights: enough for its time."""
    if name != "inception21k":
        return backbones.load(name)
    symbol, rng = inception21k.symbol(), np.random.default_rng(0)
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, *inception21k.PREPROCESSING.shape))
    args = {n: mx.nd.array(rng.normal(0, 0.02, s)) for n, s in zip(symbol.list_arguments(), shapes)
            if n not in ("data", "softmax_label")}
    aux = {n: mx.nd.ones(s) for n, s in zip(symbol.list_auxiliary_states(), aux_shapes)}
    return backbones.Backbone(name, symbol, args, aux, inception21k.PREPROCESSING)


def bound(rows, n_features, L, C):
    """Calls of the least that the head can cost: the SGEMM of XW, DSYRK in place and DGEMM of a block."""
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(rows, n_features)).astype(np.float32), rng.normal(size=(L, n_features)).astype(np.float32)
    H, Y = rng.normal(size=(rows, L)), rng.normal(size=(rows, C))
    A, B = np.zeros((L, L), order="F"), np.zeros((L, C), order="F")
    return {"gemm": lambda: X @ W.T,
            "syrk": lambda: (blas.dsyrk(1.0, H.T, beta=1.0, c=A, overwrite_c=1, lower=1),
                             blas.dgemm(1.0, H.T, Y.T, beta=1.0, c=B, trans_b=1, overwrite_c=1))}


def overhead(s):
    """One block of rows through the fused network, through the bare one, and the head's bound."""
    backbone, batch = make_backbone(s["network"]), s["batch"]
    projection = Projection(s["n_neurons"], backbone.n_features, scale=0.05)
    x = mx.nd.random.uniform(-1, 1, shape=(batch, *backbone.preprocessing.shape))
    y = np.zeros((batch, s["n_outputs"]), np.float32)
    module = backbone.bind(batch)
    accumulator = FusedAccumulator(backbone, projection, s["n_outputs"], batch=batch)

    def bare():
        for _ in range(BLOCK // batch):
            module.forward(mx.io.DataBatch([x]), is_train=False)
            module.get_outputs()[0].asnumpy()

    def fused():
        for _ in range(BLOCK // batch):
            accumulator.update(x, y)
        accumulator.flush()

    calls = {"bare": bare, "fused": fused, **bound(BLOCK, backbone.n_features, s["n_neurons"], s["n_outputs"])}
    return in_turn(calls, s["rounds"], s["network"])


def head(s):
    """The accumulation alone (rows in, sums out) against DSYRK + DGEMM, and the printed way against it."""
    L, C, threads = s["n_neurons"], s["n_outputs"], int(os.environ["OMP_NUM_THREADS"])
    H = np.random.default_rng(0).normal(size=(s["batch"], L)).astype(np.float32)
    Y = np.zeros((s["batch"], C), np.float32)
    sums = Gram(L, C, threads)
    mx_H, mx_Y = mx.nd.array(H), mx.nd.array(Y)
    HtH, HtY = mx.nd.zeros((L, L)), mx.nd.zeros((L, C))

    def ours():
        for _ in range(BLOCK // len(H)):
            sums.add(H, Y)

    def paper():
        nonlocal HtH, HtY
        for _ in range(BLOCK // len(H)):
            HtH += mx.nd.linalg.syrk(mx_H, transpose=True)
            HtY += mx.nd.dot(mx_H, mx_Y, transpose_a=True)
        mx.nd.waitall()

    with blas_threads(threads):
        return in_turn({"ours": ours, "paper": paper, "bound": bound(BLOCK, 1, L, C)["syrk"]}, s["rounds"], "head")


def grid(s):
    """Validation error of every size for 20 l2 from two states, and its distance to direct solves."""
    L, rng = s["L"], np.random.default_rng(0)
    H = np.tanh(rng.normal(size=(L + 1000, 64)) @ rng.normal(size=(64, L)) * 0.2 + 0.3 * rng.normal(size=(L + 1000, L)))
    Y = np.eye(s["n_outputs"])[rng.integers(0, s["n_outputs"], len(H))]
    train, held = (ELMState(h.T @ h, h.T @ y, len(h), float((y ** 2).sum()))
                   for h, y in ((H[:-1000], Y[:-1000]), (H[-1000:], Y[-1000:])))
    l2s = np.logspace(-2, 4, 20)
    start = time.perf_counter()
    errors = np.concatenate([grid_mse(train, held, [l2]) for l2 in tqdm(l2s, desc="grid")])
    seconds = time.perf_counter() - start
    worst = 0.0
    for i, size in ((0, L), (7, L // 3), (19, 50)):
        beta = solve(train.HtH, train.HtY, l2s[i], n_neurons=size)
        direct = np.square(H[-1000:, :size] @ beta - Y[-1000:]).sum() / 1000
        worst = max(worst, abs(direct - errors[i, size - 1]) / direct)
    return {"seconds": seconds, "models": errors.size, "relative_difference_to_solve": worst}


def photographs(s, root):
    """A folder's images as files, and the same decoded and brought to size, in memory."""
    backbone = backbones.load(s["network"])
    files = data.load("digits") if s["network"] == "inception_small" else data.load("caltech101", root=root,
                                                                                    background=False)
    files = files.take(np.random.default_rng(0).permutation(len(files))[:s["images"]])
    fit = backbone.preprocessing.prepare
    arrays = np.stack([fit(files.image(i)) for i in tqdm(range(len(files)), desc="decode once")])
    return backbone, files, Dataset(ArraySource(arrays, "arrays"), files.targets, files.classes, "arrays")


def decode(s, root):
    """Seconds of an accumulation pass from files and from arrays, for this process's number of threads."""
    backbone, files, arrays = photographs(s, root)
    # the arrays have their final size already
    ready = backbone.preprocessing.replace(resize="stretch", short_side=None)
    projection = Projection(s["n_neurons"], backbone.n_features, scale=0.05)
    accumulator = FusedAccumulator(backbone, projection, files.n_outputs, batch=s["batch"])

    def run(dataset, preprocessing, workers):
        for part in dataset.module_iter(s["batch"], preprocessing, workers=workers):
            accumulator.update(part.data[0], part.label[0])
        accumulator.flush()

    calls = {f"{name}.{workers}": lambda d=d, p=p, w=workers: run(d, p, w)
             for name, d, p in (("files", files, backbone.preprocessing), ("arrays", arrays, ready))
             for workers in (1, 2)}
    return in_turn(calls, s["rounds"], f"{os.environ['OMP_NUM_THREADS']} threads")


class Noise:
    """A source of `n` random images that are made when asked for: a data set that takes no memory itself."""

    images = None

    def __init__(self, n, size):
        self.n, self.size, self.ids = n, size, [f"noise/{i}" for i in range(n)]

    def __len__(self):
        return self.n

    def image(self, i):
        return np.random.default_rng(i).integers(0, 256, (*self.size, 3), np.uint8)

    def content(self, i):
        return self.image(i).tobytes()


def peak(s):
    """Peak resident memory, MB, of `accumulate` over a data set of `images` images."""
    backbone, rng = make_backbone(s["network"]), np.random.default_rng(0)
    dataset = Dataset(Noise(s["images"], backbone.preprocessing.size), rng.integers(0, s["n_outputs"], s["images"]),
                      [f"class {c}" for c in range(s["n_outputs"])], "noise")
    projection = fused.Projection(s["n_neurons"], backbone.n_features, scale=0.05)
    fused.accumulate(backbone, dataset, projection, batch=s["batch"], progress=True)
    return memory("VmHWM") / 2**20


def seconds(settings, seed, lab):
    """Seconds from images to a solved model on the lesson's split; no test image is touched."""
    backbone, dataset = backbones.load(settings["backbone"]), lab.load("caltech101", background=False)
    learning, _ = dataset.per_class(settings["per_class"], seed, settings["test_per_class"])
    start = time.perf_counter()
    fused.fit(backbone, learning, n_neurons=settings["n_neurons"], validation=settings["validation"], seed=seed,
              spread=settings["scale"])
    return {"seconds": time.perf_counter() - start, "images": len(learning)}


# What the seeds say

def rows(run, settings, seeds, lab):
    conditions = {**settings, "cores": CORES}
    if run in ("overhead", "inception21k"):
        id = f"fused.overhead.{settings['network'].replace('_224', '')}"
        return [ratio(id, [seed.figures for seed in seeds], "fused", ("bare", "gemm", "syrk"), {**conditions,
                                                                                               "images": BLOCK})]
    if run == "head":
        one, two = ([seed[threads] for seed in seeds] for threads in ("1", "2"))
        return [ratio("fused.head_over_bound.t1", one, "ours", ("bound",), conditions),
                ratio("fused.head_over_bound.t2", two, "ours", ("bound",), conditions),
                ratio("fused.paper_head_over_inplace", one, "paper", ("ours",), conditions, "none")]
    if run == "grid":
        return [results.over_seeds("fused.grid_seconds_20x4000", [seed["seconds"] for seed in seeds], "s", "lower",
                                   conditions={**conditions, **seeds[-1].figures})]
    if run == "decode":
        return [results.over_seeds("fused.decode_efficiency", [efficiency(seed.figures) for seed in seeds], "ratio",
                                   "higher", conditions={**conditions, "seconds_by_threads": seeds[-1].figures})]
    if run == "memory":
        few, many = str(settings["images"]), str(4 * settings["images"])
        return [results.over_seeds("fused.peak_mb_growth", [seed[many] - seed[few] for seed in seeds], "MB", "lower",
                                   conditions={**conditions, "peak_mb_by_images": seeds[-1].figures})]
    return [results.over_seeds("fused.caltech101.seconds", [seed["seconds"] for seed in seeds], "s", "lower",
                               conditions={**settings, "images": seeds[-1]["images"]})]


def ratio(id, times, above, below, conditions, better="lower"):
    """The row of a ratio of medians: one call's seconds over the sum of others', of dicts of name -> seconds."""
    return results.over_seeds(id, [one[above] / sum(one[name] for name in below) for one in times], "ratio", better,
                              conditions={**conditions, **times[-1]})


def efficiency(by_threads):
    """Decoded arrays' best seconds over files' best, for whatever number of threads and workers."""
    best = {side: min(s for by in by_threads.values() for name, s in by.items() if name.startswith(side))
            for side in ("files", "arrays")}
    return best["arrays"] / best["files"]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
