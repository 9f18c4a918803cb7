"""The talk's optional first step: a linear head on every exit, and the whole network trained through all of them."""
from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from mxelm.backbones import Backbone
from mxelm.early_exit.heads import Linear
from mxelm.graphs import segments
from mxelm.runtime import mx


class HeadsOnAllExits(mx.gluon.HybridBlock):
    """A backbone with pooled means, L2 norm and a Dense layer at each exit; gives M scores (batch, n_classes).

    exits: as mxelm.chain.Chain takes them. The backbone's parameters are copied, and train on.
    Source: Savchenko, Algorithm 2, line 1, on the features of "Adaptive CNNs".
    """

    def __init__(self, backbone: Backbone, exits: Sequence[str], n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        internals = backbone.features.get_internals()
        ends = [internals[segment.exit] for segment in segments(backbone.features, exits)[:-1]]
        arg_params, aux_params = backbone.feature_params()
        with self.name_scope():
            self.body = mx.gluon.SymbolBlock(mx.sym.Group([*ends, backbone.features]), mx.sym.var("data"))
            self.body.collect_params().load_dict({**arg_params, **aux_params}, backbone.ctx)
            self.heads = mx.gluon.nn.HybridSequential()
            for _ in range(len(ends) + 1):
                self.heads.add(mx.gluon.nn.HybridSequential())
                if len(self.heads) <= len(ends):
                    self.heads[-1].add(mx.gluon.nn.GlobalAvgPool2D())
                self.heads[-1].add(mx.gluon.nn.HybridLambda("L2Normalization"), mx.gluon.nn.Dense(n_classes))
        self.heads.initialize(mx.init.Xavier(), ctx=backbone.ctx)

    def hybrid_forward(self, F: ModuleType, x: mx.nd.NDArray) -> list[mx.nd.NDArray]:
        return [head(maps) for head, maps in zip(self.heads, self.body(x))]

    def begin(self, heads: Sequence[Linear]) -> None:
        """Let the heads begin as linear ones of the same features, so that no random ones spoil the backbone first."""
        for block, head in zip(self.heads, heads):
            block[-1].weight.set_data(mx.nd.array(head.W))
            block[-1].bias.set_data(mx.nd.array(head.b))

    def freeze(self, layer: str) -> None:
        """Leave the backbone's parameters up to `layer`, an internal output or its layer, as they are."""
        before = {*segments(self.backbone.features, [layer])[0].symbol.list_arguments()}
        for name, parameter in self.body.collect_params().items():
            if name in before:
                parameter.grad_req = "null"

    def trained(self) -> Backbone:
        """The backbone with the parameters as they are now, heads left off: a new Backbone."""
        values = {name: parameter.data().copy() for name, parameter in self.body.collect_params().items()}
        old = self.backbone
        aux = {name: values.pop(name) for name in old.features.list_auxiliary_states()}
        return Backbone(old.name, old.features, values, aux, old.preprocessing, cut=None, ctx=old.ctx,
                        source={**old.source, "trained": "with a linear head on every exit"})


def all_heads(network: HeadsOnAllExits, x: mx.nd.NDArray, y: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """`mxelm.training.fit`'s forward: cross-entropies (batch,) of all exits added up, and the last exit's scores."""
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    scores = network(x)
    return sum(loss(s, y) for s in scores), scores[-1]
