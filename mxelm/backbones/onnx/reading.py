"""An ONNX file as a classifier: what is its image, what are its scores, and where is its last hidden layer."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

import onnx

from mxelm.backbones.onnx.single import attribute
from mxelm.backbones.onnx.support import opset_of
from mxelm.backbones.onnx.values import BATCH
from mxelm.errors import FileError, InputError

_LINEAR = {"Gemm", "MatMul", "Conv"}
# layers that may stand behind the last weights
_HEAD = {"Add", "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze",
         "Relu", "GlobalAveragePool", "AveragePool", "Unsqueeze"}
_REASONS = {FileNotFoundError: "is missing", IsADirectoryError: "is a folder"}
_ACTIVATIONS = {"Softmax", "LogSoftmax", "Sigmoid", "Identity"}


@dataclass(frozen=True)
class Image:
    """The model's image: name of the input, its shape as the model counts (BATCH first), height and width or None.

    channels_last: (batch, height, width, channels) rather than (batch, channels, height, width).
    static_batch: the batch that the model fixes, or None.
    """

    name: str
    channels: int
    size: tuple
    channels_last: bool
    static_batch: int
    elem_type: int

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The input's shape at this (height, width), BATCH first."""
        return (BATCH, *size, self.channels) if self.channels_last else (BATCH, self.channels, *size)


def read_model(path: str | os.PathLike) -> onnx.ModelProto:
    """The file as an onnx.ModelProto with all its weights, local functions written out where they are used.

    Raises FileError for a file that is missing, damaged, no ONNX or without its external data; InputError for an
    opset or a domain that is not known.
    """
    try:
        model = onnx.load(path)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.filename or error} {_REASONS.get(type(error), error.strerror)}"
                        ) from None
    except onnx.checker.ValidationError as error:
        raise FileError(f"{path}: its external data cannot be read: {_first_line(error)}") from None
    except Exception as error:  # a damaged protobuf raises what its implementation likes
        raise FileError(f"{path} is damaged or no ONNX model ({type(error).__name__}: {_first_line(error)})") from None
    if not model.ir_version or not model.graph.node:
        raise FileError(f"{path} is no ONNX model, or one without a node")
    try:
        opset_of(model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def image_of(model: onnx.ModelProto) -> Image:
    """The model's one Image; InputError where it takes something else."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise InputError(f"it takes {len(inputs)} inputs ({', '.join(i.name for i in inputs)}), a backbone takes one "
                         "image")
    if not inputs[0].type.HasField("tensor_type"):
        raise InputError(f"its input {inputs[0].name!r} is no array")
    tensor = inputs[0].type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
    if len(dims) != 4:
        raise InputError(f"its input {inputs[0].name!r} has {len(dims)} axes, an image in a batch has 4 (batch, "
                         "channels, height, width): export it with a batch axis")
    last = dims[1] not in (1, 3) and dims[3] in (1, 3)
    channels, size = (dims[3], dims[1:3]) if last else (dims[1], dims[2:])
    if channels not in (1, 3):
        raise InputError(f"its input {inputs[0].name!r} has {channels} channels, an image has 1 or 3")
    return Image(inputs[0].name, channels, None if None in size else tuple(size), last, dims[0], tensor.elem_type)


def require_one_output(model: onnx.ModelProto) -> None:
    """InputError for a model of several outputs."""
    outputs = [output.name for output in model.graph.output]
    if len(outputs) != 1:
        raise InputError(f"it has {len(outputs)} outputs ({', '.join(outputs[:4])}{', ...' if len(outputs) > 4 else ''}"
                         "), a classifier has one: detectors and the like are no backbones")


def hidden_of(model: onnx.ModelProto) -> Optional[str]:
    """The name of the edge into the last layer of weights; None where the network's output is its features already.

    A convolution that only a mean over its map follows is taken for the classifier where a softmax ends the network.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    constant = _constants(model)
    edge, softmax = model.graph.output[0].name, False
    while edge in makers:
        node = makers[edge]
        free = [name for name in node.input if name and name not in constant]
        pooled = node.op_type == "Conv" and _pooling_behind(model, edge)
        if node.op_type in _LINEAR and len(free) == 1 and (softmax or not pooled):
            return free[0]
        if node.op_type not in _HEAD or len(free) != 1:
            return None
        softmax = softmax or node.op_type in ("Softmax", "LogSoftmax")
        edge = free[0]
    return None


def before_activation(model: onnx.ModelProto) -> str:
    """The edge before a softmax or sigmoid at the end, else the output: what two runtimes are compared at. Behind it
    large scores are 0 or 1 however wrong they are, and a sigmoid's small ones are cut to 0 by onnxruntime."""
    makers, edge = {name: node for node in model.graph.node for name in node.output}, model.graph.output[0].name
    while edge in makers and makers[edge].op_type in _ACTIVATIONS and attribute(makers[edge], "axis", -1) != 0 and \
            makers[edge].input[0] in makers:
        edge = makers[edge].input[0]
    return edge


def _pooling_behind(model, edge):
    """Whether a global pooling or a mean takes the edge in before the output."""
    users = {name: node for node in model.graph.node for name in node.input}
    while edge in users:
        if users[edge].op_type in ("GlobalAveragePool", "AveragePool", "ReduceMean"):
            return True
        edge = users[edge].output[0]
    return False


def _constants(model):
    """Names of the edges that no input reaches."""
    known = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in known or not name for name in node.input):
            known.update(node.output)
    return known


def _first_line(error):
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
