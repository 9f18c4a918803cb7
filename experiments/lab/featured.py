"""Features of a whole set, extracted once and kept in --work, for baselines and choices that look at them often."""
import numpy as np

from mxelm.backbones.features import features_of
from mxelm.files import atomic_write


def features(backbone, dataset, lab):
    """Features float32 (n, n_features) of all images of a dataset that reads without a fault."""
    kept = lab.work / f"{dataset.name}-{len(dataset)}-{backbone.name}.npy"
    if not kept.exists():
        with atomic_write(kept) as temporary:
            np.save(temporary, features_of(backbone, dataset, progress=True).rows)
    return np.load(kept)


def rows_of(dataset, *parts):
    """The rows of `parts` of a dataset, list of int64 arrays."""
    place = {name: row for row, name in enumerate(dataset.ids)}
    return [np.array([place[name] for name in part.ids]) for part in parts]
