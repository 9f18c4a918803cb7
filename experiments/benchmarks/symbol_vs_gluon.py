"""MXNet's two interfaces side by side: the Symbol that the paper's listing uses, and Gluon.

    python experiments/symbol_vs_gluon.py                           all networks, about ten minutes on two cores
    python experiments/symbol_vs_gluon.py --networks resnet18_v1    one network; the rows of others stay
    python experiments/symbol_vs_gluon.py --quick                   a tiny network, half a minute, written elsewhere

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
import argparse
import contextlib
import logging
import multiprocessing
import os
import re
import signal
import time
from itertools import product
from pathlib import Path

import numpy as np
from ending import in_sentences
from matplotlib.figure import Figure
from symbol_vs_gluon_ways import TASKS, WAYS, Problem, start
from tqdm import tqdm

from mxelm.cli import options
from mxelm.files import atomic_write, read_json
from mxelm.reporting import results
from mxelm.reporting.plots import DPI, OKABE_ITO
from mxelm.runtime import mx

NETWORKS = ("resnet18_v1", "mobilenet1.0", "squeezenet1.1", "efficientnet_lite0_224")  # GluonCV's, and a checkpoint
SETTINGS = {
    "batches": (1, 32),  # images
    "n_neurons": 1024,
    "n_classes": 101,
    "learning_rate": 0.01,
    "sample_seconds": 0.1,  # short steps are repeated until a timing takes about this long
}
QUICK = {**SETTINGS, "batches": (1, 4), "n_neurons": 64, "n_classes": 10, "sample_seconds": 0.01}


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


def peak_growth(name, task, way, batch, settings, pipe):
    """In a child process: send the bytes by which binding and two steps raise the peak resident set."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its child
    problem = Problem(name, task, way, batch, settings)
    for network in (mx.gluon.nn.Conv2D(8, 3), mx.gluon.nn.Dense(8)):  # what oneDNN and BLAS take once in a process
        network.initialize()
        network(mx.nd.ones((1, 3, 32, 32))).wait_to_read()
    with contextlib.suppress(OSError):  # where it is forbidden the peak of building the network stays in
        Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run = start(problem)
    for _ in range(2):
        run.step()
        mx.nd.waitall()
    pipe.send(resident("VmHWM") - before)


def resident(field):
    """A field of /proc/self/status in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE).group(1))


def memory_mb(*arguments):
    """Peak growth in MB, measured in a child of a process that has loaded MXNet and done nothing with it yet."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mxelm.fused.gluon", "mxelm.reporting.plots", "gluoncv"])
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=peak_growth, args=(*arguments, sender), daemon=True)
    child.start()
    sender.close()
    try:
        return receiver.recv() / 1e6
    except EOFError:
        logging.warning("the process that measures memory died at %s", arguments[:4])
        return None
    finally:
        child.kill()
        child.join()


def network_rows(name, settings, args, bar):
    """All rows of one network."""
    rows, begun = [], time.perf_counter()
    command = f"python experiments/symbol_vs_gluon.py --networks {name} --repeats {args.repeats}"
    for batch, task in product(settings["batches"], TASKS):
        runs, agreement = compared(name, task, batch, settings)
        times, calls = timed(runs, args.repeats, settings["sample_seconds"], bar)
        del runs  # before the children run
        conditions = {"batch": batch, "calls_a_timing": calls, "module_ms": 1e3 * float(np.median(times["module"])),
                      "threads": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set")}}
        if task == "accumulate":
            conditions["n_neurons"] = settings["n_neurons"]
        for way in WAYS:
            id = f"twins.{label(name)}.{task}.{way}.b{batch}"
            if way not in times:
                rows.append(results.row(id, None, "ratio", "lower", command=command,
                                        conditions={**conditions, "reason": agreement[way]}))
                continue
            memory = memory_mb(name, task, way, batch, settings)
            bar.update()
            rows.append(row(id, times[way], times["module"], agreement[way], memory, conditions, command))
    for one in rows:
        one["seconds"] = time.perf_counter() - begun
    return rows


def label(name):
    """A network's name as a part of an id: mobilenet1.0 becomes mobilenet1_0."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", Path(name).name)


def row(id, times, module_times, agreement, memory, conditions, command):
    """The median of the paired ratios, with quartiles and the other two measures."""
    ratios = times / module_times
    return results.row(id, np.median(ratios), "ratio", "lower", n=len(ratios), command=command,
                       conditions={**conditions, "milliseconds": 1e3 * float(np.median(times)), "memory_mb": memory,
                                   "agreement": agreement, "quartiles": np.quantile(ratios, [0.25, 0.75])})


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
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", help="names with commas between them: of GluonCV's zoo, or checkpoints (default: "
                                           f"{','.join(NETWORKS)})")
    parser.add_argument("--repeats", type=options.positive, default=5, help="rounds, of which the median is taken")
    parser.add_argument("--quick", action="store_true", help="a tiny network; results go into --work")
    parser.add_argument("--work", type=Path, default=Path("symbol_vs_gluon-work"), help="folder for --quick")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = QUICK if args.quick else SETTINGS
    names = args.networks.split(",") if args.networks else ["cifar_resnet20_v1"] if args.quick else NETWORKS
    file = args.work / "quick.json" if args.quick else Path("experiments/results/symbol_vs_gluon.json")
    results.require_writable(file, "symbol_vs_gluon")
    begun, steps = time.perf_counter(), len(settings["batches"]) * len(TASKS) * len(WAYS) * (args.repeats + 1)
    with tqdm(total=len(names) * steps, unit="timing") as bar:
        for done, name in enumerate(names):
            bar.set_description(name)
            results.write(file, "symbol_vs_gluon", network_rows(name, settings, args, bar))
            bar.update((done + 1) * steps - bar.n)  # ways that do not work
    rows = read_json(file)["rows"]
    print_table(rows)
    draw(file.with_suffix(".png"), rows)
    logging.info("%.0f s in all", time.perf_counter() - begun)


if __name__ == "__main__":
    with in_sentences("the rows of finished networks are written, go on with --networks"):
        main()
