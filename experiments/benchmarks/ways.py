"""The ways of running a network that `symbol_vs_gluon.py` compares, each bound to one problem."""
from collections import namedtuple

import numpy as np

from mxelm import backbones, runtime
from mxelm.backbones.gluon import as_block
from mxelm.fused.gluon import FusedELM
from mxelm.fused.symbol import fuse
from mxelm.graphs import bind
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx, without_lines

TASKS = ("forward", "accumulate", "train")
WAYS = ("module", "executor", "gluon", "hybrid", "optimized")
SYMBOL_WAYS = WAYS[:2]

Run = namedtuple("Run", ["step", "numbers"])  # one step of the task; the NDArrays by which ways are compared


class Problem:
    """One task on one network and one batch of random images, ready to be bound; the same in every process.

    inputs: dict of name -> NDArray. Gluon ways have `block`; Symbol ways `symbol` and `params` (arg, aux).
    """

    def __init__(self, name, task, way, batch, settings):
        runtime.seed(0)
        rng = np.random.default_rng(0)
        self.task, self.way, self.batch, self.settings = task, way, batch, settings
        block, shape = features(name)
        labels = rng.integers(0, settings["n_classes"], batch)
        x = mx.nd.array(rng.standard_normal((batch, *shape)))
        Y = mx.nd.array(np.eye(settings["n_classes"])[labels])
        self.inputs = {"forward": {"data": x}, "accumulate": {"data": x, "Y": Y},
                       "train": {"data": x, "softmax_label": mx.nd.array(labels)}}[task]
        self.block = {"forward": lambda: block, "accumulate": lambda: elm(block, x, Y, settings["n_neurons"]),
                      "train": lambda: classifier(block, x, settings["n_classes"])}[task]()
        if way in SYMBOL_WAYS:
            self.symbol, *self.params = self._as_symbol(block if task == "accumulate" else self.block)
            self.block = None
        mx.nd.waitall()

    def _as_symbol(self, block):
        """The same graph and parameters: (symbol, arg_params, aux_params)."""
        shape = self.inputs["data"].shape
        backbone = backbones.from_block(block, Preprocessing(shape[2:], resize="stretch"), name="network")
        symbol, (arg_params, aux_params) = backbone.features, backbone.feature_params()
        if self.task == "accumulate":
            symbol = fuse(symbol, self.settings["n_neurons"])
            arg_params = {**arg_params, "W": self.block.W.data()}
        if self.task == "train":
            symbol = mx.sym.SoftmaxOutput(symbol, name="softmax")
        return symbol, arg_params, aux_params

    @property
    def shapes(self):
        return {name: array.shape for name, array in self.inputs.items()}


def features(name):
    """A network up to its pooled features as an initialised HybridBlock, and its input's (channels, height, width).

    name: a network of GluonCV's zoo (random weights), or a checkpoint's prefix or known name. A Dropout before the
    features is left out, for it would give each way other numbers.
    """
    if name.lower() not in runtime.gluoncv.model_zoo.get_model_list():
        backbone = backbones.load(name)
        return as_block(backbone), backbone.preprocessing.shape
    network = runtime.gluoncv.model_zoo.get_model(name, prefix="network_")
    block = mx.gluon.nn.HybridSequential(prefix="")
    block.add(*(layer for layer in network.features if not isinstance(layer, mx.gluon.nn.Dropout)))
    shape = (3, 32, 32) if "cifar" in name.lower() else (3, 224, 224)
    _, outputs, _ = block(mx.sym.var("data")).infer_shape(data=(1, *shape))
    if len(outputs[0]) == 4:
        block.add(mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten())
    block.infer_shape(mx.nd.zeros((1, *shape)))
    block.initialize(mx.init.Xavier("gaussian", "in", 2))  # keeps ReLU networks in scale
    return block, shape


def elm(block, x, Y, n_neurons):
    """The fused ELM behind a network, XW of the order of the features."""
    fused = FusedELM(block, n_neurons)
    fused.infer_shape(x, Y)
    W = np.random.default_rng(1).standard_normal(fused.W.shape) / np.sqrt(fused.W.shape[1])
    fused.W.initialize(mx.init.Constant(mx.nd.array(W)))
    return fused


