"""MXNet's two interfaces side by side: the Symbol that the paper's listing uses, and Gluon.

    python experiments/symbol_vs_gluon.py                           all networks, about ten minutes on two cores
    python experiments/symbol_vs_gluon.py --networks resnet18_v1    one network; the rows of others stay
    python experiments/symbol_vs_gluon.py --quick                   a tiny network, half a minute, written elsewhere

Question: what does the way of running a network cost in time and memory, and do the numbers agree? Tasks: `forward`
(images to features), `accumulate` (the fused ELM of Arcada, section 3, with its `+=`), `train` (one SGD step of a
classifier on those features). Ways:

    module      mx.mod.Module, as in the printed listing; all times are given relative to it
    executor    symbol.simple_bind, the executor beneath the Module
    gluon       the HybridBlock as it is: one operator at a time. A network that exists as a checkpoint only becomes a
                SymbolBlock, whose own graph MXNet never runs operator by operator; only what follows it does
    hybrid      hybridize(static_alloc=True, static_shape=True)
    optimized   optimize_for(backend="MKLDNN"): the same with oneDNN's fusion, which Module and executor apply by
                themselves at inference; its operators have no gradient

Protocol: the ways run in turn in one process, forwards and backwards through the list, and wait for each result; a
row is the median of the ratios to the Module's time in the same round. Memory is the growth of the peak resident set,
binding and two steps, over a process that holds the network's parameters; each in its own child process. Agreement is
the largest difference to the Module's numbers, relative to the largest of these (for `train`: of the changes of the
parameters in the first step). Images and weights are random; threads are as the environment says.
"""
import argparse
import contextlib
import logging
import multiprocessing
import os
import re
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from mxelm import backbones, runtime
from mxelm.files import atomic_write, read_json
from mxelm.fused.graph import fuse
from mxelm.fused.twin import FusedELM, features_block
from mxelm.graphs import bind
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import results
from mxelm.reporting.plots import DPI, OKABE_ITO
from mxelm.runtime import mx, without_lines

NETWORKS = ("resnet18_v1", "mobilenet1.0", "squeezenet1.1", "efficientnet_lite0_224")  # GluonCV's, and a checkpoint
SETTINGS = {
    "batches": (1, 32),  # images
    "n_neurons": 1024,
    "n_classes": 101,
    "learning_rate": 0.01,
    "sample_seconds": 0.1,  # a timing repeats short steps for at least this long
}
QUICK = {**SETTINGS, "batches": (1, 4), "n_neurons": 64, "n_classes": 10, "sample_seconds": 0.01}
TASKS = ("forward", "accumulate", "train")
WAYS = ("module", "executor", "gluon", "hybrid", "optimized")
WARM_UP = 2  # steps before the first timing, of which the first gives the numbers that are compared

Batch = namedtuple("Batch", ["data", "label"])


class Problem:
    """One network and one batch of random images and targets, the same in every process."""

    def __init__(self, name, batch, settings):
        runtime.seed(0)
        self.settings, self.batch = settings, batch
        self.block, shape = features(name)
        rng = np.random.default_rng(0)
        self.x = mx.nd.array(rng.standard_normal((batch, *shape)))
        labels = rng.integers(0, settings["n_classes"], batch)
        self.labels = mx.nd.array(labels)
        self.Y = mx.nd.array(np.eye(settings["n_classes"])[labels])
        self.shape, self._rng = shape, rng

    def backbone(self, block):
        """`block` as a Backbone: the same graph and parameters for the Symbol ways."""
        return backbones.from_block(block, Preprocessing(self.shape[1:], resize="stretch"), name="network")

    def elm(self):
        """The fused ELM behind the network as a Gluon block; std(XW) is about 1 for features of unit size."""
        block = FusedELM(self.block, self.settings["n_neurons"])
        n_features = self.block(self.x[:1]).shape[1]
        W = self._rng.standard_normal((self.settings["n_neurons"], n_features)) / np.sqrt(n_features)
        block.W.initialize(mx.init.Constant(mx.nd.array(W)))
        return block

    def classifier(self):
        """The network with a Dense layer behind it, for training."""
        block = mx.gluon.nn.HybridSequential(prefix="")
        block.add(self.block, mx.gluon.nn.Dense(self.settings["n_classes"], in_units=0, prefix="classifier_"))
        block.infer_shape(self.x)
        block[1].initialize(mx.init.Xavier())
        return block


