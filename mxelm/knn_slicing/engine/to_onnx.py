"""A small engine as an ONNX model: upright images in, the class of the nearest prototype out."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx

from mxelm.backbones.onnx.writing import Model, write
from mxelm.knn_slicing.engine.classifier import CELLS, SIDE, deskew

if TYPE_CHECKING:
    from mxelm.knn_slicing.engine.classifier import Engine


def export(engine: Engine, path: str | os.PathLike, images: np.ndarray | None = None) -> float | None:
    """Write an Engine as an ONNX model of opset 13.

    The input "image" is float32 (batch, 1, 28, 28), pixel values 0..255, deskewed (mxelm.knn_slicing.deskew): moments
    decide how far a row is pushed, which is no layer. Outputs: "class" int64 (batch,) and "distances" (batch,
    n_classes), to the nearest prototype of each class, squared, less the point's own length. Metadata: "classes".
    images: uint8 (n, 28, 28) on which engine and onnxruntime are compared. Returns the share of equal answers there,
    None without images or onnxruntime.
    """
    from mxelm.backbones.onnx import agreement
    model = model_of(engine)
    write(model, path)
    if images is None or agreement.runtime() is None:
        return None
    upright = deskew(images).astype(np.float32)[:, None]
    found = agreement.session(model.SerializeToString()).run(["class"], {"image": upright})[0]
    return float((found == engine.predict(images)).mean())


def model_of(engine: Engine) -> onnx.ModelProto:
    """The onnx.ModelProto that `export` writes."""
    model = Model()
    x = model.add("Slice", "image", *map(model.constant, ([0, 0], [26, 26], [2, 3])))
    x = model.add("Mul", x, model.constant(np.float32(1 / 255)))
    for bank in (engine.conv1, engine.conv2):
        x = _layer(model, x, bank)
    x = model.add("Transpose", x, perm=[0, 2, 3, 1])
    x = model.add("Reshape", x, model.constant([-1, CELLS * len(engine.conv2.bias)]))
    length = model.add("Sqrt", model.add("ReduceSum", x, model.constant([1]), keepdims=1))
    x = model.add("Div", model.add("Sqrt", x), model.add("Max", length, model.constant(np.float32(1e-30))))
    point = model.add("Sub", model.add("MatMul", x, model.constant(engine.projection.values.T)),
                      model.constant(engine.centre))
    _nearest(model, point, engine)
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    return model.finish("engine", {"image": (float32, ("batch", 1, SIDE, SIDE))},
                        {"class": (int64, ("batch",)), "distances": (float32, ("batch", len(engine.counts)))},
                        classes=list(engine.classes), preprocessing="28x28 grey, deskewed, 0..255")


def _layer(model, x, bank):
    """3x3 convolution, the largest of each 2x2, ReLU."""
    kernels = bank.weights.values.reshape(-1, 3, 3, bank.channels).transpose(0, 3, 1, 2)
    x = model.add("Conv", x, model.constant(kernels), model.constant(bank.bias), kernel_shape=[3, 3])
    return model.add("Relu", model.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))


def _nearest(model, point, engine):
    """|prototype - point|^2 less |point|^2 for each prototype; its smallest of each class, and the class of that."""
    prototypes = engine.prototypes.values
    product = model.add("MatMul", point, model.constant(-2 * prototypes))
    each = model.add("Add", product, model.constant((prototypes ** 2).sum(axis=0)))
    counts = model.constant(np.asarray(engine.counts))
    parts = model.add("Split", each, counts, outputs=len(engine.counts), axis=1)
    smallest = [model.add("ReduceMin", part, axes=[1], keepdims=1) for part in parts]
    distances = model.add("Concat", *smallest, name="distances", axis=1)
    model.add("ArgMin", distances, name="class", axis=1, keepdims=0)
