"""Padding of any axes: MXNet pads the last axes of four- and five-dimensional arrays alone."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mxelm.backbones.onnx.values import reshape
from mxelm.runtime import mx

if TYPE_CHECKING:
    from mxelm.backbones.onnx.values import Node

MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge"}


def pad(x: mx.sym.Symbol, shape: tuple[int, ...], pads: Sequence[tuple[int, int]], mode: str = "constant",
        value: float = 0.0) -> tuple[mx.sym.Symbol, tuple[int, ...]]:
    """x of `shape` padded by `pads`, (before, after) an axis; a negative number cuts. Returns (symbol, new shape)."""
    cut = [(min(a, 0), min(b, 0)) for a, b in pads]
    if any(a or b for a, b in cut):
        for axis, (a, b) in enumerate(cut):
            if a or b:
                x = mx.sym.slice_axis(x, axis=axis, begin=-a, end=b or None)
        shape = tuple(n + a + b for n, (a, b) in zip(shape, cut))
    pads = [(max(a, 0), max(b, 0)) for a, b in pads]
    spatial = len(shape) in (4, 5) and not any(n for pair in pads[:2] for n in pair)
    if mode != "wrap" and spatial and any(n for pair in pads for n in pair):
        x = mx.sym.pad(x, mode=mode, pad_width=tuple(n for pair in pads for n in pair), constant_value=value)
        return x, tuple(n + a + b for n, (a, b) in zip(shape, pads))
    for axis, pair in enumerate(pads):
        if any(pair):
            x, shape = _pad_axis(x, shape, axis, pair, mode, value)
    return x, shape


def _pad_axis(x, shape, axis, pair, mode, value):
    """One axis, as the third of four."""
    new = tuple(n + sum(pair) if i == axis else n for i, n in enumerate(shape))
    if mode == "wrap":
        n = shape[axis]
        parts = [mx.sym.slice_axis(x, axis=axis, begin=n - pair[0], end=n)] if pair[0] else []
        parts += [x, *([mx.sym.slice_axis(x, axis=axis, begin=0, end=pair[1])] if pair[1] else [])]
        return mx.sym.concat(*parts, dim=axis), new
    before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1:]))
    x = reshape(x, shape, (before, 1, shape[axis], after))
    x = mx.sym.pad(x, mode=mode, pad_width=(0, 0, 0, 0, *pair, 0, 0), constant_value=value)
    return reshape(x, (before, 1, new[axis], after), new), new


def spatial_pads(node: Node, kernel: Sequence[int], strides: Sequence[int],
                 dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis, as pads or auto_pad say."""
    n, auto = len(kernel), node.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = node.attribute("pads", [0] * 2 * n)
        return list(zip(pads[:n], pads[n:]))
    if auto == "VALID":
        return [(0, 0)] * n
    made = []
    for size, k, s, d in zip(node.shape()[2:], kernel, strides, dilations):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        less, more = total // 2, total - total // 2
        made.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return made
