"""Paper 3: gradually updated networks on CIFAR-10; what the report's, the original and their controls are worth.

    python experiments/gunn.py params              figure 6 and the original's counts
    python experiments/gunn.py speed               the fast forms against the step-by-step ones, time and memory
    python experiments/gunn.py checkpoint          the checkpoint that the report calls impossible
    python experiments/gunn.py train plain         one of the runs below; --seeds 0 1 2, --resume, --work FOLDER
    python experiments/gunn.py train plain --quick the same on digits in a minute, written elsewhere

Question: is a network whose layers update their channels gradually better than its simultaneous control (SUNN), and
what did the report measure? Runs of `train`:

    plain           the report's network with ReLU between the dense layers, augmented, with a schedule
    sunn            its control: the same parameters, every step reads the untouched input
    original        the original's GUNN-15, which has weights for every step
    original_sunn   its control
    printed         the report's network and recipe as printed (softmax between the dense layers)
    printed_plain   the same recipe and number of epochs with ReLU there: what the softmax costs
    as_published    printed, with the label rows that the published code makes
    batchnorm       one epoch of plain, with running statistics as lagging as the report's, and without lag
    ten             the original's GUNN-15 on all ten classes and 50,000 images

Protocol: classes airplane, automobile and bird; their first 5,000 training images; recipes fixed in advance, the last
epoch is scored, once, on all 3,000 test images (the first 100 of them are the report's). 500 further training images
are watched, and decide nothing. Finished seeds are kept in --work. Source: Radhakrishnan, sections 4 to 7.
"""
import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mxelm import data, gunn
from mxelm.errors import MxelmError
from mxelm.files import read_json, write_json
from mxelm.gunn import tasks
from mxelm.gunn.networks import HE_NORMAL
from mxelm.reporting import results
from mxelm.runtime import mx
from mxelm.training import fit, flip_and_crop, steps, warmup_linear

ADAM = {"optimizer": "adam", "settings": {"epsilon": 1e-7}}  # Keras's epsilon
NESTEROV = {"optimizer": "nag", "settings": {"momentum": 0.9, "wd": 5e-4}}
REPORT = {
    "network": "report", "head": "plain", "layer": "fast", "labels": "real", "classes": 3, "images": 5000,
    "epochs": 14, "batch": 50, **ADAM, "peak": 1e-3, "schedule": "warmup-linear", "augmentation": "flip and crop",
    "momentum": 0.9,  # of BatchNorm's running statistics
}
PRINTED = {**REPORT, "head": "printed", "epochs": 50, "peak": 1e-3, "schedule": "constant", "augmentation": "none",
           "momentum": 0.99}
ORIGINAL = {**REPORT, "network": "original", **NESTEROV, "peak": 0.1}
RUNS = {
    "plain": REPORT,
    "sunn": {**REPORT, "layer": "sunn"},
    "original": ORIGINAL,
    "original_sunn": {**ORIGINAL, "layer": "sunn"},
    "printed": PRINTED,
    "printed_plain": {**PRINTED, "head": "plain"},
    "as_published": {**PRINTED, "labels": "as-published"},
    "batchnorm": {**REPORT, "epochs": 1, "augmentation": "none", "schedule": "constant", "peak": 1e-3},
    "ten": {**ORIGINAL, "classes": 10, "images": 49500, "batch": 100, "epochs": 6},
}
WATCHED = 500  # training images of the same classes beyond those trained on
SCHEDULES = {"warmup-linear": lambda peak: warmup_linear(peak, 0.15), "steps": steps,
             "constant": lambda peak: steps(peak, ())}
AUGMENTATIONS = {"none": None, "flip and crop": flip_and_crop, "flip, crop and cycle": tasks.flip_crop_and_cycle}


def build(settings, seed):
    """The network of a run, initialised from `seed`, compiled."""
    if settings["network"] == "original":
        network = gunn.original_gunn15(settings["classes"], settings["layer"], seed)
    else:
        network = gunn.gunn15(settings["classes"], settings["head"], settings["layer"], settings["momentum"], seed)
    network.hybridize(static_alloc=True, static_shape=True)
    return network


