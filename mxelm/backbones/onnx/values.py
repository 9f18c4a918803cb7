"""What flows along a graph's edges, and how operators see it: values, nodes, and the batch axis that has no size."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from mxelm.errors import InputError
from mxelm.runtime import mx

BATCH = 7919  # stands for the free batch axis in every shape: a prime that no layer has as its width


class Unsupported(InputError):
    """A node that has no counterpart here; the message is the reason alone, the graph's walk says which node."""


@dataclass(frozen=True, eq=False)
class Value:
    """An output of a node: a constant, or a symbol.

    shape: tuple of int, BATCH for the free axis. constant: NumPy array or None. symbol: mx.sym.Symbol or None.
    elem_type: number of onnx.TensorProto; floats of any width are FLOAT. name: the edge's name in the model.
    origin: (Value, axes) where this value is a transpose of another.
    """

    name: str
    shape: tuple
    elem_type: int
    constant: np.ndarray = None
    symbol: object = None
    origin: tuple = None


class Node:
    """A node as operator functions see it: its attributes, its inputs as symbols or constants, their shapes.

    params: Parameters, to which constants are added that are weights; aux: the same for running statistics.
    outputs: shapes of the outputs. used: for each output whether anything needs it.
    batch: a symbol whose first axis is the batch, or None. opset: int.
    """

    def __init__(self, proto: onnx.NodeProto, opset: int, inputs: Sequence[Value | None],
                 shapes: Sequence[tuple | None], used: Sequence[bool], params: Parameters, aux: Parameters,
                 batch: mx.sym.Symbol | None) -> None:
        self.proto, self.opset, self.inputs, self.outputs, self.used = proto, opset, inputs, shapes, used
        self.name = proto.name or proto.output[0]
        self.params, self.aux, self.batch = params, aux, batch
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value; texts as str."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def setting(self, name: str, position: int, default: Any = None) -> Any:
        """What was an attribute in older opsets and is a constant input at `position` in newer: a list or a number."""
        if name in self._attributes:
            return self.attribute(name)
        value = self.constant(position)
        return default if value is None else value.tolist()

    def has(self, position: int) -> bool:
        """Whether the node has an input at `position`."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def constant(self, position: int) -> np.ndarray | None:
        """A constant input's array, None where there is no input; Unsupported where it is computed from the image."""
        if not self.has(position):
            return None
        if self.inputs[position].constant is None:
            raise Unsupported(f"its input {self.inputs[position].name!r} must be a constant")
        return self.inputs[position].constant

    def is_constant(self, position: int) -> bool:
        """Whether there is an input at `position` and it is a constant."""
        return self.has(position) and self.inputs[position].constant is not None

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """An input's shape, BATCH for the free axis."""
        return self.inputs[position].shape

    @property
    def x(self) -> mx.sym.Symbol:
        """The first input as a symbol."""
        return self.symbol(0)

    @property
    def symbols(self) -> list[mx.sym.Symbol]:
        """All inputs as symbols."""
        return [self.symbol(i) for i in range(len(self.inputs)) if self.has(i)]

    def symbol(self, position: int) -> mx.sym.Symbol:
        """An input as a symbol; a constant becomes a parameter."""
        value = self.inputs[position]
        return self.parameter(value.name, value.constant) if value.symbol is None else value.symbol

    def parameter(self, name: str, array: np.ndarray, dtype: str | None = None) -> mx.sym.Symbol:
        """A parameter of the network with this value, under this name or one made of it; of one with a row for each
        image of the batch, which must be equal, one is kept. dtype: told to MXNet where it cannot infer it."""
        array = np.atleast_1d(np.asarray(array, np.float32))
        if BATCH in array.shape:
            if array.shape[0] != BATCH or (array != array[:1]).any():
                raise Unsupported("its constants differ from image to image")
            return spread(self.parameter(f"{name}_row", array[:1]), self.batch)
        return self.params.variable(name, array, taken=self.aux, dtype=dtype)

    def statistic(self, name: str, array: np.ndarray) -> mx.sym.Symbol:
        """The same for a running statistic, which MXNet keeps apart."""
        return self.aux.variable(name, np.asarray(array, np.float32), taken=self.params)


class Parameters(dict):
    """name -> float32 array, and one variable for each: two of one name would be two arguments to MXNet."""

    def __init__(self) -> None:
        super().__init__()
        self._variables = {}

    def variable(self, name: str, array: np.ndarray, *, taken: dict, dtype: str | None = None) -> mx.sym.Symbol:
        """The variable of this value, under this name or one made of it that nothing else has."""
        free, count = name, 0
        while free in taken or free == "data" or not _same(self.get(free), array):
            count += 1
            free = f"{name}_{count}"
        if free not in self:
            self[free], self._variables[free] = array, mx.sym.var(free, shape=array.shape, dtype=dtype)
        return self._variables[free]


def _same(there, array):
    return there is None or (there.shape == array.shape and np.array_equal(there, array, equal_nan=True))


def spread(symbol: mx.sym.Symbol, batch: mx.sym.Symbol) -> mx.sym.Symbol:
    """A symbol of shape (1, ...) repeated along the batch."""
    if batch is None:
        raise Unsupported("the batch is not known")
    return mx.sym.broadcast_like(symbol, batch, lhs_axes=(0,), rhs_axes=(0,))


def reshape(symbol: mx.sym.Symbol, old: tuple[int, ...], new: tuple[int, ...]) -> mx.sym.Symbol:
    """`symbol` of shape `old` in shape `new`, both with BATCH for the free axis; MXNet has no shape ()."""
    new = tuple(new) or (1,)
    if tuple(old or (1,)) == new:
        return symbol
    codes, free = [], any(n and n % BATCH == 0 for n in old)
    for axis, n in enumerate(new):
        if axis == 0 and n == BATCH == old[0]:
            codes.append(0)
        elif free and n and n % BATCH == 0:
            codes.append(-1)
        else:
            codes.append(n)
    if codes.count(-1) > 1 or (free and not any(c in (0, -1) for c in codes)):
        raise Unsupported("it mixes images of a batch")
    if 0 in new:
        raise Unsupported("it makes an array without elements")
    return mx.sym.reshape(symbol, shape=tuple(codes))
