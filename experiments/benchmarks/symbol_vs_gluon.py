"""MXNet's two interfaces side by side: the Symbol that the paper's listing uses, and Gluon.

    python experiments/benchmarks/symbol_vs_gluon.py resnet18_v1            one of four networks, a few minutes
    python experiments/benchmarks/symbol_vs_gluon.py resnet18_v1 --quick    a tiny network, half a minute

Question: what does the way of running a network cost in time and memory, and do the numbers agree? Tasks: `forward`
(images to features), `accumulate` (the fused ELM of Arcada, section 3, with its `+=`), `train` (one SGD step of a
classifier on those features). Ways:

    module      mx.mod.Module, as in the printed listing; all times are given relative to it
    executor    symbol.simple_bind, the executor beneath the Module
    gluon       the HybridBlock as it is: one operator at a time. A network that exists as a checkpoint only becomes a
                SymbolBlock, whose own graph MXNet never runs operator by operator; only what follows it does
    hybrid      hybridize(static_alloc=True, static_shape=True)
    optimized   optimize_for(backend="MKLDNN"): the same with oneDNN's fusion, which Module and executor apply by
                themselves at inference; its operators have no gradient

Protocol: the ways run in turn in one process, forwards and backwards through the list, and wait for each result; a
row is the median of the ratios to the Module's time in the same round. Memory is the growth of the peak resident set,
binding and two steps, over a process that holds the network's parameters; each in its own child process. Agreement is
the largest difference to the Module's numbers, relative to the largest of these (for `train`: of the changes of the
parameters in the first step). Images and weights are random; threads are as the environment says.
"""
import os
import re
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab is

from lab import in_a_process, main, memory
from lab.measuring import forget_peak
from matplotlib.figure import Figure
from tqdm import tqdm
from ways import TASKS, WAYS, Problem, start

from mxelm.errors import EnvironmentProblem
from mxelm.files import read_json
from mxelm.reporting import plots, results
from mxelm.reporting.plots import OKABE_ITO
from mxelm.runtime import mx

SETTINGS = {
    "batches": [1, 32],  # images
    "n_neurons": 1024,
    "n_classes": 101,
    "learning_rate": 0.01,
    "repeats": 5,  # rounds, of which the median is taken
    "sample_seconds": 0.1,  # short steps are repeated until a timing takes about this long
}
NETWORKS = ("resnet18_v1", "mobilenet1.0", "squeezenet1.1", "efficientnet_lite0_224")  # GluonCV's, and a checkpoint
RUNS = {name: {**SETTINGS, "network": name} for name in NETWORKS}
QUICK = {"batches": [1, 4], "n_neurons": 64, "n_classes": 10, "sample_seconds": 0.01, "network": "cifar_resnet20_v1"}


def one_seed(run, settings, seed, lab):
    """Figures of one network, by TASK.bBATCH and way."""
    found, name, cells = {}, settings["network"], list(product(settings["batches"], TASKS))
    with tqdm(total=len(cells) * len(WAYS) * (settings["repeats"] + 1), desc=name, unit="timing", disable=None) as bar:
        for batch, task in cells:
            runs, agreement = compared(name, task, batch, settings)
            times, calls = timed(runs, settings["repeats"], settings["sample_seconds"], bar)
            del runs  # before the children run
            threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set")}
            found[f"{task}.b{batch}"] = {"calls_a_timing": calls, "threads": threads, "ways": {
                way: {"reason": agreement[way]} if way not in times else
                {**figures(times[way], times["module"]), "agreement": agreement[way],
                 "memory_mb": memory_mb(name, task, way, batch, settings)} for way in WAYS}}
            bar.update()
    return found


def figures(times, module_times):
    """The median of the paired ratios to the Module's times, and their quartiles."""
    ratios = times / module_times
    return {"ratio": float(np.median(ratios)), "quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
            "milliseconds": 1e3 * float(np.median(times))}


def compared(name, task, batch, settings):
    """The ways that work, as a dict of way -> Run, and of way -> agreement, or the sentence why it does not work."""
    runs, agreement, reference = {}, {}, None
    for way in WAYS:
        try:
            run = start(Problem(name, task, way, batch, settings))
            found = first_numbers(run, task)
        except mx.MXNetError as error:
            agreement[way] = "MXNet refuses: " + str(error).strip().splitlines()[-1]
            continue
        if not any(array.any() for array in found):
            agreement[way] = "no weight moves: oneDNN's fused operators have no gradient, and MXNet does not say so"
            continue
        reference = reference or found
        largest = max(np.abs(array).max() for array in reference)
        agreement[way] = float(max(np.abs(a - b).max() for a, b in zip(found, reference)) / largest)
        runs[way] = run
    return runs, agreement


def first_numbers(run, task):
    """NumPy arrays after the first step; for training, by how much it changed the weights."""
    before = [array.asnumpy() for array in run.numbers()] if task == "train" else None
    run.step()
    after = [array.asnumpy() for array in run.numbers()]
    return after if before is None else [a - b for a, b in zip(after, before)]


