"""Arithmetic with broadcasting, activations, and what does nothing at inference."""
import functools

import numpy as np
import onnx

from mxelm.backbones.onnx.values import Unsupported, reshape
from mxelm.runtime import mx


def _binary(operation, same_shape=None):
    """A function for a binary operator: NumPy's broadcasting, a scalar constant as a number, equal shapes apart.

    MXNet fuses a convolution with an elemwise_add behind it, not with a broadcast_add.
    """
    def function(node):
        left, right = (_operand(node, position) for position in (0, 1))
        if same_shape and node.shape(0) == node.shape(1):
            return getattr(mx.sym, same_shape)(left, right)
        if isinstance(left, float) or isinstance(right, float):
            return _with_scalar(operation, left, right)
        return getattr(mx.sym, f"broadcast_{operation}")(left, right)
    return function


def _operand(node, position):
    """A number where the input is one, else a symbol, brought to the other's axes where opset 6 says which."""
    value = node.inputs[position]
    if value.constant is not None and value.constant.size == 1 and len(value.shape) <= len(node.shape(1 - position)):
        return float(value.constant.reshape(()))
    symbol = node.symbol(position)
    axis = node.attribute("axis")
    if position == 1 and node.opset < 7 and node.attribute("broadcast") and axis is not None:
        shape = value.shape + (1,) * (len(node.shape(0)) - axis - len(value.shape))
        symbol = reshape(symbol, value.shape, shape)
    return symbol


def _with_scalar(operation, left, right):
    return {"add": lambda: left + right, "sub": lambda: left - right, "mul": lambda: left * right,
            "div": lambda: left / right, "power": lambda: mx.sym.pow(left, right)}[operation]()


def _div(node):
    """A quotient; of whole numbers the whole part."""
    quotient = _binary("div")(node)
    return quotient if node.inputs[0].elem_type == onnx.TensorProto.FLOAT else mx.sym.trunc(quotient)


def _variadic(operation):
    """A function for an operator of any number of inputs."""
    def function(node):
        return functools.reduce(operation, node.symbols)
    return function


def _sum(node):
    equal = all(value.shape == node.outputs[0] for value in node.inputs)
    add = mx.sym.elemwise_add if equal else mx.sym.broadcast_add
    return functools.reduce(add, node.symbols)


def _mean(node):
    return functools.reduce(mx.sym.broadcast_add, node.symbols) / len(node.inputs)


def _unary(name):
    return lambda node: getattr(mx.sym, name)(node.x)


def _activation(kind):
    return lambda node: mx.sym.Activation(node.x, act_type=kind)


def _same(node):
    return mx.sym.identity(node.x)


def _dropout(node):
    if node.has(2) and bool(node.constant(2)) and node.setting("ratio", 1, 0.5):
        raise Unsupported("it is in training mode")
    return [mx.sym.identity(node.x), mx.sym.ones_like(node.x)][:len(node.outputs)]


def _cast(node):
    types = onnx.TensorProto
    to = node.attribute("to") if node.proto.op_type == "Cast" else node.inputs[1].elem_type
    if to not in (types.FLOAT, types.FLOAT16, types.DOUBLE, types.BFLOAT16):
        raise Unsupported(f"it casts to {types.DataType.Name(to).lower()}")
    return mx.sym.identity(node.x)


def _clip(node):
    low, high = node.setting("min", 1, -np.inf), node.setting("max", 2, np.inf)
    x = node.x
    if low == 0 and high == np.inf:
        return mx.sym.Activation(x, act_type="relu")
    if np.isfinite([low, high]).all() and low <= high:
        return mx.sym.clip(x, a_min=low, a_max=high)
    # numbers beyond both limits, and limits in the wrong order, as NumPy's clip has them
    x = mx.sym.broadcast_maximum(x, node.parameter("low", low)) if np.isfinite(low) else mx.sym.identity(x)
    return mx.sym.broadcast_minimum(x, node.parameter("high", high)) if np.isfinite(high) else x


def _leaky_relu(node):
    return mx.sym.LeakyReLU(node.x, act_type="leaky", slope=node.attribute("alpha", 0.01))


def _prelu(node):
    slope, width = node.symbol(1), len(node.shape(0))
    if node.opset < 7 and len(node.shape(1)) == 1 and width > 1:  # a slope a channel
        slope = reshape(slope, node.shape(1), (*node.shape(1), *(1,) * (width - 2)))
    return mx.sym.relu(node.x) - mx.sym.broadcast_mul(mx.sym.relu(-node.x), slope)


