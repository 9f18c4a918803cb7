"""Train the small Inception-style network that ships with mxelm, on CIFAR-10.

    python models/train_inception_small.py --work WORK          (WORK: a folder for the resumable checkpoint)

One run, fixed in advance: no test image is used for any choice, and the last epoch is the one that ships. The
network is a narrow relative of Inception21k (Ioffe and Szegedy, 2015): convolutions with BatchNorm and ReLU, branches
1x1 / 3x3 / double 3x3 / pool side by side, features behind a global average pooling.
"""
import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np

import mxelm.data as data
from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.files import read_json, write_json
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import results
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet
from mxelm.training import accuracy, fit, flip_and_crop, warmup_linear

RECIPE = {
    "epochs": 20,
    "batch": 128,  # images
    "peak_learning_rate": 0.25,
    "warmup": 0.15,  # fraction of the run
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "validation": 1000,  # images of the training file, watched only
    "seed": 0,
}
# per channel, of CIFAR-10's training images
PREPROCESSING = Preprocessing((32, 32), resize="stretch", mean=(125.3, 123.0, 113.9),
                              scale=(1 / 63.0, 1 / 62.1, 1 / 66.7))


def conv(x, width, kernel, stride, name):
    """Convolution without bias, BatchNorm, ReLU."""
    pad = kernel // 2
    x = mx.sym.Convolution(x, num_filter=width, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad),
                           no_bias=True, name=f"conv_{name}")
    x = mx.sym.BatchNorm(x, fix_gamma=False, eps=1e-5, momentum=0.9, name=f"bn_{name}")
    return mx.sym.Activation(x, act_type="relu", name=f"relu_{name}")


def inception(x, one, three_reduce, three, double_reduce, double, pooled, name):
    """Inception module: four branches at one resolution."""
    a = conv(x, one, 1, 1, f"{name}_1x1")
    b = conv(conv(x, three_reduce, 1, 1, f"{name}_3x3_reduce"), three, 3, 1, f"{name}_3x3")
    c = conv(x, double_reduce, 1, 1, f"{name}_double_3x3_reduce")
    c = conv(conv(c, double, 3, 1, f"{name}_double_3x3_0"), double, 3, 1, f"{name}_double_3x3_1")
    d = mx.sym.Pooling(x, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type="avg", name=f"avg_pool_{name}")
    d = conv(d, pooled, 1, 1, f"{name}_proj")
    return mx.sym.Concat(a, b, c, d, name=f"ch_concat_{name}_chconcat")


def reduction(x, reduce, width, name):
    """Halve the resolution: a strided 3x3 convolution beside a max pooling."""
    a = conv(x, reduce, 1, 1, f"{name}_3x3_reduce") if reduce else x
    a = conv(a, width, 3, 2, f"{name}_3x3")
    b = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"max_pool_{name}")
    return mx.sym.Concat(a, b, name=f"ch_concat_{name}_chconcat")


def network(n_classes):
    """3x32x32 -> 248 features at `flatten_output` -> scores `fc1_output`."""
    x = conv(mx.sym.var("data"), 32, 3, 1, "conv1")
    x = reduction(x, 0, 64, "2c")
    x = inception(x, 32, 32, 48, 16, 24, 24, "3a")
    x = inception(x, 32, 32, 48, 16, 24, 24, "3b")
    x = reduction(x, 64, 96, "3c")
    x = inception(x, 80, 64, 88, 32, 40, 40, "4a")
    x = inception(x, 80, 64, 88, 32, 40, 40, "4b")
    x = mx.sym.Pooling(x, kernel=(8, 8), pool_type="avg", name="global_pool")
    x = mx.sym.flatten(x, name="flatten")
    return mx.sym.FullyConnected(x, num_hidden=n_classes, name="fc1")