def load_task(settings, args):
    """(Task, Preprocessing) of a run."""
    if args.quick:
        train, test = data.load("digits").split(0.3)
        watched = 30
    else:
        train, test = (data.load("cifar10", root=args.data, split=part) for part in ("train", "test"))
        watched = WATCHED
    preprocessing = tasks.PER_CHANNEL if settings["augmentation"] != "none" or args.quick else tasks.one_scalar(train)
    return tasks.task(train, test, range(settings["classes"]), settings["images"], watched,
                      settings["labels"]), preprocessing


def one_seed(name, settings, seed, args):
    """Train one network and score it once; a dict of figures."""
    task, preprocessing = load_task(settings, args)
    network = build(settings, seed)
    rows = settings["labels"] == "as-published"
    if not rows:
        tasks.require_one_hot(task.train.target_matrix())
    history = fit(
        network, task.train.gluon_loader(settings["batch"], preprocessing, shuffle=seed,
                                         augment=AUGMENTATIONS[settings["augmentation"]]),
        settings["epochs"], SCHEDULES[settings["schedule"]](settings["peak"]), settings["optimizer"],
        settings["settings"], mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not rows),
        task.validation.gluon_loader(250, preprocessing), args.work / f"{name}-{seed}.state", args.resume, seed, True)
    gunn.save(network, args.work / f"{name}-{seed}", preprocessing, task.train.classes, trained_as=settings)
    answers = decide(network, task.test, preprocessing)
    right = answers == classes_of(task.test.targets)
    always, share = tasks.constant_answer(task.test.targets, settings["classes"])
    few = task.test.targets[:100]
    return {"seed": seed, "test3000": float(right.mean()), "test100": float(right[:100].mean()),
            "answers": np.bincount(answers, minlength=settings["classes"]).tolist(),
            "answers_of_the_first_100": np.bincount(answers[:100], minlength=settings["classes"]).tolist(),
            "constant_answer": [always, share],
            "constant_answer_of_the_first_100": tasks.constant_answer(few, settings["classes"]),
            "minutes": sum(entry["seconds"] for entry in history) / 60, "history": history}


def decide(network, dataset, preprocessing):
    """The class of the highest score for each image, int64 (n,)."""
    return np.concatenate([network(x).asnumpy().argmax(axis=1) for x, _ in dataset.gluon_loader(250, preprocessing)])


def classes_of(targets):
    return targets if targets.ndim == 1 else targets.argmax(axis=1)


def train(args):
    """One run over its seeds; rows of its accuracies."""
    settings = {**RUNS[args.run], **{key: getattr(args, key) for key in OVERRIDES if getattr(args, key) is not None}}
    if args.quick:
        settings.update(images=min(settings["images"], 100), epochs=min(settings["epochs"], 2), batch=25)
    args.work.mkdir(parents=True, exist_ok=True)
    figures = []
    for seed in args.seeds:
        file = args.work / f"{args.run}-{seed}.figures.json"
        if not (args.resume and file.exists() and read_json(file)["settings"] == settings):
            write_json(file, {"settings": settings, **one_seed(args.run, settings, seed, args)})
        figures.append(read_json(file))
        logging.info("%s, seed %d: %.2f %% of the test images", args.run, seed, 100 * figures[-1]["test3000"])
    return ROWS.get(args.run, accuracy_rows)(args, settings, figures)


def accuracy_rows(args, settings, figures):
    """The accuracies of a run on all and on the first 100 test images."""
    return [accuracy_row(args, settings, figures, f"gunn.3class.{args.run}.{which}", which)
            for which in ("test3000", "test100")]


