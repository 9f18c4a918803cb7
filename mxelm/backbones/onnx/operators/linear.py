"""Products of matrices: a constant on the right makes a FullyConnected layer, which MXNet is fastest at."""
import numpy as np

from mxelm.backbones.onnx.values import reshape
from mxelm.runtime import mx


def _gemm(node):
    """alpha A' B' + beta C, for matrices."""
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    transpose_a, transpose_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    a = mx.sym.transpose(node.x) if transpose_a else node.x
    with_bias = node.has(2) and beta != 0
    if node.is_constant(1):
        weight = node.constant(1) if transpose_b else node.constant(1).T
        if with_bias and node.is_constant(2) and node.constant(2).size == len(weight):
            return _fully_connected(node, a, alpha * weight, beta * node.constant(2).reshape(-1))
        product = _fully_connected(node, a, alpha * weight)
    else:
        product = mx.sym.dot(a, node.symbol(1), transpose_b=transpose_b)
        product = product if alpha == 1 else alpha * product
    if not with_bias:
        return product
    c = node.symbol(2) if beta == 1 else beta * node.symbol(2)
    return mx.sym.broadcast_add(product, c)


def _matmul(node):
    """NumPy's matmul."""
    if node.is_constant(1) and len(node.shape(1)) == 2 and len(node.shape(0)) >= 2:
        return _fully_connected(node, node.x, node.constant(1).T)
    left, right = node.shape(0), node.shape(1)
    a, b = node.symbols
    if len(left) == 1:
        a, left = mx.sym.expand_dims(a, axis=0), (1, *left)
    if len(right) == 1:
        b, right = mx.sym.expand_dims(b, axis=1), (*right, 1)
    if len(left) == len(right) == 2:
        product = mx.sym.dot(a, b)
    else:
        lead = np.broadcast_shapes(left[:-2], right[:-2])
        product = mx.sym.linalg_gemm2(_to(a, left, lead), _to(b, right, lead))
    lead = np.broadcast_shapes(left[:-2], right[:-2])
    return reshape(product, (*lead, left[-2], right[-1]), node.outputs[0])


def _to(x, shape, lead):
    """x with its leading axes broadcast to `lead`."""
    whole = (*lead, *shape[-2:])
    if shape == whole:
        return x
    padded = (1,) * (len(whole) - len(shape)) + shape
    x = reshape(x, shape, padded)
    return mx.sym.broadcast_to(x, shape=tuple(0 if old == new else new for old, new in zip(padded, whole)))


def _fully_connected(node, x, weight, bias=None):
    """x weight^T + bias over the last axis. weight: array (n_outputs, n_inputs)."""
    parameters = [node.parameter(node.inputs[1].name, weight)]
    if bias is not None:
        parameters.append(node.parameter(node.inputs[2].name, bias))
    return mx.sym.FullyConnected(x, *parameters, num_hidden=len(weight), no_bias=bias is None, flatten=False)


TABLE = {"Gemm": _gemm, "MatMul": _matmul}
