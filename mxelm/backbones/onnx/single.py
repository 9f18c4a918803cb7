"""One node by itself: its value where all it takes in is constant, the shapes of its outputs where not."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx
from onnx.reference import ReferenceEvaluator

from mxelm.backbones.onnx.values import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from mxelm.backbones.onnx.values import Value

_MOST_KNOWN = 4096  # numbers of a constant that decides a shape


def _alone(node, types, known, model):
    """A model of one node. types: name of an input -> (element type, shape). known: name -> array, as initializers."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node], "alone", [info(name, *told) for name, told in types.items()],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
        [onnx.numpy_helper.from_array(array, name) for name, array in known.items()])
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4))


def evaluate(node: onnx.NodeProto, inputs: Sequence[Value | None], model: onnx.ModelProto) -> list[np.ndarray]:
    """The node's outputs by ONNX's reference implementation."""
    named = {name: value for name, value in zip(node.input, inputs) if name}
    alone = _alone(node, {name: (value.elem_type, None) for name, value in named.items()}, {}, model)
    try:
        return ReferenceEvaluator(alone).run(None, {name: value.constant for name, value in named.items()})
    except Exception as error:  # the reference raises anything for what it cannot do
        raise Unsupported(f"the constant it makes cannot be computed ({type(error).__name__}: {error})") from None


def infer(node: onnx.NodeProto, inputs: Sequence[Value | None], used: Sequence[bool],
          model: onnx.ModelProto) -> tuple[list, list]:
    """Shapes and element types of a node's outputs by ONNX's own inference; None for what nothing needs."""
    named = {name: value for name, value in zip(node.input, inputs) if name}
    known = {name: value.constant for name, value in named.items()
             if value.constant is not None and value.constant.size <= _MOST_KNOWN}
    alone = _alone(node, {name: (v.elem_type, v.shape) for name, v in named.items()}, known, model)
    try:
        found = onnx.shape_inference.infer_shapes(alone, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise Unsupported(f"its inputs do not fit ({str(error).strip().splitlines()[-1]})") from None
    types = {output.name: output.type for output in found.graph.output}
    needed = [name if needs else None for name, needs in zip(node.output, used)]
    return [name and _shape(types[name]) for name in needed], [name and _elem_type(types[name]) for name in needed]


def as_float(elem_type: int) -> int:
    """An element type, floats of any width as float32."""
    types = onnx.TensorProto
    return types.FLOAT if elem_type in (types.FLOAT16, types.DOUBLE, types.BFLOAT16) else elem_type


def _elem_type(proto):
    return as_float(proto.tensor_type.elem_type)


def _shape(proto):
    dims = proto.tensor_type.shape.dim
    if not proto.tensor_type.HasField("shape") or any(not dim.HasField("dim_value") for dim in dims):
        raise Unsupported("the shape of its output is not known beforehand")
    return tuple(dim.dim_value for dim in dims)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