def accuracy_row(args, settings, figures, id, which, **conditions):
    values = 100 * np.array([f[which] for f in figures])
    kept = ("seed", "test3000", "test100", "answers", "answers_of_the_first_100", "constant_answer",
            "constant_answer_of_the_first_100", "minutes")
    whole = RUNS[args.run]["epochs"]
    if settings["epochs"] != whole:
        conditions["reason"] = f"{settings['epochs']} of {whole} epochs: what there was time for"
    conditions = {**settings, **conditions, "seeds": [{key: f[key] for key in kept} for f in figures], "curves": [
        [[round(e[key], 4) for key in ("loss", "accuracy", "validation_accuracy")] for e in f["history"]]
        for f in figures]}
    return results.row(id, values.mean(), "%", "higher", std=values.std(ddof=1) if len(values) > 1 else None,
                       n=len(values), command=args.command, seconds=60 * sum(f["minutes"] for f in figures),
                       conditions=conditions)


def ten_rows(args, settings, figures):
    curve = [[round(np.cumsum([e["seconds"] for e in f["history"]])[i] / 60, 2), e["validation_accuracy"]]
             for f in figures for i, e in enumerate(f["history"])]
    reason = (f"{settings['epochs']} epochs on two processor cores, where the original trained 300 on four GPUs, and "
              "kept the epoch with the best test error")
    return [accuracy_row(args, settings, figures, "gunn.10class", "test3000", minutes_and_validation_accuracy=curve,
                         test_images=10000, reason=reason)]


def published_rows(args, settings, figures):
    constant = {f"constant_answer.{name}": figure for name, figure in constant_answers(args).items()}
    rows = [accuracy_row(args, settings, figures, "gunn.3class.as_published.test100", "test100")]
    return rows + [results.row(f"gunn.3class.{name}", 100 * figure, "%", "none", command=args.command,
                               conditions={"test_images": 100}) for name, figure in constant.items()]


def constant_answers(args):
    """How often one answer for all is right on the report's 100 test images, by its labels and by the real ones."""
    found = {}
    for name in tasks.LABELS:
        task, _ = load_task({**PRINTED, "labels": name, **({"images": 100} if args.quick else {})}, args)
        found[name.replace("-", "_")] = tasks.constant_answer(task.test.targets[:100], 3)[1]
    return found


def batchnorm_rows(args, settings, figures):
    """The same weights, bit for bit, with running statistics that lag less: what the lag costs after an epoch."""
    lagging = {**settings, "momentum": 0.99}
    lost = [f["test3000"] - one_seed("batchnorm-lagging", lagging, f["seed"], args)["test3000"] for f in figures]
    lost = 100 * np.array(lost)
    return [results.row("gunn.batchnorm.running_statistics", lost.mean(), "%", "lower", n=len(lost),
                        std=lost.std(ddof=1) if len(lost) > 1 else None, command=args.command, conditions={
                            **settings, "momenta": [0.9, 0.99], "what": "points lost with momentum 0.99",
                            "accuracy_with_0.9": [f["test3000"] for f in figures]})]


def softmax_rows(args, settings, figures):
    """Points that the softmax between the dense layers costs: `printed` with the same seeds and epochs beside it."""
    with_softmax = [one_seed("printed", {**settings, "head": "printed"}, f["seed"], args) for f in figures]
    lost = 100 * np.array([f["test3000"] - g["test3000"] for f, g in zip(figures, with_softmax)])
    return [results.row("gunn.softmax_head", lost.mean(), "%", "lower", n=len(lost),
                        std=lost.std(ddof=1) if len(lost) > 1 else None, command=args.command, conditions={
                            **settings, "what": "points lost to softmax between the dense layers",
                            "plain": [f["test3000"] for f in figures],
                            "softmax": [g["test3000"] for g in with_softmax]})]


ROWS = {"ten": ten_rows, "as_published": published_rows, "batchnorm": batchnorm_rows, "printed_plain": softmax_rows}


