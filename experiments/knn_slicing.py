"""Paper 2: k-NN slicing, its tables as a script; each subcommand is a table of its own.

    python experiments/knn_slicing.py sizes        parameters and bytes of the six networks
    python experiments/knn_slicing.py accuracy     the networks trained by backpropagation, as in the talk's table
    python experiments/knn_slicing.py baselines    k-NN on raw pixels and on kernels that nothing evolved
    python experiments/knn_slicing.py inference    the full network against the sliced one, image by image and batched
    python experiments/knn_slicing.py evolve       kernels by CMA-ES or PSO (knn_evolve.py)
    python experiments/knn_slicing.py fitness      the exact fast fitness against naive evaluation (knn_cost.py)
    python experiments/knn_slicing.py engine       accuracy at 74 KB, 500 KB and 4.5 MB in all (knn_engine.py)
    python experiments/knn_slicing.py baselines --quick     any of them on digits, written elsewhere

Question: what does evolving the kernels add, and what does the 74 KB engine weigh with its references? Protocol: the
first 4,000 or all 60,000 training images of MNIST are references, and what learns (but `evolve`, which asks further
training images) learns from them; test images are scored once.
At 4,000 the talk's 1,000 test images are the first of the file and the other 9,000 are images that it never used.
Finished seeds are kept in --work, from which a second call goes on. Source: Radu, slides on experiments.
"""
import argparse
import logging
import time
from pathlib import Path

import knn_baselines
import knn_cost
import knn_engine
import knn_evolve
import numpy as np
from ending import in_sentences
from knn_baselines import explained, load_mnist, spread
from timing import in_turn
from tqdm import tqdm

from mxelm.backbones.gluon import count_parameters
from mxelm.cli import options
from mxelm.files import make_folder, read_json, write_json
from mxelm.knn_slicing import banks, kernels, networks
from mxelm.neighbours import References, vote
from mxelm.reporting import results
from mxelm.runtime import mx

COLUMNS = {"4000_5": (4000, 1000, 5), "4000_20": (4000, 1000, 20), "60000_5": (60000, 10000, 5)}  # train, test, epochs
ACCURACY_DIFFERS = ("the talk tells neither its optimiser, batch size and learning rate nor which epoch is printed; "
                    "here Adam at its usual rate, batches of 64, the last epoch")
INFERENCE = {"rounds": 30, "references": (4000, 60000), "k": 9, "metric": "cosine"}
QUICK_INFERENCE = {**INFERENCE, "rounds": 3, "references": (400, 1200)}


def sizes(args):
    """Parameters and bytes of the six networks, as MXNet saves them."""
    rows = []
    for name in networks.NAMES:
        net = networks.network(name)
        net.initialize()
        count, size = count_parameters(net)["total"], networks.engine_bytes(net)
        rows.append(results.row(f"knn.params.{name}", count, "parameters", "none", command=args.command,
                                conditions={"poolings": 1 if name == "128" else 2}))
        conditions = {"raw_bytes": size["raw"], "what": "MXNet's file; raw_bytes is four bytes a parameter"}
        if name == "knn":
            per_image = 4 * 64 * 5 * 5 + 1  # float32 features and a label
            conditions["with_references_bytes"] = {n: size["raw"] + n * per_image for n in (4000, 60000)}
        row = results.row(f"knn.bytes.{name}", size["saved"], "bytes", "lower", command=args.command,
                          conditions=conditions)
        rows.append(explained(row, f"{count:,} parameters of four bytes are {size['raw'] / 1024:,.1f} KiB, their names "
                                   f"and shapes in MXNet's file {size['saved'] - size['raw']} bytes"))
    return rows


def accuracy(args):
    """The five networks with dense layers, trained as in the talk's table; the last epoch is scored."""
    train, test = load_mnist(args)
    rows = []
    for column in args.columns:
        n_train, n_test, epochs = COLUMNS[column]
        for name in args.networks:
            cells = []
            for seed in tqdm(range(args.seeds), desc=f"{name} neurons, {column}", leave=False):
                file = args.work / f"accuracy-{train.name}-{name}-{column}-{seed}.json"
                if not file.exists():
                    write_json(file, trained_cell(args, name, train, test, n_train, n_test, epochs, seed))
                cells.append(read_json(file))
            conditions = {**knn_baselines.TRAINING, "train_images": cells[0]["train_images"], "epochs": epochs,
                          "test_images": cells[0]["test_images"],
                          "training_accuracy": 100 * np.mean([cell["training_accuracy"] for cell in cells]),
                          "what": "the first images of each file; test accuracy after the last epoch; "
                                  "training_accuracy is the last epoch's, in per cent"}
            row = summary(f"knn.accuracy.{name}.{column}", [cell["accuracy"] for cell in cells], args, conditions,
                          sum(cell["seconds"] for cell in cells))
            rows.append(explained(row, ACCURACY_DIFFERS))
    return rows


def trained_cell(args, name, train, test, n_train, n_test, epochs, seed):
    """Train one network with one seed and score it once; a dict of figures."""
    start = time.perf_counter()
    train, test = train.take(np.arange(min(n_train, len(train)))), test.take(np.arange(min(n_test, len(test))))
    net, history = knn_baselines.trained(args, name, train, epochs, seed)
    loader = test.gluon_loader(500, networks.PREPROCESSING)
    return {"accuracy": knn_baselines.training.accuracy(net, loader), "training_accuracy": history[-1]["accuracy"],
            "train_images": len(train), "test_images": len(test), "seconds": time.perf_counter() - start}