def timed(runs, repeats, sample_seconds, bar):
    """Seconds a step, dict of way -> float (repeats,), taken in turn, every other round backwards."""
    for run in runs.values():  # oneDNN prepares its primitives in the first steps
        seconds(run, 1)
    calls = max(1, round(sample_seconds / seconds(runs["module"], 1)))
    times = {way: [] for way in runs}
    for i in range(repeats):
        for way in list(runs)[::-1 if i % 2 else 1]:
            times[way].append(seconds(runs[way], calls))
            bar.update()
    return {way: np.array(values) for way, values in times.items()}, calls


def seconds(run, calls):
    """Wall time of one step, each waited for."""
    start_time = time.perf_counter()
    for _ in range(calls):
        run.step()
        mx.nd.waitall()
    return (time.perf_counter() - start_time) / calls


def memory_mb(*problem):
    """Peak growth in MB, measured in a process of its own; None where it dies."""
    threads = os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))
    try:
        return in_a_process(peak_growth, *problem, threads=threads) / 1e6
    except EnvironmentProblem as error:
        tqdm.write(f"no memory of {problem[:4]}: {error}")
        return None


def peak_growth(name, task, way, batch, settings):
    """The bytes by which binding and two steps raise the peak resident set."""
    problem = Problem(name, task, way, batch, settings)
    for network in (mx.gluon.nn.Conv2D(8, 3), mx.gluon.nn.Dense(8)):  # what oneDNN and BLAS take once in a process
        network.initialize()
        network(mx.nd.ones((1, 3, 32, 32))).wait_to_read()
    forget_peak()
    before = memory("VmRSS")
    run = start(problem)
    for _ in range(2):
        run.step()
        mx.nd.waitall()
    return memory("VmHWM") - before


def rows(run, settings, seeds, lab):
    """A row a cell and way: the seeds' mean of medians; n counts the rounds of all seeds."""
    made, last = [], seeds[-1]
    for cell, found in last.figures.items():
        task, batch = cell.split(".b")
        shared = {"batch": int(batch), "calls_a_timing": found["calls_a_timing"], "threads": found["threads"],
                  "module_ms": found["ways"]["module"]["milliseconds"],
                  **({"n_neurons": settings["n_neurons"]} if task == "accumulate" else {})}
        for way, one in found["ways"].items():
            values = [seed[cell]["ways"][way]["ratio"] for seed in seeds if "ratio" in seed[cell]["ways"][way]]
            told = {key: value for key, value in one.items() if key != "ratio"}
            row = results.over_seeds(f"twins.{label(settings['network'])}.{task}.{way}.b{batch}", values, "ratio",
                                     "lower", conditions={**shared, **told})
            made.append({**row, "n": max(settings["repeats"] * len(values), 1)})
    print_table(made)
    file = lab.folder.parents[1] / f"{lab.name}.json"
    everything = {row["id"]: row for row in [*(read_json(file)["rows"] if file.exists() else []), *made]}
    draw(lab.work / f"{lab.name}.png", everything.values())
    return made


def label(name):
    """A network's name as a part of an id: mobilenet1.0 becomes mobilenet1_0."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", Path(name).name)


def cells(rows):
    """The rows as dict of (network, task, batch) -> dict of way -> row, in the order of the tasks."""
    found = {}
    for one in rows:
        _, network, task, way, batch = one["id"].split(".")
        found.setdefault((network, task, int(batch[1:])), {})[way] = one
    return dict(sorted(found.items(), key=lambda item: (item[0][0], TASKS.index(item[0][1]), item[0][2])))


def print_table(rows):
    """Time relative to the Module and, in brackets, MB; then the worst agreement of each line."""
    print(f"{'network':24s}{'task':11s}{'batch':>5s}{'module ms':>11s}" + "".join(f"{way:>16s}" for way in WAYS)
          + f"{'agreement':>11s}")
    for (network, task, batch), ways in cells(rows).items():
        line = f"{network:24s}{task:11s}{batch:5d}{ways['module']['conditions']['module_ms']:11.1f}"
        for way in WAYS:
            one = ways[way]
            memory = one["conditions"].get("memory_mb")
            text = "-" if one["value"] is None else f"{one['value']:.2f}"
            line += f"{text + ('' if memory is None else f' ({memory:.0f})'):>16s}"
        worst = max(one["conditions"].get("agreement", 0) for one in ways.values())
        print(line + f"{worst:11.0e}")


def draw(path, rows):
    """A panel a task and batch, a group of bars a network, a bar a way."""
    found = cells(rows)
    networks, batches = (sorted({key[i] for key in found}) for i in (0, 2))
    figure = Figure(figsize=(4 * len(TASKS) + 1, 2.8 * len(batches)), layout="constrained")
    panels = figure.subplots(len(batches), len(TASKS), sharey="col", squeeze=False)
    for (i, batch), (j, task) in product(enumerate(batches), enumerate(TASKS)):
        axes = panels[i, j]
        for k, way in enumerate(WAYS):
            values = [found.get((network, task, batch), {}).get(way, {}).get("value") for network in networks]
            heights = np.array([np.nan if value is None else value for value in values])
            axes.bar(np.arange(len(networks)) + (k - 2) * 0.16, heights, 0.15, color=OKABE_ITO[k], label=way)
        axes.axhline(1, color="0.5", linewidth=0.8)
        axes.set_xticks(range(len(networks)), networks, fontsize=6, rotation=12)
        axes.set_title(f"{task}, batch {batch}", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("time / Module's time")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    plots.save(figure, path)


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
