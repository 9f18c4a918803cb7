"""The walk over an ONNX graph: what is constant is folded, the rest becomes a Symbol node by node.

The batch axis has no size in a checkpoint. Here it is the number BATCH, so that shapes are plain integers and the
arithmetic that exporters write around shapes folds like any other; whatever still holds BATCH in the end is the batch.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from mxelm.backbones.onnx.operators import TABLE
from mxelm.backbones.onnx.single import as_float, attribute, evaluate, infer
from mxelm.backbones.onnx.support import opset_of, refuse_foreign
from mxelm.backbones.onnx.targets import as_reshape, reshape_target, target_shape
from mxelm.backbones.onnx.transposes import before_transpose, permuted, shared_axes, transposed
from mxelm.backbones.onnx.values import BATCH, Node, Parameters, Unsupported, Value, spread
from mxelm.errors import FileError, InputError
from mxelm.runtime import mx

_MOST_FOLDED = 1 << 28  # numbers in a folded constant


class Graph:
    """A model as a Symbol: `outputs` (Values), `arg_params` and `aux_params` (name -> float32 array).

    model: onnx.ModelProto. inputs: dict of name -> Value (see `variable`); every other input of the model must be in
    `constants`, dict of name -> array. static_batch: the batch that the model fixes, or None.
    marked: name of an edge, no map, whose layer is to be called "flatten".
    Raises InputError that names every node that is not supported, with its operator, opset and the reason.
    """

    def __init__(self, model: onnx.ModelProto, inputs: dict[str, Value], constants: dict[str, np.ndarray] | None = None,
                 static_batch: int | None = None, marked: str | None = None) -> None:
        self.arg_params, self.aux_params = Parameters(), Parameters()
        self.static_batch = static_batch
        self._opset = opset_of(model)
        self._model, self._graph = model, model.graph
        self._values, self._problems = {"": None}, []
        self._batch, self._naming = None, _Naming({"data", "flatten"})
        self._marked = marked
        for name, value in inputs.items():
            self._values[name] = value
            if BATCH in value.shape[:1]:
                self._batch = value.symbol
        for tensor in self._graph.initializer:
            self._keep(tensor.name, _array(tensor))
        for name, array in (constants or {}).items():
            self._keep(name, array)
        self._walk()
        self.outputs = [self._values[output.name] for output in self._graph.output]

    def value(self, edge: str) -> Value:
        """The Value of an edge by its name in the model."""
        return self._values[edge]

    def _walk(self):
        nodes = _needed(self._graph)
        names = {name for node in nodes for name in node.input} | {output.name for output in self._graph.output}
        with self._naming:
            for node in nodes:
                self._visit(node, names)
        if self._problems:
            raise InputError("; ".join(self._problems[:20]) + ("; ..." if len(self._problems) > 20 else ""))

    def _visit(self, node, names):
        """One node; where its inputs are not known, for a node before them was not, only its operator is looked at."""
        used = [name in names for name in node.output]
        try:
            refuse_foreign(node)
            inputs = [self._values.get(name) for name in node.input]
            if any(value is None and name for name, value in zip(node.input, inputs)):
                raise InputError(f"its input {next(n for n in node.input if n not in self._values)!r} is nowhere made")
            if not self._fold(node, inputs):
                self._convert(node, inputs, used)
        except Unsupported as error:
            self._problems.append(f"{node.op_type} of opset {self._opset} is not supported at node "
                                  f"{node.name or node.output[0]!r}: {error}")
        except mx.MXNetError as error:
            self._problems.append(f"{node.op_type} at node {node.name or node.output[0]!r} is refused by MXNet: "
                                  f"{str(error).strip().splitlines()[0]}")
        except InputError:
            if not self._problems:
                raise
            if node.op_type not in TABLE and node.op_type not in _FOLDED:
                self._problems.append(f"{node.op_type} of opset {self._opset} is not supported at node "
                                      f"{node.name or node.output[0]!r}")

    # constants

    def _keep(self, name, array):
        array = np.asarray(array)
        if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        elem_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        self._values[name] = Value(name, array.shape, elem_type, constant=array)

    def _fold(self, node, inputs):
        """Whether the node's outputs are constants; they are kept then."""
        if node.op_type in ("Shape", "Size"):
            shape = inputs[0].shape
            start, end = (attribute(node, name, default) for name, default in (("start", None), ("end", None)))
            self._keep(node.output[0], np.array(shape[slice(start, end)] if node.op_type == "Shape"
                                                else math.prod(shape), np.int64))
            return True
        if node.op_type == "CastLike" and inputs[0].constant is not None and inputs[1].elem_type == _FLOAT:
            self._keep(node.output[0], inputs[0].constant.astype(np.float32))
            return True
        if any(value is not None and value.constant is None for value in inputs) or node.op_type in _RANDOM:
            return False
        if node.op_type in ("Expand", "ConstantOfShape", "Tile") and inputs[-1].constant.size and \
                np.prod(inputs[-1].constant.astype(float)) > _MOST_FOLDED:
            raise Unsupported("it makes a constant that is too large")
        for name, array in zip(node.output, evaluate(node, inputs, self._model)):
            self._keep(name, array)
        return True

    # symbols

    def _convert(self, node, inputs, used):
        if node.op_type not in TABLE:
            raise Unsupported("there is no such layer here")
        node = as_reshape(node, inputs)
        inputs = self._with_batch(node, inputs)
        shapes, types = self._infer(node, inputs, used)
        if node.op_type == "Transpose" and inputs[0].symbol is not None:
            axes = tuple(attribute(node, "perm", range(len(shapes[0]))[::-1]))
            self._values[node.output[0]] = transposed(node.output[0], inputs[0], shapes[0], axes)
            return
        axes = None if any(used[1:]) else shared_axes(node, inputs)
        if axes:  # the layer goes before the transpose, which may then meet another that turns it back
            inputs, shapes = before_transpose(node, inputs, axes), [permuted(shapes[0], np.argsort(axes))]
        seen = Node(node, self._opset, inputs, shapes, used, self.arg_params, self.aux_params, self._batch)
        self._naming.node = seen.name
        made = TABLE[node.op_type](seen)
        made = made if isinstance(made, list) else [made]
        for name, symbol, shape, elem_type in zip(node.output, made, shapes, types):
            value = Value(name, shape, elem_type, symbol=symbol)
            self._values[name] = transposed(name, value, permuted(shape, axes), axes) if axes else value
        if self._marked in node.output and math.prod(self._values[self._marked].shape[2:]) == 1:
            self._values[self._marked] = _flatten(self._values[self._marked])

    # shapes

    def _with_batch(self, node, inputs):
        """The inputs with the batch that the model itself fixes freed in them: in a target shape, in what is joined."""
        if self._batch is None:
            return inputs
        if node.op_type == "Reshape":
            target = target_shape(inputs[0].shape, reshape_target(node, inputs), self.static_batch,
                                  attribute(node, "allowzero", 0))
            return [inputs[0], Value("", (len(target),), onnx.TensorProto.INT64, constant=np.array(target, np.int64))]
        if node.op_type == "Concat" and attribute(node, "axis") and any(BATCH in v.shape[:1] for v in inputs):
            return [self._spread(value) if value.shape[0] == 1 else value for value in inputs]
        return inputs

    def _spread(self, value):
        """A value of one row as one with a row for each image."""
        shape = (BATCH, *value.shape[1:])
        if value.constant is not None:
            return replace(value, shape=shape, constant=np.broadcast_to(value.constant, shape))
        return replace(value, shape=shape, symbol=spread(value.symbol, self._batch), origin=None)

    def _infer(self, node, inputs, used):
        """Shapes and element types of the outputs; None for what nothing needs."""
        if node.op_type == "Reshape" and self._batch is not None:
            return [tuple(inputs[1].constant.tolist())], [inputs[0].elem_type]
        if node.op_type == "GroupNormalization":  # a function, of which onnx infers nothing
            return [inputs[0].shape], [inputs[0].elem_type]
        return infer(node, inputs, used, self._model)


