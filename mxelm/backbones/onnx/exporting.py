"""ONNX out: a backbone, checkpoint or predictor as a model that onnxruntime runs without MXNet.

What of a graph does not depend on the image is computed once by MXNet and stored: a GUNN layer's kernels are made of
its weights by solving triangular systems, which no ONNX operator does. MXNet 1.9.1's own exporter stamps the opset of
whatever onnx is installed, fails at loss layers and knows none of this: it is not used.
"""
from __future__ import annotations

import os
from collections import Counter
from typing import Optional

import numpy as np
import onnx

from mxelm.backbones.backbone import Backbone
from mxelm.backbones.graph_parameters import inner_shapes
from mxelm.backbones.onnx import agreement
from mxelm.backbones.onnx.layers import TABLE
from mxelm.backbones.onnx.values import BATCH
from mxelm.backbones.onnx.writing import Layer, Model, write
from mxelm.errors import InputError
from mxelm.graphs import fusible, nodes
from mxelm.runtime import mx, without_lines

TOLERANCE = 1e-4  # of the largest number
INPUT, OUTPUT = "image", "scores"
_ACTIVATIONS = {"softmax", "log_softmax", "SoftmaxOutput", "SoftmaxActivation", "sigmoid", "LogisticRegressionOutput"}


def export(backbone: Backbone, path: str | os.PathLike) -> Optional[float]:
    """Write a Backbone's features, or its scores where it is loaded with cut=None, as an ONNX model of opset 13.

    The input "image" is float32 (batch, channels, height, width), preprocessed; batch is free. The output is "scores"
    (batch, n). Metadata: "preprocessing" and "classes" as JSON, "model". Returns the largest difference to
    onnxruntime's answer on random images, relative to the largest number; None where it is not installed.
    Raises InputError that names the first layer that cannot be exported, or for answers that differ by more than
    1e-4; nothing is written then.
    """
    found = _difference(_before_activation(backbone))
    if found is not None and not found < TOLERANCE:
        raise InputError(f"{backbone.name} answers otherwise in onnxruntime, by {found:.1e} of the largest number: "
                         "nothing was written")
    write(model_of(backbone), path)
    return found


def model_of(backbone: Backbone) -> onnx.ModelProto:
    """The onnx.ModelProto that `export` writes."""
    model = Model()
    edge = _Walk(backbone, model).edge
    model.add("Identity", edge, name=OUTPUT)
    metadata = {"model": backbone.name, "preprocessing": backbone.preprocessing.to_json()}
    if backbone.classes and len(backbone.classes) == backbone.n_features:
        metadata["classes"] = backbone.classes
    float32 = onnx.TensorProto.FLOAT
    return model.finish(backbone.name, {INPUT: (float32, ("batch", *backbone.preprocessing.shape))},
                        {OUTPUT: (float32, ("batch", backbone.n_features))}, **metadata)


