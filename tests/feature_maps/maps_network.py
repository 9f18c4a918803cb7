"""A small classifier with random weights, and images for it, for the tests of feature maps."""
import numpy as np

from mxelm.backbones.gluon import from_block
from mxelm.data import Dataset
from mxelm.data.sources import ArraySource
from mxelm.feature_maps import network
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet

PREPROCESSING = Preprocessing((12, 12), "stretch", scale=1 / 255, channel_order="GREY")
LAYERS = ["relu1_fwd_output", "relu2_fwd_output"]


def block(n_classes=3, seed=0):
    seed_mxnet(seed)
    made = network(n_classes, channels=(4, 6))
    made.initialize(mx.init.Xavier())
    return made


def backbone(n_classes=3, seed=0):
    return from_block(block(n_classes, seed), PREPROCESSING, name="small")


def images(n=60, n_classes=3, seed=0):
    """Noisy images of one pattern a class."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).integers(0, 200, (n_classes, 12, 12))
    y = np.arange(n) % n_classes
    pixels = (patterns[y] + rng.integers(0, 40, (n, 12, 12))).astype(np.uint8)
    return Dataset(ArraySource(pixels, f"noise{seed}"), y, [f"class{c}" for c in range(n_classes)], "noise")
