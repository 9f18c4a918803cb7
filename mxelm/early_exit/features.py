"""The features of all exits, from one pass over the images."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from mxelm.errors import InputError
from mxelm.pooling import l2_normalised, mean

if TYPE_CHECKING:
    from mxelm.chain import Chain
    from mxelm.data import Dataset
    from mxelm.runtime import mx


def features_at(maps: np.ndarray | mx.nd.NDArray) -> np.ndarray:
    """x_m of an exit's maps z_m: global average pooling, then rows of L2 norm 1; float32 (n, d).

    maps: (n, c, h, w) or (n, d), NumPy array or NDArray. Raises InputError where they are not finite.
    Source: Savchenko, "Adaptive CNNs"; Algorithm 1, line 4.
    """
    x = l2_normalised(mean(maps))
    if not math.isfinite(np.vdot(x, x)):
        bad = int((~np.isfinite(x).all(axis=1)).sum())
        raise InputError(f"{bad} of {len(x)} images have features that are NaN or infinite: look at their pixels")
    return x


def stream(chain: Chain, dataset: Dataset, *, batch: int = 32, skip_bad: bool = False,
           progress: bool = False) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Yield ([x_1, ..., x_M], rows) block by block: float32 (b, d_m) of every exit, and int64 (b,) dataset rows.

    chain: mxelm.chain.Chain. dataset: mxelm.data Dataset. Nothing is computed twice, and one block is held at a time.
    Source: Savchenko, Algorithm 2, lines 3-5.
    """
    batches = dataset.module_iter(batch, chain.backbone.preprocessing, skip_bad=skip_bad, labels=False)
    for block in tqdm(batches, desc="features", total=-(-len(dataset) // batch), disable=not progress, leave=False):
        yield [features_at(maps) for _, maps in chain.run(block.data[0])], block.index


def exit_features(chain: Chain, dataset: Dataset, **options: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """All of `stream` at once: [x_1, ..., x_M], each float32 (n, d_m), and the rows, int64 (n,)."""
    blocks = list(stream(chain, dataset, **options))
    return [np.concatenate(x) for x in zip(*(x for x, _ in blocks))], np.concatenate([rows for _, rows in blocks])
