"""Poolings, whose windows ONNX places with more freedom than MXNet: uneven pads, dilations, overhanging windows."""
import functools
import itertools

import numpy as np

from mxelm.backbones.onnx.operators.padding import pad, spatial_pads
from mxelm.backbones.onnx.values import Unsupported
from mxelm.runtime import mx

LOWEST = float(np.finfo(np.float32).min)


class _Windows:
    """Where the windows of a pooling lie. overhang: pads with which the last window of each axis just fits."""

    def __init__(self, node):
        self.kernel = tuple(node.attribute("kernel_shape"))
        ones = [1] * len(self.kernel)
        self.strides = tuple(node.attribute("strides", ones))
        self.dilations = tuple(node.attribute("dilations", ones))
        self.inputs, self.outputs = node.shape()[2:], node.outputs[0][2:]
        self.pads = spatial_pads(node, self.kernel, self.strides, self.dilations)
        self.shape = node.shape()
        ends = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in
                zip(self.outputs, self.strides, self.kernel, self.dilations)]
        self.overhang = [(before, max(end - n - before, 0))
                         for (before, _), end, n in zip(self.pads, ends, self.inputs)]

    def convention(self):
        """MXNet's name for the rounding that gives these windows with even pads, None where there is none."""
        if any(d > 1 for d in self.dilations) or any(before != after for before, after in self.pads):
            return None
        for name, divide in (("valid", lambda a, b: a // b), ("full", lambda a, b: -(-a // b))):
            sizes = [divide(n + 2 * p - k, s) + 1 for n, (p, _), k, s in
                     zip(self.inputs, self.pads, self.kernel, self.strides)]
            if tuple(sizes) == tuple(self.outputs):
                return name
        return None

    def pool(self, x, kind, pads, **options):
        """MXNet's pooling with even pads (one an axis)."""
        return mx.sym.Pooling(x, kernel=self.kernel, stride=self.strides, pad=pads, pool_type=kind, **options)

    def reduce(self, x, operation, kind, fill):
        """Windows over x padded with `fill`, by strided slices where they are dilated."""
        x, shape = pad(x, self.shape, [(0, 0), (0, 0), *self.overhang], value=fill)
        if max(self.dilations) == 1:
            return self.pool(x, kind, (0,) * len(self.kernel))
        parts = []
        for place in itertools.product(*map(range, self.kernel)):
            begins = [p * d for p, d in zip(place, self.dilations)]
            ends = [b + (o - 1) * s + 1 for b, o, s in zip(begins, self.outputs, self.strides)]
            parts.append(mx.sym.slice(x, begin=(None, None, *begins), end=(None, None, *ends),
                                      step=(None, None, *self.strides)))
        return functools.reduce(operation, parts)

    def counts(self, include_pad):
        """Numbers that each window takes the mean of, float32 (1, 1, ...): the image's own, or with its pads."""
        made = np.ones((1, 1), np.float32)
        for axis, (before, after) in enumerate(self.pads):
            starts = np.arange(self.outputs[axis]) * self.strides[axis] - before
            places = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
            low, high = (-before, self.inputs[axis] + after) if include_pad else (0, self.inputs[axis])
            n = ((places >= low) & (places < high)).sum(axis=1)
            made = made[..., None] * n.astype(np.float32)
        return made


def _max_pool(node):
    if any(node.used[1:]):
        raise Unsupported("the places of its maxima are an output")
    windows = _Windows(node)
    convention = windows.convention()
    if convention:
        return windows.pool(node.x, "max", tuple(p for p, _ in windows.pads), pooling_convention=convention)
    return windows.reduce(node.x, mx.sym.broadcast_maximum, "max", LOWEST)


def _average_pool(node):
    windows, include = _Windows(node), bool(node.attribute("count_include_pad", 0))
    convention = windows.convention()
    if convention:
        return windows.pool(node.x, "avg", tuple(p for p, _ in windows.pads), pooling_convention=convention,
                            count_include_pad=include)
    sums = windows.reduce(node.x, mx.sym.elemwise_add, "sum", 0.0)
    return mx.sym.broadcast_div(sums, node.parameter(f"{node.name}_counts", windows.counts(include)))


def _lp_pool(node):
    """(sum of |x|^p)^(1/p) over each window."""
    windows, p = _Windows(node), node.attribute("p", 2)
    powers = mx.sym.abs(node.x) ** p
    return windows.reduce(powers, mx.sym.elemwise_add, "sum", 0.0) ** (1 / p)


def _global(kind):
    def function(node):
        n_axes = len(node.shape()) - 2
        if n_axes > 3:
            raise Unsupported(f"it pools {n_axes} axes")
        return mx.sym.Pooling(node.x, kernel=(1,) * n_axes, pool_type=kind, global_pool=True)
    return function


TABLE = {"MaxPool": _max_pool, "AveragePool": _average_pool, "LpPool": _lp_pool,
         "GlobalMaxPool": _global("max"), "GlobalAveragePool": _global("avg")}