def params(args):
    """Figure 6 row by row, and the original's totals; nothing is trained."""
    network = gunn.gunn15(3, "printed", "step-by-step")
    total = gunn.count_parameters(network)
    counts = {**{f"gunn.params.{row['layer']}": row["parameters"] for row in gunn.summary(network)},
              **{f"gunn.params.{name}": count for name, count in total.items()},
              "gunn.original.params.15": gunn.count_parameters(gunn.original_gunn15(10))["trainable"],
              "gunn.original.params.15_100": gunn.count_parameters(gunn.original_gunn15(100))["trainable"],
              "gunn.original.params.18": gunn.count_parameters(gunn.original_gunn18())["trainable"]}
    return [results.row(id, count, "parameters", "none", command=args.command) for id, count in counts.items()]


def speed(args):
    """One thread, in turn: step by step over fast; the report's whole network, and the original's three layers."""
    peaks = {layer: child("network", layer, args) for layer in STEPS}
    rows = []
    for prefix, what in (("gunn", "network"), ("gunn.original", "layers")):
        seconds = child(what, "both", args)
        rows.append(results.row(f"{prefix}.fast_speedup", seconds["step-by-step"] / seconds["fast"], "ratio", "higher",
                                command=args.command, conditions={"cpu_seconds": seconds, "threads": 1, **STEP[what]}))
    return [*rows, results.row("gunn.fast_memory_ratio", peaks["step-by-step"] / peaks["fast"], "ratio", "higher",
                               command=args.command, conditions={"peak_mb_above_the_network": peaks,
                                                                 **STEP["network"]})]


STEPS = ("step-by-step", "fast")
STEP = {"network": {"what": "a training step of the report's network", "batch": 5},
        "layers": {"what": "forward and backward of the original's layers: 240 channels of 32x32 pixels, 300 of 16x16, "
                           "360 of 8x8", "batch": 50}}


