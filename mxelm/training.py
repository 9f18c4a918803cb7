"""One Gluon training loop: progress, last and best checkpoint, and a resume that gives the same run.

A run is a function of its seed and its loader's: an epoch draws MXNet's randomness from (seed, epoch), its order and
augmentation from (the loader's shuffle, epoch) and from nothing else, so a run that was killed continues from its last
whole epoch as if nothing had happened.
"""
import json
import logging
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mxelm.errors import FileError, InputError
from mxelm.files import load_container, require_writable, save_container
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet

log = logging.getLogger(__name__)
KIND = "training-checkpoint"


class NotFinite(InputError):
    """Loss or parameters of a training have stopped being finite; the checkpoint is that of the epoch before."""


def warmup_linear(peak, warmup):
    """A schedule: rise linearly to `peak` over the fraction `warmup` of the run, then fall linearly to zero."""
    if not 0 < warmup < 1:
        raise InputError(f"warmup must be a fraction of the run between 0 and 1, got {warmup}")

    def learning_rate(done):  # done: fraction of the run, 0..1
        return peak * min(done / warmup, (1 - done) / (1 - warmup))
    return learning_rate


def steps(peak, at=(0.5, 0.75), factor=0.1):
    """A schedule: `peak`, multiplied by `factor` at each fraction of the run in `at`; a constant for `at` empty."""
    if not all(0 < fraction < 1 for fraction in at):
        raise InputError(f"steps come at fractions of the run between 0 and 1, got {at}")

    def learning_rate(done):
        return peak * factor ** sum(done >= fraction for fraction in at)
    return learning_rate


def flip_and_crop(images, rng, pad=4, fill=None):
    """CIFAR-10's customary augmentation: mirror half of the images, shift each by up to `pad` pixels.

    images: uint8 (n, height, width, channels). rng: numpy Generator. fill: a value a channel for what comes in at the
    edges; None reflects the image there.
    """
    n, height, width, channels = images.shape
    images = np.where(rng.random(n)[:, None, None, None] < 0.5, images[:, :, ::-1], images)
    if fill is None:
        padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    else:
        padded = np.empty((n, height + 2 * pad, width + 2 * pad, channels), images.dtype)
        padded[:] = fill
        padded[:, pad:-pad or None, pad:-pad or None] = images
    top, left = rng.integers(0, 2 * pad + 1, (2, n))
    rows = (top[:, None] + np.arange(height))[:, :, None]
    columns = (left[:, None] + np.arange(width))[:, None, :]
    return padded[np.arange(n)[:, None, None], rows, columns]


def fit(network, loader, epochs, schedule, optimizer="sgd", settings=None, loss=None, validation=None,
        checkpoint=None, resume=False, seed=0, progress=False, ctx=None, patience=None, any_rows=False):
    """Train `network` on `loader` for `epochs`; the history is a list of dicts, one an epoch.

    network: initialised HybridBlock. loader: a GluonLoader of (images, labels); its `epoch` is set here. Labels may be
    rows (batch, classes) for a loss that takes them; the highest entry is then what accuracies compare with.
    schedule: fraction of the run done -> learning rate. settings: the optimizer's other parameters, JSON-able.
    optimizer: MXNet's name of one whose state is arrays and counters, which all are but "nadam" and "lbsgd".
    loss: a Gluon loss (softmax cross-entropy by default). validation: a loader scored after each epoch.
    checkpoint: path; `checkpoint` keeps the last epoch, `checkpoint + ".best"` the parameters of the best
    validation accuracy (never of a test). resume: go on from `checkpoint` if it is there; else what is there goes.
    patience: stop when so many epochs have brought no better validation accuracy.
    any_rows: let softmax cross-entropy see label rows that are no distribution, as the published GUNN labels are.
    Raises NotFinite, an InputError, when loss or parameters stop being finite; InputError for labels that name no class
    of the network and rows that do not sum to 1; FileError when the checkpoint is of another run or cannot be written.
    """
    if epochs < 1:
        raise InputError(f"a training takes one epoch or more, got {epochs}")
    if checkpoint:
        require_writable(checkpoint)
    if patience is not None and (patience < 1 or validation is None):
        raise InputError(f"early stopping needs a validation loader and a patience of at least 1 epoch, got {patience}")
    loss = loss or mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = _trainer(network, optimizer, {"learning_rate": schedule(0.0), **(settings or {})})
    identity, history = {}, []
    if checkpoint:
        identity = _identity(seed, epochs, optimizer, settings, loader, loss, schedule)
        history = _begin(checkpoint, resume, network, trainer, identity, ctx)
    one_hot = isinstance(loss, mx.gluon.loss.SoftmaxCrossEntropyLoss) and not any_rows
    best = max((entry.get("validation_accuracy", -1.0) for entry in history), default=-1.0)
    for epoch in range(len(history), epochs):
        if patience and _epochs_since_best(history) >= patience:
            break
        history.append(_epoch(network, trainer, loader, loss, schedule, epoch, epochs, seed, progress, ctx, one_hot))
        if validation is not None:
            history[-1]["validation_accuracy"] = accuracy(network, validation, ctx, one_hot)
        if checkpoint:
            if history[-1].get("validation_accuracy", -1.0) > best:
                best = history[-1]["validation_accuracy"]
                save_container(f"{checkpoint}.best", KIND, {**identity, "history": history}, _parameters(network))
            _save(checkpoint, network, trainer, {**identity, "history": history})
        log.info("%s", history[-1])
    return history


