"""mxelm convert: ONNX models made here, against onnxruntime, and every kind of file it refuses."""
import json
import subprocess
import sys

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from mxelm import backbones, cli  # noqa: E402
from mxelm.backbones.onnx import agreement, convert  # noqa: E402
from mxelm.errors import FileError, InputError  # noqa: E402
from mxelm.preprocessing import Preprocessing  # noqa: E402

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def write(path, nodes, weights, shape=("n", 3, 16, 16), outputs=("scores",), opset=13, inputs=None, **save):
    """A model of `nodes`, each (operator, inputs, outputs, attributes)."""
    made = [helper.make_node(op, ins, outs, name=f"{op}_{i}", **attributes)
            for i, (op, ins, outs, attributes) in enumerate(nodes)]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(made, "network", inputs or [info("image", TensorProto.FLOAT, shape)],
                              [info(name, TensorProto.FLOAT, None) for name in outputs],
                              [numpy_helper.from_array(array, name) for name, array in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path), **save)
    return path


def small(classes=5):
    """Nodes and weights of a network with a residual, a dense head and a softmax."""
    nodes = [("Conv", ["image", "w0", "b0"], ["c0"], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}),
             ("BatchNormalization", ["c0", "g", "b", "m", "v"], ["n0"], {}), ("Relu", ["n0"], ["r0"], {}),
             ("Conv", ["r0", "w1"], ["c1"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": 2}),
             ("HardSwish", ["c1"], ["h1"], {}), ("Add", ["h1", "r0"], ["a1"], {}),
             ("GlobalAveragePool", ["a1"], ["p"], {}), ("Flatten", ["p"], ["f"], {}),
             ("Gemm", ["f", "w2", "b2"], ["logits"], {"transB": 1}), ("Softmax", ["logits"], ["scores"], {"axis": 1})]
    weights = {"w0": normal(8, 3, 3, 3), "b0": normal(8), "g": 1 + normal(8), "b": normal(8), "m": normal(8),
               "v": 1 + normal(8) ** 2, "w1": normal(8, 4, 3, 3), "w2": normal(classes, 8), "b2": normal(classes)}
    return nodes, weights


@pytest.fixture
def model(tmp_path):
    return write(tmp_path / "small.onnx", *small(), opset=14)


def test_scores_and_features_are_onnxruntimes(model, tmp_path):
    done = convert(model, tmp_path / "net", preprocessing="imagenet")
    assert done.difference < 1e-5 and (done.n_features, done.n_outputs) == (8, 5)
    backbone = backbones.load(tmp_path / "net")
    x = RNG.normal(size=(7, 3, 16, 16)).astype(np.float32)
    proto = onnx.load(model)
    proto.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, None))
    _, features = agreement.session(proto.SerializeToString()).run(None, {"image": x})
    np.testing.assert_allclose(backbone.extract(x), features, rtol=1e-4, atol=1e-5)
    assert backbone.preprocessing.mean == (123.675, 116.28, 103.53)


@pytest.mark.parametrize("activation, bias", [("Sigmoid", -40), ("Softmax", 0)])
def test_what_an_activation_hides_is_compared_before_it(activation, bias, tmp_path):
    """Tiny sigmoids, which onnxruntime cuts to 0, are no difference; scores that softmax makes 0 and 1 may be one."""
    nodes, weights = small()
    nodes[-1] = (activation, ["logits"], ["scores"], {})
    weights["w2"], weights["b2"] = 100 * weights["w2"], np.float32([bias] * 5)
    path = write(tmp_path / "hidden.onnx", nodes, weights, opset=14)
    assert 0 < convert(path, tmp_path / "net", preprocessing="unit").difference < 1e-5


def test_static_batch_becomes_free(tmp_path):
    nodes, weights = small()
    nodes[7] = ("Reshape", ["p", "shape"], ["f"], {})
    weights["shape"] = np.array([1, -1])
    path = write(tmp_path / "static.onnx", nodes, weights, (1, 3, 16, 16), opset=14)
    convert(path, tmp_path / "net", preprocessing="unit")
    assert backbones.load(tmp_path / "net").extract(normal(5, 3, 16, 16)).shape == (5, 8)


def test_arithmetic_around_shapes_folds(tmp_path):
    nodes, weights = small()
    nodes[7:8] = [("Shape", ["p"], ["s"], {}), ("Gather", ["s", "zero"], ["n"], {}),
                  ("Unsqueeze", ["n", "axes"], ["n1"], {}), ("Concat", ["n1", "rest"], ["target"], {"axis": 0}),
                  ("Reshape", ["p", "target"], ["f"], {})]
    weights.update(zero=np.array(0), axes=np.array([0]), rest=np.array([-1]))
    done = convert(write(tmp_path / "dynamic.onnx", nodes, weights, opset=14), tmp_path / "net", preprocessing="unit")
    assert done.difference < 1e-5
    graph = json.loads((tmp_path / "net-symbol.json").read_text())
    assert not {"shape_array", "take"} & {node["op"] for node in graph["nodes"]}