def child(what, layer, args):
    """Peak memory in MB above the network of one step, or (layer "both") CPU-seconds of each in turn."""
    command = [sys.executable, __file__, "speed", "--child", json.dumps([what, layer, args.quick])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_step(what, layer, quick):
    """What `child` asks for, in a process of its own."""
    make = {"network": network_step, "layers": layers_step}[what]
    if layer != "both":
        step = make(layer, STEP[what]["batch"])
        before = resident_mb()
        step()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    steps_of = {name: make(name, STEP[what]["batch"]) for name in STEPS}
    times = {name: [] for name in STEPS}
    for _ in tqdm(range(2 if quick else 6), desc=what):
        for name, step in steps_of.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def network_step(layer, batch):
    """A callable: one training step of the report's network."""
    network = build({**REPORT, "layer": layer}, seed=0)
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


def layers_step(layer, batch):
    """A callable: forward and backward of the original's three layers."""
    cases = []
    for n, size in ((240, 32), (300, 16), (360, 8)):
        block = {"step-by-step": gunn.OriginalGunn, "fast": gunn.FastOriginalGunn}[layer](n, K=12)
        block.initialize(mx.init.MSRAPrelu(**HE_NORMAL))
        block.hybridize(static_alloc=True, static_shape=True)
        cases.append((block, mx.nd.random.normal(shape=(batch, n, size, size))))
        cases[-1][1].attach_grad()

    def step():
        for block, x in cases:
            with mx.autograd.record():
                y = block(x)
            y.backward()
        mx.nd.waitall()
    return step


def resident_mb():
    """Resident memory of this process now, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def checkpoint(args):
    """A network trained a little, saved, and read by everything that reads checkpoints: the largest difference."""
    settings = {**REPORT, "images": 100 if args.quick else 500, "epochs": 1, "batch": 25}
    args.work.mkdir(parents=True, exist_ok=True)
    task, preprocessing = load_task(settings, args)
    network = build(settings, 0)
    fit(network, task.train.gluon_loader(settings["batch"], preprocessing, shuffle=0), 1, steps(1e-3, ()), "adam",
        progress=True)
    x = next(iter(task.test.gluon_loader(32, preprocessing)))[0]
    prefix = str(args.work / "checkpoint")
    gunn.save(network, prefix, preprocessing, task.train.classes)
    network.save_parameters(f"{prefix}.gluon")
    expected, found = network(x).asnumpy(), {}
    for layer in ("fast", "step-by-step"):
        other = gunn.gunn15(3, "plain", layer, seed=1)
        other.load_parameters(f"{prefix}.gluon")
        found[f"load_parameters, {layer}"] = other(x).asnumpy()
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(arg_params, aux_params)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    found["mx.model.load_checkpoint"] = module.get_outputs()[0].asnumpy()
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    found["SymbolBlock"] = block(x).asnumpy()
    differences = {name: float(np.abs(scores - expected).max() / np.abs(expected).max())
                   for name, scores in found.items()}
    return [results.row("gunn.checkpoint_agreement", max(differences.values()), "ratio", "lower", command=args.command,
                        conditions={"differences": differences, "images": len(x),
                                    "what": "largest difference of the scores, relative to the largest score"})]


OVERRIDES = ("network", "head", "layer", "labels", "classes", "images", "epochs", "batch", "augmentation", "schedule",
             "peak")


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command_name", metavar="params|speed|checkpoint|train", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--work", type=Path, default=Path("gunn-work"),
                        help="folder for checkpoints and finished seeds; a second call with --resume goes on from it")
    common.add_argument("--data", help="folder of CIFAR-10 (default: MXELM_DATA and the cache)")
    common.add_argument("--quick", action="store_true", help="digits, and few steps; results go into --work")
    common.add_argument("--out", type=Path, help="result file (default: experiments/results/gunn.json)")
    for name in ("params", "speed", "checkpoint", "train"):
        command = commands.add_parser(name, parents=[common], help=COMMANDS[name].__doc__)
        if name == "speed":
            command.add_argument("--child", help=argparse.SUPPRESS)
    command.add_argument("run", choices=tuple(RUNS))
    command.add_argument("--seeds", type=int, nargs="+", default=[0])
    command.add_argument("--resume", action="store_true", help="keep finished seeds, go on from the last whole epoch")
    for name in OVERRIDES:
        kind = type(REPORT[name])
        choices = {"network": ("report", "original"), "head": ("plain", "printed"), "labels": tasks.LABELS,
                   "layer": ("fast", "step-by-step", "sunn"), "augmentation": tuple(AUGMENTATIONS),
                   "schedule": tuple(SCHEDULES)}.get(name)
        command.add_argument(f"--{name}", type=kind, choices=choices, help="instead of the run's own; needs --out")
    args = parser.parse_args(argv)
    changed = [name for name in OVERRIDES if getattr(args, name, None) is not None]
    if changed and not (args.quick or args.out):
        parser.error(f"with --{changed[0]} it is another run than {args.run}: name a result file with --out")
    args.command = " ".join(["python experiments/gunn.py", args.command_name, *(
        [args.run, "--seeds", *map(str, args.seeds)] if args.command_name == "train" else []),
        *(f"--{name} '{getattr(args, name)}'" for name in changed)])
    args.resume = getattr(args, "resume", False)
    return args


COMMANDS = {"params": params, "speed": speed, "checkpoint": checkpoint, "train": train}


def main(argv=None):
    args = parse(argv)
    if getattr(args, "child", None):
        print(json.dumps(measure_step(*json.loads(args.child))))
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rows = COMMANDS[args.command_name](args)
    for row in rows:
        print(f"{row['id']:40s} {row['value']:.6g} {row['unit']}" + (f" ± {row['std']:.2g}" if row["std"] else ""))
    out = args.out or (args.work / "quick.json" if args.quick else Path("experiments/results/gunn.json"))
    out.parent.mkdir(parents=True, exist_ok=True)
    results.write(out, "gunn", rows)


if __name__ == "__main__":
    try:
        main()
    except MxelmError as error:
        sys.exit(f"gunn.py: {error}")
    except KeyboardInterrupt:
        sys.exit("gunn.py: interrupted; `--resume` goes on from the last whole epoch")
