"""What fusing costs: the fused pass against the bare network plus BLAS, and everything else that should be cheap.

    python experiments/fused_speed.py overhead      fused pass / (bare forward + GEMM + SYRK), two networks
    python experiments/fused_speed.py head          the accumulation alone against its BLAS bound, one and two threads
    python experiments/fused_speed.py grid          20 l2 x 4,000 sizes = 80,000 exact models from one state
    python experiments/fused_speed.py decode        throughput from JPEG files against decoded arrays
    python experiments/fused_speed.py memory        peak memory at N and 4 N images
    python experiments/fused_speed.py all

Every figure is a ratio of medians of runs taken in turn on the same machine, in a process of its own with its own
number of threads; keep the machine idle meanwhile. Source: Arcada, sections 2 and 3 (what the fused layers cost).
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ending import in_sentences
from timing import in_turn, memory_mb
from tqdm import tqdm

from mxelm.errors import EnvironmentProblem

SETTINGS = {"n_neurons": 4096, "batch": 32, "n_outputs": 101, "images": 1000}  # images: of the decoding run
QUICK = {"n_neurons": 128, "batch": 16, "n_outputs": 10, "images": 200}


def make_backbone(name):
    """A known checkpoint, or the Inception21k symbol with random weights: enough for its time."""
    from mxelm import backbones
    if name != "inception21k":
        return backbones.load(name)
    from mxelm.backbones import inception21k
    from mxelm.runtime import mx
    symbol, rng = inception21k.symbol(), np.random.default_rng(0)
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, *inception21k.PREPROCESSING.shape))
    args = {n: mx.nd.array(rng.normal(0, 0.02, s)) for n, s in zip(symbol.list_arguments(), shapes)
            if n not in ("data", "softmax_label")}
    aux = {n: mx.nd.ones(s) for n, s in zip(symbol.list_auxiliary_states(), aux_shapes)}
    return backbones.Backbone(name, symbol, args, aux, inception21k.PREPROCESSING)


def bound(rows, n_features, L, C):
    """Calls of the least that the head can cost: the SGEMM of XW, DSYRK in place and DGEMM of a block."""
    from scipy.linalg import blas
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(rows, n_features)).astype(np.float32), rng.normal(size=(L, n_features)).astype(np.float32)
    H, Y = rng.normal(size=(rows, L)), rng.normal(size=(rows, C))
    A, B = np.zeros((L, L), order="F"), np.zeros((L, C), order="F")
    return {"gemm": lambda: X @ W.T,
            "syrk": lambda: (blas.dsyrk(1.0, H.T, beta=1.0, c=A, overwrite_c=1, lower=1),
                             blas.dgemm(1.0, H.T, Y.T, beta=1.0, c=B, trans_b=1, overwrite_c=1))}


def overhead(s, quick, network):
    """One block of rows through the fused network, through the bare one, and the head's bound."""
    from mxelm.fused import FusedAccumulator, Projection
    from mxelm.fused.gram import BLOCK
    from mxelm.runtime import mx
    backbone, batch = make_backbone(network), s["batch"]
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
    t = in_turn(calls, 1 if quick else 5 if network != "inception21k" else 3, network)
    ratio = t["fused"] / (t["bare"] + t["gemm"] + t["syrk"])
    return {f"fused.overhead.{network.replace('_224', '')}": (ratio, {**t, "images": BLOCK})}


def head(s, quick, _):
    """The accumulation alone (rows in, sums out) against DSYRK + DGEMM, and the printed way against it."""
    from mxelm.fused.gram import BLOCK, Gram
    from mxelm.runtime import blas_threads, mx
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
        t = in_turn({"ours": ours, "paper": paper, "bound": bound(BLOCK, 1, L, C)["syrk"]}, 2 if quick else 9, "head")
    found = {f"fused.head_over_bound.t{threads}": (t["ours"] / t["bound"], t)}
    if threads == 1:
        found["fused.paper_head_over_inplace"] = (t["paper"] / t["ours"], t)
    return found


def grid(s, quick, _):
    """Validation error of every size for 20 l2 from two states, and its distance to direct solves."""
    from mxelm.fused import ELMState, grid_mse, solve
    L = 200 if quick else 4000
    rng = np.random.default_rng(0)
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
        direct = np.square(H[-1000:, :size] @ solve(train.HtH, train.HtY, l2s[i], size) - Y[-1000:]).sum() / 1000
        worst = max(worst, abs(direct - errors[i, size - 1]) / direct)
    return {"fused.grid_seconds_20x4000": (seconds, {"models": errors.size, "relative_difference_to_solve": worst})}


