"""One pass of a dataset through the fused network, saved as it goes and resumable bit for bit."""
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mxelm.containers import require_same
from mxelm.errors import FileError, InputError
from mxelm.files import remove_leftovers
from mxelm.fused.accumulator import FusedAccumulator
from mxelm.fused.state import ELMState, Origin, sorted_digests

# Images between two points at which a run may be saved. Blocks of rows end there whether it is saved or not, which is
# what makes an interrupted and an uninterrupted run the same bit for bit.
EVERY = 2048
SAVE_SECONDS = 30.0  # at least this long between two saves


def accumulate(backbone, dataset, projection, *, method="blas", batch=32, skip_bad=False, class_weight=None, save=None,
               resume=False, interface="symbol", progress=False):
    """The ELMState of a pass over `dataset`, and the images left out by skip_bad as (id, reason).

    class_weight: dict of class name -> weight (see `balanced`); None weighs all alike.
    save: path of the state, written as the pass goes. resume: go on from that file if it is there; a finished one is
    returned as it is. Raises FileError when the file there is of another run.
    interface: "symbol" or "gluon", which compute the same. Source: Arcada, section 2, steps 1-4.
    """
    weights = _class_weights(dataset, class_weight)
    origin = Origin(backbone.digest, backbone.cut, backbone.preprocessing, projection, dataset.kind,
                    tuple(dataset.classes), class_weight, method)
    accumulator = FusedAccumulator(backbone, projection, dataset.n_outputs, method=method, batch=batch,
                                   interface=interface)
    done, skipped, samples = 0, [], [np.empty((0, 16), np.uint8)]
    identity = {**dataset.identity, "batch": batch, "twin": interface}
    if save is not None and resume:
        remove_leftovers(save)
    if save is not None and Path(save).exists():
        if not resume:
            raise FileError(f"{save} exists: go on from it with resume (--resume), or remove it")
        state = _of_this_run(save, origin, identity)
        done, skipped = state.progress["done"], [tuple(entry) for entry in state.progress["skipped"]]
        if done == len(dataset):
            return state, skipped
        samples.append(state.samples)
        accumulator.restore(state)
    saved_at = time.monotonic()
    with tqdm(total=len(dataset), initial=done, desc="accumulate", unit="image", disable=not progress) as bar:
        while True:
            part = dataset.take(np.arange(done, min(done + EVERY, len(dataset))))
            rows, left_out = _pass(accumulator, part, backbone.preprocessing, batch, skip_bad, weights, bar)
            done += len(part)
            skipped += left_out
            samples.append(part.take(rows).digests())
            accumulator.flush()
            finished = done == len(dataset)
            if finished and not accumulator.n_samples:
                raise FileError(f"none of the {len(dataset)} images of {dataset.name} could be used")
            if finished or (save is not None and time.monotonic() - saved_at >= SAVE_SECONDS):
                state = ELMState(*accumulator.matrices(), accumulator.n_samples, accumulator.yty, origin,
                                 sorted_digests(np.concatenate(samples)),
                                 {**identity, "done": done, "skipped": [list(entry) for entry in skipped]})
                if save is not None:
                    state.save(save)
                    saved_at = time.monotonic()
            if finished:
                return state, skipped


def _pass(accumulator, part, preprocessing, batch, skip_bad, weights, bar):
    batches, rows = part.module_iter(batch, preprocessing, skip_bad=skip_bad), [np.empty(0, np.int64)]
    try:
        for one in batches:
            weight = None if weights is None else weights[part.targets[one.index]]
            accumulator.update(one.data[0], one.label[0], weight)
            rows.append(one.index)
            bar.update(len(one.index))
    except FileError:
        if len(batches.skipped) < len(part):  # a part of which nothing is left does not end the pass
            raise
    return np.concatenate(rows), batches.skipped


def balanced(dataset):
    """Class weights n / (n_outputs * count), dict by name, under which every class counts alike.

    For shards take them from the whole set.
    """
    if dataset.kind != "classes":
        raise InputError(f"class weights need classes; {dataset.name} has {dataset.kind} targets")
    counts = np.bincount(dataset.targets, minlength=dataset.n_outputs)
    return dict(zip(dataset.classes, (len(dataset) / (dataset.n_outputs * np.maximum(counts, 1))).tolist()))


def _class_weights(dataset, class_weight):
    """Weights by class number, float64 (n_outputs,), or None."""
    if class_weight is None:
        return None
    unknown = [name for name in class_weight if name not in dataset.classes]
    if dataset.kind != "classes" or unknown:
        raise InputError(f"class weights name {unknown or list(class_weight)}, no classes of {dataset.name}")
    weights = np.array([float(class_weight.get(name, 1.0)) for name in dataset.classes])
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("class weights must be finite numbers >= 0")
    return weights


def _of_this_run(path, origin, identity):
    state = ELMState.load(path)
    if state.origin is None or not state.progress:
        raise FileError(f"{path} is not the state of a pass: choose another file")
    require_same(state.origin.to_json(), origin.to_json(), path)
    require_same(state.progress, identity, path)
    return state
