"""The fused graph in Gluon: the same layers, names and numbers as `mxelm.fused.symbol`, as a HybridBlock.

`FusedELM` is Arcada's listing once more, with F for mx.sym: traced to a Symbol it is the graph of `fuse`, node for
node. It runs as it stands, hybridized, exported, or with the fused backend, `optimize_for(..., backend="MKLDNN")`:
then bit for bit as a Module does, for inference only (MXNet 1.9.1 lets one train such a block, and every gradient is
zero). Source: Arcada, sections 2 and 3.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mxelm.backbones.checkpoint import save_checkpoint
from mxelm.backbones.gluon import as_block
from mxelm.graphs import keeps_numbers
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.fused.projection import Projection


class HiddenLayer(mx.gluon.HybridBlock):
    """H = tanh(XW), float32 (batch, n_neurons), of images x (batch, channels, height, width).

    features: HybridBlock, x -> X (batch, n_features). W is its one parameter of its own, (n_neurons, n_features).
    Source: Arcada, section 2, step 1.
    """

    inputs = ("data",)

    def __init__(self, features: mx.gluon.Block, n_neurons: int) -> None:
        super().__init__(prefix="")  # W is called W, as in the listing, and not hiddenlayer0_W
        self.n_neurons = n_neurons
        self.features = features
        self.W = self.params.get("W", allow_deferred_init=True)

    def hybrid_forward(self, F: ModuleType, x: Any, W: Any) -> Any:
        X = self.features(x)
        XW = F.FullyConnected(X, weight=W, num_hidden=self.n_neurons, no_bias=True, name="elm_projection")
        return F.tanh(XW, name="elm_hidden")

    def trace(self) -> mx.sym.Symbol:
        """The block as a Symbol over its inputs: the graph of `hidden_layer`, or of `fuse`."""
        outputs = self(*map(mx.sym.var, self.inputs))
        return outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(outputs)

    def export(self, path: str | os.PathLike, epoch: int = 0) -> None:
        """Write the checkpoint PATH-symbol.json, PATH-0000.params and PATH.json (hashes), for every user of MXNet.

        Unlike Gluon's own export it needs no first batch, keeps the inputs' names (data and Y, not data0 and data1),
        and writes the plain graph of a block that was optimized for one backend. Raises FileError where nothing could
        be written.
        """
        symbol = self.trace()
        values = {name: parameter.list_data()[0] for name, parameter in self.collect_params().items()}
        aux_params = {name: values.pop(name) for name in symbol.list_auxiliary_states()}
        save_checkpoint(path, symbol, values, aux_params, {}, epoch=epoch)


class FusedELM(HiddenLayer):
    """HᵀH (n_neurons, n_neurons) and HᵀY (n_neurons, n_outputs) of one batch, as printed.

    Takes images x (batch, channels, height, width) and targets Y (batch, n_outputs), both float32.
    Source: Arcada, section 3; section 2, steps 1-3.
    """

    inputs = ("data", "Y")

    def hybrid_forward(self, F: ModuleType, x: Any, Y: Any, W: Any) -> tuple:
        H = super().hybrid_forward(F, x, W)
        HH = F.linalg_syrk(A=H, transpose=True, name="HtH")
        HY = F.dot(lhs=H, rhs=Y, transpose_a=True)
        return HH, HY


def twin(layer: type, backbone: Backbone, projection: Projection) -> HiddenLayer:
    """`layer` (HiddenLayer or FusedELM) behind a backbone, all parameters set and fixed; not hybridized yet."""
    block = layer(as_block(backbone), projection.n_neurons)
    block.W.shape = projection.W.shape
    block.collect_params().setattr("grad_req", "null")
    block.W.initialize(mx.init.Constant(mx.nd.array(projection.W)), ctx=backbone.ctx)
    return block


class GluonModel:
    """A hybridized twin with the calls of a Module that the accumulators make: forward(batch) and get_outputs()."""

    def __init__(self, block: mx.gluon.HybridBlock, ctx: mx.Context, shapes: Sequence[tuple[int, ...]]) -> None:
        """shapes: those of the inputs for a usual batch; other numbers of rows may come."""
        self.block, self.ctx, self._outputs = block, ctx, None
        allocation = {"static_alloc": True, "static_shape": True}
        if ctx.device_type == "cpu" and keeps_numbers(block.trace()):
            block.optimize_for(*(mx.nd.zeros(shape, ctx) for shape in shapes), backend="MKLDNN", **allocation)
        else:
            block.hybridize(**allocation)

    def forward(self, batch: mx.io.DataBatch, is_train: bool = False) -> None:
        """Start computing the outputs for batch.data, a list of NDArrays; nothing waits here."""
        inputs = [array.as_in_context(self.ctx).astype("float32", copy=False) for array in batch.data]
        with mx.autograd.pause(train_mode=is_train):  # a caller's autograd.record() would switch BatchNorm over
            outputs = self.block(*inputs)
        self._outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def get_outputs(self) -> list[mx.nd.NDArray]:
        """Outputs of the last batch, a list of NDArrays."""
        return self._outputs


def bind_gluon(backbone: Backbone, projection: Projection, batch: int, *, n_outputs: int | None = None) -> GluonModel:
    """A GluonModel of H, or of the printed graph where n_outputs (columns of Y) is given."""
    layer = HiddenLayer if n_outputs is None else FusedELM
    shapes = [(batch, *backbone.preprocessing.shape)] + ([] if n_outputs is None else [(batch, n_outputs)])
    return GluonModel(twin(layer, backbone, projection), backbone.ctx, shapes)
