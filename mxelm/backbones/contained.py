"""A backbone as part of a container: what its features need, as entries of the file's metadata and as arrays."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mxelm.backbones.backbone import Backbone
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

KINDS = ("arg", "aux")


def pack(backbone: Backbone) -> tuple[dict, dict[str, np.ndarray]]:
    """(metadata, arrays) that `unpack` makes the backbone of again, cut at its features.

    metadata: JSON-able dict of name, symbol and preprocessing; arrays: "arg.NAME" and "aux.NAME" of the parameters.
    """
    arrays = {f"{kind}.{name}": array.asnumpy()
              for kind, params in zip(KINDS, backbone.feature_params()) for name, array in params.items()}
    return {"name": backbone.name, "symbol": backbone.features.tojson(),
            "preprocessing": backbone.preprocessing.to_json()}, arrays


def unpack(metadata: Mapping, arrays: Mapping[str, np.ndarray]) -> Backbone:
    """The Backbone among a container's metadata and arrays; other entries are left alone.

    Raises KeyError for a missing entry, InputError for parameters that do not fit, MXNetError for no graph.
    """
    params = [{name[len(kind) + 1:]: mx.nd.array(array) for name, array in arrays.items()
               if name.startswith(f"{kind}.")} for kind in KINDS]
    return Backbone(metadata["name"], mx.sym.load_json(metadata["symbol"]), *params,
                    Preprocessing.from_json(metadata["preprocessing"]), cut=None)
