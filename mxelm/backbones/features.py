"""Features of a whole set, kept: for validation sets, baselines and everything that looks at rows more than once."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.data.dataset import Dataset


class Features(NamedTuple):
    """What `features_of` gives.

    rows: float32 (n, n_features). index: int64 (n,), which samples of the dataset they belong to.
    skipped: (id, reason) of the images that skip_bad has left out.
    """

    rows: np.ndarray
    index: np.ndarray
    skipped: list


def features_of(backbone: Backbone, dataset: Dataset, *, batch: int = 32, skip_bad: bool = False,
                progress: bool = False, description: str = "features") -> Features:
    """The features of every image of `dataset`, in its order, in one pass; `batch` images at once."""
    batches = dataset.module_iter(batch, backbone.preprocessing, skip_bad=skip_bad, labels=False)
    rows, index = [], []
    with tqdm(total=len(dataset), desc=description, unit="image", disable=not progress) as bar:
        for part, source in backbone.stream(batches):
            rows.append(part)
            index.append(source.index)
            bar.update(len(part))
    if not rows:
        return Features(np.empty((0, backbone.n_features), np.float32), np.empty(0, np.int64), batches.skipped)
    return Features(np.concatenate(rows), np.concatenate(index), batches.skipped)
