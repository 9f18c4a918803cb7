"""Paper 3: gradually updated networks (GUNN) beside their simultaneous controls (SUNN).

    python experiments/gunn.py                         the lesson: the layer by hand, then digits; under a minute
    python experiments/gunn.py plain --seeds 0 1 2     one of the runs below on CIFAR-10, an hour or two a seed

Question: is a network whose layers update their channels gradually better than its control, which has the same
parameters, but whose every step reads the untouched input? Runs: `plain` and `sunn` are the report's network and its
control, `original` and `original_sunn` the original's GUNN-15, which has weights for every step, and its control;
`ten` is the original on all ten classes, images growing from 16x16 to 32x32. What the report itself measured, and the
traps on the way, are in benchmarks/gunn_report.py. Protocol: classes airplane, automobile and bird, their first 5,000
training images; recipes fixed in advance, the last epoch is scored, once, on all 3,000 test images (the first 100 are
the report's). 500 further training images are watched, and decide nothing. Source: Radhakrishnan, sections 4 to 7.

Evidence:

    gunn.3class.plain.test3000      89.5 ± 1.8 % (n = 3), AMD EPYC x 2, 84db54e to be027b3
    gunn.3class.sunn.test3000       89.14 ± 0.55 % (n = 3), AMD EPYC x 2, 9cf5b75 to 8dcdafe
    gunn.3class.sunn.gain           0.3 ± 1.3 % (n = 3), AMD EPYC x 2, 9cf5b75 to 8dcdafe
    gunn.3class.original.test3000   92.70 ± 0.80 % (n = 2), AMD EPYC x 2, 84db54e to be027b3
    gunn.3class.original_sunn.gain  1.933 % (n = 1), AMD EPYC x 2, 5792067
    gunn.10class                    87.02 % (n = 1), AMD EPYC x 2, fa00390 to aba2cdf
"""
import dataclasses
from pathlib import Path

import numpy as np
from lab import learning_curve, main, step, table
from lab.gunn_rows import rows

from mxelm import gunn, runtime, training
from mxelm.backbones.gluon import count_parameters
from mxelm.gunn import tasks
from mxelm.runtime import mx

REPORT = {
    "network": "report", "head": "plain", "layer": "fast", "labels": "real", "classes": 3, "images": 5000,
    "epochs": 14, "batch": 50, "optimizer": "adam", "settings": {"epsilon": 1e-7},  # Keras's epsilon
    "peak": 1e-3, "schedule": "warmup-linear", "augmentation": "flip and crop",
    "momentum": 0.9,  # of BatchNorm's running statistics
}
ORIGINAL = {**REPORT, "network": "original", "optimizer": "nag", "settings": {"momentum": 0.9, "wd": 5e-4}, "peak": 0.1}
RUNS = {
    "plain": REPORT, "sunn": {**REPORT, "layer": "sunn"},
    "original": ORIGINAL, "original_sunn": {**ORIGINAL, "layer": "sunn"},
    # six epochs of whole images take five hours of two cores; images of 16x16 take a quarter of the time
    "ten": {**ORIGINAL, "classes": 10, "images": 49500, "batch": 100, "epochs": 6, "sizes": [16, 16, 16, 16, 24, 32]},
}
QUICK = {"images": 50, "epochs": 2, "batch": 25}
LESSON = {**ORIGINAL, "images": 200, "epochs": 4, "batch": 25, "augmentation": "none", "sizes": [8]}
SCHEDULES = {"warmup-linear": lambda peak: training.warmup_linear(peak, 0.15),
             "constant": lambda peak: training.steps(peak, ())}
AUGMENTATIONS = {"none": None, "flip and crop": training.flip_and_crop,
                 "flip, crop and cycle": tasks.flip_crop_and_cycle}  # the original's own


# The method: task -> network -> fit -> settle -> test

def one_seed(run, settings, seed, lab):
    """Train one network and score it once."""
    task, preprocessing = the_task(settings, lab)
    network = build(settings, seed)
    batches = batches_of(task.train, settings, preprocessing, seed)
    watched = task.validation.gluon_loader(250, preprocessing)
    history, ended_by = train(network, batches, watched, settings, seed, f"{lab.place(seed)}.state")
    gunn.save(network, str(lab.place(seed)), preprocessing, task.train.classes, trained_as=settings)
    learning_curve(lab.place(seed).with_suffix(".png"), history)
    figures = {**score(network, task.test, preprocessing, settings), "history": history, **ended_by,
               "minutes": sum(epoch["seconds"] for epoch in history) / 60}
    if settings["momentum"] > 0.9:  # those statistics lag behind the weights: score the same weights with others too
        training.settle(network, batches)
        figures["settled"] = score(network, task.test, preprocessing, settings)
    return figures


def the_task(settings, lab):
    """(Task, Preprocessing): the classes' images; normalised a channel where augmented, else by the one scalar."""
    train, test = (lab.load("cifar10", part) for part in ("train", "test"))
    one_scalar = settings["augmentation"] == "none" and not lab.quick
    preprocessing = tasks.one_scalar(train) if one_scalar else tasks.PER_CHANNEL
    return tasks.task(train, test, range(settings["classes"]), images=settings["images"],
                      validation=30 if lab.quick else 500, labels=settings["labels"]), preprocessing


