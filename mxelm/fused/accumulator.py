"""The Module-wrapping class that accumulates HᵀH and HᵀY between batches.

Source: Arcada, section 2 step 4, section 3 ("the model is wrapped in a Python class").
"""
from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from mxelm.errors import InputError, require_choice
from mxelm.fused.gluon import bind_gluon
from mxelm.fused.gram import Gram
from mxelm.fused.symbol import apart, bind_symbol
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.fused.projection import Projection
    from mxelm.fused.state import ELMState

Batch = namedtuple("Batch", ["data"])


class PaperAccumulator:
    """As printed: syrk and dot inside the graph, `+=` on float32 NDArrays outside.

    Source: Arcada, section 3. In MXNet 1.9.1 linalg_syrk mirrors its triangle naively and is slower than dot at
    small batches; the rounding of float32 sums grows with the number of batches.
    """

    def __init__(self, bind: Callable, backbone: Backbone, projection: Projection, n_outputs: int, batch: int,
                 *, intercept: bool = False) -> None:
        if intercept:
            raise InputError("the printed method knows no intercept: use method blas")
        self.model = bind(backbone, projection, batch, n_outputs=n_outputs)
        shape = (projection.n_neurons, projection.n_neurons)
        self.HtH = mx.nd.zeros(shape, ctx=backbone.ctx)
        self.HtY = mx.nd.zeros((projection.n_neurons, n_outputs), ctx=backbone.ctx)

    def add(self, data: np.ndarray | mx.nd.NDArray, y: np.ndarray | mx.nd.NDArray,
            weight: np.ndarray | None = None) -> None:
        if weight is not None:
            raise InputError("the printed method knows no weights: use method blas")
        self.model.forward(Batch([mx.nd.array(data), mx.nd.array(y)]))
        HH0, HY0 = self.model.get_outputs()
        self.HtH += HH0
        self.HtY += HY0

    def flush(self) -> None:
        """Nothing waits: every batch is added at once."""

    def restore(self, state: ELMState) -> None:
        self.HtH[:], self.HtY[:] = mx.nd.array(state.HtH), mx.nd.array(state.HtY)

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        return self.HtH.asnumpy().astype(np.float64), self.HtY.asnumpy().astype(np.float64)

    def as_they_stand(self) -> tuple[np.ndarray, np.ndarray, tuple | None]:
        return *self.matrices(), None


class BlasAccumulator:
    """H out of the graph, HᵀH in place into one triangle by BLAS over blocks of rows, in float64.

    The rows of one batch are fetched when the next comes, and a full block is added while MXNet already computes
    that next batch. BLAS is held to one thread meanwhile: two thread teams on the same cores fight.
    """

    def __init__(self, bind: Callable, backbone: Backbone, projection: Projection, n_outputs: int, batch: int,
                 *, intercept: bool = False) -> None:
        self.model = bind(backbone, projection, batch)
        self.intercept = intercept
        self.sums = Gram(projection.n_neurons + intercept, n_outputs, threads=1)
        self.waiting = None  # targets of the batch that MXNet is computing

    def add(self, data: np.ndarray | mx.nd.NDArray, y: np.ndarray | mx.nd.NDArray,
            weight: np.ndarray | None = None) -> None:
        rows = self._fetch()
        self.model.forward(Batch([data if isinstance(data, mx.nd.NDArray) else mx.nd.array(data)]), is_train=False)
        self.waiting = y, weight
        self.sums.add(*rows)

    def _fetch(self):
        """Rows of H and Y of the batch that was computing; a weight w counts as rows times sqrt(w)."""
        if self.waiting is None:
            return (), ()
        (Y, weight), H = self.waiting, self.model.get_outputs()[0].asnumpy()
        self.waiting = None
        if self.intercept:
            H = np.column_stack([H, np.ones(len(H), H.dtype)])
        if weight is None:
            return H, Y
        root = np.sqrt(weight)[:, None]
        return H * root, Y * root

    def flush(self) -> None:
        self.sums.add(*self._fetch())
        self.sums.flush()

    def restore(self, state: ELMState) -> None:
        self.sums.A[:], self.sums.B[:] = state.HtH, state.HtY
        if state.waiting is not None:
            self.sums.add(*state.waiting)

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        self.flush()
        return self.sums.matrices()

    def as_they_stand(self) -> tuple[np.ndarray, np.ndarray, tuple | None]:
        self.sums.add(*self._fetch())
        return self.sums.as_they_stand()


