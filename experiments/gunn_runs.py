"""The runs of gunn.py: their recipes, and one seed of one of them, trained and scored once."""
import argparse
import dataclasses
import functools
import logging
from pathlib import Path

import numpy as np

from mxelm import data, gunn
from mxelm.containers import load_container
from mxelm.errors import FileError
from mxelm.files import locked, read_json, remove_leftovers, require_writable, sha256, write_json
from mxelm.gunn import tasks
from mxelm.reporting import results
from mxelm.runtime import machine, mx
from mxelm.training import (
    KIND,
    NotFinite,
    class_numbers,
    classify,
    fit,
    flip_and_crop,
    load_parameters,
    steps,
    warmup_linear,
)

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
    "batchnorm": {**PRINTED, "head": "plain", "epochs": 1},
    # six epochs of whole images take five hours of two cores; images of 16x16 take a quarter of the time
    "ten": {**ORIGINAL, "classes": 10, "images": 49500, "batch": 100, "epochs": 6, "sizes": [16, 16, 16, 16, 24, 32]},
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
    preprocessing = tasks.PER_CHANNEL if per_channel(settings, args) else tasks.one_scalar(train)
    return tasks.task(train, test, range(settings["classes"]), settings["images"], watched,
                      settings["labels"]), preprocessing


def per_channel(settings, args):
    """Whether a run normalises each channel by itself, as the original does, or all by the report's one scalar."""
    return settings["augmentation"] != "none" or args.quick


