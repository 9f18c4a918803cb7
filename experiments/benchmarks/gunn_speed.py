"""The fast forms of gradual layers against the step-by-step ones: `python experiments/gunn.py speed` calls this.

Each case runs in a process of its own, one thread, both forms in turn; medians of CPU-seconds. A form is run as Gluon
runs it (`imperative`), after `hybridize()` (`hybridized`), and with `static_alloc` and `static_shape` as well
(`static`). The rows give the second, their conditions the others too.
"""
import json
import os
import signal
import subprocess
import sys
import time

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is to be said of ctrl-c, who started this process says

from timing import in_turn, memory_mb

from mxelm import gunn
from mxelm.errors import EnvironmentProblem
from mxelm.gunn.networks import HE_NORMAL
from mxelm.reporting import results
from mxelm.runtime import mx

FORMS = ("step-by-step", "fast")
MODES = {"imperative": None, "hybridized": {}, "static": {"static_alloc": True, "static_shape": True}}
CASES = {"network": {"what": "a training step of the report's network", "batch": 5},
         "layers": {"what": "forward and backward of the original's layers: 240 channels of 32x32 pixels, 300 of "
                            "16x16, 360 of 8x8", "batch": 50}}
QUICK = {"network": {"what": "forward and backward of one of the report's layers: 240 channels of 8x8", "batch": 1},
         "layers": {"what": "forward and backward of one of the original's layers: 240 channels of 8x8", "batch": 1}}


def run(args):
    """Rows of time and memory: step by step over fast."""
    cases = QUICK if args.quick else CASES
    rows = []
    for prefix, case in (("gunn", "network"), ("gunn.original", "layers")):
        seconds = {mode: child("times", case, mode, args.quick) for mode in MODES}
        ratios = {mode: s["step-by-step"] / s["fast"] for mode, s in seconds.items()}
        rows.append(results.row(f"{prefix}.fast_speedup", ratios["hybridized"], "ratio", "higher", command=args.command,
                                conditions={**cases[case], "mode": "hybridized", "speedups": ratios,
                                            "cpu_seconds": seconds, "threads": 1}))
    return [*rows, memory_row(args)]


def memory_row(args):
    """The row of the peak memory of a training step."""
    peaks = {mode: {form: child("peak", "network", [form, mode], args.quick) for form in FORMS} for mode in MODES}
    ratios = {mode: mb["step-by-step"] / mb["fast"] for mode, mb in peaks.items()}
    return results.row("gunn.fast_memory_ratio", ratios["hybridized"], "ratio", "higher", command=args.command,
                       conditions={**(QUICK if args.quick else CASES)["network"], "mode": "hybridized",
                                   "ratios": ratios, "peak_mb_above_the_network": peaks})


def child(what, case, which, quick):
    """`times` (of a mode) or `peak` (of a form and a mode) of a case, measured in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, json.dumps([what, case, which, quick])]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise EnvironmentProblem(f"{what} of {case}, {which}, ended with code {done.returncode}: the step-by-step form "
                                 "needs about 5 GB of memory")
    return json.loads(done.stdout.splitlines()[-1])


def times(case, mode, quick):
    """Median CPU-seconds of a step, dict of form -> float; the first round is not counted."""
    steps = {form: STEPS[case](form, MODES[mode], quick) for form in FORMS}
    return in_turn(steps, 1 if quick else 5, f"{case}, {mode}", time.process_time)


def peak(case, which, quick):
    """Peak memory of one step of (form, mode) above that of the process with its network, MB."""
    form, mode = which
    step = STEPS[case](form, MODES[mode], quick)
    before = memory_mb("VmRSS")
    step()
    return memory_mb("VmHWM") - before


def network_step(form, compiled, quick):
    """A callable: one training step of the report's network."""
    if quick:
        layer = {"step-by-step": gunn.Gunn2D, "fast": gunn.FastGunn2D}[form](240)
        return layers_step([(layer, 8)], compiled, QUICK["network"]["batch"])
    network, batch = gunn.gunn15(3, "plain", form), CASES["network"]["batch"]
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


def originals_step(form, compiled, quick):
    """A callable: forward and backward of the original's three layers."""
    layer = {"step-by-step": gunn.OriginalGunn, "fast": gunn.FastOriginalGunn}[form]
    layers = [(layer(n, K=12), size) for n, size in ([(240, 8)] if quick else [(240, 32), (300, 16), (360, 8)])]
    return layers_step(layers, compiled, (QUICK if quick else CASES)["layers"]["batch"])


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


STEPS = {"network": network_step, "layers": originals_step}

if __name__ == "__main__":
    what, *rest = json.loads(sys.argv[1])
    print(json.dumps({"times": times, "peak": peak}[what](*rest)))
