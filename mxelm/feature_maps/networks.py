"""The network that the paper's questions are asked of: small, convolutional, with maps that one can look at."""
from __future__ import annotations

from collections.abc import Sequence

from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

PREPROCESSING = Preprocessing((28, 28), "stretch", interpolation="area", scale=1 / 255, channel_order="GREY")


def network(n_classes: int, *, channels: Sequence[int] = (16, 32, 64),
            mean: bool = True) -> mx.gluon.nn.HybridSequential:
    """3x3 convolutions of these widths, each with BatchNorm and ReLU, 2x2 max-pooling between them. Not initialised.

    mean: the means of the last maps go into one dense layer, so that what decides is half of their V; else the maps go
    into it whole, after a max-pooling as the others have.
    Images (batch, any channels, h, w) -> scores (batch, n_classes). Layer i gives the outputs "conv<i>_fwd" and, after
    its ReLU, "relu<i>_fwd", i from 1. Source: Anand et al., section 2.3.1, which leaves the network open.
    """
    nn = mx.gluon.nn
    made = nn.HybridSequential(prefix="")
    for i, width in enumerate(channels, 1):
        made.add(nn.Conv2D(width, 3, padding=1, use_bias=False, prefix=f"conv{i}_"), nn.BatchNorm(prefix=f"bn{i}_"),
                 nn.Activation("relu", prefix=f"relu{i}_"))
        last = mean and i == len(channels)
        made.add(nn.GlobalAvgPool2D(prefix="mean_") if last else nn.MaxPool2D(2, prefix=f"pool{i}_"))
    made.add(nn.Dense(n_classes, prefix="scores_"))
    return made
