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
import sys
import time
from collections import namedtuple
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from mxelm import backbones, runtime
from mxelm.files import atomic_write, read_json
from mxelm.fused.graph import fuse
from mxelm.fused.twin import FusedELM, features_block
from mxelm.graphs import bind
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import results
from mxelm.reporting.plots import DPI, OKABE_ITO
from mxelm.runtime import mx, without_lines

NETWORKS = ("resnet18_v1", "mobilenet1.0", "squeezenet1.1", "efficientnet_lite0_224")  # GluonCV's, and a checkpoint
SETTINGS = {
    "batches": (1, 32),  # images
    "n_neurons": 1024,
    "n_classes": 101,
    "learning_rate": 0.01,
    "sample_seconds": 0.1,  # short steps are repeated until a timing takes about this long
}
QUICK = {**SETTINGS, "batches": (1, 4), "n_neurons": 64, "n_classes": 10, "sample_seconds": 0.01}
TASKS = ("forward", "accumulate", "train")
WAYS = ("module", "executor", "gluon", "hybrid", "optimized")
SYMBOL_WAYS = WAYS[:2]

Run = namedtuple("Run", ["step", "numbers"])  # one step of the task; the NDArrays by which ways are compared


class Problem:
    """One task on one network and one batch of random images, ready to be bound; the same in every process.

    inputs: dict of name -> NDArray. Gluon ways have `block`; Symbol ways `symbol` and `params` (arg, aux).
    """

    def __init__(self, name, task, way, batch, settings):
        runtime.seed(0)
        rng = np.random.default_rng(0)
        self.task, self.way, self.batch, self.settings = task, way, batch, settings
        block, shape = features(name)
        labels = rng.integers(0, settings["n_classes"], batch)
        x = mx.nd.array(rng.standard_normal((batch, *shape)))
        Y = mx.nd.array(np.eye(settings["n_classes"])[labels])
        self.inputs = {"forward": {"data": x}, "accumulate": {"data": x, "Y": Y},
                       "train": {"data": x, "softmax_label": mx.nd.array(labels)}}[task]
        self.block = {"forward": lambda: block, "accumulate": lambda: elm(block, x, Y, settings["n_neurons"]),
                      "train": lambda: classifier(block, x, settings["n_classes"])}[task]()
        if way in SYMBOL_WAYS:
            self.symbol, *self.params = self._as_symbol(block if task == "accumulate" else self.block)
            self.block = None
        mx.nd.waitall()

    def _as_symbol(self, block):
        """The same graph and parameters: (symbol, arg_params, aux_params)."""
        shape = self.inputs["data"].shape
        backbone = backbones.from_block(block, Preprocessing(shape[2:], resize="stretch"), name="network")
        symbol, (arg_params, aux_params) = backbone.features, backbone.feature_params()
        if self.task == "accumulate":
            symbol = fuse(symbol, self.settings["n_neurons"])
            arg_params = {**arg_params, "W": self.block.W.data()}
        if self.task == "train":
            symbol = mx.sym.SoftmaxOutput(symbol, name="softmax")
        return symbol, arg_params, aux_params

    @property
    def shapes(self):
        return {name: array.shape for name, array in self.inputs.items()}