def inference(args):
    """Time of the full network over time of the sliced one, kernels and k-NN, on the same images in turn.

    The small engine, all of NumPy, deskewing included, runs beside them.
    """
    settings = QUICK_INFERENCE if args.quick else INFERENCE
    images = load_mnist(args)[0].source.images
    full, bank = networks.network("128"), banks.random(0)
    full.initialize(mx.init.Xavier())
    features = networks.from_kernels(bank)
    for net in (full, features):
        net.hybridize(static_alloc=True, static_shape=True)
    labels = np.arange(max(settings["references"])) % 10
    indexes = {n: References(kernels.features(images[:n], bank), settings["metric"]) for n in settings["references"]}
    small, rows = knn_engine.untrained(knn_engine.SIZES["75k"]), []
    for batch in (1, 32):
        x = mx.nd.array(images[:batch, None] / np.float32(255))

        def sliced(index, x=x):
            distances, found = index.nearest(features(x).asnumpy(), settings["k"])
            return vote(distances, labels[found], 10)

        calls = {"full": lambda x=x: full(x).asnumpy(), "features": lambda x=x: features(x).asnumpy(),
                 "small engine": lambda batch=batch: small.predict(images[:batch]),
                 **{str(n): lambda index=index: sliced(index) for n, index in indexes.items()}}
        seconds = in_turn(calls, settings["rounds"], f"batches of {batch}")
        few, many = map(str, settings["references"])
        conditions = {**settings, "batch": batch, "milliseconds": {name: 1e3 * s for name, s in seconds.items()},
                      f"speedup_{many}_references": seconds["full"] / seconds[many],
                      "speedup_without_knn": seconds["full"] / seconds["features"],
                      "speedup_of_small_engine": seconds["full"] / seconds["small engine"],
                      "what": f"network 128 over kernels and k-NN in {few} references, medians of runs in turn; "
                              "the small engine has 75,264 bytes, NumPy alone, and deskews"}
        rows.append(results.row(f"knn.inference_speedup.b{batch}", seconds["full"] / seconds[few], "ratio", "higher",
                                command=args.command, conditions=conditions))
    return rows


def summary(id, values, args, conditions, seconds=None):
    """A row of accuracies, one a seed: mean, sample deviation, n."""
    values = 100 * np.array(values)
    return results.row(id, values.mean(), "%", "higher", std=spread(values), n=len(values),
                       command=args.command, seconds=seconds, conditions=conditions)


RUNS = {"sizes": sizes, "accuracy": accuracy, "baselines": knn_baselines.run, "inference": inference,
        "evolve": knn_evolve.evolution, "fitness": knn_cost.run, "engine": knn_engine.run}
ARGUMENTS = {"baselines": knn_baselines.add_arguments, "evolve": knn_evolve.add_arguments,
             "fitness": knn_cost.add_arguments, "engine": knn_engine.add_arguments}
SEEDED = ("accuracy", "baselines", "evolve", "engine")


def add_accuracy_arguments(parser):
    parser.add_argument("--columns", nargs="+", choices=tuple(COLUMNS), default=tuple(COLUMNS),
                        help="training images and epochs (default: all)")
    dense = networks.NAMES[:-1]
    parser.add_argument("--networks", nargs="+", choices=dense, default=dense,
                        help="neurons of the first dense layer (default: all)")


def parsed(argv):
    """The arguments, and `command`: what was typed, without folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_subparsers(dest="run", required=True, metavar="RUN")
    subparsers = {}
    for name, call in RUNS.items():
        sub = chosen.add_parser(name, help=(call.__doc__ or name).splitlines()[0])
        sub.add_argument("--quick", action="store_true", help="digits; results go into --work")
        if name in SEEDED:
            sub.add_argument("--seeds", type=options.positive, default=3, help="how many, from seed 0 (default: 3)")
        sub.add_argument("--out", type=Path, help="result file (default: experiments/results/knn_slicing.json)")
        sub.add_argument("--data", help="folder of MNIST (default: MXELM_DATA and the cache)")
        sub.add_argument("--work", type=Path, default=Path("knn_slicing-work"), help="folder for checkpoints, finished "
                         "seeds and pictures; a second call goes on from it")
        {**ARGUMENTS, "accuracy": add_accuracy_arguments}.get(name, lambda sub: None)(sub)
        subparsers[name] = sub
    args = parser.parse_args(argv)
    default, folders = subparsers[args.run].get_default, ("out", "data", "work", "resume")
    typed = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {_words(value)}")
             for name, value in vars(args).items() if name not in ("run", *folders) and value != default(name)]
    args.command = " ".join(["python experiments/knn_slicing.py", args.run, *typed])
    return args


def _words(value):
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def main(argv=None):
    args = parsed(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    start = time.perf_counter()
    make_folder(args.work)
    out = args.out or (args.work / "quick.json" if args.quick else Path("experiments/results/knn_slicing.json"))
    if not getattr(args, "validate", False):  # which leaves no row
        results.require_writable(out, "knn_slicing")
    rows = RUNS[args.run](args)
    for row in rows:
        print(results.line(row))
    if rows:
        results.write(out, "knn_slicing", rows)
    if args.quick and args.run != "sizes":
        print("quick: a trial of the script under the table's names, no figures")
    logging.info("%.0f s in all", time.perf_counter() - start)


if __name__ == "__main__":
    with in_sentences("what is finished in --work is not done again (evolve: --resume)"):
        main()