def _identity(seed, epochs, optimizer, settings, loader, loss, schedule):
    """What must be the same for a run to go on, as a checkpoint will give it back."""
    return json.loads(json.dumps({
        "seed": seed, "epochs": epochs, "optimizer": optimizer, "settings": settings or {}, "batches": len(loader),
        "loss": type(loss).__name__, "data": getattr(loader, "identity", None),
        "learning rates": [schedule(i / 16) for i in range(17)]}, default=float))


def _begin(checkpoint, resume, network, trainer, identity, ctx):
    """The history to go on from, [] for a new run, which removes what its own resume would take for its own."""
    if not resume:
        for old in (checkpoint, f"{checkpoint}.best"):
            Path(old).unlink(missing_ok=True)
    if not Path(checkpoint).exists():
        return []
    history = _restore(checkpoint, network, trainer, identity, ctx)
    log.info("resumed %s after epoch %d", checkpoint, len(history))
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


def _epoch(network, trainer, loader, loss, schedule, epoch, epochs, seed, progress, ctx, one_hot):
    seed_mxnet(hash((seed, epoch)) % (1 << 31))  # the hash of integers is the same in every process
    loader.epoch = epoch
    start, losses, right, count = time.perf_counter(), [], 0, 0
    bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", disable=not progress, leave=False)
    for step, (x, y) in enumerate(bar):
        labels, x, y = y.asnumpy(), x.as_in_context(ctx or mx.cpu()), y.as_in_context(ctx or mx.cpu())
        trainer.set_learning_rate(schedule((epoch + step / len(loader)) / epochs))
        with mx.autograd.record():
            scores = network(x)
            require_classes(labels, scores.shape[1], one_hot)
            value = loss(scores, y)
        value.backward()
        trainer.step(len(x))
        losses.append(float(value.mean().asscalar()))
        if not np.isfinite(losses[-1]):
            raise NotFinite(f"the loss is not finite in epoch {epoch + 1}, step {step + 1}: lower the learning rate")
        right += int((scores.asnumpy().argmax(axis=1) == class_numbers(labels)).sum())
        count += len(x)
        bar.set_postfix(loss=f"{losses[-1]:.3f}", accuracy=f"{right / count:.3f}")
    if not all(np.isfinite(array).all() for array in _parameters(network).values()):
        raise NotFinite(f"parameters are not finite after epoch {epoch + 1}: lower the learning rate")
    return {"epoch": epoch + 1, "loss": float(np.mean(losses)), "accuracy": right / count,
            "seconds": time.perf_counter() - start}