def features(name):
    """A network up to its pooled features as an initialised HybridBlock, and its input's (channels, height, width).

    name: a network of GluonCV's zoo (random weights), or a checkpoint's prefix or known name. A Dropout before the
    features is left out, for it would give each way other numbers.
    """
    if name.lower() not in runtime.gluoncv.model_zoo.get_model_list():
        backbone = backbones.load(name)
        return features_block(backbone), backbone.preprocessing.shape
    network = runtime.gluoncv.model_zoo.get_model(name, prefix="network_")
    block = mx.gluon.nn.HybridSequential(prefix="")
    block.add(*(layer for layer in network.features if not isinstance(layer, mx.gluon.nn.Dropout)))
    shape = (3, 32, 32) if "cifar" in name.lower() else (3, 224, 224)
    _, outputs, _ = block(mx.sym.var("data")).infer_shape(data=(1, *shape))
    if len(outputs[0]) == 4:
        block.add(mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    block.infer_shape(mx.nd.zeros((1, *shape)))
    block.initialize(mx.init.Xavier("gaussian", "in", 2))  # keeps ReLU networks in scale
    return block, shape


def elm(block, x, Y, n_neurons):
    """The fused ELM behind a network, XW of the order of the features."""
    fused = FusedELM(block, n_neurons)
    fused.infer_shape(x, Y)
    W = np.random.default_rng(1).standard_normal(fused.W.shape) / np.sqrt(fused.W.shape[1])
    fused.W.initialize(mx.init.Constant(mx.nd.array(W)))
    return fused


def classifier(block, x, n_classes):
    """A network with a Dense layer behind it."""
    network = mx.gluon.nn.HybridSequential(prefix="")
    network.add(block, mx.gluon.nn.Dense(n_classes, prefix="classifier_"))
    network.infer_shape(x)
    network[1].initialize(mx.init.Xavier())
    return network


def start(problem):
    """Bind a problem: its Run."""
    if problem.task == "train":
        return {"module": train_module, "executor": train_executor}.get(problem.way, train_block)(problem)
    outputs = inference(problem)
    return Run(accumulating(outputs) if problem.task == "accumulate" else outputs, outputs)


def inference(problem):
    """A function that starts a forward pass and returns its outputs."""
    inputs = list(problem.inputs.values())
    if problem.way == "module":
        module = bind(problem.symbol, problem.shapes, *problem.params, mx.cpu())

        def outputs():
            module.forward(mx.io.DataBatch(inputs), is_train=False)
            return module.get_outputs()
    elif problem.way == "executor":
        executor = simple_bind(problem, "null")

        def outputs():
            return executor.forward(is_train=False, **problem.inputs)
    else:
        block = prepared(problem.block, problem.way, inputs)

        def outputs():
            found = block(*inputs)
            return found if isinstance(found, (list, tuple)) else [found]
    return outputs


def accumulating(outputs):
    """A step that adds what `outputs` gives to running sums, as the paper's class does between batches."""
    sums = []

    def step():
        matrices = outputs()
        if not sums:
            sums.extend(mx.nd.zeros(matrix.shape) for matrix in matrices)
        for total, matrix in zip(sums, matrices):
            total += matrix
    return step


def train_module(problem):
    """Module: forward_backward and update."""
    x, labels = problem.inputs.values()
    module = mx.mod.Module(problem.symbol, ["data"], ["softmax_label"], context=mx.cpu())
    with without_lines("is disabled."):
        module.bind([("data", x.shape)], [("softmax_label", labels.shape)])
    module.set_params(*problem.params)
    module.init_optimizer(kvstore=None, optimizer=sgd(problem))
    batch = mx.io.DataBatch([x], [labels])

    def step():
        module.forward_backward(batch)
        module.update()
    return Run(step, lambda: by_name(module.get_params()[0]))


def train_executor(problem):
    """The executor: forward, backward, and the optimizer's update of each weight."""
    executor = simple_bind(problem, {name: "write" for name in problem.params[0]})
    update = mx.optimizer.get_updater(sgd(problem))
    weights = {name: executor.arg_dict[name] for name in problem.params[0]}

    def step():
        executor.forward(is_train=True, **problem.inputs)
        executor.backward()
        for i, (name, weight) in enumerate(weights.items()):
            update(i, executor.grad_dict[name], weight)
    return Run(step, lambda: by_name(weights))


def train_block(problem):
    """Gluon: record, backward, Trainer.step."""
    x, labels = problem.inputs.values()
    block = prepared(problem.block, problem.way, [x])
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    loss.hybridize(problem.way != "gluon")
    trainer = mx.gluon.Trainer(block.collect_params(), sgd(problem), kvstore=None)
    weights = {name: parameter for name, parameter in block.collect_params().items() if parameter.grad_req != "null"}

    def step():
        with mx.autograd.record():
            value = loss(block(x), labels)
        value.backward()
        trainer.step(1)  # the optimizer divides by the batch itself, as for the Symbol ways
    return Run(step, lambda: by_name({name: parameter.data() for name, parameter in weights.items()}))


def sgd(problem):
    return mx.optimizer.SGD(learning_rate=problem.settings["learning_rate"], rescale_grad=1 / problem.batch)


def by_name(arrays):
    return [arrays[name] for name in sorted(arrays)]


def simple_bind(problem, grad_req):
    with without_lines("is disabled."):
        executor = problem.symbol.simple_bind(mx.cpu(), grad_req=grad_req, **problem.shapes)
    executor.copy_params_from(*problem.params)
    return executor


def prepared(block, way, inputs):
    """A Gluon block made ready for its way of running."""
    if way == "hybrid":
        block.hybridize(static_alloc=True, static_shape=True)
    elif way == "optimized":
        block.optimize_for(*inputs, backend="MKLDNN", static_alloc=True, static_shape=True)
    return block


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
    problem = Problem(name, task, way, batch, settings)
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
    processes.set_forkserver_preload(["mxelm.fused.twin", "mxelm.reporting.plots", "gluoncv"])
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=peak_growth, args=(*arguments, sender), daemon=True)
    child.start()
    sender.close()
    try:
        return receiver.recv() / 1e6
    except EOFError:  # the child died
        return None
    finally:
        child.join()


