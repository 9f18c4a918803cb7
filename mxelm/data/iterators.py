"""The two iterators over a Dataset: one for `mx.mod.Module`, one for Gluon loops; same samples, same order.

Neither pads: the last batch is short, and no row comes twice in a pass. Both decode ahead, in threads that end with
the pass or when the iterator is dropped.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mxelm.containers import array_digest
from mxelm.data.pipeline import Pipeline
from mxelm.errors import FileError, InputError
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.data.dataset import Dataset
    from mxelm.preprocessing import Preprocessing


class _Passes:
    """Passes over a dataset, numbered by `epoch`: in its order, or shuffled by (seed, epoch)."""

    def __init__(self, pipeline, shuffle):
        if len(pipeline.dataset) == 0:
            raise InputError(f"{pipeline.dataset.name} has no samples to iterate over")
        if shuffle is not None and shuffle < 0:
            raise InputError(f"shuffle must be None or a seed of at least 0, got {shuffle}")
        self.pipeline = pipeline
        self.shuffle = shuffle
        self.epoch = 0
        self.skipped = []

    def order(self, epoch):
        n = len(self.pipeline.dataset)
        return np.arange(n) if self.shuffle is None else np.random.default_rng([self.shuffle, epoch]).permutation(n)

    def run(self, start=0):
        """Yield (x NDArray, rows) of one pass from sample `start` of its order on, then move `epoch` on."""
        epoch, self.skipped = self.epoch, []
        order = self.order(epoch)[start:]
        for x, rows, skipped in self.pipeline.run(order, (self.shuffle or 0, epoch)):
            self.skipped += skipped
            if len(rows):
                yield mx.nd.array(x), rows
        if len(order) and len(self.skipped) == len(order):
            raise FileError(f"none of the {len(order)} images of {self.pipeline.dataset.name} could be used; "
                            f"the first: {self.skipped[0][1]}")
        self.epoch = epoch + 1


class _Iterator:
    """What both iterators show of their passes."""

    @property
    def epoch(self):
        """The number of the pass to come, or under way, from 0; set it to resume. A whole pass adds one."""
        return self._passes.epoch

    @epoch.setter
    def epoch(self, number):
        self._passes.epoch = number

    @property
    def skipped(self):
        """What the pass under way, or else the last, has left out: list of (id, reason)."""
        return self._passes.skipped


class GluonLoader(_Iterator):
    """(x, y) batches of a Dataset, as NDArrays, for a Gluon loop; iterate over it once an epoch.

    x: float32 (b, channels, height, width). y: float32, class numbers (b,) for a set with classes, else
    (b, n_outputs). shuffle: None or an int seed. augment: callable(images uint8 (b, h, w, c), rng) -> images, after
    resizing and before normalisation. skip_bad: leave out images that cannot be used. workers: threads.
    `len()` is the number of batches.
    """

    def __init__(self, dataset: Dataset, batch: int, preprocessing: Preprocessing, *, shuffle: int | None = None,
                 augment: Callable | None = None, skip_bad: bool = False, workers: int = 2) -> None:
        self._passes = _Passes(Pipeline(dataset, batch, preprocessing, augment, skip_bad, workers), shuffle)

    @property
    def identity(self) -> dict:
        """What decides the batches of a pass, JSON-able: two loaders that agree in it give the same.

        It reads all images once, for their content is part of it; a FileError names one that cannot be read.
        """
        pipeline = self._passes.pipeline
        return {"samples": array_digest(pipeline.dataset.digests(), pipeline.dataset.targets), "batch": pipeline.batch,
                "shuffle": self._passes.shuffle, "augmentation": _named(pipeline.augment),
                "preprocessing": dataclasses.asdict(pipeline.preprocessing)}

    @property
    def targets(self) -> np.ndarray:
        """The labels of all samples, in the dataset's order: NumPy (n,) or (n, n_outputs)."""
        return self._passes.pipeline.dataset.targets

    def __len__(self) -> int:
        pipeline = self._passes.pipeline
        return (len(pipeline.dataset) + pipeline.batch - 1) // pipeline.batch

    def __iter__(self) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        for x, rows in self._passes.run():
            yield x, mx.nd.array(self.targets[rows], dtype="float32")


def _named(call):
    """A function in words, those with some arguments fixed too; None for none."""
    if isinstance(call, functools.partial):
        return f"{_named(call.func)} {call.args} {call.keywords}"
    return call and getattr(call, "__qualname__", type(call).__qualname__)


class ModuleIter(_Iterator, mx.io.DataIter):
    """Batches of a Dataset for `mx.mod.Module`: data float32 (b, c, h, w), label float32 (b, n_outputs) (one-hot rows
    for classes), pad 0, `index` int64 (b,), the samples' places in the dataset.

    shuffle: None or an int seed. skip_bad: leave out images that cannot be used. workers: threads.
    start: how many samples of the first pass's order to leave out, because an interrupted run has had them.
    labels: False for a Module with label_names=None, which takes a short batch only when it has no label.
    """

    def __init__(self, dataset: Dataset, batch: int, preprocessing: Preprocessing, *, shuffle: int | None = None,
                 skip_bad: bool = False, start: int = 0, labels: bool = True, workers: int = 2) -> None:
        super().__init__(batch)
        self._passes = _Passes(Pipeline(dataset, batch, preprocessing, None, skip_bad, workers), shuffle)
        if not 0 <= start <= len(dataset):
            raise InputError(f"start must lie in 0..{len(dataset)}, got {start}")
        self._dataset = dataset
        self._labels = labels
        self._batches = self._passes.run(start)
        self._batch = None

    @property
    def provide_data(self) -> list[mx.io.DataDesc]:
        return [mx.io.DataDesc("data", (self.batch_size, *self._passes.pipeline.preprocessing.shape), np.float32)]

    @property
    def provide_label(self) -> list[mx.io.DataDesc]:
        shape = (self.batch_size, self._dataset.n_outputs)
        return [mx.io.DataDesc("softmax_label", shape, np.float32)] if self._labels else []

    def reset(self) -> None:
        """Begin the pass that `epoch` names: the next one after a whole pass, else the same again."""
        self._batches.close()
        self._batches = self._passes.run()

    def iter_next(self) -> bool:
        self._batch = next(self._batches, None)
        return self._batch is not None

    def getdata(self) -> list[mx.nd.NDArray]:
        return [self._batch[0]]

    def getlabel(self) -> list[mx.nd.NDArray]:
        rows = self._batch[1]
        return [mx.nd.array(self._dataset.take(rows).target_matrix())] if self._labels else []

    def getindex(self) -> np.ndarray:
        return self._batch[1]

    def getpad(self) -> int:
        return 0
