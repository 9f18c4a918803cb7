"""The six networks of the talk, which differ in their dense layers, and what each of them weighs."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxelm.backbones.gluon import count_parameters
from mxelm.errors import require_choice
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.knn_slicing.kernels import Kernels

PREPROCESSING = Preprocessing((28, 28), "stretch", interpolation="area", scale=1 / 255, channel_order="GREY")
NAMES = ("128", "64", "32", "16", "8", "knn")


class TalkNetwork(mx.gluon.nn.HybridSequential):
    """3x3x32 and 3x3x64 convolutions with ReLU and 2x2 max-pooling, without padding, then dense layers.

    Images (batch, 1, 28, 28) -> scores (batch, 10), or, without a dense layer, the 1,600 features.
    neurons: of the first dense layer, or None for none. pool_first: whether conv1 is pooled too. filters: numbers
    of kernels of the two convolutions, if they are not the talk's.
    Children, in order: conv1, pool1 (where there is one), conv2, pool2, flatten, dense1, dense2.
    Source: Radu, slides on experiments; the shapes are those that give the printed parameter counts.
    """

    def __init__(self, neurons: int | None, pool_first: bool, filters: tuple[int, int] = (32, 64),
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        nn, (f1, f2) = mx.gluon.nn, filters
        flat = f2 * 5 * 5 if pool_first else f2 * 12 * 12
        with self.name_scope():
            self.conv1 = nn.Conv2D(f1, 3, in_channels=1, activation="relu", prefix="conv1_")
            if pool_first:
                self.pool1 = nn.MaxPool2D(2, prefix="pool1_")
            self.conv2 = nn.Conv2D(f2, 3, in_channels=f1, activation="relu", prefix="conv2_")
            self.pool2 = nn.MaxPool2D(2, prefix="pool2_")
            self.flatten = nn.Flatten(prefix="flatten_")
            if neurons:
                self.dense1 = nn.Dense(neurons, in_units=flat, activation="relu", prefix="dense1_")
                self.dense2 = nn.Dense(10, in_units=neurons, prefix="dense2_")


def network(name: str) -> TalkNetwork:
    """The network of one row of the talk's table: "128", "64", "32", "16", "8" (neurons) or "knn" (no dense layer).

    "128" pools after conv2 alone, as its 1.2 million parameters show; the others pool twice. Not initialised.
    Raises InputError for another name.
    """
    require_choice("the talk's network", name, NAMES)
    return TalkNetwork(None if name == "knn" else int(name), pool_first=name != "128", prefix="net_")


def from_kernels(kernels: Kernels) -> TalkNetwork:
    """The "knn" network with the weights of a Kernels, of any number of filters: images -> features."""
    made = TalkNetwork(None, pool_first=True, filters=(len(kernels.conv1), len(kernels.conv2)), prefix="net_")
    made.initialize()
    for layer, weight, bias in ((made.conv1, kernels.conv1, kernels.bias1), (made.conv2, kernels.conv2, kernels.bias2)):
        layer.weight.set_data(mx.nd.array(weight))
        layer.bias.set_data(mx.nd.array(bias))
    return made


def engine_bytes(net: mx.gluon.Block) -> dict[str, int]:
    """Size of an initialised network's weights: {"saved": bytes of MXNet's own file, "raw": four a parameter}."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.params"
        net.save_parameters(str(path))
        return {"saved": path.stat().st_size, "raw": 4 * count_parameters(net)["total"]}