def network_rows(name, settings, args, bar):
    """All rows of one network."""
    rows, begun = [], time.perf_counter()
    for batch, task in product(settings["batches"], TASKS):
        runs, agreement = compared(name, task, batch, settings)
        times, calls = timed(runs, args.repeats, settings["sample_seconds"], bar)
        del runs  # before the children run
        conditions = {"batch": batch, "calls_a_timing": calls, "module_ms": 1e3 * float(np.median(times["module"])),
                      "threads": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set")}}
        if task == "accumulate":
            conditions["n_neurons"] = settings["n_neurons"]
        for way in WAYS:
            id = f"twins.{re.sub(r'[^A-Za-z0-9_-]', '_', Path(name).name)}.{task}.{way}.b{batch}"
            if way not in times:
                rows.append(results.row(id, None, "ratio", "lower", command=args.command,
                                        conditions={**conditions, "reason": agreement[way]}))
                continue
            memory = memory_mb(name, task, way, batch, settings)
            bar.update()
            rows.append(row(id, times[way], times["module"], agreement[way], memory, conditions, args.command))
    for one in rows:
        one["seconds"] = time.perf_counter() - begun
    return rows


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
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the median is taken")
    parser.add_argument("--quick", action="store_true", help="a tiny network; results go into --work")
    parser.add_argument("--work", type=Path, default=Path("symbol_vs_gluon-work"), help="folder for --quick")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.command = f"python experiments/symbol_vs_gluon.py --repeats {args.repeats}"
    settings = QUICK if args.quick else SETTINGS
    names = args.networks.split(",") if args.networks else ["cifar_resnet20_v1"] if args.quick else NETWORKS
    file = args.work / "quick.json" if args.quick else Path("experiments/results/symbol_vs_gluon.json")
    begun, steps = time.perf_counter(), len(settings["batches"]) * len(TASKS) * len(WAYS) * (args.repeats + 1)
    try:
        with tqdm(total=len(names) * steps, unit="timing") as bar:
            for done, name in enumerate(names):
                bar.set_description(name)
                results.write(file, "symbol_vs_gluon", network_rows(name, settings, args, bar))
                bar.update((done + 1) * steps - bar.n)  # ways that do not work
    except KeyboardInterrupt:
        logging.info("stopped; the rows of finished networks are in %s, go on with --networks", file)
        sys.exit(130)
    rows = read_json(file)["rows"]
    print_table(rows)
    draw(file.with_suffix(".png"), rows)
    logging.info("%.0f s in all", time.perf_counter() - begun)


if __name__ == "__main__":
    main()
