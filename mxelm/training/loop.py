"""One Gluon training loop: progress, last and best checkpoint, and a resume that gives the same run.

A run is a function of its seed and its loader's: an epoch draws MXNet's randomness from (seed, epoch), its order and
augmentation from (the loader's shuffle, epoch) and from nothing else, so a run that was killed continues from its last
whole epoch as if nothing had happened.
"""
from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from mxelm.containers import save_container
from mxelm.errors import InputError, require_whole
from mxelm.files import require_writable
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet
from mxelm.training.checkpoint import KIND, begin, identity_of, parameters_of, save
from mxelm.training.labels import class_numbers, labels_of, require_classes, require_width

if TYPE_CHECKING:
    from mxelm.data.iterators import GluonLoader

log = logging.getLogger(__name__)


class NotFinite(InputError):
    """Loss or parameters of a training have stopped being finite; the checkpoint is that of the epoch before."""


def classify(network: mx.gluon.HybridBlock, x: mx.nd.NDArray, y: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """Softmax cross-entropy (batch,) and the scores (batch, classes): what `fit` minimises by default.

    y: class numbers (batch,), or rows (batch, classes) that sum to 1; InputError for rows of another width.
    """
    scores = network(x)
    if y.ndim == 2:
        require_width(y, scores.shape[1])
    return mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=y.ndim == 1)(scores, y), scores


def fit(network: mx.gluon.HybridBlock, loader: GluonLoader, epochs: int, schedule: Callable[[float], float], *,
        optimizer: str = "sgd", settings: dict | None = None, forward: Callable = classify,
        validation: Iterable | None = None, checkpoint: str | os.PathLike | None = None, resume: bool = False,
        seed: int = 0, progress: bool = False, ctx: mx.Context | None = None,
        patience: int | None = None) -> list[dict]:
    """Train `network` on `loader` for `epochs`; the history is a list of dicts, one an epoch.

    network: initialised HybridBlock.
    loader: a GluonLoader of (images, labels); its `epoch` is set here. Labels may be rows (batch, classes), whose
        highest entry is then what accuracies compare with.
    schedule: fraction of the run done -> learning rate.
    optimizer: MXNet's name of one; all but "lbsgd" may keep a checkpoint.
    settings: the optimizer's other parameters, JSON-able.
    forward: (network, x, y) -> (loss (batch,), scores (batch, classes)). What is minimised may be any function of
        what the network gives, of several heads, say; the scores are what accuracies are counted with.
    validation: a loader scored after each epoch.
    checkpoint: path; `checkpoint` keeps the last epoch, `checkpoint + ".best"` the parameters of the best
        validation accuracy (never of a test).
    resume: go on from `checkpoint` where there is one; without it, what is there is replaced.
    patience: stop when so many epochs have brought no better validation accuracy.
    Labels are judged once, before the first step, and with `classify` rows must sum to 1.
    Raises NotFinite, an InputError, when loss or parameters stop being finite; InputError for labels that name no class
    of the network; FileError when the checkpoint is of another run or cannot be written.
    """
    require_whole("epochs", epochs)
    if checkpoint:
        require_writable(checkpoint)
    if patience is not None and (patience < 1 or validation is None):
        raise InputError(f"early stopping needs a validation loader and a patience of at least 1 epoch, got {patience}")
    trainer = _trainer(network, optimizer, {"learning_rate": schedule(0.0), **(settings or {})})
    identity, history = {}, []
    if checkpoint:
        identity = identity_of(loader, forward, schedule, seed=seed, epochs=epochs, optimizer=optimizer,
                               settings=settings)
        history = begin(checkpoint, network, trainer, identity, resume=resume, ctx=ctx)
    parts = (loader, validation) if len(history) < epochs else ()
    judged = [labels_of(part) for part in parts if part is not None]
    best = max((entry.get("validation_accuracy", -1.0) for entry in history), default=-1.0)
    for epoch in range(len(history), epochs):
        if patience and _epochs_since_best(history) >= patience:
            break
        history.append(_epoch(network, trainer, loader, forward, schedule, epoch, epochs, seed, progress, ctx, judged))
        judged = []
        if validation is not None:
            history[-1]["validation_accuracy"] = accuracy(network, validation, forward=forward, ctx=ctx)
        if checkpoint:
            if history[-1].get("validation_accuracy", -1.0) > best:
                best = history[-1]["validation_accuracy"]
                save_container(f"{checkpoint}.best", KIND, {**identity, "history": history}, parameters_of(network))
            save(checkpoint, network, trainer, {**identity, "history": history})
        log.info("%s", history[-1])
    return history