class Growing:
    """A loader whose images grow from epoch to epoch: of `epochs`, each of `loaders` has an equal share, in turn."""

    def __init__(self, loaders, epochs):
        self.loaders, self.epochs, self.epoch = loaders, epochs, 0
        self.identity = [loader.identity for loader in loaders]

    def __len__(self):
        return len(self.loaders[0])

    def __iter__(self):
        turn = -(-(self.epoch + 1) * len(self.loaders) // self.epochs) - 1  # the last epoch is the last loader's
        self.loaders[turn].epoch = self.epoch
        return iter(self.loaders[turn])


def training_loader(dataset, settings, preprocessing, seed):
    """The batches of a run: of whole images, or of those sizes (in pixels) that the settings name."""
    augment = AUGMENTATIONS[settings["augmentation"]]
    if "sizes" not in settings:
        return dataset.gluon_loader(settings["batch"], preprocessing, shuffle=seed, augment=augment)
    loaders = []
    for size in settings["sizes"]:
        small = dataclasses.replace(preprocessing, size=(size, size), interpolation="area")
        shifted = functools.partial(flip_and_crop, pad=size // 8) if augment is flip_and_crop else augment
        loaders.append(dataset.gluon_loader(settings["batch"], small, shuffle=seed, augment=shifted))
    return Growing(loaders, settings["epochs"])


def one_seed(name, settings, seed, args):
    """Train one network and score it once; a dict of figures."""
    task, preprocessing = load_task(settings, args)
    network, prefix = build(settings, seed), args.work / f"{stem(name, args)}-{seed}"
    if "weights_of" in settings:
        load_parameters(network, args.work / f"{stem(settings['weights_of'], args)}-{seed}.state")
    history, ended_by = train(network, task, preprocessing, settings, seed, f"{prefix}.state", args.resume)
    gunn.save(network, prefix, preprocessing, task.train.classes, trained_as=settings)
    answers = decide(network, task.test, preprocessing)
    right = answers == class_numbers(task.test.targets)
    always, share = tasks.constant_answer(task.test.targets, settings["classes"])
    few = task.test.targets[:100]
    variances = [p.data().asnumpy().max() for name, p in network.collect_params().items() if "running_var" in name]
    return {"seed": seed, "test3000": float(right.mean()), "test100": float(right[:100].mean()),
            "answers": np.bincount(answers, minlength=settings["classes"]).tolist(),
            "answers_of_the_first_100": np.bincount(answers[:100], minlength=settings["classes"]).tolist(),
            "constant_answer": [always, share],
            "constant_answer_of_the_first_100": tasks.constant_answer(few, settings["classes"]),
            "largest_running_variance": float(np.max(variances)),
            "minutes": sum(entry["seconds"] for entry in history) / 60, "history": history,
            **({"ended_by": ended_by} if ended_by else {})}


def classify_any_rows(network, x, y):
    """`classify` for label rows that are no distribution, as the published ones are."""
    scores = network(x)
    return mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)(scores, y), scores


def train(network, task, preprocessing, settings, seed, state, resume):
    """Train as far as the numbers stay finite: the history, and what has ended it before its time, or None."""
    rows = settings["labels"] == "as-published"
    try:
        history = fit(
            network, training_loader(task.train, settings, preprocessing, seed), settings["epochs"],
            SCHEDULES[settings["schedule"]](settings["peak"]), optimizer=settings["optimizer"],
            settings=settings["settings"], forward=classify_any_rows if rows else classify,
            validation=task.validation.gluon_loader(250, preprocessing), checkpoint=state, resume=resume, seed=seed,
            progress=True, patience=settings.get("patience"))
        return history, None
    except NotFinite as error:
        if not Path(state).exists():
            raise
        history = load_parameters(network, state)
        logging.warning("%s; the last whole epoch is scored, %d", error, len(history))
        return history, str(error)


def decide(network, dataset, preprocessing):
    """The class of the highest score for each image, int64 (n,)."""
    return np.concatenate([network(x).asnumpy().argmax(axis=1) for x, _ in dataset.gluon_loader(250, preprocessing)])


def stem(name, args):
    """How a run's files in --work begin: what a call changes is in it, so that no run takes up or replaces another."""
    return "".join([name, *(f",{key}={value}" for key, value in args.changed.items()), ",quick" if args.quick else ""])


def finished(name, settings, seed, args):
    """The figures of one seed: those that --work holds with --resume, else `one_seed`'s, which are left there.

    Raises FileError where another process is at this seed, and where what --work has is another run.
    """
    prefix = args.work / f"{stem(name, args)}-{seed}"
    file, begun, lock = (Path(f"{prefix}.{end}") for end in ("figures.json", "begun.json", "lock"))
    state = f"{prefix}.state"
    require_writable(file)
    lock.touch()
    with locked(lock, wait=False):
        for written in (file, begun, state, f"{state}.best"):
            remove_leftovers(written)
        # whose weights a settled state began with it does not know, but a few minutes make it anew
        resume = args.resume and "weights_of" not in settings
        if args.resume and file.exists():
            found = read_figures(file)
            if found["settings"] == settings:
                return found
            if resume:
                raise FileError(f"{file} is of a run with other settings: remove it, or choose another --work")
        file.unlink(missing_ok=True)  # else an interrupted run would leave its checkpoint beside another's figures
        begin(begun, state, settings, resume)
        figures = one_seed(name, settings, seed, args)
        figures = {"settings": settings, **trained_by(begun, len(figures["history"])), **figures}
        write_json(file, figures)
        begun.unlink()
    return figures


def begin(begun, state, settings, resume):
    """Note in the file `begun` that this process trains from now on, after so many epochs that others have done."""
    processes, after = [], 0
    if not resume:  # `fit` removes them too, but a run that is stopped before that must not resume them
        for old in (state, f"{state}.best"):
            Path(old).unlink(missing_ok=True)
    elif begun.exists():
        old = read_json(begun)
        if not isinstance(old, dict) or old.get("settings") != settings:
            raise FileError(f"{begun} is of a run with other settings: leave out --resume to begin anew, or choose "
                            "another --work")
        processes = old["processes"]
    if Path(state).exists():
        after = len(load_container(state, KIND)[0]["history"])
        processes = processes or [{"after": 0, "git": None, "machine": None}]  # whose note is lost
    processes = [*(p for p in processes if p["after"] < after), {"after": after, "git": results.commit(),
                                                                 "machine": machine()}]
    write_json(begun, {"settings": settings, "processes": processes})


def trained_by(begun, epochs):
    """{"git", "machine"} of the processes that have done the epochs of a run, "A, from epoch 3 on B" if several."""
    processes, told, commit, where = read_json(begun)["processes"], [], None, None
    for process, end in zip(processes, [*(p["after"] for p in processes[1:]), epochs]):
        if process["after"] < end:
            if process["git"] != commit or not told:
                told.append(f"from epoch {process['after'] + 1} on {process['git'] or 'unknown'}")
            commit, where = process["git"], process["machine"]
    told[0] = told[0].removeprefix("from epoch 1 on ")
    return {"git": ", ".join(told), "machine": where}


def read_figures(file):
    """The figures of a finished seed; FileError for a file that is something else."""
    found = read_json(file)
    if not (isinstance(found, dict) and {"settings", "seed", "test3000", "history"} <= found.keys()):
        raise FileError(f"{file} does not hold the figures of a finished seed: remove it")
    return found


def beside(name, settings, figures, args):
    """The same seeds of a run that another one is compared with; what --work holds of it is never done again."""
    return [finished(name, settings, f["seed"], argparse.Namespace(**{**vars(args), "resume": True})) for f in figures]


def settled(name, settings, figures, args):
    """The seeds of a finished run scored anew: the same weights, running statistics that have caught up with them.

    An epoch with learning rate 0 moves nothing but those statistics, and with momentum 0.9 forgets the old ones.
    None where --work has no weights of a seed, but only its figures.
    """
    states = [args.work / f"{stem(name, args)}-{f['seed']}.state" for f in figures]
    if not all(state.exists() for state in states):
        return None
    settings = {**settings, "weights_of": name, "momentum": 0.9, "peak": 0.0, "epochs": 1, "schedule": "constant"}
    return [finished(f"{name}-settled", {**settings, "weights": sha256(state)}, f["seed"], args)
            for state, f in zip(states, figures)]
