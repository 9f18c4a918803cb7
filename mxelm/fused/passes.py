"""One pass of a dataset through the fused network, saved as it goes and resumable bit for bit."""
from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from mxelm.containers import require_same
from mxelm.errors import FileError, InputError
from mxelm.files import exclusive, remove_leftovers
from mxelm.fused.accumulator import FusedAccumulator
from mxelm.fused.state import ELMState, Origin, sorted_digests
from mxelm.interrupts import Interrupted, held_back

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.data.dataset import Dataset
    from mxelm.fused.projection import Projection

SAVE_SECONDS = 30.0  # between two saves


def accumulate(backbone: Backbone, dataset: Dataset, projection: Projection,
               *, method: Literal["blas", "paper"] = "blas", batch: int = 32, skip_bad: bool = False,
               class_weight: dict[str, float] | None = None, save: str | os.PathLike | None = None,
               resume: bool = False, interface: Literal["symbol", "gluon"] = "symbol",
               progress: bool = False) -> tuple[ELMState, list]:
    """The ELMState of a pass over `dataset`, and the images left out by skip_bad as (id, reason).

    class_weight: dict of class name -> weight (see `balanced`); None weighs all alike.
    save: path of the state, written as the pass goes; Ctrl-C and SIGTERM then save at the end of the batch and raise
    Interrupted. resume: go on from that file if it is there; a finished one is returned as it is.
    Raises FileError when the file there is of another run or of images that have changed since, and where another
    process writes it. interface: "symbol" or "gluon", which compute the same. Source: Arcada, section 2, steps 1-4.
    """
    weights = _class_weights(dataset, class_weight)
    origin = Origin(backbone.digest, backbone.cut, backbone.preprocessing, projection, dataset.kind,
                    tuple(dataset.classes), class_weight, method,
                    intercept=dataset.kind == "regression" and method != "paper",  # as printed: without
                    place=backbone.place)
    identity = {**dataset.identity, "batch": batch}
    with contextlib.nullcontext() if save is None else exclusive(save):
        before = _begun(save, resume, dataset, origin, identity)
        if before is not None and before.progress["done"] == len(dataset):
            return before.whole(), [tuple(entry) for entry in before.progress["skipped"]]
        accumulator = FusedAccumulator(backbone, projection, dataset.n_outputs, method=method, batch=batch,
                                       interface=interface, intercept=origin.intercept)
        run = _Pass(accumulator, dataset, origin, identity, save, before)
        with tqdm(total=len(dataset), initial=run.done, desc="accumulate", unit="image", disable=not progress) as bar:
            return run.go(backbone.preprocessing, batch, skip_bad, weights, bar), run.skipped


class _Pass:
    """A pass under way: how far it is, and what it would leave behind if it ended now."""

    def __init__(self, accumulator, dataset, origin, identity, save, before):
        self.accumulator, self.dataset, self.origin, self.identity, self.save = (accumulator, dataset, origin,
                                                                                 identity, save)
        self.done, self.skipped, self._samples, self._rows = 0, [], np.empty((0, 16), np.uint8), []
        if before is not None:
            accumulator.restore(before)
            self.done, self._samples = before.progress["done"], before.samples
            self.skipped = [tuple(entry) for entry in before.progress["skipped"]]

    def go(self, preprocessing, batch, skip_bad, weights, bar):
        """The state at the end; saved on the way, and at the end of a batch in which a signal came."""
        batches = self.dataset.module_iter(batch, preprocessing, skip_bad=skip_bad, start=self.done)
        start, skipped, saved_at = self.done, self.skipped, time.monotonic()
        with contextlib.nullcontext([]) if self.save is None else held_back() as signals:
            for one in _until_none_is_left(batches, len(self.dataset) - start):
                weight = None if weights is None else weights[self.dataset.targets[one.index]]
                self.accumulator.update(one.data[0], one.label[0], weight)
                self._rows.append(one.index)
                self.done = min((one.index[-1] - start) // batch * batch + batch + start, len(self.dataset))
                self.skipped = skipped + batches.skipped
                bar.update(len(one.index))
                if signals or (self.save is not None and time.monotonic() - saved_at >= SAVE_SECONDS):
                    self.state().save(self.save)
                    saved_at = time.monotonic()
                if signals:
                    raise Interrupted(signals[0], f"{self.save} keeps {self.done} of {len(self.dataset)} images: go on "
                                      "from it with resume (--resume)")
            self.done, self.skipped = len(self.dataset), skipped + batches.skipped
            if not self.accumulator.n_samples:
                raise FileError(f"none of the {len(self.dataset)} images of {self.dataset.name} could be used")
            self.accumulator.flush()
            state = self.state()
            if self.save is not None:
                state.save(self.save)
            return state

    def state(self):
        """The ELMState of the images so far."""
        if self._rows:
            new = self.dataset.take(np.concatenate(self._rows)).digests()
            self._samples, self._rows = sorted_digests(np.concatenate([self._samples, new])), []
        HtH, HtY, waiting = self.accumulator.as_they_stand()
        return ELMState(HtH, HtY, self.accumulator.n_samples, self.accumulator.yty, self.origin, self._samples,
                        {**self.identity, "done": int(self.done), "skipped": [list(e) for e in self.skipped]}, waiting)


def _until_none_is_left(batches, n):
    """The batches; that none of the last `n` images could be used does not end a pass that has had others."""
    try:
        yield from batches
    except FileError:
        if len(batches.skipped) < n:
            raise


def _begun(save, resume, dataset, origin, identity):
    """The state of a pass to go on from, or None; FileError where the file there is no beginning of this one."""
    if save is None:
        return None
    remove_leftovers(save)
    if not Path(save).exists():
        return None
    if not resume:
        raise FileError(f"{save} exists: go on from it with resume (--resume), or remove it")
    state = ELMState.load(save, whole=False)
    _require_same_samples(save, state, identity)
    _require_unchanged(save, state, dataset)
    try:
        origin.require_same(state.origin)
    except InputError as error:
        raise FileError(f"{save} is of another run: {error}") from None
    return state


def balanced(dataset: Dataset) -> dict[str, float]:
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


def require_resumable(path: str | os.PathLike, dataset: Dataset) -> ELMState:
    """FileError, before anything is computed, where the state at `path` is no beginning of a pass over `dataset`."""
    state = ELMState.load(path, whole=False)
    _require_same_samples(path, state, dataset.identity)
    return state


def _require_same_samples(path, state, identity):
    """FileError where a state is not the beginning of a pass over these samples in this order."""
    if state.origin is None or not state.progress:
        raise FileError(f"{path} is not the state of a pass: choose another file")
    if any(state.progress[name] != identity[name] for name in ("dataset", "samples", "of")):
        raise FileError(f"{path} is of a pass over other samples, {state.progress['of']} of "
                        f"{state.progress['dataset']} where there are now {identity['of']} of {identity['dataset']}: "
                        f"give new images a pass of their own, with the same W (--like {path}), and add it by "
                        "`mxelm merge`")
    require_same(state.progress, identity, path)  # the batch


def _require_unchanged(path, state, dataset):
    """FileError where images that a state has counted are not those that lie there now."""
    skipped, ids = {name for name, _ in state.progress["skipped"]}, dataset.ids
    counted = [row for row in range(state.progress["done"]) if ids[row] not in skipped]
    known = set(map(bytes, state.samples))
    changed = [ids[row] for row, digest in zip(counted, dataset.take(counted).digests()) if bytes(digest) not in known]
    if changed:
        raise FileError(f"{path} has counted {len(changed)} images that have changed since, {changed[0]} for one: put "
                        "the former ones back, or begin anew in another file")
