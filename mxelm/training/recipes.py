"""Recipes: schedules of the learning rate, CIFAR-10's customary augmentation, images that grow."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import InputError

if TYPE_CHECKING:
    from mxelm.data.dataset import Dataset
    from mxelm.preprocessing import Preprocessing


def warmup_linear(peak: float, warmup: float) -> Callable[[float], float]:
    """A schedule: rise linearly to `peak` over the fraction `warmup` of the run, then fall linearly to zero."""
    if not 0 < warmup < 1:
        raise InputError(f"warmup must be a fraction of the run between 0 and 1, got {warmup}")

    def learning_rate(done):  # done: fraction of the run, 0..1
        return peak * min(done / warmup, (1 - done) / (1 - warmup))
    return learning_rate


def steps(peak: float, at: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> Callable[[float], float]:
    """A schedule: `peak`, multiplied by `factor` at each fraction of the run in `at`; a constant for `at` empty."""
    if not all(0 < fraction < 1 for fraction in at):
        raise InputError(f"steps come at fractions of the run between 0 and 1, got {at}")

    def learning_rate(done):
        return peak * factor ** sum(done >= fraction for fraction in at)
    return learning_rate


def flip_and_crop(images: np.ndarray, rng: np.random.Generator, *, pad: int = 4,
                  fill: float | Sequence[float] | np.ndarray | None = None) -> np.ndarray:
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


class Growing:
    """A loader whose images grow from epoch to epoch: of `epochs`, each of `sizes` has an equal share, in turn.

    dataset, batch, preprocessing, shuffle, augment: as `Dataset.gluon_loader` takes them; sizes: pixels, ascending.
    augment: `flip_and_crop`, which then shifts by an eighth of the size, or None.
    """

    def __init__(self, dataset: Dataset, batch: int, preprocessing: Preprocessing, *, sizes: Sequence[int], epochs: int,
                 shuffle: int | None = None, augment: Callable | None = None) -> None:
        self.loaders, self.epochs, self.epoch = [dataset.gluon_loader(
            batch, dataclasses.replace(preprocessing, size=(size, size), interpolation="area"), shuffle=shuffle,
            augment=augment and functools.partial(augment, pad=size // 8)) for size in sizes], epochs, 0
        self.identity, self.targets = [loader.identity for loader in self.loaders], self.loaders[0].targets

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator:
        turn = -(-(self.epoch + 1) * len(self.loaders) // self.epochs) - 1  # the last epoch is the last loader's
        self.loaders[turn].epoch = self.epoch
        return iter(self.loaders[turn])