def _epochs_since_best(history):
    accuracies = [entry.get("validation_accuracy", -1.0) for entry in history]
    return len(history) - 1 - int(np.argmax(accuracies)) if history else 0


def _trainer(network, optimizer, settings):
    """A Trainer whose optimizer states are numbered by the parameters' places in the network.

    By itself it sorts them by name, and the numbers in names count what the process has built before.
    """
    parameters = [parameter for _, parameter in sorted(network._collect_params_with_prefix().items())]
    try:
        return mx.gluon.Trainer(list(dict.fromkeys(parameters)), optimizer, settings, kvstore=None)
    except (TypeError, ValueError) as error:  # MXNet's, for a name or a setting that it does not know
        raise InputError(f"no optimizer {optimizer!r} with {', '.join(settings)}: {error}") from None


def _epoch(network, trainer, loader, forward, schedule, epoch, epochs, seed, progress, ctx, judged):
    """One pass over the loader, a step a batch; judged: arrays of labels that are yet to be held against the scores."""
    seed_mxnet(hash((seed, epoch)) % (1 << 31))  # the hash of integers is the same in every process
    loader.epoch = epoch
    start, losses, right, count = time.perf_counter(), [], 0, 0
    bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", disable=not progress, leave=False)
    for step, (x, y) in enumerate(bar):
        labels, x, y = y.asnumpy(), x.as_in_context(ctx or mx.cpu()), y.as_in_context(ctx or mx.cpu())
        trainer.set_learning_rate(schedule((epoch + step / len(loader)) / epochs))
        with mx.autograd.record():
            value, scores = forward(network, x, y)
        if step == 0:
            for every in judged:
                require_classes(every, scores.shape[1], one_hot=forward is classify)
        value.backward()
        trainer.step(len(x))
        losses.append(float(value.mean().asscalar()))
        if not np.isfinite(losses[-1]):
            raise NotFinite(f"the loss is not finite in epoch {epoch + 1}, step {step + 1}: lower the learning rate")
        right += int((scores.asnumpy().argmax(axis=1) == class_numbers(labels)).sum())
        count += len(x)
        bar.set_postfix(loss=f"{losses[-1]:.3f}", accuracy=f"{right / count:.3f}")
    if not all(np.isfinite(array).all() for array in parameters_of(network).values()):
        raise NotFinite(f"parameters are not finite after epoch {epoch + 1}: lower the learning rate")
    return {"epoch": epoch + 1, "loss": float(np.mean(losses)), "accuracy": right / count,
            "seconds": time.perf_counter() - start}


def accuracy(network: mx.gluon.HybridBlock, loader: Iterable, *, forward: Callable = classify,
             ctx: mx.Context | None = None) -> float:
    """Fraction of the loader's samples whose highest score is at their label; `forward` as in `fit`.

    Raises InputError for labels that name no class of the network.
    """
    right = count = 0
    for x, y in loader:
        x, labels = x.as_in_context(ctx or mx.cpu()), y.asnumpy()
        scores = forward(network, x, y.as_in_context(ctx or mx.cpu()))[1].asnumpy()
        require_classes(labels, scores.shape[1])
        right += int((scores.argmax(axis=1) == class_numbers(labels)).sum())
        count += len(scores)
    return right / count
