"""The network that the paper's questions are asked of: small, convolutional, with maps that one can look at."""
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

PREPROCESSING = Preprocessing((28, 28), "stretch", interpolation="area", scale=1 / 255, channel_order="GREY")


def network(n_classes, *, channels=(16, 32, 64)) -> "mx.gluon.nn.HybridSequential":
    """A 3x3 convolution with ReLU and 2x2 max-pooling for each of `channels`, then one dense layer; not initialised.

    Images (batch, any channels, h, w) -> scores (batch, n_classes). Layer i gives the outputs "conv<i>_fwd" and, after
    its ReLU, "relu<i>_fwd", i from 1. Source: the minimal models of Anand et al., section 2.3.1, which leave it open.
    """
    nn = mx.gluon.nn
    made = nn.HybridSequential(prefix="")
    for i, width in enumerate(channels, 1):
        made.add(nn.Conv2D(width, 3, padding=1, prefix=f"conv{i}_"), nn.Activation("relu", prefix=f"relu{i}_"),
                 nn.MaxPool2D(2, prefix=f"pool{i}_"))
    made.add(nn.Flatten(prefix="flatten_"), nn.Dense(n_classes, prefix="scores_"))
    return made
