"""What a layer of MXNet becomes in ONNX: one small function an operator, from a Layer to the name of its output."""
from __future__ import annotations

import numpy as np

from mxelm.backbones.onnx import layers_today
from mxelm.backbones.onnx.values import BATCH


def _sizes(layer, kernel):
    n = len(kernel)
    return {"kernel_shape": list(kernel), "strides": list(layer.get("stride") or (1,) * n),
            "pads": list(layer.get("pad") or (0,) * n) * 2}


def _convolution(layer):
    sizes = _sizes(layer, layer.get("kernel"))
    dilations = list(layer.get("dilate") or (1,) * len(sizes["kernel_shape"]))
    return layer.add("Conv", *layer.inputs, **sizes, dilations=dilations, group=layer.get("num_group", 1))


def _deconvolution(layer):
    if layer.get("target_shape") or any(layer.get("adj") or ()):
        layer.fail("it says its output's size")
    sizes = _sizes(layer, layer.get("kernel"))
    dilations = list(layer.get("dilate") or (1,) * len(sizes["kernel_shape"]))
    return layer.add("ConvTranspose", *layer.inputs, **sizes, dilations=dilations, group=layer.get("num_group", 1))


def _batch_norm(layer):
    x, gamma, *rest = layer.inputs
    if layer.get("axis", 1) != 1:
        layer.fail("it normalises another axis than the second")
    if layer.get("fix_gamma", True):
        gamma = layer.model.constant(np.ones(layer.shapes[1]), f"{layer.name}_ones")
    return layer.add("BatchNormalization", x, gamma, *rest, epsilon=float(layer.get("eps", 1e-3)))


