"""The report's Gunn2D layer, step by step, as one would teach it; `fast.py` computes the same function.

A gradual pass goes over the channels in blocks of K. Step j reads all channels, those before block j already new, and
overwrites block j; all steps of a pass share one kernel and one bias. Three passes, and x added, make the layer.
Source: Radhakrishnan, section 4, figures 2 and 3, and the code behind them (github.com/aishwarya34/
CSC580_PrinciplesOfMachineLearning): neither activation nor BatchNorm between the steps, biases as random as weights.
"""
from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Union

from mxelm.errors import InputError, require_whole
from mxelm.runtime import mx

Tensor = Union[mx.nd.NDArray, mx.sym.Symbol]  # what a layer computes with: values, or a graph while it is traced
STANDARD_DEVIATION = 0.05  # of the layer's initial weights and biases


class GradualLayer(mx.gluon.HybridBlock):
    """What all layers here share: n channels in, n channels out, in blocks of K.

    Raises InputError if K does not divide n, and for x without n channels.
    """

    def __init__(self, n: int, K: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_whole("n, the number of channels,", n)
        require_whole("K, the number of channels a step,", K)
        if n % K:
            raise InputError(f"a gradual layer goes over its channels in blocks of K: {n} channels are not a multiple "
                             f"of K = {K}")
        self.n, self.K, self.m = n, K, n // K

    def forward(self, x: Tensor, *args: Tensor) -> Tensor:
        if isinstance(x, mx.nd.NDArray) and (x.ndim != 4 or x.shape[1] != self.n):
            raise InputError(f"this layer takes (batch, {self.n}, height, width), got {x.shape}")
        return super().forward(x, *args)


class Gunn2D(GradualLayer):
    """y (batch, n, height, width) of x of the same shape: 201 n + 41 parameters with K = 20.

    n: channels. K: channels updated a step (the report's expansion rate; the original's K counts 12 channels a step
    of a layer of 20 to 30 steps, the report's 20 channels make 12 to 18 steps).
    """

    def __init__(self, n: int, K: int = 20, **kwargs: Any) -> None:
        super().__init__(n, K, **kwargs)
        normal = mx.init.Normal(STANDARD_DEVIATION)  # stated for each parameter: biases are drawn too
        for name, shape in (("1", (K, n, 1, 1)), ("2", (K, n, 3, 3)), ("3", (1, n, 1, 1))):
            setattr(self, f"W{name}", self.params.get(f"W{name}", shape=shape, init=normal))
            setattr(self, f"b{name}", self.params.get(f"b{name}", shape=shape[:1], init=normal))

    def hybrid_forward(self, F: ModuleType, x: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, W3: Tensor,
                       b3: Tensor) -> Tensor:
        y = F.relu(self.update(F, x, W1, b1, self.K, 1))
        y = F.relu(self.update(F, y, W2, b2, self.K, 3))
        return self.update(F, y, W3, b3, 1, 1) + x

    def update(self, F: ModuleType, x: Tensor, W: Tensor, b: Tensor, K: int, size: int) -> Tensor:
        """One gradual pass: each block of K channels becomes W * (all channels as they are by then) + b."""
        blocks = split(F, x, self.n // K)
        for j in range(self.n // K):
            blocks[j] = convolved(F, join(F, blocks), W, b, K, size)
        return join(F, blocks)


class Sunn2D(Gunn2D):
    """The control: the same three passes with the same parameters, each updating all channels simultaneously.

    Every step then reads the same input with the same kernel, so all blocks of a pass come out alike.
    """

    def update(self, F: ModuleType, x: Tensor, W: Tensor, b: Tensor, K: int, size: int) -> Tensor:
        return join(F, [convolved(F, x, W, b, K, size)] * (self.n // K))


def split(F: ModuleType, x: Tensor, m: int) -> list[Tensor]:
    """The m blocks of channels of x (batch, m K, height, width), each (batch, K, height, width)."""
    if m == 1:
        return [x]
    return list(F.split(F.reshape(x, shape=(0, -4, m, -1, -2)), num_outputs=m, axis=1, squeeze_axis=True))


def join(F: ModuleType, blocks: Sequence[Tensor]) -> Tensor:
    """The blocks as one array again; by stack, for oneDNN's concat may refuse to go backward (20 channels a block)."""
    return F.reshape(F.stack(*blocks, axis=1), shape=(0, -3, -2))


def convolved(F: ModuleType, x: Tensor, W: Tensor, b: Tensor | None, n_filters: int, size: int) -> Tensor:
    """W * x + b with "same" padding; b may be None."""
    arguments = (x, W) if b is None else (x, W, b)
    return F.Convolution(*arguments, kernel=(size, size), pad=(size // 2, size // 2), num_filter=n_filters,
                         no_bias=b is None)
