"""Training on maps: the maps that a trained network makes of images become the images of a new network."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mxelm.backbones import Backbone
from mxelm.data import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import InputError
from mxelm.feature_maps.layers import chain_of
from mxelm.feature_maps.view import dead
from mxelm.runtime import require_cv2


def map_images(backbone: Backbone, dataset: Dataset, layers: Sequence[str], *, per_image: int = 2,
               size: tuple[int, int] = (28, 28), scaled: bool = True, batch: int = 250, seed: int = 0) -> Dataset:
    """A Dataset of maps, uint8 (n, *size), each with its image's class; dead maps are left out.

    layers: whose maps are taken. per_image: how many of an image's maps, drawn by `seed` from those of all layers
    together; None takes them all. size: (height, width) to which maps are resized, bilinearly. scaled: divide each
    map by its own maximum; else all of a layer by the layer's largest.
    Source: Anand et al., 2.3.2: "pass these feature maps as input images to a new model with the same architecture".
    """
    chain, rng = chain_of(backbone, layers), np.random.default_rng(seed)
    kept, labels = [], []
    for part in dataset.module_iter(batch, backbone.preprocessing, labels=False):
        found = [maps.asnumpy() for maps, _ in zip((maps for _, maps in chain.run(part.data[0])), chain.exits[:-1])]
        for i, label in enumerate(dataset.targets[part.index]):
            pictures = _alive([maps[i] for maps in found], scaled, [maps.max() for maps in found])
            chosen = range(len(pictures)) if per_image is None else rng.permutation(len(pictures))[:per_image]
            kept += [_picture(pictures[number], size) for number in chosen]
            labels += [label] * len(chosen)
    if not kept:
        raise InputError(f"all maps of {', '.join(chain.exits[:-1])} are dead: the network learns nothing from them")
    return Dataset(ArraySource(np.stack(kept), f"{dataset.name}/maps"), np.array(labels), dataset.classes,
                   f"{dataset.name} maps")


def _alive(maps, scaled, largest):
    """One image's maps of all layers, those that are not dead, each brought to 0..1; a list of (h, w)."""
    return [np.maximum(one, 0) / ((one.max() if scaled else most) or 1) for layer, most in zip(maps, largest)
            for one in layer[~dead(layer)] if one.max() > 0]


def _picture(one, size):
    cv2 = require_cv2()
    return np.round(255 * np.minimum(cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR), 1)).astype(np.uint8)