def test_transposes_of_a_channels_last_graph_cancel(tmp_path):
    nodes, weights = small()
    nodes[0] = ("Conv", ["nchw", *nodes[0][1][1:]], *nodes[0][2:])
    nodes[2:3] = [("Transpose", ["n0"], ["t0"], {"perm": [0, 2, 3, 1]}), ("Relu", ["t0"], ["t1"], {}),
                  ("Transpose", ["t1"], ["r0"], {"perm": [0, 3, 1, 2]})]
    nodes.insert(0, ("Transpose", ["image"], ["nchw"], {"perm": [0, 3, 1, 2]}))
    path = write(tmp_path / "tf.onnx", nodes, weights, ("n", 16, 16, 3), opset=14)
    assert convert(path, tmp_path / "net", preprocessing="symmetric").difference < 1e-5
    graph = json.loads((tmp_path / "net-symbol.json").read_text())
    assert "transpose" not in {node["op"] for node in graph["nodes"]}


def test_transposes_around_sums_and_scales_cancel(tmp_path):
    """A residual, a bias and a scale a channel, all with the channels last."""
    nodes, weights = small()
    back = {"perm": [0, 2, 3, 1]}
    nodes[2:6] = [("Transpose", ["n0"], ["t0"], back), ("Relu", ["t0"], ["t1"], {}),
                  ("Transpose", ["t1"], ["r0"], {"perm": [0, 3, 1, 2]}), nodes[3], ("Transpose", ["c1"], ["t2"], back),
                  ("Add", ["t2", "bias"], ["t3"], {}), ("Mul", ["scale", "t3"], ["t4"], {}),
                  ("Add", ["t4", "t1"], ["t5"], {}), ("Transpose", ["t5"], ["a1"], {"perm": [0, 3, 1, 2]})]
    weights.update(bias=normal(8), scale=normal(1, 1, 8))
    path = write(tmp_path / "sums.onnx", nodes, weights, opset=14)
    assert convert(path, tmp_path / "net", preprocessing="symmetric").difference < 1e-5
    graph = json.loads((tmp_path / "net-symbol.json").read_text())
    assert "transpose" not in {node["op"] for node in graph["nodes"]}


def test_half_precision_and_external_data(tmp_path):
    nodes, weights = small()
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    nodes = [("Cast", ["image"], ["half"], {"to": TensorProto.FLOAT16}),
             ("Conv", ["half", *nodes[0][1][1:]], *nodes[0][2:]), *nodes[1:-1],
             ("Cast", ["logits"], ["wide"], {"to": TensorProto.FLOAT}), ("Softmax", ["wide"], ["scores"], {"axis": 1})]
    path = write(tmp_path / "half.onnx", nodes, half, opset=14, save_as_external_data=True, location="half.bin",
                 size_threshold=0)
    assert convert(path, tmp_path / "net", preprocessing="unit").difference < 1e-2  # onnxruntime computes in float16


def test_last_convolution_of_a_fully_convolutional_network(tmp_path):
    nodes, weights = small()
    nodes[6:] = [("Conv", ["a1", "w3", "b2"], ["c3"], {}), ("Relu", ["c3"], ["r3"], {}),
                 ("GlobalAveragePool", ["r3"], ["p"], {}), ("Flatten", ["p"], ["f"], {}),
                 ("Softmax", ["f"], ["scores"], {"axis": 1})]
    weights["w3"] = normal(5, 8, 1, 1)
    done = convert(write(tmp_path / "fc.onnx", nodes, weights, opset=14), tmp_path / "net", preprocessing="unit")
    assert done.n_features == 8 and done.difference < 1e-5
    assert backbones.load(tmp_path / "net").extract(normal(2, 3, 16, 16)).shape == (2, 8)


def test_network_without_a_head_is_all_features(tmp_path):
    nodes, weights = small()
    path = write(tmp_path / "headless.onnx", nodes[:8], weights, outputs=["f"], opset=14)
    assert convert(path, tmp_path / "net", preprocessing="unit").n_features == 8


