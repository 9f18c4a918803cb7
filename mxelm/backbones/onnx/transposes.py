"""Transposes that cancel: a layer that treats each number by itself goes before the transpose of what it takes in.

Networks of TensorFlow hold their maps with the channels last, and exporters put a transpose around each convolution.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from mxelm.backbones.onnx.operators.elementwise import BROADCASTING, POINTWISE
from mxelm.backbones.onnx.values import Value
from mxelm.runtime import mx


def transposed(name: str, value: Value, shape: tuple[int, ...], axes: tuple[int, ...]) -> Value:
    """A transpose of a value; of a transpose one transpose, or none where they cancel."""
    source = value
    if value.origin:
        source, first = value.origin
        axes = tuple(first[axis] for axis in axes)
    if axes == tuple(range(len(axes))):
        return replace(source, name=name)
    return Value(name, shape, value.elem_type, symbol=mx.sym.transpose(source.symbol, axes=axes),
                 origin=(source, axes))


def permuted(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape of a transpose."""
    return tuple(shape[axis] for axis in axes)


def shared_axes(node: onnx.NodeProto, inputs: Sequence[Value | None]) -> tuple[int, ...] | None:
    """The axes of the transpose that the node's inputs share, where the node may go before it, else None."""
    free = [value for value in inputs if value is not None and value.constant is None]
    if node.op_type not in POINTWISE | BROADCASTING or not free or not all(value.origin for value in free):
        return None
    axes = {value.origin[1] for value in free}
    return axes.pop() if len(axes) == 1 else None


def before_transpose(node: onnx.NodeProto, inputs: Sequence[Value | None], axes: tuple[int, ...]) -> list[Value | None]:
    """The inputs as they are before it; constants that are broadcast turned the other way."""
    return [value.origin[0] if value is not None and value.origin
            else _turned(value, axes) if node.op_type in BROADCASTING else value for value in inputs]


def _turned(value, axes):
    array = value.constant.reshape((1,) * (len(axes) - value.constant.ndim) + value.constant.shape)
    array = array.transpose(np.argsort(axes))
    return replace(value, constant=array, shape=array.shape)