def build(settings, seed):
    """The network of a run, initialised from `seed`, compiled."""
    if settings["network"] == "original":
        network = gunn.original_gunn15(settings["classes"], layer=settings["layer"], seed=seed)
    else:
        network = gunn.gunn15(settings["classes"], head=settings["head"], layer=settings["layer"],
                              momentum=settings["momentum"], seed=seed)
    network.hybridize(static_alloc=True, static_shape=True)
    return network


def batches_of(dataset, settings, preprocessing, seed):
    """The training batches: of whole images, or of those sizes (in pixels) that the settings name, as they grow."""
    options = {"shuffle": seed, "augment": AUGMENTATIONS[settings["augmentation"]]}
    if "sizes" in settings:
        return training.Growing(dataset, settings["batch"], preprocessing, sizes=settings["sizes"],
                                epochs=settings["epochs"], **options)
    return dataset.gluon_loader(settings["batch"], preprocessing, **options)


def train(network, batches, watched, settings, seed, state=None):
    """Train as far as the numbers stay finite: the history, and {"ended_by": what has ended it before its time}."""
    try:
        return training.fit(
            network, batches, settings["epochs"], SCHEDULES[settings["schedule"]](settings["peak"]),
            optimizer=settings["optimizer"], settings=settings["settings"], validation=watched, checkpoint=state,
            forward=training.classify if settings["labels"] == "real" else tasks.classify_published,
            resume=bool(state), seed=seed, progress=bool(state)), {}
    except training.NotFinite as error:
        if not (state and Path(state).exists()):
            raise
        return training.load_parameters(network, state), {"ended_by": str(error)}  # the last whole epoch is scored


def score(network, test, preprocessing, settings):
    """The test images' accuracies, and what a constant answer would have: answers are the highest scores' classes."""
    answers = np.concatenate([network(x).asnumpy().argmax(axis=1) for x, _ in test.gluon_loader(250, preprocessing)])
    right = answers == training.class_numbers(test.targets)
    variances = [p.data().asnumpy().max() for name, p in network.collect_params().items() if "running_var" in name]
    found = {"test3000": float(right.mean()), "test100": float(right[:100].mean()),
             "largest_running_variance": float(np.max(variances))}
    for which, part in (("", slice(None)), ("_of_the_first_100", slice(100))):
        found[f"answers{which}"] = np.bincount(answers[part], minlength=settings["classes"]).tolist()
        found[f"constant_answer{which}"] = tasks.constant_answer(test.targets[part], settings["classes"])
    return found


def lesson(lab):
    """One gradual pass by hand, the whole layer fast, and both networks on 200 digits of 8x8 pixels."""
    x, W = mx.nd.array([1, 2, 3]).reshape((1, 3, 1, 1)), mx.nd.array([1, -1, 2]).reshape((1, 3, 1, 1))
    passes = {layer.__name__: layer(3, K=1).update(mx.nd, x, W, None, 1, 1).asnumpy().ravel()
              for layer in (gunn.Gunn2D, gunn.Sunn2D)}
    step("One pass over a pixel of channels (1, 2, 3) by the kernel (1, -1, 2), a channel a step: each step reads what "
         "those before it have written. In the control all read the untouched input.", **{
             name: str(y) for name, y in passes.items()})

    x, (slow, fast) = mx.nd.random.normal(shape=(2, 240, 8, 8)), (gunn.Gunn2D(240), gunn.FastGunn2D(240))
    for layer in (slow, fast):
        runtime.seed(0)
        layer.initialize()
    slow, fast = slow(x).asnumpy(), fast(x).asnumpy()
    step("The report's layer of 240 channels, three such passes, and the same function by two exact rewritings.",
         y=slow, largest_difference=float(np.abs(slow - fast).max() / np.abs(slow).max()))

    lines = []
    for name, layer in (("gradual (GUNN)", gunn.FastOriginalGunn), ("control (SUNN)", gunn.OriginalSunn)):
        task, preprocessing = the_task(LESSON, lab)
        small, network = dataclasses.replace(preprocessing, size=(8, 8)), mx.gluon.nn.HybridSequential()
        network.add(mx.gluon.nn.Conv2D(24, 3, padding=1), mx.gluon.nn.BatchNorm(), mx.gluon.nn.Activation("relu"),
                    layer(24, K=4), mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(3))
        runtime.seed(0)
        network.initialize(mx.init.Xavier())
        network.hybridize(static_alloc=True, static_shape=True)
        history, _ = train(network, batches_of(task.train, LESSON, small, 0), None, LESSON, 0)
        found = score(network, task.test, small, LESSON)
        lines.append([name, 100 * history[-1]["accuracy"], 100 * found["test3000"]])
    step(f"{LESSON['epochs']} epochs of a network with one such layer of 24 channels, and of its control.",
         parameters=count_parameters(network)["trainable"], images=len(task.train), test_images=len(task.test))
    table(["on digits 0 to 2", "training / %", "test / %"], lines)
    learning_curve(lab.work / "curve.png", history)
    step("What to try next:", picture=lab.work / "curve.png", measured="python experiments/gunn.py sunn",
         by_hand="docs/gunn.md", traps="python experiments/benchmarks/gunn_report.py --help")


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, lesson=lesson, quick=QUICK)