def classifier(block, x, n_classes):
    """A network with a Dense layer behind it."""
    network = mx.gluon.nn.HybridSequential(prefix="")
    network.add(block, mx.gluon.nn.Dense(n_classes, prefix="classifier_"))
    network.infer_shape(x)
    network[1].initialize(mx.init.Xavier())
    return network


def start(problem):
    """Bind a problem: its Run."""
    if problem.task == "train":
        return {"module": train_module, "executor": train_executor}.get(problem.way, train_block)(problem)
    outputs = inference(problem)
    return Run(accumulating(outputs) if problem.task == "accumulate" else outputs, outputs)


def inference(problem):
    """A function that starts a forward pass and returns its outputs."""
    inputs = list(problem.inputs.values())
    if problem.way == "module":
        module = bind(problem.symbol, problem.shapes, *problem.params, ctx=mx.cpu())

        def outputs():
            module.forward(mx.io.DataBatch(inputs), is_train=False)
            return module.get_outputs()
    elif problem.way == "executor":
        executor = simple_bind(problem, "null")

        def outputs():
            return executor.forward(is_train=False, **problem.inputs)
    else:
        block = prepared(problem.block, problem.way, inputs)

        def outputs():
            found = block(*inputs)
            return found if isinstance(found, (list, tuple)) else [found]
    return outputs


def accumulating(outputs):
    """A step that adds what `outputs` gives to running sums, as the paper's class does between batches."""
    sums = []

    def step():
        matrices = outputs()
        if not sums:
            sums.extend(mx.nd.zeros(matrix.shape) for matrix in matrices)
        for total, matrix in zip(sums, matrices):
            total += matrix
    return step


def train_module(problem):
    """Module: forward_backward and update."""
    x, labels = problem.inputs.values()
    module = mx.mod.Module(problem.symbol, ["data"], ["softmax_label"], context=mx.cpu())
    with without_lines("is disabled."):
        module.bind([("data", x.shape)], [("softmax_label", labels.shape)])
    module.set_params(*problem.params)
    module.init_optimizer(kvstore=None, optimizer=sgd(problem))
    batch = mx.io.DataBatch([x], [labels])

    def step():
        module.forward_backward(batch)
        module.update()
    return Run(step, lambda: by_name(module.get_params()[0]))


def train_executor(problem):
    """The executor: forward, backward, and the optimizer's update of each weight."""
    executor = simple_bind(problem, {name: "write" for name in problem.params[0]})
    update = mx.optimizer.get_updater(sgd(problem))
    weights = {name: executor.arg_dict[name] for name in problem.params[0]}

    def step():
        executor.forward(is_train=True, **problem.inputs)
        executor.backward()
        for i, (name, weight) in enumerate(weights.items()):
            update(i, executor.grad_dict[name], weight)
    return Run(step, lambda: by_name(weights))


def train_block(problem):
    """Gluon: record, backward, Trainer.step."""
    x, labels = problem.inputs.values()
    block = prepared(problem.block, problem.way, [x])
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    loss.hybridize(problem.way != "gluon")
    trainer = mx.gluon.Trainer(block.collect_params(), sgd(problem), kvstore=None)
    weights = {name: parameter for name, parameter in block.collect_params().items() if parameter.grad_req != "null"}

    def step():
        with mx.autograd.record():
            value = loss(block(x), labels)
        value.backward()
        trainer.step(1)  # the optimizer divides by the batch itself, as for the Symbol ways
    return Run(step, lambda: by_name({name: parameter.data() for name, parameter in weights.items()}))


def sgd(problem):
    return mx.optimizer.SGD(learning_rate=problem.settings["learning_rate"], rescale_grad=1 / problem.batch)


def by_name(arrays):
    return [arrays[name] for name in sorted(arrays)]


def simple_bind(problem, grad_req):
    with without_lines("is disabled."):
        executor = problem.symbol.simple_bind(mx.cpu(), grad_req=grad_req, **problem.shapes)
    executor.copy_params_from(*problem.params)
    return executor


def prepared(block, way, inputs):
    """A Gluon block made ready for its way of running."""
    if way == "hybrid":
        block.hybridize(static_alloc=True, static_shape=True)
    elif way == "optimized":
        block.optimize_for(*inputs, backend="MKLDNN", static_alloc=True, static_shape=True)
    return block
