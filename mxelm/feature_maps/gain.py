"""Whether a cache pays: hit rate x cost skipped > search cost, in measured seconds."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import InputError
from mxelm.pooling import mean_and_deviation

if TYPE_CHECKING:
    from mxelm.chain import Chain
    from mxelm.runtime import mx


class DoesNotPay(InputError):
    """A cache whose search costs more time than the layers that its hits skip."""


@dataclass(frozen=True)
class Gain:
    """Seconds an image, in batches of `batch`, on the machine and with the hit rates of the calibration.

    hit_rate: share of the images that match. skipped: seconds that a hit saves. search: seconds that an image spends on
    descriptors and their comparison. network: seconds of the whole network without a cache.
    """

    hit_rate: float
    skipped: float
    search: float
    network: float
    batch: int

    @property
    def saved(self) -> float:
        """Net seconds an image; negative where the cache costs more than it saves."""
        return self.hit_rate * self.skipped - self.search

    @property
    def speedup(self) -> float:
        """Time of the network alone over that with the cache."""
        return self.network / (self.network - self.saved)

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    def require(self, cached: int, layers: Sequence[str]) -> None:
        """Raise DoesNotPay, with the three figures, unless hit rate x cost skipped > search cost."""
        if self.saved <= 0:
            raise DoesNotPay(
                f"a cache of {cached} images at {', '.join(layers)} does not pay: {100 * self.hit_rate:.1f} % hits x "
                f"{1e3 * self.skipped:.4f} ms skipped is less than {1e3 * self.search:.4f} ms of search an image, in "
                f"batches of {self.batch}: cache fewer images, match at an earlier layer, or accept it as it is "
                "(must_pay=False, --even-if-slower)")


def measured(chain: Chain, nearest: Sequence[Callable], hits: np.ndarray, x: np.ndarray | mx.nd.NDArray,
             *, repeats: int = 5) -> Gain:
    """The Gain of a cache.

    nearest: a Nearest a layer. hits: share of all images that each layer decides. x: a batch of preprocessed images,
    float32 (batch, channels, h, w), whose descriptors are looked up for the time that it takes.
    """
    batch = len(x)
    segments = chain.seconds(batch, repeats=repeats) / batch
    search = np.array([_search_seconds(chain, m, one, x, repeats) for m, one in enumerate(nearest)]) / batch
    hits = np.asarray(hits, float)
    arriving = 1 - np.concatenate([[0], np.cumsum(hits)[:-1]])
    beyond = segments.sum() - np.cumsum(segments)[:-1]  # what a hit at each layer skips
    rate = float(hits.sum())
    return Gain(rate, float(hits @ beyond / rate) if rate else 0.0, float(arriving @ search), float(segments.sum()),
                batch)


def _search_seconds(chain, m, nearest, x, repeats):
    """Median seconds from the maps of layer m of a batch to its nearest cached images."""
    taken = []
    for number, (_, maps) in enumerate(chain.run(x)):
        if number == m:
            maps.wait_to_read()
            for _ in range(repeats + 1):
                start = time.perf_counter()
                nearest(mean_and_deviation(maps))
                taken.append(time.perf_counter() - start)
            break
    return float(np.median(taken[1:]))
