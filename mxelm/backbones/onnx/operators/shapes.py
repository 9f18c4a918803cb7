"""What moves numbers about without changing them, and resizing, which is linear along each axis."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mxelm.backbones.onnx.operators.padding import pad
from mxelm.backbones.onnx.values import BATCH, Unsupported, reshape, spread
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.onnx.values import Node


def _reshape(node):
    """Reshape, Flatten, Squeeze, Unsqueeze: all are told by the output's shape."""
    old, new = node.shape(), node.outputs[0]
    if len(new) == 2 and old[0] == new[0] == BATCH:
        return mx.sym.Flatten(node.x)
    return mx.sym.identity(node.x) if old == new else reshape(node.x, old, new)


def _transpose(node):
    return mx.sym.transpose(node.x, axes=tuple(node.attribute("perm", range(len(node.shape()))[::-1])))


def _concat(node):
    return mx.sym.concat(*node.symbols, dim=node.attribute("axis", 1) % len(node.outputs[0]))


def _split(node):
    axis, begin, made = node.attribute("axis", 0), 0, []
    for shape in node.outputs:
        made.append(mx.sym.slice_axis(node.x, axis=axis, begin=begin, end=begin + shape[axis]))
        begin += shape[axis]
    return made


def _slice(node):
    shape = node.shape()
    starts, ends = node.setting("starts", 1), node.setting("ends", 2)
    axes, steps = node.setting("axes", 3, range(len(starts))), node.setting("steps", 4, [1] * len(starts))
    begin, end, step = ([None] * len(shape) for _ in range(3))
    for axis, a, b, s in zip(axes, starts, ends, steps):
        axis %= len(shape)
        a, b, s = slice(a, b, s).indices(shape[axis])
        if shape[axis] == BATCH and (a, b, s) == (0, BATCH, 1):
            continue
        if shape[axis] == BATCH or len(range(a, b, s)) == 0:
            raise Unsupported("it takes some images of a batch" if shape[axis] == BATCH else "nothing is left")
        begin[axis], end[axis], step[axis] = a, None if b < 0 else b, s
    return mx.sym.slice(node.x, begin=tuple(begin), end=tuple(end), step=tuple(step))


def _gather(node):
    axis, indices = node.attribute("axis", 0) % len(node.shape()), node.constant(1)
    n = node.shape()[axis]
    if n == BATCH:
        raise Unsupported("it takes some images of a batch")
    indices = np.where(indices < 0, indices + n, indices)
    if indices.ndim == 0:
        row = mx.sym.slice_axis(node.x, axis=axis, begin=int(indices), end=int(indices) + 1)
        one = (*node.shape()[:axis], 1, *node.shape()[axis + 1:])
        return reshape(row, one, node.outputs[0])
    return mx.sym.take(node.x, node.parameter(f"{node.name}_indices", indices, "float32"), axis=axis)


def _pad(node):
    n, pads = len(node.shape()), node.setting("pads", 1, node.attribute("paddings"))
    axes = [axis % n for axis in node.setting("axes", 3, range(n))]
    pairs = [(0, 0)] * n
    for axis, before, after in zip(axes, pads[:len(axes)], pads[len(axes):]):
        pairs[axis] = (before, after)
    if node.shape()[0] == BATCH and any(pairs[0]):
        raise Unsupported("it adds images to a batch")
    value = node.setting("value", 2, 0.0)
    return pad(node.x, node.shape(), pairs, node.attribute("mode", "constant"), float(np.reshape(value, ())))[0]


def _expand(node):
    return broadcast(node, node.x, node.shape(), node.outputs[0])


def broadcast(node: Node, x: mx.sym.Symbol, old: tuple[int, ...], new: tuple[int, ...]) -> mx.sym.Symbol:
    """x of shape `old` repeated to shape `new`."""
    padded = (1,) * (len(new) - len(old)) + old
    x = reshape(x, old, padded)
    if padded and padded[0] == 1 and new[0] == BATCH:
        x, padded = spread(x, node.batch), (BATCH, *padded[1:])
    return mx.sym.broadcast_to(x, shape=tuple(0 if a == b else b for a, b in zip(padded, new)))


def _tile(node):
    repeats = node.constant(1).tolist() if len(node.inputs) == 2 else None
    if repeats is None:
        raise Unsupported("its first form is not known")
    x = node.x
    for axis, n in enumerate(repeats):
        x = mx.sym.concat(*[x] * n, dim=axis) if n > 1 else x
    return x


def _depth_to_space(node):
    n, c, h, w = node.shape()
    b = node.attribute("blocksize")
    if node.attribute("mode", "DCR") == "DCR":
        split, axes, shape = (n, b, b, c // b ** 2, h, w), (0, 3, 4, 1, 5, 2), node.outputs[0]
    else:
        split, axes, shape = (n, c // b ** 2, b, b, h, w), (0, 1, 4, 2, 5, 3), node.outputs[0]
    return _rearranged(node, split, axes, shape)


def _space_to_depth(node):
    n, c, h, w = node.shape()
    b = node.attribute("blocksize")
    return _rearranged(node, (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), node.outputs[0])


def _rearranged(node, split, axes, shape):
    """Split into these axes, transpose, put together to `shape`."""
    x = mx.sym.transpose(reshape(node.x, node.shape(), split), axes=axes)
    return reshape(x, tuple(split[axis] for axis in axes), shape)


TABLE = {"Reshape": _reshape, "Flatten": _reshape, "Squeeze": _reshape, "Unsqueeze": _reshape,
         "Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather, "Pad": _pad,
         "Expand": _expand, "Tile": _tile, "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth}