def test_attention_over_places(tmp_path):
    """What a vision transformer is made of: a token for the class, products of matrices, layer norms, GELU by erf."""
    c, n = 8, 17
    nodes = [("Conv", ["image", "w"], ["patches"], {"strides": [4, 4]}), ("Reshape", ["patches", "flat"], ["p"], {}),
             ("Transpose", ["p"], ["places"], {"perm": [0, 2, 1]}), ("Shape", ["image"], ["s"], {}),
             ("Gather", ["s", "zero"], ["batch"], {}), ("Unsqueeze", ["batch", "axes"], ["b1"], {}),
             ("Concat", ["b1", "ones"], ["to"], {"axis": 0}), ("Expand", ["token", "to"], ["tokens"], {}),
             ("Concat", ["tokens", "places"], ["x0"], {"axis": 1}), ("Add", ["x0", "position"], ["x"], {}),
             ("LayerNormalization", ["x", "gamma", "beta"], ["y"], {"axis": -1}),
             ("MatMul", ["y", "wq"], ["q"], {}), ("MatMul", ["y", "wk"], ["k"], {}),
             ("Transpose", ["k"], ["kt"], {"perm": [0, 2, 1]}), ("MatMul", ["q", "kt"], ["a"], {}),
             ("Softmax", ["a"], ["soft"], {"axis": -1}), ("MatMul", ["soft", "y"], ["z0"], {}),
             ("Div", ["z0", "root"], ["z1"], {}), ("Erf", ["z1"], ["e"], {}), ("Add", ["e", "one"], ["e1"], {}),
             ("Mul", ["z0", "e1"], ["z"], {}), ("Gather", ["z", "zero"], ["f"], {"axis": 1}),
             ("Gemm", ["f", "w2", "b2"], ["scores"], {"transB": 1})]
    weights = {"w": normal(c, 3, 4, 4), "flat": np.array([0, c, -1]), "zero": np.array(0), "axes": np.array([0]),
               "ones": np.array([1, c]), "token": normal(1, 1, c), "position": normal(1, n, c), "gamma": normal(c),
               "beta": normal(c), "wq": normal(c, c), "wk": normal(c, c), "root": np.float32(2 ** 0.5),
               "one": np.float32(1), "w2": normal(5, c), "b2": normal(5)}
    done = convert(write(tmp_path / "vit.onnx", nodes, weights, opset=17), tmp_path / "net", preprocessing="unit")
    assert done.difference < 1e-5 and done.n_features == c


def test_without_onnxruntime_nothing_is_compared(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert convert(model, tmp_path / "net", preprocessing="unit").difference is None


def test_float64_which_onnxruntime_cannot_is_compared_with_the_reference(tmp_path):
    nodes, weights = small()
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    inputs = [helper.make_tensor_value_info("image", TensorProto.DOUBLE, ("n", 3, 16, 16))]
    path = write(tmp_path / "wide.onnx", nodes, wide, inputs=inputs, opset=14)
    proto = onnx.load(path)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(proto, str(path))
    assert convert(path, tmp_path / "net", preprocessing="unit").difference < 1e-5


def test_an_image_of_bytes(tmp_path):
    nodes, weights = small()
    nodes[:1] = [("Cast", ["image"], ["x"], {"to": 1}), ("Conv", ["x", *nodes[0][1][1:]], *nodes[0][2:])]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ("n", 3, 16, 16))]
    path = write(tmp_path / "bytes.onnx", nodes, weights, inputs=inputs, opset=14)
    assert convert(path, tmp_path / "net", preprocessing="pixels").difference < 1e-5


def test_without_preprocessing_the_usual_ones_are_named(model, tmp_path):
    with pytest.raises(InputError, match=r"does not tell.*imagenet.*symmetric"):
        convert(model, tmp_path / "net", preprocessing=None)
    with pytest.raises(InputError, match="takes images of 3 channels and size"):
        convert(model, tmp_path / "net", preprocessing=Preprocessing((32, 32)))


def test_everything_that_is_not_supported_is_named_at_once(tmp_path):
    nodes, weights = small()
    nodes[4] = ("Hardmax", ["c1"], ["h1"], {})
    nodes.insert(3, ("Det", ["r0"], ["r1"], {}))
    nodes[4] = ("Conv", ["r1", "w1"], *nodes[4][2:])
    with pytest.raises(InputError, match=r"Det of opset 14.*'Det_3'.*Hardmax of opset 14.*'Hardmax_5'"):
        convert(write(tmp_path / "odd.onnx", nodes, weights, opset=14), tmp_path / "net", preprocessing="unit")