METHODS = {"blas": BlasAccumulator, "paper": PaperAccumulator}
INTERFACES = {"symbol": bind_symbol, "gluon": bind_gluon}


class FusedAccumulator:
    """HᵀH and HᵀY of every batch given to `update`, accumulated behind a backbone; features are never stored.

    backbone: Backbone. projection: Projection (W is fixed before the first update). n_outputs: columns of Y.
    method: "blas" (default: float64 whatever the network computes in) or "paper" (as printed, float32).
    interface: "symbol" (a Module) or "gluon" (the same graph as a hybridized block).
    batch: rows bound at first; any number of rows may come later. intercept: put a column of ones beside H.
    Source: Arcada, section 2 step 4: A <- A + A*, B <- B + B*.
    """

    def __init__(self, backbone: Backbone, projection: Projection, n_outputs: int,
                 *, method: Literal["blas", "paper"] = "blas", batch: int = 32,
                 interface: Literal["symbol", "gluon"] = "symbol", intercept: bool = False) -> None:
        require_choice("method", method, METHODS)
        require_choice("interface", interface, INTERFACES)
        if projection.n_features != backbone.n_features:
            raise InputError(f"W takes {projection.n_features} features, {backbone.name} gives {backbone.n_features}")
        self.projection, self.n_outputs, self.n_samples, self.yty = projection, n_outputs, 0, 0.0
        self._shape = backbone.preprocessing.shape
        self._sums = METHODS[method](INTERFACES[interface], apart(backbone), projection, n_outputs, batch,
                                     intercept=intercept)

    def update(self, data: np.ndarray | mx.nd.NDArray, y: np.ndarray | mx.nd.NDArray,
               weight: np.ndarray | None = None) -> None:
        """Add one batch: data (n, channels, height, width) NDArray or array, y (n, n_outputs) targets.

        weight: (n,) sample weights >= 0, or None.

        Raises InputError, before anything is added, for shapes that do not fit or targets that are not finite.
        """
        # copies: a batch is added when the next one comes, and callers may refill their arrays until then
        y = np.array(y.asnumpy() if isinstance(y, mx.nd.NDArray) else y, np.float32)
        weight = None if weight is None else np.array(weight, np.float64)
        if y.shape != (data.shape[0], self.n_outputs) or tuple(data.shape[1:]) != self._shape:
            raise InputError(f"a batch has data {tuple(data.shape)} and targets {y.shape}; expected (n, "
                             f"{', '.join(map(str, self._shape))}) and (n, {self.n_outputs})")
        if not np.isfinite(y).all():
            raise InputError("a target is NaN or infinite: remove that sample")
        if weight is not None and (weight.shape != (len(y),) or not (np.isfinite(weight) & (weight >= 0)).all()):
            raise InputError(f"weights must be {len(y)} finite numbers >= 0, one a sample")
        if len(y):
            self._sums.add(data, y, weight)
            self.n_samples += len(y)
            squares = np.square(y, dtype=np.float64).sum(axis=1)
            self.yty += float(squares.sum() if weight is None else squares @ weight)

    @property
    def HtH(self) -> np.ndarray:
        """A = HᵀH over all batches so far, float64 (n_neurons, n_neurons), both triangles."""
        return self._sums.matrices()[0]

    @property
    def HtY(self) -> np.ndarray:
        """B = HᵀY over all batches so far, float64 (n_neurons, n_outputs)."""
        return self._sums.matrices()[1]

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """(HtH, HtY) at once."""
        return self._sums.matrices()

    def as_they_stand(self) -> tuple[np.ndarray, np.ndarray, tuple | None]:
        """(HtH, HtY, the rows (H, Y) that wait for their block to fill, or None); they go on waiting."""
        return self._sums.as_they_stand()

    def flush(self) -> None:
        """Add the rows that wait for their block to fill."""
        self._sums.flush()

    def restore(self, state: ELMState) -> None:
        """Go on from the sums of an ELMState."""
        self._sums.restore(state)
        self.n_samples, self.yty = state.n_samples, state.yty