def _pooling(layer):
    kind, x = layer.get("pool_type", "max"), layer.inputs[0]
    if layer.get("global_pool", False):
        return layer.add({"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}.get(kind) or layer.fail(kind), x)
    sizes = {**_sizes(layer, layer.get("kernel")), "ceil_mode": int(layer.get("pooling_convention") == "full")}
    if kind == "max":
        return layer.add("MaxPool", x, **sizes)
    include = int(layer.get("count_include_pad", True))
    if kind == "avg" and layer.get("pooling_convention", "valid") in ("valid", "full"):
        return layer.add("AveragePool", x, **sizes, count_include_pad=include)
    if kind == "sum" and not sizes["ceil_mode"]:
        mean = layer.model.add("AveragePool", x, **sizes, count_include_pad=1)
        return layer.add("Mul", mean, layer.model.constant(np.float32(np.prod(sizes["kernel_shape"]))))
    layer.fail(f"its kind {kind}, rounded {layer.get('pooling_convention')}")


def _adaptive_pooling(layer):
    if layer.outputs[0][2:] != (1, 1):
        layer.fail("its output has more than one place")
    return layer.add("GlobalAveragePool", layer.inputs[0])


def _fully_connected(layer):
    x, weight, *bias = layer.inputs
    if layer.get("flatten", True):
        flat = x if len(layer.shapes[0]) == 2 else layer.model.add("Flatten", x, axis=1)
        return layer.add("Gemm", flat, weight, *bias, transB=1)
    transposed = layer.model.constant(layer.arrays[1].T, f"{weight}_transposed") if layer.arrays[1] is not None else \
        layer.model.add("Transpose", weight, perm=[1, 0])
    if not bias:
        return layer.add("MatMul", x, transposed)
    return layer.add("Add", layer.model.add("MatMul", x, transposed), bias[0])


def _simple(operator, **attributes):
    return lambda layer: layer.add(operator, *layer.inputs, **attributes)


def _first(operator, **attributes):
    """Of the first input alone: a loss layer's label is left out."""
    return lambda layer: layer.add(operator, layer.inputs[0], **attributes)


def _scalar(operator, reverse=False):
    def function(layer):
        number = layer.model.constant(np.float32(layer.get("scalar")))
        return layer.add(operator, *((number, layer.inputs[0]) if reverse else (layer.inputs[0], number)))
    return function


def _activation(layer):
    kinds = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    return layer.add(kinds.get(layer.get("act_type")) or layer.fail(layer.get("act_type")), layer.inputs[0])


def _leaky_relu(layer):
    kind = layer.get("act_type", "leaky")
    if kind == "prelu":
        shape = (1, -1, *(1,) * (len(layer.shapes[0]) - 2))
        slope = layer.model.constant(layer.arrays[1].reshape(shape), f"{layer.name}_slope")
        return layer.add("PRelu", layer.inputs[0], slope)
    if kind == "gelu":
        return _gelu(layer)
    operator = {"leaky": "LeakyRelu", "elu": "Elu"}.get(kind) or layer.fail(kind)
    return layer.add(operator, layer.inputs[0], alpha=float(layer.get("slope", 0.25)))


def _gelu(layer):
    x, model = layer.inputs[0], layer.model
    erf = model.add("Erf", model.add("Div", x, model.constant(np.float32(np.sqrt(2)))))
    half = model.add("Mul", x, model.constant(np.float32(0.5)))
    return layer.add("Mul", half, model.add("Add", erf, model.constant(np.float32(1))))


def _clip(layer):
    low, high = (layer.model.constant(np.float32(layer.get(name))) for name in ("a_min", "a_max"))
    return layer.add("Clip", layer.inputs[0], low, high)


def _softmax(operator):
    def function(layer):
        if layer.get("temperature") not in (None, 1.0):
            layer.fail("it has a temperature")
        return layer.add(operator, layer.inputs[0], axis=layer.get("axis", -1))
    return function


def _softmax_output(layer):
    multi = layer.get("multi_output", False)
    return layer.add("Softmax", layer.inputs[0], axis=1 if multi or len(layer.shapes[0]) == 2 else -1)


def _reshape(layer):
    """To the output's shape, the batch as what is left."""
    shape = [-1 if n % BATCH == 0 else n for n in layer.outputs[0]]
    if shape.count(-1) > 1:
        layer.fail("it has the batch in two axes")
    return layer.add("Reshape", layer.inputs[0], layer.model.constant(shape))


def _pad(layer):
    width = layer.get("pad_width")
    pads = layer.model.constant([*width[::2], *width[1::2]])
    value = layer.model.constant(np.float32(layer.get("constant_value", 0)))
    return layer.add("Pad", layer.inputs[0], pads, value, mode=layer.get("mode", "constant"))


def _slice_axis(layer):
    axis, begin, end = layer.get("axis"), layer.get("begin"), layer.get("end")
    end = np.iinfo(np.int64).max if end is None else end
    return layer.add("Slice", layer.inputs[0], *(layer.model.constant([n]) for n in (begin, end, axis)))


def _slice(layer):
    axes = range(len(layer.get("begin")))
    steps = layer.get("step") or (1,) * len(axes)
    given = [(axis, begin, end, step or 1) for axis, begin, end, step in
             zip(axes, layer.get("begin"), layer.get("end"), steps) if (begin, end, step or 1) != (None, None, 1)]
    if not given:
        return layer.add("Identity", layer.inputs[0])
    far = np.iinfo(np.int64).max
    starts = [(0 if step > 0 else far) if begin is None else begin for _, begin, _, step in given]
    ends = [(far if step > 0 else -far) if end is None else end for _, _, end, step in given]
    parts = (starts, ends, [axis for axis, *_ in given], [step for *_, step in given])
    return layer.add("Slice", layer.inputs[0], *map(layer.model.constant, parts))


def _split(layer):
    n, axis = layer.get("num_outputs"), layer.get("axis", 1)
    if n == 1:
        return [layer.add("Identity", layer.inputs[0])]
    parts = layer.add("Split", layer.inputs[0], outputs=n, axis=axis)
    if not layer.get("squeeze_axis", False):
        return parts
    return [layer.model.add("Squeeze", part, layer.model.constant([axis]), name=f"{part}_squeezed") for part in parts]


def _stack(layer):
    axis = layer.get("axis", 0)
    parts = [layer.model.add("Unsqueeze", x, layer.model.constant([axis])) for x in layer.inputs]
    return layer.add("Concat", *parts, axis=axis)


def _concat(layer):
    return layer.add("Concat", *layer.inputs, axis=layer.get("dim", 1))


def _transpose(layer):
    axes = layer.get("axes") or range(len(layer.shapes[0]))[::-1]
    return layer.add("Transpose", layer.inputs[0], perm=list(axes))


def _reduce(operator):
    def function(layer):
        axes = layer.get("axis")
        axes = [axes] if isinstance(axes, int) else list(axes or range(len(layer.shapes[0])))
        keep = int(layer.get("keepdims", False))
        if operator == "ReduceSum":  # the one whose axes are an input in opset 13
            return layer.add(operator, layer.inputs[0], layer.model.constant(axes), keepdims=keep)
        return layer.add(operator, layer.inputs[0], axes=axes, keepdims=keep)
    return function


def _lrn(layer):
    return layer.add("LRN", layer.inputs[0], size=layer.get("nsize"), alpha=float(layer.get("alpha", 1e-4)),
                     beta=float(layer.get("beta", 0.75)), bias=float(layer.get("knorm", 2)))


TABLE = {
    "Convolution": _convolution, "Deconvolution": _deconvolution, "BatchNorm": _batch_norm, "Pooling": _pooling,
    "_contrib_AdaptiveAvgPooling2D": _adaptive_pooling, "FullyConnected": _fully_connected,
    "Activation": _activation, "LeakyReLU": _leaky_relu, "clip": _clip, "LRN": _lrn,
    **{name: _simple(operator) for name, operator in {
        "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs",
        "negative": "Neg", "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "sign": "Sign", "reciprocal": "Reciprocal",
        "elemwise_add": "Add", "broadcast_add": "Add", "elemwise_sub": "Sub", "broadcast_sub": "Sub",
        "elemwise_mul": "Mul", "broadcast_mul": "Mul", "broadcast_power": "Pow",
        "elemwise_div": "Div", "broadcast_div": "Div",
        "broadcast_maximum": "Max", "broadcast_minimum": "Min", "add_n": "Sum", "ElementWiseSum": "Sum"}.items()},
    **{name: _first("Identity") for name in ("BlockGrad", "_copy", "identity", "Dropout", "LinearRegressionOutput",
                                             "MAERegressionOutput")},
    "LogisticRegressionOutput": _first("Sigmoid"), "Flatten": _first("Flatten", axis=1),
    "softmax": _softmax("Softmax"), "log_softmax": _softmax("LogSoftmax"), "SoftmaxOutput": _softmax_output,
    "SoftmaxActivation": _first("Softmax", axis=1),
    **{f"_{name}_scalar": _scalar(operator) for name, operator in {
        "plus": "Add", "minus": "Sub", "mul": "Mul", "div": "Div", "power": "Pow", "maximum": "Max",
        "minimum": "Min"}.items()},
    **{f"_r{name}_scalar": _scalar(operator, True) for name, operator in {
        "minus": "Sub", "div": "Div", "power": "Pow"}.items()},
    "Reshape": _reshape, "reshape": _reshape, "expand_dims": _reshape, "squeeze": _reshape, "Pad": _pad, "pad": _pad,
    "slice_axis": _slice_axis, "slice": _slice, "SliceChannel": _split, "stack": _stack, "Concat": _concat,
    "concat": _concat, "transpose": _transpose, "mean": _reduce("ReduceMean"), "sum": _reduce("ReduceSum"),
    "max": _reduce("ReduceMax"), "min": _reduce("ReduceMin"), "prod": _reduce("ReduceProd"), **layers_today.TABLE,
}
