"""Inception21k: the Inception-BN of 21,841 classes of dmlc's mxnet-model-gallery (imagenet-21k-inception), as a Symbol.

Layers, names and widths are those of MXNet's example/image-classification/symbol_inception-bn-full.py, as it was when
the weights were trained (October 2015). At that time pooling rounded its output size up; MXNet has rounded down since
July 2016 (apache/mxnet #2585, #2718), so the four poolings where this matters say pooling_convention="full".
"""
from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

NUM_CLASSES = 21841
INPUT_SHAPE = (3, 224, 224)
PREPROCESSING = Preprocessing((224, 224), mean=117.0, channel_order="RGB")
SOURCE = "dmlc/mxnet-model-gallery, imagenet-21k-inception"

# name: widths of 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pooling, projection; None halves the map
_MODULES = {
    "3a": (96, 96, 96, 96, 144, "avg", 48),
    "3b": (96, 96, 144, 96, 144, "avg", 96),
    "3c": (None, 192, 240, 96, 144, "max", None),
    "4a": (224, 64, 96, 96, 128, "avg", 128),
    "4b": (192, 96, 128, 96, 128, "avg", 128),
    "4c": (160, 128, 160, 128, 160, "avg", 128),
    "4d": (96, 128, 192, 160, 96, "avg", 128),
    "4e": (None, 128, 192, 192, 256, "max", None),
    "5a": (352, 192, 320, 160, 224, "avg", 128),
    "5b": (352, 192, 320, 192, 224, "max", 128),
}


def symbol(num_classes: int = NUM_CLASSES) -> mx.sym.Symbol:
    """The whole network, (n, 3, 224, 224) -> softmax over num_classes; the 1,024 features are flatten_output."""
    x = _conv(mx.sym.Variable("data"), 96, 7, "conv1", stride=2, pad=3)
    x = _halving_pool(x, "pool1")
    x = _conv(x, 128, 1, "conv2red")
    x = _conv(x, 288, 3, "conv2", pad=1)
    x = _halving_pool(x, "pool2")
    for name, widths in _MODULES.items():
        x = _inception(x, name, *widths)
    x = mx.sym.Pooling(x, kernel=(7, 7), stride=(1, 1), pool_type="avg", name="global_pool")
    x = mx.sym.Flatten(x, name="flatten")
    x = mx.sym.FullyConnected(x, num_hidden=int(num_classes), name="fc1")
    return mx.sym.SoftmaxOutput(x, name="softmax")


def owns(names: Iterable[str]) -> bool:
    """Whether parameters of these names are Inception21k's: no more, no fewer."""
    net = symbol()
    wanted = {*net.list_arguments(), *net.list_auxiliary_states()} - {"data", "softmax_label"}
    return set(names) == wanted


def sidecar(folder: str | os.PathLike) -> dict:
    """What a PREFIX.json would say of the published weights; classes from synset.txt where `folder` has one."""
    content = {**PREPROCESSING.to_json(), "features": "flatten_output", "source": SOURCE}
    if (Path(folder) / "synset.txt").is_file():
        content["classes_file"] = "synset.txt"
    return content


def _conv(x, width, kernel, name, stride=1, pad=0):
    x = mx.sym.Convolution(x, num_filter=width, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad),
                           name=f"conv_{name}")
    # The published symbol leaves fix_gamma to its default; the option came after the weights (5 December 2015, true by
    # default, apache/mxnet #3037), so their gamma was learned and counts.
    x = mx.sym.BatchNorm(x, eps=1e-3, fix_gamma=False, name=f"bn_{name}")
    return mx.sym.Activation(x, act_type="relu", name=f"relu_{name}")


def _halving_pool(x, name):
    return mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(0, 0), pool_type="max", pooling_convention="full",
                          name=name)


def _inception(x, name, one, three_reduce, three, double_reduce, double, pool, projection):
    stride = 2 if one is None else 1
    branches = [] if one is None else [_conv(x, one, 1, f"{name}_1x1")]
    branch = _conv(x, three_reduce, 1, f"{name}_3x3_reduce")
    branches.append(_conv(branch, three, 3, f"{name}_3x3", stride=stride, pad=1))
    branch = _conv(x, double_reduce, 1, f"{name}_double_3x3_reduce")
    branch = _conv(branch, double, 3, f"{name}_double_3x3_0", pad=1)
    branches.append(_conv(branch, double, 3, f"{name}_double_3x3_1", stride=stride, pad=1))
    if projection is None:
        branches.append(_halving_pool(x, f"{pool}_pool_{name}_pool"))
    else:
        branch = mx.sym.Pooling(x, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type=pool,
                                name=f"{pool}_pool_{name}_pool")
        branches.append(_conv(branch, projection, 1, f"{name}_proj"))
    return mx.sym.Concat(*branches, name=f"ch_concat_{name}_chconcat")