def photographs(s, network):
    """A folder's images as files, and the same decoded and brought to size, in memory."""
    from mxelm import backbones, data
    from mxelm.data.dataset import Dataset
    from mxelm.data.sources import ArraySource
    backbone = backbones.load(network)
    files = data.load("caltech101", background=False)
    files = files.take(np.random.default_rng(0).permutation(len(files))[:s["images"]])
    fit = backbone.preprocessing.prepare
    arrays = np.stack([fit(files.image(i)) for i in tqdm(range(len(files)), desc="decode once")])
    return backbone, files, Dataset(ArraySource(arrays, "arrays"), files.targets, files.classes, "arrays")


def decode(s, quick, network):
    """Seconds of an accumulation pass from files and from arrays, for this process's number of threads."""
    from mxelm.fused import FusedAccumulator, Projection
    backbone, files, arrays = photographs(s, network)
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
    return {"seconds": in_turn(calls, 1 if quick else 3, f"{os.environ['OMP_NUM_THREADS']} threads")}


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


def memory(s, quick, network):
    """Peak resident memory, MB, of `accumulate` over a data set of `images` images."""
    from mxelm import fused
    from mxelm.data.dataset import Dataset
    backbone, rng = make_backbone(network), np.random.default_rng(0)
    dataset = Dataset(Noise(s["images"], backbone.preprocessing.size), rng.integers(0, s["n_outputs"], s["images"]),
                      [f"class {c}" for c in range(s["n_outputs"])], "noise")
    projection = fused.Projection(s["n_neurons"], backbone.n_features, scale=0.05)
    fused.accumulate(backbone, dataset, projection, batch=s["batch"], progress=True)
    return {"peak": memory_mb("VmHWM")}


CHILDREN = {"overhead": overhead, "head": head, "grid": grid, "decode": decode, "memory": memory}


def child(name, threads, network, settings, quick):
    """Run one measurement in a process of its own with `threads` threads; its result."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    task = json.dumps({"name": name, "network": network, "settings": settings, "quick": quick})
    command = [sys.executable, __file__, "--child", task]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise EnvironmentProblem(f"{name} of {network} with {threads} threads ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(run, settings, quick, cores):
    """Rows (id, value, unit, better, conditions) of one subcommand."""
    network = "inception_small" if quick else "efficientnet_lite0_224"
    if run == "overhead":
        found = {}
        for name in ("inception_small",) if quick else (network, "inception21k"):
            found.update(child("overhead", cores, name, settings, quick))
        return [(id, value, "ratio", "lower", conditions) for id, (value, conditions) in found.items()]
    if run == "head":
        found = {k: v for threads in (1, 2) for k, v in child("head", threads, None, settings, quick).items()}
        return [(id, value, "ratio", "none" if "paper" in id else "lower", c) for id, (value, c) in found.items()]
    if run == "grid":
        found = child("grid", cores, None, settings, quick)
        return [(id, value, "s", "lower", conditions) for id, (value, conditions) in found.items()]
    if run == "decode":
        seconds = {threads: child("decode", threads, network, settings, quick)["seconds"] for threads in (1, cores)}
        best = {side: min(t for by in seconds.values() for name, t in by.items() if name.startswith(side))
                for side in ("files", "arrays")}
        return [("fused.decode_efficiency", best["arrays"] / best["files"], "ratio", "higher",
                 {"seconds_by_threads": seconds, "images": settings["images"]})]
    images = settings["images"]
    peaks = {n: child("memory", cores, network, {**settings, "images": n}, quick)["peak"] for n in (images, 4 * images)}
    return [("fused.peak_mb_growth", peaks[4 * images] - peaks[images], "MB", "lower", {"peak_mb_by_images": peaks})]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", choices=(*CHILDREN, "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="small sizes, written to --out only if it is given")
    parser.add_argument("--out", type=Path, help="result file (default: experiments/results/fused_speed.json)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        task = json.loads(args.child)
        print(json.dumps(CHILDREN[task["name"]](task["settings"], task["quick"], task["network"])))
        return
    from mxelm.reporting import results
    settings, cores = QUICK if args.quick else SETTINGS, len(os.sched_getaffinity(0))
    out = args.out or (None if args.quick else Path("experiments/results/fused_speed.json"))
    if out:
        results.require_writable(out, "fused_speed")
    for run in CHILDREN if args.run == "all" else [args.run]:
        start = time.perf_counter()
        rows = [results.row(id, value, unit, better, command=f"python experiments/fused_speed.py {run}",
                            seconds=time.perf_counter() - start, conditions={**settings, "cores": cores, **conditions})
                for id, value, unit, better, conditions in measure(run, settings, args.quick, cores)]
        for row in rows:
            print(results.line(row))
        if out:
            results.write(out, "fused_speed", rows)


if __name__ == "__main__":
    with in_sentences("rows of finished parts are kept, where there is a result file"):
        main()
