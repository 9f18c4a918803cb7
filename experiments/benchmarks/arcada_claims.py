"""Paper 1: two claims in words, tried out: features cannot be compressed, and no Symbol can add up over batches.

    python experiments/benchmarks/arcada_claims.py accumulation    A += HᵀH inside a bound Symbol, by its gradient
    python experiments/benchmarks/arcada_claims.py compression     stored features through gzip and zstd

accumulation: "the symbolic interface does not support between-batch accumulator operations". It has one: gradients
bound with grad_req="add" are added up over batches, and the gradient of sum(A * HᵀH) by A is HᵀH. It costs a backward
pass a batch, float32 sums and a BatchNorm told to use its running statistics, so the wrapper stays the better way.
compression: "the dense, random-like nature" of features "prevents efficient compression". 1,000 images of Caltech-101,
float32 features. zstd comes with `pip install '.[peers]'`. Source: Arcada, sections 1 to 3.
"""
import gzip
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab is

from lab import main

from mxelm import backbones, fused
from mxelm.backbones.features import features_of
from mxelm.errors import InputError
from mxelm.fused.symbol import hidden_layer
from mxelm.reporting import results
from mxelm.runtime import mx

RUNS = {
    "accumulation": {"backbone": "inception_small", "n_neurons": 64, "batches": 5, "batch": 32},
    "compression": {"backbone": "efficientnet_lite0_224", "images": 1000},
}
QUICK = {"backbone": "inception_small", "images": 100}


def accumulating(backbone, L):
    """sum(A * HᵀH) over a backbone whose BatchNorms keep their statistics; d/dA = HᵀH of one batch."""
    graph = json.loads(backbone.features.tojson())
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm":
            node["attrs"]["use_global_stats"] = "True"
    features = mx.sym.load_json(json.dumps(graph))
    HtH = mx.sym.linalg_syrk(mx.sym.BlockGrad(hidden_layer(features, L)), transpose=True)
    return mx.sym.MakeLoss(mx.sym.sum(mx.sym.Variable("A", shape=(L, L)) * HtH))


def accumulation(settings, seed):
    backbone, L = backbones.load(settings["backbone"]), settings["n_neurons"]
    W = fused.Projection(L, backbone.n_features, seed, scale=0.05)
    graph, shape = accumulating(backbone, L), (settings["batch"], *backbone.preprocessing.shape)
    requests = {name: "add" if name == "A" else "null" for name in graph.list_arguments()}
    executor = graph.simple_bind(mx.cpu(), grad_req=requests, data=shape)
    args, aux = backbone.feature_params()
    executor.copy_params_from({**args, "W": mx.nd.array(W.W), "A": mx.nd.zeros((L, L))}, aux)
    executor.grad_dict["A"][:] = 0
    rng, expected = np.random.default_rng(seed), 0.0
    for _ in range(settings["batches"]):
        x = rng.uniform(-1, 1, shape).astype(np.float32)
        executor.forward(is_train=True, data=mx.nd.array(x))
        executor.backward()
        H = W.hidden(backbone.extract(x)).astype(np.float64)
        expected = expected + H.T @ H
    found = executor.grad_dict["A"].asnumpy()
    return {"difference": float(np.abs(found - expected).max() / np.abs(expected).max())}


def compression(settings, seed, lab):
    try:
        import zstandard
    except ImportError:
        raise InputError("zstd is missing: pip install '.[peers]'") from None
    dataset = lab.load("caltech101")
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:settings["images"]]
    features = features_of(backbones.load(settings["backbone"]), dataset.take(np.sort(chosen)), progress=True).rows
    stored = features.tobytes()
    return {"gzip": len(gzip.compress(stored, 9)) / len(stored),
            "zstd": len(zstandard.ZstdCompressor(level=19).compress(stored)) / len(stored), "bytes": len(stored)}


def one_seed(run, settings, seed, lab):
    return accumulation(settings, seed) if run == "accumulation" else compression(settings, seed, lab)


def rows(run, settings, seeds, lab):
    if run == "accumulation":
        differences = [seed["difference"] for seed in seeds]
        return [results.over_seeds("fused.in_graph_accumulation", differences, "ratio", "lower", conditions={
            **settings, "what": "largest difference to float64, relative"})]
    return [results.over_seeds(f"fused.features_compressed.{name}", [seed[name] for seed in seeds], "ratio", "none",
                               conditions={**settings, "what": "compressed over stored bytes of float32 features"})
            for name in ("gzip", "zstd")]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