def features(name):
    """A network up to its pooled features as an initialised HybridBlock, and its input's (channels, height, width).

    name: a network of GluonCV's zoo (random weights), or a checkpoint's prefix or known name. A Dropout before the
    features is left out, for it would give each way other numbers.
    """
    if name.lower() not in runtime.gluoncv.model_zoo.get_model_list():
        backbone = backbones.load(name)
        return features_block(backbone), backbone.preprocessing.shape
    network = runtime.gluoncv.model_zoo.get_model(name, prefix="network_")
    block = mx.gluon.nn.HybridSequential(prefix="")
    block.add(*(layer for layer in network.features if not isinstance(layer, mx.gluon.nn.Dropout)))
    size = 32 if "cifar" in name.lower() else 224
    x = mx.nd.zeros((1, 3, size, size))
    block.infer_shape(x)
    block.initialize(mx.init.Xavier(magnitude=2.24))
    if len(block(x).shape) == 4:
        block.add(mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    return block, (3, size, size)


def simple_bind(symbol, arg_params, aux_params, grad_req, **inputs):
    """An executor with its parameters set; inputs: names and shapes."""
    with without_lines("is disabled."):
        executor = symbol.simple_bind(mx.cpu(), grad_req=grad_req, **inputs)
    executor.copy_params_from(arg_params, aux_params)
    return executor


def prepared(block, way, *inputs):
    """A Gluon block made ready for its way of running."""
    if way == "hybrid":
        block.hybridize(static_alloc=True, static_shape=True)
    elif way == "optimized":
        block.optimize_for(*inputs, backend="MKLDNN", static_alloc=True, static_shape=True)
    return block


# Each of the following binds a problem for one way of running and returns a step: a function without arguments that
# starts the computation and returns the NDArrays to compare.

def forward(problem, way):
    """Images to features."""
    x = problem.x
    if way == "module":
        module = problem.backbone(problem.block).bind(problem.batch)

        def step():
            module.forward(Batch([x], None), is_train=False)
            return module.get_outputs()
    elif way == "executor":
        backbone = problem.backbone(problem.block)
        executor = simple_bind(backbone.features, *backbone.feature_params(), "null", data=x.shape)

        def step():
            return executor.forward(is_train=False, data=x)
    else:
        block = prepared(problem.block, way, x)

        def step():
            return [block(x)]
    return step


def accumulate(problem, way):
    """Images and targets to HᵀH and HᵀY as printed, added to running sums."""
    outputs = _fused(problem, way)
    L, C = problem.settings["n_neurons"], problem.settings["n_classes"]
    sums = [mx.nd.zeros((L, L)), mx.nd.zeros((L, C))]

    def step():
        ours = outputs()
        for total, matrix in zip(sums, ours):
            total += matrix
        return ours
    return step


def _fused(problem, way):
    x, Y, elm = problem.x, problem.Y, problem.elm()
    if way not in ("module", "executor"):
        block = prepared(elm, way, x, Y)
        return lambda: block(x, Y)
    backbone = problem.backbone(problem.block)
    symbol = fuse(backbone.features, problem.settings["n_neurons"])
    arg_params, aux_params = backbone.feature_params()
    arg_params = {**arg_params, "W": elm.W.data()}
    if way == "executor":
        executor = simple_bind(symbol, arg_params, aux_params, "null", data=x.shape, Y=Y.shape)
        return lambda: executor.forward(is_train=False, data=x, Y=Y)
    module = bind(symbol, {"data": x.shape, "Y": Y.shape}, arg_params, aux_params, mx.cpu())

    def outputs():
        module.forward(Batch([x, Y], None), is_train=False)
        return module.get_outputs()
    return outputs


def train(problem, way):
    """One step of SGD on softmax cross-entropy; returns all weights."""
    block = problem.classifier()
    options = {"learning_rate": problem.settings["learning_rate"], "rescale_grad": 1 / problem.batch}
    if way not in ("module", "executor"):
        return _train_gluon(problem, block, way, options)
    backbone = problem.backbone(block)
    symbol = mx.sym.SoftmaxOutput(backbone.features, name="softmax")
    arg_params, aux_params = backbone.feature_params()
    bind_training = _train_module if way == "module" else _train_executor
    return bind_training(problem, symbol, arg_params, aux_params, options)


def _train_module(problem, symbol, arg_params, aux_params, options):
    module = mx.mod.Module(symbol, ["data"], ["softmax_label"], context=mx.cpu())
    module.bind([("data", problem.x.shape)], [("softmax_label", problem.labels.shape)])
    module.set_params(arg_params, aux_params)
    module.init_optimizer(kvstore=None, optimizer="sgd", optimizer_params=options)
    batch = Batch([problem.x], [problem.labels])

    def step():
        module.forward_backward(batch)
        module.update()
        return _sorted(module.get_params()[0]) if step.shows else None
    return step


def _train_executor(problem, symbol, arg_params, aux_params, options):
    executor = simple_bind(symbol, arg_params, aux_params, {name: "write" for name in arg_params},
                           data=problem.x.shape, softmax_label=problem.labels.shape)
    update = mx.optimizer.get_updater(mx.optimizer.create("sgd", **options))
    names = sorted(arg_params)

    def step():
        executor.forward(is_train=True, data=problem.x, softmax_label=problem.labels)
        executor.backward()
        for i, name in enumerate(names):
            update(i, executor.grad_dict[name], executor.arg_dict[name])
        return [executor.arg_dict[name] for name in names]
    return step


def _train_gluon(problem, block, way, options):
    ...