_FLOAT = onnx.TensorProto.FLOAT
_FOLDED = {"Constant", "Shape", "Size", "ConstantOfShape", "Range", "Equal", "Where", "Not", "Greater", "Less", "And"}
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}


def _needed(graph):
    """The nodes that the outputs need, in order."""
    wanted, needed = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            needed.append(node)
            wanted.update(node.input)
    return needed[::-1]


def variable(name: str, symbol: mx.sym.Symbol, shape: Sequence[int], elem_type: int = onnx.TensorProto.FLOAT,
             origin: tuple | None = None) -> Value:
    """A Value that is fed with each batch; BATCH in its shape for the free axis."""
    return Value(name, tuple(shape), as_float(elem_type), symbol=symbol, origin=origin)


def _flatten(value):
    """The same numbers under the name at which checkpoints are cut."""
    operator = mx.sym.Flatten if len(value.shape) == 2 else mx.sym.identity
    return replace(value, symbol=operator(value.symbol, name="flatten"), origin=None)


def _array(tensor):
    try:
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # damaged data make onnx and NumPy raise almost anything
        raise FileError(f"its weight {tensor.name!r} cannot be read: {error}") from None


class _Naming(mx.name.NameManager):
    """Names for the layers that operator functions make: the node's own for the first, with numbers for the rest."""

    def __init__(self, taken):
        super().__init__()
        self.node, self._used = "", taken

    def get(self, name, hint):
        if name:
            return name
        candidate, count = self.node, 0
        while candidate in self._used:
            count += 1
            candidate = f"{self.node}_{hint}{count}"
        self._used.add(candidate)
        return candidate
