"""The ONNX project's own backend tests, as they lie in the onnx wheel, run through mxelm.backbones.onnx.graph."""
from pathlib import Path

import numpy as np

from mxelm.backbones.onnx.graph import Graph, variable
from mxelm.backbones.onnx.operators import TABLE
from mxelm.backbones.onnx.support import HIGHEST_OPSET, LOWEST_OPSET
from mxelm.runtime import context, mx, without_lines

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
# operators whose inputs after the first are weights: constants, as in any network
WEIGHTED = {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
            "LayerNormalization", "PRelu"}
# operators whose inputs after the first say what is to be done
SETTINGS = {"Clip", "Resize", "Upsample", "Pad", "Dropout", "Slice", "Reshape", "Gather", "Expand", "Tile", "Squeeze",
            "Unsqueeze", "Split", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
            "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"}

REASONS = {
    **dict.fromkeys(("node/test_batchnorm_epsilon_training_mode", "node/test_batchnorm_example_training_mode"),
                    "training: running statistics are outputs"),
    **{f"node/test_training_dropout{rest}": "training: what is dropped is drawn at random"
       for rest in ("", "_default", "_default_mask", "_mask")},
    **{f"node/test_maxpool_with_argmax_2d_precomputed_{kind}": "MXNet's pooling does not tell where its maxima are"
       for kind in ("pads", "strides")},
    **{f"node/test_resize_tf_crop_and_resize{rest}": "a detector's cropping"
       for rest in ("", "_axes_2_3", "_axes_3_2")},
    "node/test_resize_downsample_sizes_nearest_not_smaller": "a scale that does not give the size asked for",
    "node/test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True":
        "it counts the places that a window has beyond the pads, which PyTorch does not",
    **{f"pytorch-operator/test_operator_{name}": "float64 numbers beyond float32's range"
       for name in ("add_broadcast", "add_size1_right_broadcast", "add_size1_singleton_broadcast", "addconstant")},
    **{f"pytorch-converted/test_{name}": "words are looked up, there is no image"
       for name in ("Embedding", "Embedding_sparse")},
}


def folder():
    import onnx
    return Path(onnx.__file__).parent / "backend" / "test" / "data"


def cases():
    """{kind/name: folder} of all tests whose every operator is in the table, at the opsets named."""
    import onnx
    found = {}
    for kind in KINDS:
        for path in sorted((folder() / kind).iterdir()):
            if not (path / "model.onnx").is_file():
                continue
            model = onnx.load(path / "model.onnx")
            opsets = {entry.domain: entry.version for entry in model.opset_import}
            nodes = [node for node in model.graph.node if node.op_type != "Constant"]
            if set(opsets) == {""} and LOWEST_OPSET <= opsets[""] <= HIGHEST_OPSET and nodes and all(
                    node.op_type in TABLE for node in nodes):
                found[f"{kind}/{path.name}"] = path
    return found


def foreign(path):
    """Why a test is about arrays that MXNet does not have, or None."""
    import onnx
    model = onnx.load(path / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            return "a sequence or an optional value, no array"
        types = onnx.TensorProto
        if value.type.tensor_type.elem_type not in (types.FLOAT, types.FLOAT16, types.DOUBLE, types.BOOL, *range(2, 8),
                                                     types.UINT32, types.UINT64):
            return f"arrays of {types.DataType.Name(value.type.tensor_type.elem_type).lower()}"
        setting = value.name in [entry.name for entry in model.graph.input[1:]]
        if not setting and any(dim.HasField("dim_value") and dim.dim_value == 0
                               for dim in value.type.tensor_type.shape.dim):
            return "an array without elements"
    return None


def run(path):
    """Convert a test's model and compare its outputs with those stored, for each of its data sets."""
    import onnx
    model = onnx.load(path / "model.onnx")
    for data in sorted(path.glob("test_data_set_*")):
        inputs, wanted = _tensors(data, model.graph.input, "input"), _tensors(data, model.graph.output, "output")
        for got, output in zip(compute(model, inputs), model.graph.output):
            want = wanted[output.name]
            np.testing.assert_allclose(got.reshape(want.shape).astype(want.dtype), want, rtol=1e-3, atol=1e-5,
                                       equal_nan=True)


def compute(model, inputs):
    """Outputs of a model, {name: array} being its inputs; those that are weights or settings are constants."""
    fixed = {name for node in model.graph.node if node.op_type in WEIGHTED | SETTINGS for name in node.input[1:]}
    types = {entry.name: entry.type.tensor_type.elem_type for entry in model.graph.input}
    free = {name: array for name, array in inputs.items() if name not in fixed}
    graph = Graph(model, {name: variable(name, mx.sym.var(f"x{i}"), array.shape, types[name])
                          for i, (name, array) in enumerate(free.items())},
                  {name: array for name, array in inputs.items() if name in fixed})
    assert any(value.symbol is not None for value in graph.outputs), "all of it is folded: MXNet computes nothing"
    return [value.constant if value.symbol is None else _forward(graph, value.symbol, list(free.values()))
            for value in graph.outputs]


def _forward(graph, symbol, arrays):
    needed = set(symbol.list_arguments())
    data = {f"x{i}": array.astype(np.float32).reshape(array.shape or (1,)) for i, array in enumerate(arrays)}
    data = {name: array for name, array in data.items() if name in needed}
    args = {name: mx.nd.array(array) for name, array in graph.arg_params.items() if name in needed}
    aux = {name: mx.nd.array(graph.aux_params[name]) for name in symbol.list_auxiliary_states()}
    args.update({name: mx.nd.array(array) for name, array in data.items()})
    with without_lines("is disabled."):
        bound = symbol.bind(context(), args, grad_req="null", aux_states=aux)
    return bound.forward(is_train=False)[0].asnumpy()


def _tensors(data, entries, kind):
    import onnx
    found = {}
    for i, entry in enumerate(entries):
        path = data / f"{kind}_{i}.pb"
        if path.is_file():
            found[entry.name] = onnx.numpy_helper.to_array(onnx.load_tensor(path))
    return found


def light_difference(path):
    """Of a light network with its weights drawn at random: scores in MXNet, relative to onnxruntime's.

    The networks come with weights that are all alike, whose scores are too. What is compared stands before the
    softmax, which makes 0 and 1 of random scores.
    """
    import onnx

    from mxelm.backbones.onnx import agreement, reading
    from mxelm.backbones.onnx.converting import network
    model = drawn(onnx.load(path))
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info(last.input[0]))
        model.graph.node.remove(last)
    image = reading.image_of(model)
    symbol, graph = network(model, image, image.size)
    batch = np.random.default_rng(1).normal(size=(1, image.channels, *image.size)).astype(np.float32)
    wanted = agreement.session(model.SerializeToString()).run(None, {image.name: batch})[0]
    args, aux = ({name: mx.nd.array(array) for name, array in part.items()}
                 for part in (graph.arg_params, graph.aux_params))
    return agreement.difference(agreement.forward(symbol, args, aux, batch)[-1], wanted)


def drawn(model, seed=0):
    """The model with random numbers for the constants that ConstantOfShape makes of its weights."""
    import onnx
    rng = np.random.default_rng(seed)
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            array = _weight(rng, shapes[node.input[0]].tolist())
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _weight(rng, shape):
    """He's for matrices and kernels; near 1 for vectors, which may be variances."""
    if len(shape) < 2:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)


def version():
    """Of the onnx wheel that the tests lie in."""
    import onnx
    return onnx.__version__