def initialised(symbol):
    """A trainable block over `symbol`: He-normal kernels; gammas, betas and biases are not decayed."""
    block = mx.gluon.SymbolBlock(symbol, [mx.sym.var("data")])
    for select, initialiser in ((".*weight", mx.init.MSRAPrelu(slope=0)), (".*(gamma|moving_var)", mx.init.One()),
                                (".*(beta|bias|moving_mean)", mx.init.Zero())):
        block.collect_params(select).initialize(initialiser)
    block(mx.nd.zeros((1, *PREPROCESSING.shape)))  # the deferred shapes
    for name, parameter in block.collect_params().items():
        if not name.endswith("_weight"):
            parameter.wd_mult = 0.0
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def export(block, symbol, prefix, classes, source):
    """Write the ordinary checkpoint: the symbol with its softmax, parameters, preprocessing."""
    params = {name: p.data() for name, p in block.collect_params().items()}
    aux = {name: params.pop(name) for name in symbol.list_auxiliary_states()}
    sidecar = {"model": "inception_small", **PREPROCESSING.to_json(), "features": "flatten_output",
               "feature_dim": int(params["fc1_weight"].shape[1]), "classes": classes, **source}
    save_checkpoint(prefix, mx.sym.softmax(symbol, name="softmax"), params, aux, sidecar)
    manifest = Path(__file__).with_name("manifest.json")
    known = read_json(manifest) if manifest.exists() else {}
    known["inception_small"] = {"prefix": prefix, "files": read_json(f"{prefix}.json")["files"], **source}
    write_json(manifest, known)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of CIFAR-10 (default: MXELM_DATA and the cache)")
    parser.add_argument("--work", required=True, help="existing folder for the resumable checkpoint and the history")
    parser.add_argument("--out", default="mxelm/checkpoints/inception_small", help="prefix of the checkpoint to write")
    parser.add_argument("--results", default="experiments/results/inception_small.json")
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = {**RECIPE, "epochs": args.epochs}
    shipped = [name for name in ("out", "results") if getattr(args, name) == parser.get_default(name)]
    if recipe != RECIPE and shipped:
        parser.error(f"another number of epochs is another model: name its --{' and --'.join(shipped)} too")

    whole = data.load("cifar10", root=args.data, split="train")
    train, watched = whole.split(recipe["validation"] / len(whole), seed=recipe["seed"])
    seed_mxnet(recipe["seed"])
    np.random.seed(recipe["seed"])  # MXNet's initialisers draw from both
    symbol = network(len(whole.classes))
    block = initialised(symbol)
    start = time.perf_counter()
    history = fit(
        block, train.gluon_loader(recipe["batch"], PREPROCESSING, shuffle=recipe["seed"], augment=flip_and_crop),
        recipe["epochs"], warmup_linear(recipe["peak_learning_rate"], recipe["warmup"]), optimizer="nag",
        settings={"momentum": recipe["momentum"], "wd": recipe["weight_decay"]},
        validation=watched.gluon_loader(500, PREPROCESSING), checkpoint=Path(args.work) / "inception_small.state",
        resume=True, seed=recipe["seed"], progress=True)
    test = data.load("cifar10", root=args.data, split="test")
    score = accuracy(block, test.gluon_loader(500, PREPROCESSING))
    seconds = sum(entry["seconds"] for entry in history)
    n_parameters = sum(int(np.prod(p.shape)) for p in block.collect_params().values())
    conditions = {**recipe, "parameters": n_parameters, "test_images": len(test), "history": [
        {k: round(v, 4) for k, v in entry.items()} for entry in history]}
    results.write(args.results, "inception_small", [results.row(
        "models.inception_small.cifar10", 100 * score, unit="%", better="higher", n=1, seconds=seconds,
        command="python models/train_inception_small.py --work WORK", conditions=conditions)])
    export(block, symbol, args.out, whole.classes, {
        "source": "models/train_inception_small.py on CIFAR-10's training images", "licence": "Apache-2.0",
        "cifar10_test_accuracy": score})
    print(json.dumps({"accuracy": score, "parameters": n_parameters, "training_seconds": seconds,
                      "wall_seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
