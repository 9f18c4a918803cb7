"""Paper 2: the talk's six networks: parameters and bytes, and the five with dense layers trained as in its table.

    python experiments/benchmarks/knn_networks.py sizes                        nothing is trained
    python experiments/benchmarks/knn_networks.py 64.4000_5 --seeds 0 1 2      NEURONS.IMAGES_EPOCHS; seconds to minutes

Question: do the talk's sizes and accuracies come out again? The first 4,000 (or all 60,000) training images, and the
first 1,000 (or all) test images, which are scored once, after the last epoch. The talk tells neither its optimiser,
batch size and learning rate nor which epoch is printed. Source: Radu, tables of engine sizes and of accuracies.
"""
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab and the lesson are

import knn_slicing as lesson
from lab import main

from mxelm import runtime, training
from mxelm.backbones.gluon import count_parameters
from mxelm.data import Dataset
from mxelm.data.sources import ArraySource
from mxelm.knn_slicing import networks
from mxelm.reporting import results, tables
from mxelm.runtime import mx

TRAINING = {"optimizer": "adam", "learning_rate": 1e-3, "batch": 64}
COLUMNS = {"4000_5": (4000, 1000, 5), "4000_20": (4000, 1000, 20), "60000_5": (60000, 10000, 5)}  # train, test, epochs
RUNS = {"sizes": {}, **{
    f"{name}.{column}": {**TRAINING, "network": name, "train_images": n, "test_images": n_test, "epochs": epochs}
    for name in networks.NAMES[:-1] for column, (n, n_test, epochs) in COLUMNS.items()}}
DIFFERS = ("the talk tells neither its optimiser, batch size and learning rate nor which epoch is printed; "
           "here Adam at its usual rate, batches of 64, the last epoch")


def one_seed(run, settings, seed, lab):
    if run == "sizes":
        return {name: size_of(name) for name in networks.NAMES}
    start, ((images, labels), test) = time.perf_counter(), lesson.mnist(lab)
    n = settings["train_images"]
    network, history = trained(settings["network"], images[:n], labels[:n], settings["epochs"], seed)
    loader = dataset_of(*(part[:settings["test_images"]] for part in test)).gluon_loader(500, networks.PREPROCESSING)
    return {"accuracy": training.accuracy(network, loader), "training_accuracy": history[-1]["accuracy"],
            "seconds": time.perf_counter() - start}


def trained(name, images, labels, epochs, seed):
    """A network of the talk trained by backpropagation, and its history."""
    runtime.seed(seed)
    network = networks.network(name)
    network.initialize(mx.init.Xavier())
    network.hybridize()
    loader = dataset_of(images, labels).gluon_loader(TRAINING["batch"], networks.PREPROCESSING, shuffle=seed)
    history = training.fit(network, loader, epochs, lambda done: TRAINING["learning_rate"],
                           optimizer=TRAINING["optimizer"], seed=seed, progress=True)
    return network, history


def dataset_of(images, labels):
    return Dataset(ArraySource(images, "mnist"), labels, tuple("0123456789"), "mnist")


def size_of(name):
    """Parameters and bytes of a network, as MXNet saves it."""
    network = networks.network(name)
    network.initialize()
    return {"parameters": count_parameters(network)["total"], **networks.engine_bytes(network)}


def rows(run, settings, seeds, lab):
    if run == "sizes":
        sizes = seeds[0].figures
        return [*(row for name, size in sizes.items() for row in size_rows(name, size)),
                *(smaller_row(name, sizes[name]["parameters"], sizes["knn"]["parameters"]) for name in ("128", "64"))]
    conditions = {**settings, "training_accuracy": 100 * np.mean([seed["training_accuracy"] for seed in seeds]),
                  "what": "the first images of each file; test accuracy after the last epoch; training_accuracy is the "
                          "last epoch's, in per cent"}
    conditions.pop("network")
    return [tables.explained(results.over_seeds(
        f"knn.accuracy.{run}", 100 * np.array([seed["accuracy"] for seed in seeds]), "%", "higher",
        seconds=sum(seed["seconds"] for seed in seeds), conditions=conditions), DIFFERS)]


def smaller_row(name, count, ours):
    """How many times fewer parameters the k-NN's network has, whose references are not counted."""
    return tables.explained(results.over_seeds(f"knn.smaller.{name}", [count / ours], "ratio", "none"),
                            f"{count:,} parameters over {ours:,}")


def size_rows(name, size):
    """The rows of one network's parameters and bytes; of the k-NN's, what its references weigh as well."""
    count, raw, saved = (size[key] for key in ("parameters", "raw", "saved"))
    conditions = {"raw_bytes": raw, "what": "MXNet's file; raw_bytes is four bytes a parameter"}
    if name == "knn":
        per_image = 4 * 64 * 5 * 5 + 1  # float32 features and a label
        conditions["with_references_bytes"] = {n: raw + n * per_image for n in (4000, 60000)}
    yield results.over_seeds(f"knn.params.{name}", [count], "parameters", "none",
                             conditions={"poolings": 1 if name == "128" else 2})
    yield tables.explained(
        results.over_seeds(f"knn.bytes.{name}", [saved], "bytes", "lower", conditions=conditions),
        f"{count:,} parameters of four bytes are {raw / 1024:,.1f} KiB, their names and shapes in MXNet's file "
        f"{saved - raw} bytes")


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick={"train_images": 1000, "epochs": 2})