class _Walk:
    """A backbone's graph, node by node; `edge` is the name of its output in the model."""

    def __init__(self, backbone, model):
        self._model, symbol = model, backbone.features
        args, aux = backbone.feature_params()
        self._arrays = {name: array.asnumpy() for name, array in {**args, **aux}.items()}
        self._nodes, self._shapes = inner_shapes(symbol, backbone.preprocessing.shape, arg_params=args, batch=BATCH)
        self._free = _reached(self._nodes)
        self._users = Counter(producer for node in self._nodes for producer, _ in node.inputs)
        self._constants, self._edges = self._computed(symbol.get_internals(), args), {}
        for number, node in enumerate(self._nodes):
            if number in self._free:
                self._visit(number, node)
        output = symbol.get_internals().list_outputs().index(symbol.list_outputs()[0])
        self.edge = self._edges[list(self._shapes)[output]]

    def _visit(self, number, node):
        if node.op == "null":
            self._edges[number, 0] = INPUT
            return
        if node.op not in TABLE:
            raise InputError(f"the layer {node.name!r} ({node.op}) has no counterpart in ONNX here")
        entries = [entry for entry in node.inputs if not self._is_label(entry[0])]
        pads, entries = self._folded_pads(node, entries)
        layer = Layer(node, self._model, [self._name(entry) for entry in entries],
                      [self._constants.get(entry) for entry in entries], [self._shapes[entry] for entry in entries],
                      [shape for (n, _), shape in self._shapes.items() if n == number])
        made = TABLE[node.op](layer)
        if pads:
            _set_pads(self._model.nodes[-1], pads)
        for i, name in enumerate(made if isinstance(made, list) else [made]):
            self._edges[number, i] = name

    def _name(self, entry):
        """The edge of an entry; a constant becomes a weight."""
        if entry in self._edges:
            return self._edges[entry]
        self._edges[entry] = self._model.constant(self._constants[entry], self._nodes[entry[0]].name +
                                                  (f"_{entry[1]}" if entry[1] else ""))
        return self._edges[entry]

    def _folded_pads(self, node, entries):
        """Zeros that a layer before a convolution puts around its map are the convolution's own pads in ONNX."""
        before = self._nodes[entries[0][0]]
        if node.op != "Convolution" or before.op not in ("Pad", "pad") or self._users[entries[0][0]] > 1:
            return None, entries
        layer = Layer(before, None, [], [], [], [])
        width = layer.get("pad_width")
        if layer.get("mode") != "constant" or float(layer.get("constant_value", 0)) or any(width[:4]):
            return None, entries
        return (width[4::2], width[5::2]), [before.inputs[0], *entries[1:]]

    def _is_label(self, number):
        node = self._nodes[number]
        return node.op == "null" and node.name != "data" and node.name not in self._arrays

    def _computed(self, internals, args):
        """entry -> array for all that a layer of the image takes in and that is no layer of it."""
        wanted = {entry for number in self._free for entry in self._nodes[number].inputs
                  if entry[0] not in self._free and not self._is_label(entry[0])}
        found = {entry: self._arrays[self._nodes[entry[0]].name] for entry in wanted
                 if self._nodes[entry[0]].op == "null"}
        rest = sorted(wanted - set(found))
        if rest:
            order = list(self._shapes)  # that of the internals
            group = mx.sym.Group([internals[order.index(entry)] for entry in rest])
            with without_lines("is disabled."):
                given = {name: args[name] for name in group.list_arguments()}
                executor = fusible(group).bind(mx.cpu(), given, grad_req="null")
            found.update(zip(rest, (output.asnumpy() for output in executor.forward(is_train=False))))
        return found


def _reached(nodes):
    """Numbers of the nodes that the image reaches."""
    reached = set()
    for number, node in enumerate(nodes):
        if node.op == "null" and node.name == "data" or any(producer in reached for producer, _ in node.inputs):
            reached.add(number)
    return reached


def _set_pads(node, pads):
    attribute = next(a for a in node.attribute if a.name == "pads")
    own = list(attribute.ints)
    added = [*pads[0], *pads[1]]
    del attribute.ints[:]
    attribute.ints.extend(a + b for a, b in zip(own, added))


def _before_activation(backbone):
    """The backbone cut before a softmax or sigmoid at its end, if there is one: behind it large scores are 0 or 1
    however wrong they are, and onnxruntime cuts a sigmoid's small ones to 0."""
    found, heads = nodes(backbone.features)
    last = found[heads[0][0]]
    before = f"{found[last.inputs[0][0]].name}_output" if last.inputs else None
    known = before in backbone.symbol.get_internals().list_outputs()
    if not known or last.op not in _ACTIVATIONS and last.attributes.get("act_type") != "sigmoid":
        return backbone
    return Backbone(backbone.name, backbone.symbol, backbone.arg_params, backbone.aux_params, backbone.preprocessing,
                    cut=before)


def _difference(backbone):
    """Between onnxruntime's and MXNet's answer, relative; None where onnxruntime is not installed."""
    if agreement.runtime() is None:
        return None
    batch = np.random.default_rng(0).normal(size=(2, *backbone.preprocessing.shape)).astype(np.float32)
    session = agreement.session(model_of(backbone).SerializeToString())
    return agreement.difference(session.run(None, {INPUT: batch})[0], backbone.extract(batch))
