"""Normalisations. MXNet's own layers where they fit, else means and variances written out."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mxelm.backbones.onnx.values import Unsupported, reshape
from mxelm.runtime import mx


def _batch_normalization(node):
    if node.attribute("training_mode", 0) or node.attribute("spatial", 1) != 1 or any(node.used[1:]):
        raise Unsupported("it is in training mode, or normalises each place by itself")
    gamma, beta = node.symbol(1), node.symbol(2)
    mean, var = (node.statistic(node.inputs[i].name, node.constant(i)) for i in (3, 4))
    return mx.sym.BatchNorm(node.x, gamma, beta, mean, var, eps=node.attribute("epsilon", 1e-5), fix_gamma=False,
                            use_global_stats=True)


def standardise(x: mx.sym.Symbol, axes: Sequence[int],
                epsilon: float) -> tuple[mx.sym.Symbol, mx.sym.Symbol, mx.sym.Symbol]:
    """(x - mean) / sqrt(variance + epsilon) over `axes`: (result, mean, 1 / deviation)."""
    mean = mx.sym.mean(x, axis=axes, keepdims=True)
    centred = mx.sym.broadcast_sub(x, mean)
    inverse = mx.sym.rsqrt(mx.sym.mean(mx.sym.square(centred), axis=axes, keepdims=True) + epsilon)
    return mx.sym.broadcast_mul(centred, inverse), mean, inverse


def _layer_normalization(node):
    """Over all axes from `axis` on, which MXNet takes as one."""
    shape, epsilon = node.shape(), node.attribute("epsilon", 1e-5)
    axis = node.attribute("axis", -1) % len(shape)
    if any(node.used[1:]):
        y, mean, inverse = standardise(node.x, tuple(range(axis, len(shape))), epsilon)
        y = mx.sym.broadcast_mul(y, node.symbol(1))
        return [mx.sym.broadcast_add(y, node.symbol(2)) if node.has(2) else y, mean, inverse]
    n = int(np.prod(shape[axis:]))
    flat = (*shape[:axis], n)
    gamma = reshape(node.symbol(1), node.shape(1), (n,))
    beta = (reshape(node.symbol(2), node.shape(2), (n,)) if node.has(2)
            else node.parameter(f"{node.name}_beta", np.zeros(n)))
    return reshape(mx.sym.LayerNorm(reshape(node.x, shape, flat), gamma, beta, axis=-1, eps=epsilon), flat, shape)


def _instance_normalization(node):
    return mx.sym.InstanceNorm(node.x, node.symbol(1), node.symbol(2), eps=node.attribute("epsilon", 1e-5))


def _group_normalization(node):
    """Groups of channels; scale and bias are a number a group before opset 21, a channel since."""
    shape, groups = node.shape(), node.attribute("num_groups")
    grouped = (shape[0], groups, int(np.prod(shape[1:])) // groups)
    y, _, _ = standardise(reshape(node.x, shape, grouped), (2,), node.attribute("epsilon", 1e-5))
    y = reshape(y, grouped, shape)
    for position, operation in ((1, mx.sym.broadcast_mul), (2, mx.sym.broadcast_add)):
        factors, n = node.symbol(position), node.shape(position)[0]
        if n != shape[1]:
            factors = mx.sym.repeat(factors, repeats=shape[1] // n)
        y = operation(y, mx.sym.reshape(factors, shape=(1, shape[1], *(1,) * (len(shape) - 2))))
    return y


def _lrn(node):
    return mx.sym.LRN(node.x, nsize=node.attribute("size"), alpha=node.attribute("alpha", 1e-4),
                      beta=node.attribute("beta", 0.75), knorm=node.attribute("bias", 1.0))


def _lp_normalization(node):
    axis = node.attribute("axis", -1)
    norm = mx.sym.norm(node.x, ord=node.attribute("p", 2), axis=axis, keepdims=True)
    return mx.sym.broadcast_div(node.x, norm)


TABLE = {"BatchNormalization": _batch_normalization, "LayerNormalization": _layer_normalization,
         "InstanceNormalization": _instance_normalization, "GroupNormalization": _group_normalization, "LRN": _lrn,
         "LpNormalization": _lp_normalization}