def require_classes(labels, n_classes, one_hot=True):
    """Raise InputError for class numbers (n,) that are not in 0..n_classes-1, and rows (n, classes) of another width.

    MXNet's loss would take the nearest class in silence. one_hot: the rows must sum to 1 as well.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2:
        if labels.shape[1] != n_classes:
            raise InputError(f"label rows of {labels.shape[1]} classes do not fit a network of {n_classes} scores")
        if one_hot:
            require_one_hot(labels)
    else:
        wrong = labels[(labels < 0) | (labels >= n_classes)]
        if len(wrong):
            raise InputError(f"class {wrong[0]:g} among the labels: the network has scores for 0..{n_classes - 1}")


def require_one_hot(rows):
    """Raise InputError for label rows (n, classes) that do not sum to 1: an all-zero row has no loss, and no class."""
    rows = np.asarray(rows)
    if rows.ndim != 2:
        raise InputError(f"label rows are (n, classes), got shape {rows.shape}")
    wrong = np.flatnonzero(~np.isclose(rows.sum(axis=1), 1) | (rows < 0).any(axis=1))
    if len(wrong):
        raise InputError(f"{len(wrong)} of {len(rows)} label rows do not sum to 1 (the first: row {wrong[0]}, "
                         f"{rows[wrong[0]].tolist()}): such images have no class")


def accuracy(network, loader, ctx=None, one_hot=False):
    """Fraction of the loader's samples whose highest score is at their label.

    one_hot: refuse label rows that do not sum to 1. Raises InputError for labels that name no class of the network.
    """
    right = count = 0
    for x, y in loader:
        scores = network(x.as_in_context(ctx or mx.cpu())).asnumpy()
        require_classes(y.asnumpy(), scores.shape[1], one_hot)
        right += int((scores.argmax(axis=1) == class_numbers(y.asnumpy())).sum())
        count += len(scores)
    return right / count


def class_numbers(labels):
    """Class numbers (n,) of labels that are such, or rows (n, classes), whose highest entry counts."""
    labels = np.asarray(labels)
    return labels if labels.ndim == 1 else labels.argmax(axis=1)


def load_parameters(network, path, ctx=None):
    """Put the parameters of a checkpoint (`...` or `....best`) into `network`; the history comes back."""
    meta, arrays = load_container(path, KIND)
    _set_parameters(network, arrays, path, ctx)
    return meta["history"]


def _parameters(network):
    """The arrays of all parameters by name.

    MXNet's own thread copies them first: validation leaves weights in oneDNN's layouts, which asnumpy() would undo with
    OpenMP in this thread. Both threads then have teams, more threads than cores, so OpenMP no longer spins at its
    barriers, and training on two cores would take twice the time from then on.
    """
    return {f"parameter.{name}": p.data().copy().asnumpy() for name, p in network._collect_params_with_prefix().items()}


def _set_parameters(network, arrays, path, ctx):
    parameters = network._collect_params_with_prefix()
    for name, parameter in parameters.items():
        saved = arrays.get(f"parameter.{name}")
        wanted = parameter.shape
        if saved is None or not _fits(saved.shape, wanted):
            found = "nothing" if saved is None else f"shape {saved.shape}"
            raise FileError(f"{path} is of another network: {name} of shape {wanted} is wanted, it holds {found}")
    foreign = {name for name in arrays if name.startswith("parameter.")} - {f"parameter.{name}" for name in parameters}
    if foreign:
        raise FileError(f"{path} is of another network: it holds {min(foreign)[len('parameter.'):]}, not wanted here")
    for name, parameter in parameters.items():
        saved = arrays[f"parameter.{name}"]
        parameter._load_init(mx.nd.array(saved, dtype=saved.dtype), ctx, cast_dtype=True)  # deferred ones too


def _fits(shape, wanted):
    """Whether a saved shape fits a parameter's, in which deferred sizes are 0 or -1."""
    return len(shape) == len(wanted) and all(w in (0, -1, s) for w, s in zip(wanted, shape))


def _save(path, network, trainer, meta):
    """Parameters, optimizer states and their counters; MXNet's own `save_states` would pickle them."""
    updater, optimizer = trainer._updaters[0], trainer._optimizer
    arrays = _parameters(network)
    for index, state in updater.states.items():
        for part, array in enumerate(_parts(state)):
            arrays[f"optimizer.{index}.{part}"] = array.asnumpy()
    meta = {**meta, "num_update": optimizer.num_update,
            "update_counts": {str(k): v for k, v in optimizer._index_update_count.items()}}
    save_container(path, KIND, meta, arrays)


def _restore(path, network, trainer, identity, ctx):
    meta, arrays = load_container(path, KIND)
    if "num_update" not in meta:
        raise FileError(f"{path} holds parameters alone, those of the best epoch: resume from the checkpoint beside it")
    for name, value in identity.items():
        if meta.get(name) != value:
            raise FileError(f"{path} is of another run: its {name} is {meta.get(name)}, this run's is {value}; "
                            "remove it to begin anew")
    _set_parameters(network, arrays, path, ctx)
    optimizer, updater = trainer._optimizer, trainer._updaters[0]
    optimizer.num_update = meta["num_update"]
    counts = {int(k): v for k, v in meta["update_counts"].items()}
    optimizer._index_update_count.clear()
    optimizer._index_update_count.update(counts)
    for index in counts:
        weight = trainer._params[index].data()
        updater.states[index] = optimizer.create_state_multi_precision(index, weight)
        updater.states_synced[index] = True
        for part, array in enumerate(_parts(updater.states[index])):
            saved = arrays[f"optimizer.{index}.{part}"]
            array[:] = mx.nd.array(saved, ctx=ctx, dtype=saved.dtype)
    return meta["history"]


def _parts(state):
    """The NDArrays of an optimizer's state, which is nothing, an NDArray, or a nest of tuples of them."""
    if state is None:
        return []
    if isinstance(state, (tuple, list)):
        return [array for part in state for array in _parts(part)]
    return [state]