def _exponential_below_zero(node, alpha, scale=1.0, gamma=1.0):
    """gamma * (max(x, 0) + alpha * (exp(min(x, 0) / scale) - 1))."""
    below = mx.sym.expm1(-mx.sym.relu(-node.x) / scale)
    return gamma * (mx.sym.relu(node.x) + alpha * below)


def _elu(node):
    return _exponential_below_zero(node, node.attribute("alpha", 1.0))


def _celu(node):
    alpha = node.attribute("alpha", 1.0)
    return _exponential_below_zero(node, alpha, alpha)


def _selu(node):
    early = node.opset < 6
    return _exponential_below_zero(node, node.attribute("alpha", 1.6732 if early else 1.67326319217681884765625), 1.0,
                                   node.attribute("gamma", 1.0507 if early else 1.05070102214813232421875))


def _thresholded_relu(node):
    return node.x * (node.x > node.attribute("alpha", 1.0))


def _hard_sigmoid(node):
    return mx.sym.hard_sigmoid(node.x, alpha=node.attribute("alpha", 0.2), beta=node.attribute("beta", 0.5))


def _hard_swish(node):
    return node.x * mx.sym.hard_sigmoid(node.x, alpha=1 / 6, beta=0.5)


def _gelu(node):
    x = node.x
    if node.attribute("approximate", "none") == "tanh":
        return 0.5 * x * (1 + mx.sym.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))
    return mx.sym.LeakyReLU(x, act_type="gelu")


def _mish(node):
    return node.x * mx.sym.tanh(mx.sym.Activation(node.x, act_type="softrelu"))


def _softmax(function):
    """Along one axis since opset 13; along all axes from `axis` on, taken as one, before."""
    def made(node):
        shape = node.shape()
        axis = node.attribute("axis", 1 if node.opset < 13 else -1) % max(len(shape), 1)
        if node.opset >= 13 or set(shape[axis + 1:]) <= {1}:
            return function(node.x, axis=axis)
        flat = (*shape[:axis], int(np.prod(shape[axis:])))
        return reshape(function(reshape(node.x, shape, flat), axis=-1), flat, shape)
    return made


TABLE = {
    "Add": _binary("add", "elemwise_add"), "Sub": _binary("sub"), "Mul": _binary("mul", "elemwise_mul"),
    "Div": _div, "Pow": _binary("power"),
    "Max": _variadic(lambda a, b: mx.sym.broadcast_maximum(a, b)),
    "Min": _variadic(lambda a, b: mx.sym.broadcast_minimum(a, b)), "Sum": _sum, "Mean": _mean,
    "Abs": _unary("abs"), "Neg": _unary("negative"), "Exp": _unary("exp"), "Log": _unary("log"),
    "Sqrt": _unary("sqrt"), "Reciprocal": _unary("reciprocal"), "Floor": _unary("floor"), "Ceil": _unary("ceil"),
    "Sign": _unary("sign"), "Erf": _unary("erf"), "Softsign": _unary("softsign"),
    "Relu": _activation("relu"), "Sigmoid": _activation("sigmoid"), "Tanh": _activation("tanh"),
    "Softplus": _activation("softrelu"),
    "Identity": _same, "Dropout": _dropout, "Cast": _cast, "CastLike": _cast, "Clip": _clip,
    "LeakyRelu": _leaky_relu, "PRelu": _prelu, "Elu": _elu, "Celu": _celu, "Selu": _selu,
    "ThresholdedRelu": _thresholded_relu, "HardSigmoid": _hard_sigmoid, "HardSwish": _hard_swish, "Gelu": _gelu,
    "Mish": _mish, "Softmax": _softmax(lambda x, axis: mx.sym.softmax(x, axis=axis)),
    "LogSoftmax": _softmax(lambda x, axis: mx.sym.log_softmax(x, axis=axis)),
}
# of these a transpose before, which all inputs share, is a transpose behind
BROADCASTING = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean"}
# of these a transpose before is a transpose behind
POINTWISE = {"Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Sign", "Erf", "Softsign", "Relu",
             "Sigmoid", "Tanh", "Softplus", "Identity", "Dropout", "Cast", "Clip", "LeakyRelu", "Elu", "Celu", "Selu",
             "ThresholdedRelu", "HardSigmoid", "HardSwish", "Gelu", "Mish"}