def bad_models(tmp_path):
    """(name of the fault, path, words of the message)."""
    nodes, weights = small()
    good = write(tmp_path / "good.onnx", nodes, weights, opset=14)
    (tmp_path / "text.onnx").write_text("not a network")
    yield "no ONNX", tmp_path / "text.onnx", "is damaged or no ONNX"
    (tmp_path / "empty.onnx").write_bytes(b"")
    yield "empty", tmp_path / "empty.onnx", "is no ONNX"
    (tmp_path / "cut.onnx").write_bytes(good.read_bytes()[:-200])
    yield "truncated", tmp_path / "cut.onnx", "is damaged or no ONNX"
    yield "missing", tmp_path / "nowhere.onnx", "is missing"
    (tmp_path / "folder.onnx").mkdir()
    yield "a folder", tmp_path / "folder.onnx", "is a folder"
    named = onnx.load(good)
    for node in named.graph.node:
        node.name = "same"
    onnx.save(named, str(tmp_path / "same.onnx"))
    yield "refused by onnxruntime", tmp_path / "same.onnx", "onnxruntime refuses"
    none = {**weights, "w2": normal(0, 8), "b2": normal(0)}
    yield "no classes", write(tmp_path / "none.onnx", nodes, none, opset=14), "'Gemm_8' is refused by MXNet"
    over = [*nodes[:-1], ("Softmax", ["logits"], ["scores"], {"axis": 0})]
    yield "softmax over images", write(tmp_path / "over.onnx", over, weights, opset=14), "scores differ"
    external = write(tmp_path / "external.onnx", nodes, weights, opset=14, save_as_external_data=True,
                     location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    yield "missing external data", external, "weights.bin"
    yield "opset", write(tmp_path / "old.onnx", nodes, weights, opset=3), "is of opset 3"
    yield "control flow", _with_if(tmp_path / "if.onnx"), "control flow"
    foreign = onnx.load(good)
    foreign.graph.node[2].domain = "com.example"
    onnx.save(foreign, str(tmp_path / "foreign.onnx"))
    yield "domain", tmp_path / "foreign.onnx", "its domain com.example"
    info = helper.make_tensor_value_info
    two = [info("image", 1, ("n", 3, 16, 16)), info("other", 1, ("n", 3, 16, 16))]
    yield "two inputs", write(tmp_path / "two.onnx", nodes, weights, opset=14, inputs=two), "takes 2 inputs"
    yield "detector", write(tmp_path / "det.onnx", nodes, weights, outputs=("scores", "p", "f"), opset=14), "3 outputs"
    quantised = [("QuantizeLinear", ["image", "s", "z"], ["q"], {}), ("DequantizeLinear", ["q", "s", "z"], ["x"], {}),
                 ("Conv", ["x", *nodes[0][1][1:]], *nodes[0][2:]), *nodes[1:]]
    yield "int8", write(tmp_path / "int8.onnx", quantised, {**weights, "s": np.float32(0.1), "z": np.uint8(128)},
                        opset=14), "quantised"
    bad = {**weights, "w1": np.full((8, 4, 3, 3), np.nan, np.float32)}
    yield "NaN", write(tmp_path / "nan.onnx", nodes, bad, opset=14), "'w1' holds NaN"
    yield "no batch axis", write(tmp_path / "flat.onnx", nodes, weights, (3, 16, 16), opset=14), "with a batch axis"
    yield "no image", write(tmp_path / "wide.onnx", nodes, weights, ("n", 5, 16, 16), opset=14), "5 channels"
    sequence = [("SequenceConstruct", ["image", "image"], ["l"], {}), ("SequenceAt", ["l", "zero"], ["x"], {}),
                ("Conv", ["x", *nodes[0][1][1:]], *nodes[0][2:]), *nodes[1:]]
    yield "sequence", write(tmp_path / "sequence.onnx", sequence, {**weights, "zero": np.array(0)}, opset=14), \
        "no sequences"


def _with_if(path):
    nodes, weights = small()
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["n0"], ["y"])], "branch", [], [info])
    nodes[2] = ("If", ["yes"], ["r0"], {"then_branch": branch, "else_branch": branch})
    return write(path, nodes, {**weights, "yes": np.array(True)}, opset=14)


def test_bad_models_are_refused_in_a_sentence_and_leave_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    for fault, path, words in bad_models(tmp_path):
        with pytest.raises((FileError, InputError)) as caught:
            convert(path, tmp_path / "out" / "net", preprocessing="unit")
        message = str(caught.value)
        assert words in message and "\n" not in message and path.name in message, (fault, message)
        assert not list((tmp_path / "out").iterdir()), fault


def test_command_and_fit_at_once(model, tmp_path, image_folder, capsys):
    done = subprocess.run([sys.executable, "-m", "mxelm", "convert", str(model), str(tmp_path / "net")],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "imagenet" in done.stderr and "Traceback" not in done.stderr

    def mxelm(*args):
        code = cli.main(list(map(str, args)))
        return code, capsys.readouterr().out

    code, out = mxelm("convert", model, tmp_path / "net", "--preprocessing", "imagenet")
    assert code == 0 and "differ from onnxruntime's by" in out
    code, _ = mxelm("fit", "--images", image_folder, "--checkpoint", tmp_path / "net", "--neurons", 16, "--out",
                    tmp_path / "trained", "--json")
    assert code == 0 and (tmp_path / "trained-symbol.json").is_file()
