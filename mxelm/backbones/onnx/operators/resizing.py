"""Resize and Upsample. Resizing is linear and treats each axis by itself: a product with a constant matrix an axis.

The matrix is what ONNX's reference makes of the unit matrix, so that every rounding rule is the standard's own.
"""
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from mxelm.backbones.onnx.values import BATCH, Unsupported
from mxelm.runtime import mx

_RULES = ("mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias")


def _resize(node):
    if node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Unsupported("it crops")
    return _resized(node, {name: node.attribute(name) for name in _RULES if node.attribute(name) is not None})


def _resize_10(node):
    rules = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resized(node, {"mode": node.attribute("mode", "nearest"), **rules})


def _resized(node, rules):
    x, shape, new = node.x, node.shape(), node.outputs[0]
    scales = _scales(node)
    for axis, (old_size, new_size) in enumerate(zip(shape, new)):
        if scales[axis] == 1 and old_size == new_size:
            continue
        if old_size == BATCH:
            raise Unsupported("it resizes the batch axis")
        matrix = _matrix(old_size, new_size, scales[axis], rules)
        x = _repeated(x, matrix, axis) if _repeats(matrix) else _product(node, x, matrix, axis, len(shape))
    return x


def _scales(node):
    """A factor for each axis, as the node says it, or from its sizes."""
    shape, new = node.shape(), node.outputs[0]
    position = 1 if node.opset < 11 or node.proto.op_type == "Upsample" else 2
    scales = node.attribute("scales") or (node.constant(position).tolist() if node.has(position) else [])
    axes = [axis % len(shape) for axis in node.attribute("axes", range(len(shape)))]
    made = [1.0] * len(shape)
    if scales:
        for axis, scale in zip(axes, scales):
            made[axis] = scale
        return made
    sizes = node.constant(3)
    for axis, size in zip(axes, sizes):
        made[axis] = size / shape[axis]
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        one = (min if policy == "not_larger" else max)(made[axis] for axis in axes)
        made = [one if axis in axes else 1.0 for axis in range(len(new))]
    return made


def _matrix(old_size, new_size, scale, rules):
    """float32 (new_size, old_size)."""
    one = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], **rules)
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([one], "resize", [tensor("x", 1, None), tensor("scales", 1, None)],
                                   [tensor("y", 1, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    evaluator = ReferenceEvaluator(model)
    unit = np.eye(old_size, dtype=np.float32)
    columns = [evaluator.run(None, {"x": column, "scales": np.float32([scale])})[0] for column in unit]
    matrix = np.stack(columns, axis=1).astype(np.float32)
    if matrix.shape != (new_size, old_size):
        raise Unsupported(f"it makes {new_size} places of {old_size} in a way that is not known")
    return matrix


def _repeats(matrix):
    """Whether each place is repeated a whole number of times."""
    times, rest = divmod(*matrix.shape)
    return rest == 0 and np.array_equal(matrix, np.repeat(np.eye(matrix.shape[1]), times, axis=0))


def _repeated(x, matrix, axis):
    return mx.sym.repeat(x, repeats=len(matrix) // matrix.shape[1], axis=axis)


def _product(node, x, matrix, axis, n_axes):
    """matrix times the axis, which goes to the end for it."""
    order = [*(i for i in range(n_axes) if i != axis), axis]
    weight = node.parameter(f"{node.name}_{axis}", matrix)
    x = mx.sym.FullyConnected(mx.sym.transpose(x, axes=tuple(order)), weight, num_hidden=len(matrix), no_bias=True,
                              flatten=False)
    return mx.sym.transpose(x, axes=tuple(np.argsort(order).tolist()))


TABLE = {"Resize": lambda node: _resize_10(node) if node.opset < 11 else _resize(node), "Upsample": _resize_10}
