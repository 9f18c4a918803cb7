"""From samples to network input: decoded and resized ahead of the consumer, in threads, in bounded memory."""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import FileError, InputError, MxelmError
from mxelm.runtime import require_cv2

if TYPE_CHECKING:
    from mxelm.preprocessing import Preprocessing

AHEAD = 2  # batches made before the consumer asks for them
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """What turns rows of a Dataset into network input.

    dataset: Dataset. batch: int, rows a batch. preprocessing: Preprocessing.
    augment: callable(images uint8 (b, h, w, c), rng) -> images of the same shape, before normalisation, or None; it
        may write into the images it is given.
    skip_bad: leave out images that cannot be used rather than raise. workers: int, threads.
    """

    dataset: object
    batch: int
    preprocessing: object
    augment: object = None
    skip_bad: bool = False
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("batch", "workers"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"{name} must be an integer of at least 1, got {value}")

    def run(self, order: Sequence[int], seed: tuple[int, int] = (0, 0)) -> Iterator:
        """Yield (x float32 (b, c, h, w), rows int64 (b,), skipped) for the dataset's rows in `order`.

        order: int64 array of rows. seed: tuple of int; batch k is augmented with default_rng([*seed, k]).
        skipped: list of (id, reason). The last batch is short; a batch of which nothing is left has no x to show,
        and is yielded with zero rows. Closing the generator stops the threads.
        """
        parts = iter([order[i:i + self.batch] for i in range(0, len(order), self.batch)])
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="mxelm-data")
        waiting = deque()
        try:
            for number, rows in enumerate(parts):
                waiting.append(pool.submit(self._prepare, rows, [*seed, number]))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, rows, seed):
        images, rows, skipped = self._prepared(rows)
        if self.augment is not None and len(rows):
            shape = images.shape
            images = self.augment(np.require(images, requirements=["C", "W"]), np.random.default_rng(seed))
            if images.shape != shape:
                raise InputError(f"augment must keep the images' shape {shape}, got {images.shape}")
        return self.preprocessing.normalise(images), rows, skipped

    def _prepared(self, rows):
        """uint8 (b, h, w, c) images of `rows`, the rows that could be had, and the others as (id, reason)."""
        source, positions = self.dataset.source, self.dataset.positions[rows]
        if source.images is not None and is_prepared(source.images[:1], self.preprocessing):
            return coloured(source.images[positions], self.preprocessing), rows, []
        images, kept, skipped = [], [], []
        for row, position in zip(rows, positions):
            try:
                images.append(self._prepare_one(position))
                kept.append(row)
            except (FileError, InputError) as error:
                if not self.skip_bad:
                    raise type(error)(f"{error}, or leave out what cannot be used (skip_bad, --skip-bad)") from None
                logger.info("left out: %s", error)
                skipped.append((source.ids[position], str(error)))
        empty = np.empty((0, *self.preprocessing.size, self.preprocessing.channels), np.uint8)
        return np.stack(images) if images else empty, np.array(kept, np.int64), skipped

    def _prepare_one(self, position):
        source = self.dataset.source
        image = source.image(position)
        try:
            return self.preprocessing.prepare(image)
        except MxelmError as error:
            raise InputError(f"{source.ids[position]}: {error}") from None


def is_prepared(images: np.ndarray, preprocessing: Preprocessing) -> bool:
    """Whether images (n, h, w[, 3]) have the size that `preprocessing` would bring them to."""
    return images.shape[1:3] == preprocessing.size and preprocessing.short_side in (None, min(preprocessing.size))


def coloured(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 (n, h, w[, 3]) of the right size -> (n, h, w, channels), channels in order: `prepare` for a whole array."""
    if images.ndim == 3:
        return np.broadcast_to(images[..., None], (*images.shape, preprocessing.channels))
    if preprocessing.channels == 1:
        cv2 = require_cv2()
        n, h, w, _ = images.shape
        return cv2.cvtColor(images.reshape(n * h, w, 3), cv2.COLOR_RGB2GRAY).reshape(n, h, w, 1)
    return images if preprocessing.channel_order == "RGB" else images[..., ::-1]
