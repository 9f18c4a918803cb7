"""GUNN-15 as the report draws it, the original's GUNN-15 and GUNN-18, and their simultaneous controls (SUNN).

A network is a list of named blocks, run in order. Its outputs are the scores before the last softmax, which is part
of the loss. `summary` makes the table of the report's figure 6.
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mxelm.backbones.gluon import count_parameters, save_block
from mxelm.errors import InputError, require_choice, require_whole
from mxelm.gunn.fast import FastGunn2D
from mxelm.gunn.layer import Gunn2D, Sunn2D, Tensor
from mxelm.gunn.original import FastOriginalGunn, OriginalGunn, OriginalSunn
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet

if TYPE_CHECKING:
    from mxelm.preprocessing import Preprocessing

HEADS = ("as-published", "plain")
LAYERS = {"step-by-step": Gunn2D, "fast": FastGunn2D, "sunn": Sunn2D}
ORIGINAL_LAYERS = {"step-by-step": OriginalGunn, "fast": FastOriginalGunn, "sunn": OriginalSunn}
HE_NORMAL = {"factor_type": "out", "slope": 0}  # fan-out, as Torch's residual networks are


class Network(mx.gluon.HybridBlock):
    """Blocks in order, (name, block) each: images float32 (batch, *shape) -> scores (batch, classes).

    stride: if the network takes images of other sizes too, their height and width are multiples of `stride`.
    Raises InputError for images of another shape (channels, height, width).
    """

    def __init__(self, blocks: Iterable[tuple[str, mx.gluon.Block]], shape: tuple[int, int, int],
                 stride: int | None = None) -> None:
        super().__init__(prefix="")
        self.shape, self.stride = shape, stride
        for name, block in blocks:
            self.register_child(block, name)

    def forward(self, x: Tensor, *args: Tensor) -> Tensor:
        if isinstance(x, mx.nd.NDArray) and not self.takes(x.shape):
            sizes = f", or of multiples of {self.stride} pixels," if self.stride else ""
            raise InputError(f"the network takes images of shape {self.shape}{sizes} in batches, got {x.shape}")
        return super().forward(x, *args)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether images of `shape`, (batch, channels, height, width), can go through."""
        if self.stride and len(shape) == 4:
            return shape[1] == self.shape[0] and all(side > 0 and side % self.stride == 0 for side in shape[2:])
        return shape[1:] == self.shape

    def hybrid_forward(self, F: ModuleType, x: Tensor) -> Tensor:
        for block in self._children.values():
            x = block(x)
        return x


