"""An ONNX model as it is put together: nodes, weights, metadata; opset 13, which every runtime of today reads."""
from __future__ import annotations

import ast
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mxelm.errors import InputError
from mxelm.files import atomic_write

if TYPE_CHECKING:
    from mxelm.graphs import Node

OPSET, IR_VERSION = 13, 8


class Model:
    """Nodes and weights so far; edges are known by their names."""

    def __init__(self) -> None:
        self.nodes, self.weights = [], {}

    def add(self, operator: str, *inputs: str, name: str | None = None, outputs: int = 1,
            **attributes: Any) -> str | list[str]:
        """A node; the name of its output, or a list of names where there are several."""
        name = name or f"{operator.lower()}{len(self.nodes)}"
        made = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, array: Any, name: str | None = None) -> str:
        """A weight; its name. Whole numbers become int64, all others float32."""
        array = np.asarray(array)
        name = name or f"constant{len(self.weights)}"
        self.weights[name] = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
        return name

    def finish(self, name: str, inputs: dict[str, tuple], outputs: dict[str, tuple],
               **metadata: Any) -> onnx.ModelProto:
        """The onnx.ModelProto. inputs, outputs: dict of edge -> (type, shape), "batch" for the free axis.

        metadata: what the model carries about itself; what is no text becomes JSON. Nodes and weights that no output
        needs are left out.
        """
        wanted, kept = set(outputs), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            kept[::-1], name, [info(edge, *told) for edge, told in inputs.items()],
            [info(edge, *told) for edge, told in outputs.items()],
            [numpy_helper.from_array(array, edge) for edge, array in self.weights.items() if edge in wanted])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                  producer_name="mxelm")
        helper.set_model_props(model, {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                                       for key, value in metadata.items()})
        return model


class Layer:
    """A node of a Symbol as the functions of layers.py see it.

    node: mxelm.graphs.Node. model: the Model. inputs: names of edges. shapes, outputs: of inputs and outputs,
    BATCH for the free axis. arrays: the inputs that are constants, as arrays, None for the others.
    """

    def __init__(self, node: Node, model: Model, inputs: Sequence[str], arrays: Sequence[np.ndarray | None],
                 shapes: Sequence[tuple], outputs: Sequence[tuple]) -> None:
        self.node, self.name, self.model = node, node.name, model
        self.inputs, self.arrays, self.shapes, self.outputs = inputs, arrays, shapes, outputs

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute: a number, a tuple, a truth value or a word."""
        text = self.node.attributes.get(name)
        if text is None:
            return default
        try:
            return ast.literal_eval(text.replace("L", ""))
        except (ValueError, SyntaxError):
            return {"true": True, "false": False}.get(text.lower(), text)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str | list[str]:
        """A node that stands for the layer as a whole, under its name."""
        return self.model.add(operator, *inputs, name=self.name, **attributes)

    def fail(self, reason: str) -> None:
        """Raise InputError that names the layer."""
        raise InputError(f"the layer {self.name!r} ({self.node.op}) cannot be exported: {reason}")


def write(model: onnx.ModelProto, path: str | os.PathLike) -> None:
    """Check an onnx.ModelProto and write it, whole or not at all."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the exported model is not valid: {str(error).strip().splitlines()[0]}") from None
    with atomic_write(path) as temporary:
        onnx.save(model, str(temporary))
