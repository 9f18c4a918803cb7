"""Paper 3: the fast forms of gradual layers against the step-by-step ones, time and memory.

    python experiments/benchmarks/gunn_speed.py network     a training step of the report's network
    python experiments/benchmarks/gunn_speed.py layers      forward and backward of the original's layers
    python experiments/benchmarks/gunn_speed.py memory      the peak of a training step of the report's network

Each case runs in a process of its own, one thread, both forms in turn; medians of CPU-seconds. A form is run as Gluon
runs it (`imperative`), after `hybridize()` (`hybridized`), and with `static_alloc` and `static_shape` as well
(`static`). The rows give the second, their conditions the others too. The step-by-step form needs about 5 GB.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab is

from lab import in_a_process, in_turn, main, memory

from mxelm import gunn
from mxelm.gunn.networks import HE_NORMAL
from mxelm.reporting import results
from mxelm.runtime import mx

FORMS = ("step-by-step", "fast")
MODES = {"imperative": None, "hybridized": {}, "static": {"static_alloc": True, "static_shape": True}}
RUNS = {
    "network": {"what": "a training step of the report's network", "batch": 5, "rounds": 5},
    "layers": {"what": "forward and backward of the original's layers: 240 channels of 32x32 pixels, 300 of 16x16, 360 "
                       "of 8x8", "batch": 50, "rounds": 5},
    "memory": {"what": "a training step of the report's network", "batch": 5},
}
QUICK = {"batch": 1, "rounds": 1, "what": "forward and backward of one layer: 240 channels of 8x8"}


def one_seed(run, settings, seed, lab):
    if run == "memory":
        return {mode: {form: in_a_process(peak, settings, form, mode, lab.quick) for form in FORMS} for mode in MODES}
    return {mode: in_a_process(times, run, settings, mode, lab.quick) for mode in MODES}


def times(case, settings, mode, quick):
    """Median CPU-seconds of a step, dict of form -> float; the first round is not counted."""
    step = {"network": network_step, "layers": originals_step}[case]
    steps = {form: step(form, MODES[mode], settings["batch"], quick) for form in FORMS}
    return in_turn(steps, settings["rounds"], f"{case}, {mode}", clock=time.process_time)


def peak(settings, form, mode, quick):
    """Peak memory of one step above that of the process with its network, MB."""
    step = network_step(form, MODES[mode], settings["batch"], quick)
    before = memory("VmRSS")
    step()
    return (memory("VmHWM") - before) / 2**20


def network_step(form, compiled, batch, quick):
    """A callable: one training step of the report's network; quick: forward and backward of one of its layers."""
    if quick:
        return layers_step([({"step-by-step": gunn.Gunn2D, "fast": gunn.FastGunn2D}[form](240), 8)], compiled, batch)
    network = gunn.gunn15(3, head="plain", layer=form)
    if compiled is not None:
        network.hybridize(**compiled)
    trainer = mx.gluon.Trainer(network.collect_params(), "adam", kvstore=None)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    x, y = mx.nd.random.normal(shape=(batch, 3, 32, 32)), mx.nd.zeros(batch)

    def step():
        with mx.autograd.record():
            value = loss(network(x), y)
        value.backward()
        trainer.step(batch)
        mx.nd.waitall()
    return step


def originals_step(form, compiled, batch, quick):
    """A callable: forward and backward of the original's three layers; quick: of one."""
    layer = {"step-by-step": gunn.OriginalGunn, "fast": gunn.FastOriginalGunn}[form]
    layers = [(layer(n, K=12), size) for n, size in ([(240, 8)] if quick else [(240, 32), (300, 16), (360, 8)])]
    return layers_step(layers, compiled, batch)


def layers_step(layers, compiled, batch):
    """A callable: forward and backward of each layer of pairs (layer, height and width of its images)."""
    inputs = []
    for layer, size in layers:
        layer.initialize(mx.init.MSRAPrelu(**HE_NORMAL))
        if compiled is not None:
            layer.hybridize(**compiled)
        inputs.append(mx.nd.random.normal(shape=(batch, layer.n, size, size)))
        inputs[-1].attach_grad()

    def step():
        for (layer, _), x in zip(layers, inputs):
            with mx.autograd.record():
                y = layer(x)
            y.backward()
        mx.nd.waitall()
    return step


def rows(run, settings, seeds, lab):
    """The ratio of step by step over fast, hybridized; the other modes' in the conditions."""
    last = seeds[-1].figures
    ratios = {mode: found["step-by-step"] / found["fast"] for mode, found in last.items()}
    values = [seed["hybridized"]["step-by-step"] / seed["hybridized"]["fast"] for seed in seeds]
    id, told = {"network": ("gunn.fast_speedup", {"speedups": ratios, "cpu_seconds": last, "threads": 1}),
                "layers": ("gunn.original.fast_speedup", {"speedups": ratios, "cpu_seconds": last, "threads": 1}),
                "memory": ("gunn.fast_memory_ratio", {"ratios": ratios, "peak_mb_above_the_network": last})}[run]
    return [results.over_seeds(id, values, "ratio", "higher",
                               conditions={**settings, "mode": "hybridized", **told})]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)
