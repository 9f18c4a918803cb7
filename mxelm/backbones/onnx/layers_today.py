"""What today's networks hold beside convolutions, in ONNX: norms, products of maps, broadcasting, newer activations."""
from __future__ import annotations

import numpy as np

from mxelm.backbones.onnx.values import BATCH


def _chain(*operators):
    """One operator behind the other, each of one input."""
    def function(layer):
        x = layer.inputs[0]
        for operator in operators[:-1]:
            x = layer.model.add(operator, x)
        return layer.add(operators[-1], x)
    return function


def _square(layer):
    return layer.add("Mul", layer.inputs[0], layer.inputs[0])


def _expm1(layer):
    return layer.add("Sub", layer.model.add("Exp", layer.inputs[0]), layer.model.constant(np.float32(1)))


def _trunc(layer):
    x, model = layer.inputs[0], layer.model
    return layer.add("Mul", model.add("Sign", x), model.add("Floor", model.add("Abs", x)))


def _hard_sigmoid(layer):
    return layer.add("HardSigmoid", layer.inputs[0], alpha=float(layer.get("alpha", 0.2)),
                     beta=float(layer.get("beta", 0.5)))


def _compare(operator):
    def function(layer):
        number = layer.model.constant(np.float32(layer.get("scalar")))
        return layer.add("Cast", layer.model.add(operator, layer.inputs[0], number), to=1)
    return function


def _layer_norm(layer):
    """Over the last axis; opset 13 has no such layer."""
    if layer.get("axis", -1) not in (-1, len(layer.shapes[0]) - 1):
        layer.fail("it normalises another axis than the last")
    x, gamma, beta = layer.inputs
    add, constant = layer.model.add, layer.model.constant
    centred = add("Sub", x, add("ReduceMean", x, axes=[-1]))
    variance = add("ReduceMean", add("Mul", centred, centred), axes=[-1])
    deviation = add("Sqrt", add("Add", variance, constant(np.float32(layer.get("eps", 1e-5)))))
    return layer.add("Add", add("Mul", add("Div", centred, deviation), gamma), beta)


def _instance_norm(layer):
    return layer.add("InstanceNormalization", *layer.inputs, epsilon=float(layer.get("eps", 1e-3)))


def _product(layer):
    """Of matrices, or of stacks of them, each transposed where the layer says so."""
    factors = [layer.model.add("Transpose", x, perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2])
               if layer.get(f"transpose_{side}", False) else x
               for side, x, shape in zip("ab", layer.inputs, layer.shapes)]
    if layer.get("alpha", 1.0) == 1:
        return layer.add("MatMul", *factors)
    return layer.add("Mul", layer.model.add("MatMul", *factors), layer.model.constant(np.float32(layer.get("alpha"))))


def _broadcast_to(layer):
    """An axis of 1 in Expand's shape is the input's own."""
    return layer.add("Expand", layer.inputs[0], layer.model.constant([1 if n % BATCH == 0 else n
                                                                      for n in layer.outputs[0]]))


def _broadcast_like(layer):
    """One row for each image, whose number the other input says."""
    if layer.get("lhs_axes") != (0,) or layer.get("rhs_axes") != (0,):
        layer.fail("it is broadcast along another axis than the first")
    add, constant = layer.model.add, layer.model.constant
    batch = add("Slice", add("Shape", layer.inputs[1]), constant([0]), constant([1]))
    whole = add("Concat", batch, constant([1] * (len(layer.shapes[0]) - 1)), axis=0)
    return layer.add("Expand", layer.inputs[0], whole)


def _repeat(layer):
    axis, times, shape = layer.get("axis"), layer.get("repeats"), layer.shapes[0]
    if axis is None or shape[axis] % BATCH == 0:
        layer.fail("it repeats along no axis, or images")
    spread = [1] * (len(shape) + 1)
    spread[axis + 1] = times
    x = layer.model.add("Unsqueeze", layer.inputs[0], layer.model.constant([axis + 1]))
    x = layer.model.add("Expand", x, layer.model.constant(spread))
    return layer.add("Reshape", x, layer.model.constant([-1 if n % BATCH == 0 else n for n in layer.outputs[0]]))


def _take(layer):
    if layer.arrays[1] is None:
        layer.fail("what it takes is computed from the image")
    return layer.add("Gather", layer.inputs[0], layer.model.constant(layer.arrays[1].astype(np.int64)),
                     axis=layer.get("axis", 0))


def _norm(layer):
    axes = layer.get("axis")
    axes = [axes] if isinstance(axes, int) else list(axes or range(len(layer.shapes[0])))
    return layer.add(f"ReduceL{layer.get('ord', 2)}", layer.inputs[0], axes=axes,
                     keepdims=int(layer.get("keepdims", False)))


TABLE = {
    "square": _square, "expm1": _expm1, "trunc": _trunc, "rsqrt": _chain("Sqrt", "Reciprocal"),
    "softsign": _chain("Softsign"), "hard_sigmoid": _hard_sigmoid, "_greater_scalar": _compare("Greater"),
    "_lesser_scalar": _compare("Less"), "LayerNorm": _layer_norm, "InstanceNorm": _instance_norm, "dot": _product,
    "_linalg_gemm2": _product, "linalg_gemm2": _product, "batch_dot": _product, "broadcast_to": _broadcast_to,
    "broadcast_like": _broadcast_like, "repeat": _repeat, "take": _take, "norm": _norm,
}
