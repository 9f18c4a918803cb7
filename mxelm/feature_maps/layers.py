"""Which layers a network has, and their maps of images."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mxelm.chain import Chain
from mxelm.errors import InputError
from mxelm.graphs import nodes

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.runtime import mx


def conv_layers(symbol: mx.sym.Symbol) -> list[str]:
    """Names of the outputs of all convolutions of a Symbol, in the order of computation."""
    return [f"{node.name}_output" for node in nodes(symbol)[0] if node.op == "Convolution"]


def chain_of(backbone: Backbone, layers: Sequence[str] | None = None) -> Chain:
    """The backbone as a Chain that stops at each of `layers`, names of layers or outputs; None: at every convolution.

    Raises InputError for a layer that does not exist, the same one twice, and a network without convolutions.
    """
    layers = conv_layers(backbone.features) if layers is None else list(layers)
    if not layers:
        raise InputError(f"{backbone.name} has no convolution before {backbone.cut or 'its end'}: name its layers")
    place = {name: i for i, name in enumerate(backbone.features.get_internals().list_outputs())}
    return Chain(backbone, sorted(layers, key=lambda name: place.get(name, place.get(f"{name}_output", -1))))


def maps_of(backbone: Backbone, x: np.ndarray | mx.nd.NDArray,
            layers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Maps by layer's output: name -> float32 (n, channels, height, width), or (n, d) of a layer that has no maps.

    x: preprocessed images, float32 (n, channels, height, width). layers: as in `chain_of`.
    """
    chain, found = chain_of(backbone, layers), {}
    for layer, maps in chain.run(x):
        if len(found) == len(chain.exits) - 1:  # the backbone's own output was not asked for
            break
        found[layer] = np.array(maps.asnumpy())
    return found


def filters_of(backbone: Backbone, layer: str) -> np.ndarray | None:
    """The weights float32 (outputs, inputs, kh, kw) of the convolution that gives output `layer`; None for no such."""
    for node in nodes(backbone.features)[0]:
        if node.op == "Convolution" and f"{node.name}_output" == layer:
            producer = nodes(backbone.features)[0][node.inputs[1][0]]
            weights = backbone.arg_params[producer.name].asnumpy()
            return weights if weights.ndim == 4 else None
    return None


def require_finite(rows: np.ndarray, layer: str, ids: Sequence[str]) -> None:
    """Raise InputError, naming the first image, for rows (n, ...) of a layer that hold NaN or infinite numbers."""
    bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))
    if len(bad):
        raise InputError(f"the maps of {layer} are not finite for {ids[bad[0]]} ({len(bad)} of {len(rows)} images): "
                         "check the network's weights and preprocessing")
