"""The cached images that are most like an image: the paper's future scope, for pictures and for sounds alike."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mxelm.backbones import Backbone
from mxelm.errors import InputError
from mxelm.feature_maps.cache import Cache
from mxelm.feature_maps.layers import chain_of, maps_of, require_finite
from mxelm.neighbours import nearest
from mxelm.pooling import mean_and_deviation


class Likeness(NamedTuple):
    """A cached image: its id, the name of its class, and D between its descriptor and the query's."""

    id: str
    label: str
    distance: float


def similar(cache: Cache, backbone: Backbone, image: np.ndarray, *, k: int = 9,
            layer: str | None = None) -> list[Likeness]:
    """The k cached images whose maps are nearest to those of `image`, nearest first, a list of Likeness.

    image: uint8 (h, w[, 3]) of any size that the network's preprocessing takes. layer: whose maps; None takes the
    cache's last. Raises InputError for an image whose maps are all zero, which is like nothing; FileError for a cache
    of another network or preprocessing. Source: Anand et al., section 5.
    """
    layer = list(cache.descriptors)[-1] if layer is None else layer
    if layer not in cache.descriptors:
        raise InputError(f"the cache has no layer {layer!r}; it has {', '.join(cache.descriptors)}")
    cache.require_network(chain_of(backbone, cache.descriptors))
    V = mean_and_deviation(maps_of(backbone, backbone.preprocessing(image)[None], [layer])[layer])
    require_finite(V, layer, ["the image"])
    if not V.any():
        raise InputError(f"the maps of {layer} are all zero for this image: it is like nothing in the cache")
    distances, numbers = nearest(V, cache.descriptors[layer], min(k, len(cache.labels)), metric="cosine")
    return [Likeness(cache.ids[n], cache.classes[cache.labels[n]], float(d)) for d, n in zip(distances[0], numbers[0])]
