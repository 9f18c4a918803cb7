"""The fused graph as a Symbol: the ELM's hidden layer and outer products as layers of the pre-trained network.

Source: Arcada, section 3. H = tanh(XW); the graph ends in A* = HᵀH and B* = HᵀY of one batch.
"""
from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from mxelm.backbones import Backbone
from mxelm.graphs import bind, nodes, renamed
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.fused.projection import Projection

_NAMES = {"W", "Y", "beta", "intercept", "elm_projection", "elm_hidden", "elm"}


def fuse(features: mx.sym.Symbol, n_neurons: int) -> mx.sym.Symbol:
    """The paper's listing, literally: a Group of HᵀH and HᵀY of one batch.

    features: Symbol X, outputs (batch, n_features). The graph takes `data` and `Y` (batch, n_outputs) and has one
    parameter more than the network, W of shape (n_neurons, n_features), as FullyConnected stores it; outputs are
    (n_neurons, n_neurons) and (n_neurons, n_outputs). (The listing's first line prints `w` for W: a slip.)
    Source: Arcada, section 3; section 2, steps 1-3.
    """
    W = mx.sym.Variable("W")
    Y = mx.sym.Variable("Y")
    XW = mx.sym.FullyConnected(features, weight=W, num_hidden=n_neurons, no_bias=True)
    H = mx.sym.tanh(XW)
    HH = mx.sym.linalg_syrk(A=H, transpose=True, name="HtH")
    HY = mx.sym.dot(lhs=H, rhs=Y, transpose_a=True)
    return mx.sym.Group([HH, HY])


def hidden_layer(features: mx.sym.Symbol, n_neurons: int) -> mx.sym.Symbol:
    """H = tanh(XW) alone, (batch, n_neurons): what the default method takes out of the graph. Source: step 1."""
    W = mx.sym.Variable("W")
    XW = mx.sym.FullyConnected(features, weight=W, num_hidden=n_neurons, no_bias=True, name="elm_projection")
    return mx.sym.tanh(XW, name="elm_hidden")


def predictor(features: mx.sym.Symbol, n_neurons: int, n_outputs: int, *, intercept: bool = False) -> mx.sym.Symbol:
    """The trained network, image -> scores: beta as one more layer over H, outputs (batch, n_outputs).

    FullyConnected rather than dot, since a bare Module must be able to infer beta's shape (n_outputs, n_neurons).
    intercept: add a parameter of that name, (n_outputs,), to the scores.
    """
    given = {"bias": mx.sym.Variable("intercept")} if intercept else {"no_bias": True}
    H = hidden_layer(features, n_neurons)
    return mx.sym.FullyConnected(H, weight=mx.sym.Variable("beta"), num_hidden=n_outputs, name="elm", **given)


def bind_symbol(backbone: Backbone, projection: Projection, batch: int, *,
                n_outputs: int | None = None) -> mx.mod.Module:
    """A Module of H, or of the printed graph where n_outputs (columns of Y) is given, W among its parameters.

    Source: Arcada, section 3: "fixed hidden matrix W is added to pre-trained model parameter".
    """
    shapes = {"data": (batch, *backbone.preprocessing.shape)}
    if n_outputs is not None:
        shapes["Y"] = (batch, n_outputs)
    layer = hidden_layer if n_outputs is None else fuse
    arg_params, aux_params = backbone.feature_params()
    return bind(layer(backbone.features, projection.n_neurons), shapes,
                {**arg_params, "W": mx.nd.array(projection.W)}, aux_params, ctx=backbone.ctx)


def apart(backbone: Backbone) -> Backbone:
    """The same Backbone under names that are not the ELM's: those of an ELM within it get a number."""
    names = {node.name for node in nodes(backbone.features)[0]}
    number = next(i for i in count(1) if not names & {f"{name}_{i}" for name in _NAMES})
    new = {name: f"{name}_{number}" for name in _NAMES & names}
    if not new:
        return backbone
    params = [{new.get(name, name): array for name, array in part.items()} for part in backbone.feature_params()]
    return Backbone(backbone.name, renamed(backbone.features, new), *params, backbone.preprocessing, cut=None,
                    classes=backbone.classes, source=backbone.source, ctx=backbone.ctx)
