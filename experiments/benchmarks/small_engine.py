"""Paper 2, the small engine: accuracy against the bytes of one file that holds all it takes to classify.

    python experiments/benchmarks/small_engine.py 75k --seeds 0 1         also 500k, 4500k; minutes a seed
    python experiments/benchmarks/small_engine.py 75k_held_out            the last 10,000 training images instead

Question: how much of a network's accuracy fits into the 75,264 bytes that the talk spends on kernels alone, and what
do 0.5 and 4.5 MB add? Everything is counted: the file's size on disk. A plan of mxelm.knn_slicing.engine.build is to
be judged by the last 10,000 training images, which other writers wrote (SIZE_held_out: printed, no row), not by test
images, which are scored once. Beside each engine stands k-NN (k = 9) on all training images behind the same map: what
condensing them into prototypes costs.
"""
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab and the lesson are

import knn_slicing as lesson
from lab import main
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mxelm.knn_slicing import banks
from mxelm.knn_slicing.engine.build import build, plan_for, prototypes_per_class
from mxelm.knn_slicing.engine.classifier import Bank, Engine
from mxelm.knn_slicing.engine.quantised import Quantised
from mxelm.neighbours import nearest, vote
from mxelm.reporting import plots, results
from mxelm.reporting.published import PUBLISHED
from mxelm.reporting.statistics import mcnemar

SIZES = {"75k": 75_264, "500k": 500_000, "4500k": 4_500_000}  # bytes
K = 9  # of the k-NN on all references
UNCOMPARED = ("k-NN on all references behind its map is better (all_references): this plan was reasoned, and never "
              "compared with others on held-out writers")
REASONS = {
    "75k": "seed 0 has seen the test images twice: an earlier plan, judged by a random sixth of the training images, "
           "had been scored before this one was fixed on held-out writers; seeds 0 and 1 were built when sums still "
           "depended on the number of threads",
    "500k": UNCOMPARED, "4500k": f"{UNCOMPARED}; it takes 1.8 MB of the 4.5"}
HELD_OUT = 1 / 6  # of the training images
RUNS = {f"{name}{end}": {**dataclasses.asdict(plan_for(size)), "of_bytes": size, "held_out": bool(end)}
        for name, size in SIZES.items() for end in ("", "_held_out")}
QUICK = {"filters": (8, 12), "n_dims": 12, "n_components": 100, "rounds": 2, "polish": 1}


def one_seed(run, settings, seed, lab):
    """Build the engine of one size and seed, and score what lies on disk."""
    plan = plan_for(settings["of_bytes"])
    plan = dataclasses.replace(plan, **{name: settings[name] for name in dataclasses.asdict(plan)})
    learning, scored = lesson.mnist(lab)
    if settings["held_out"]:  # not at random: MNIST's images lie writer by writer, and no writer is to be on both sides
        cut = round((1 - HELD_OUT) * len(learning[0]))
        learning, scored = [part[:cut] for part in learning], [part[cut:] for part in learning]
    classes, file = tuple("0123456789"), lab.place(seed).with_suffix(".engine")
    start, cpu = time.perf_counter(), time.process_time()
    build(*learning, classes, n_bytes=settings["of_bytes"], seed=seed, plan=plan, progress=True).save(file)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    engine = Engine.load(file)
    distances, indices = nearest(engine.transform(scored[0]), engine.transform(learning[0]), K)
    right = {"engine": engine.predict(scored[0]) == scored[1],
             "all references": vote(distances, learning[1][indices], len(classes)) == scored[1]}
    return {"accuracy": float(right["engine"].mean()), "all_references": float(right["all references"].mean()),
            "mcnemar_p": mcnemar(*right.values()), "bytes": file.stat().st_size, "prototypes": len(engine.labels),
            "references": len(learning[1]), "test_images": len(scored[1]), "seconds": seconds,
            "cpu_seconds": cpu_seconds}


def rows(run, settings, seeds, lab):
    accuracies = 100 * np.array([seed["accuracy"] for seed in seeds])
    if settings["held_out"]:
        print(f"{run}: {accuracies.mean():.2f} % of {seeds[0]['test_images']} held-out images ({accuracies.round(2)})")
        return []
    each = {f"{name}": [seed[name] for seed in seeds] for name in ("bytes", "mcnemar_p", "cpu_seconds")}
    first = {name: seeds[0][name] for name in ("prototypes", "references", "test_images")}
    conditions = {**settings, **each, **first, "k": K, "seeds": accuracies.tolist(), "reason": REASONS[run],
                  "all_references": float(100 * np.mean([seed["all_references"] for seed in seeds]))}
    conditions.pop("held_out")
    picture(lab.work / "engine.png", {name: seeds if name == run else lab.kept(name) for name in SIZES})
    return [results.over_seeds(f"knn.engine.{run}", accuracies, "%", "higher",
                               seconds=sum(seed["seconds"] for seed in seeds), conditions=conditions)]


def untrained(n_bytes):
    """An engine of the size that n_bytes give, its numbers drawn at random: as fast as a trained one."""
    plan, classes = plan_for(n_bytes), tuple("0123456789")
    count, rng = prototypes_per_class(n_bytes, plan, classes), np.random.default_rng(0)
    drawn = banks.random(0, plan.filters)
    layers = [Bank.of(*layer, plan.bits[0]) for layer in ((drawn.conv1, drawn.bias1), (drawn.conv2, drawn.bias2))]
    projection, prototypes = (Quantised.of(rng.normal(size=(plan.n_dims, n)), bits)
                              for n, bits in ((25 * plan.filters[1], plan.bits[1]), (10 * count, plan.bits[2])))
    return Engine(*layers, projection, np.zeros(plan.n_dims, np.float32), prototypes, np.full(10, count), classes)


def picture(path, engines):
    """Accuracy against bytes: the engines (size -> Seeds), and the talk's networks as printed."""
    printed = {published.id: published.value for published in PUBLISHED}
    engines = [seeds for seeds in engines.values() if seeds]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    sizes, accuracies, all_of_them = ([np.mean([seed[name] for seed in seeds]) for seeds in engines]
                                      for name in ("bytes", "accuracy", "all_references"))
    axes.plot(sizes, 100 * np.array(accuracies), "o-", color="#0072B2", label="engine, all included")
    axes.plot(sizes, 100 * np.array(all_of_them), "x", color="#009E73",
              label="all references behind the same map (their bytes not counted)")
    networks = ("128", "64", "32", "16", "8")
    axes.plot([printed[f"knn.bytes.{n}"] for n in networks], [printed[f"knn.accuracy.{n}.60000_5"] for n in networks],
              "s", color="#D55E00", label="the talk's networks, as printed (99.91 is a training accuracy)")
    axes.plot(printed["knn.bytes.knn"], printed["knn.cma.60000.test10000"], "^", color="#CC79A7",
              label="the talk's k-NN, references not counted")
    axes.set(xscale="log", xlabel="bytes", ylabel="accuracy, %")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    plots.save(figure, path)


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