class SoftmaxDense(mx.gluon.nn.Dense):
    """A dense layer whose activation is softmax: what the report's code has where ReLU is customary."""

    def hybrid_forward(self, F: ModuleType, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.softmax(super().hybrid_forward(F, x, weight, bias))


class Flatten(mx.gluon.HybridBlock):
    """(batch, n, 1, 1) -> (batch, n), the features, under the name that checkpoints are cut at."""

    def __init__(self) -> None:
        super().__init__(prefix="")  # any other prefix would change that name

    def hybrid_forward(self, F: ModuleType, x: Tensor) -> Tensor:
        return F.Flatten(x, name="flatten")


def save(network: mx.gluon.HybridBlock, prefix: str | os.PathLike, preprocessing: Preprocessing, classes: Sequence[str],
         **source: Any) -> None:
    """Write an ordinary checkpoint: PREFIX-symbol.json, PREFIX-0000.params and PREFIX.json; its outputs are scores.

    The report calls this impossible (section 6), but `mx.model.load_checkpoint`, SymbolBlock and `backbones.load` read
    it. The fast and the step-by-step layer have the same parameters. Raises as `backbones.gluon.save_block`.
    """
    save_block(network, prefix, preprocessing, classes, features="flatten_output", **source)


def gunn15(classes: int, *, head: Literal["as-published", "plain"] = "as-published",
           layer: Literal["step-by-step", "fast", "sunn"] = "fast", momentum: float = 0.99, seed: int = 0) -> Network:
    """The report's GUNN-15 for 32x32 images, initialised from `seed`; 775,334 parameters for 3 classes.

    head: "as-published" (softmax between the dense layers, as in the report's code) or "plain" (ReLU there).
    layer: "step-by-step", "fast" (the same function) or "sunn" (the control). momentum: of BatchNorm's running
    statistics; with Keras's 0.99 they are still 37 % initial values after 100 steps.
    Raises InputError for other words, fewer than two classes and a momentum outside 0..1. Source:
    Radhakrishnan, figures 4 to 6.
    """
    _check(classes, layer, head)
    if not 0 <= momentum < 1:
        raise InputError(f"momentum is a share from 0 to less than 1, got {momentum}")
    dense = SoftmaxDense if head == "as-published" else lambda units, prefix: mx.gluon.nn.Dense(
        units, "relu", prefix=prefix)
    gunn, conv = LAYERS[layer], _Convolutions(use_bias=True, momentum=momentum, epsilon=1e-3)
    blocks = [
        *conv(64, 3), *conv(240, 1), ("gunn2d", gunn(240, prefix="gunn2d_")),
        *conv(300, 1), _pool("avg_pool1", 2), ("gunn2d_1", gunn(300, prefix="gunn2d_1_")),
        *conv(360, 1), _pool("avg_pool2", 2), ("gunn2d_2", gunn(360, prefix="gunn2d_2_")),
        *conv(360, 1), _pool("avg_pool3", 8), ("flatten", Flatten()),
        ("fc1", dense(360, prefix="fc1_")), ("fc2", dense(360, prefix="fc2_")),
        ("fc3", mx.gluon.nn.Dense(classes, prefix="fc3_"))]
    return _initialised(Network(blocks, (3, 32, 32)), mx.init.Xavier("uniform", "avg", 3), seed)  # Glorot, uniform


def original_gunn15(classes: int, *, layer: Literal["step-by-step", "fast", "sunn"] = "fast", seed: int = 0) -> Network:
    """The original's GUNN-15 for 32x32 images: 1,585,746 trainable parameters for 10 classes, 1,618,236 for 100.

    Its last pooling takes the mean of all places, so that smaller images can go through too (multiples of 4 pixels).
    layer: "step-by-step", "fast" (the same function) or "sunn" (the control).
    Raises InputError for other words and for fewer than two classes. Source: Qiao et al., models/gunn-15.lua.
    """
    _check(classes, layer)
    gunn, conv, K = ORIGINAL_LAYERS[layer], _Convolutions(), 12
    blocks = [
        *conv(64, 3), *conv(240, 1), ("gunn1", gunn(240, K, prefix="gunn1_")),
        *conv(300, 1), _pool("avg_pool1", 2), ("gunn2", gunn(300, K, prefix="gunn2_")),
        *conv(360, 1), _pool("avg_pool2", 2), ("gunn3", gunn(360, K, prefix="gunn3_")),
        *conv(360, 1), ("avg_pool3", mx.gluon.nn.GlobalAvgPool2D()), ("flatten", Flatten()),
        ("fc", _linear(360, classes))]
    return _initialised(Network(blocks, (3, 32, 32), stride=4), mx.init.MSRAPrelu(**HE_NORMAL), seed)


def original_gunn18(classes: int = 1000, *, layer: Literal["step-by-step", "fast", "sunn"] = "fast",
                    seed: int = 0) -> Network:
    """The original's GUNN-18 for 224x224 images: 28,909,736 trainable parameters for 1,000 classes.

    Its layers have no shortcut convolution. Raises as `original_gunn15`. Source: Qiao et al., models/gunn-18.lua.
    """
    _check(classes, layer)
    conv, K = _Convolutions(), 40

    def gunn(number, n):
        return f"gunn{number}", ORIGINAL_LAYERS[layer](n, K, shortcut=False, prefix=f"gunn{number}_")

    blocks = [
        *conv(64, 7, stride=2), ("max_pool", mx.gluon.nn.MaxPool2D(3, 2, 1)), *conv(400, 1), gunn(1, 400),
        *conv(800, 1), _pool("avg_pool1", 2), gunn(2, 800), *conv(1600, 1), _pool("avg_pool2", 2), gunn(3, 1600),
        *conv(2000, 1), _pool("avg_pool3", 2), gunn(4, 2000), _pool("avg_pool4", 7),
        ("flatten", Flatten()), ("fc", _linear(2000, classes))]
    return _initialised(Network(blocks, (3, 224, 224)), mx.init.MSRAPrelu(**HE_NORMAL), seed)


def summary(network: Network) -> list[dict]:
    """A row a block, dicts of layer, output shape (without the batch) and parameters; the first row is the input.

    Output shapes are of one image; of a network that was hybridized they are the same.
    """
    x = mx.nd.zeros((1, *network.shape))
    rows = [{"layer": "input_1", "output": network.shape, "parameters": 0}]
    for name, block in network._children.items():
        x = block(x)
        rows.append({"layer": name, "output": x.shape[1:], "parameters": count_parameters(block)["total"]})
    return rows


class _Convolutions:
    """Makes convolution, BatchNorm, ReLU with the names of figure 6: z1, bn1, activation, z2, bn2, activation_1 ..."""

    def __init__(self, use_bias=False, momentum=0.9, epsilon=1e-5):
        self.use_bias, self.momentum, self.epsilon, self.made = use_bias, momentum, epsilon, 0

    def __call__(self, channels, size, stride=1):
        nn = mx.gluon.nn
        activation = f"activation_{self.made}" if self.made else "activation"
        self.made += 1
        z, bn = f"z{self.made}", f"bn{self.made}"
        yield z, nn.Conv2D(channels, size, stride, size // 2, use_bias=self.use_bias, prefix=f"{z}_")
        yield bn, nn.BatchNorm(momentum=self.momentum, epsilon=self.epsilon, prefix=f"{bn}_")
        yield activation, nn.Activation("relu")


def _pool(name, size):
    return name, mx.gluon.nn.AvgPool2D(size)


def _linear(n, classes):
    """The last layer, which keeps Torch's initial weights."""
    return mx.gluon.nn.Dense(classes, weight_initializer=mx.init.Uniform(n ** -0.5), prefix="fc_")


def _check(classes, layer, head="plain"):
    require_whole("classes", classes, least=2)
    require_choice("layer", layer, LAYERS)
    require_choice("head", head, HEADS)


def _initialised(network, initializer, seed):
    """Initial values from `seed` alone; biases zero, gammas one, but where a block says otherwise."""
    require_whole("seed", seed, 0, (1 << 32) - 1)
    seed_mxnet(seed)
    np.random.seed(seed)  # MXNet's initialisers draw from both
    network.initialize(initializer)
    network(mx.nd.zeros((1, *network.shape)))  # the deferred shapes
    return network
