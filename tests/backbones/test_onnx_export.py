"""mxelm export: onnxruntime's answers against MXNet's, for all that can leave."""
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from tiny_network import tiny_params, tiny_symbol  # noqa: E402

from mxelm import backbones, fused  # noqa: E402
from mxelm.backbones.onnx import agreement, convert, export, exporting  # noqa: E402
from mxelm.errors import InputError  # noqa: E402
from mxelm.knn_slicing.deskew import deskew  # noqa: E402
from mxelm.preprocessing import Preprocessing  # noqa: E402
from mxelm.runtime import mx  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(3)


def backbone_of(symbol, shape=(3, 16, 16), cut=None, **options):
    preprocessing = Preprocessing(shape[1:], **options)
    return backbones.Backbone("net", symbol, *tiny_params(symbol, shape=(1, *shape)), preprocessing, cut=cut)


def predictor_of(backbone, classes):
    """A predictor of random numbers behind a backbone."""
    projection = fused.Projection(32, backbone.n_features)
    return fused.Predictor.of(backbone, projection, RNG.normal(size=(32, len(classes))), classes)


def answers(path, x):
    return agreement.session(str(path)).run(None, {"image": x})[0]


def test_a_predictor_leaves_with_its_classes_and_preprocessing(tiny_backbone, tmp_path):
    predictor = predictor_of(tiny_backbone, ["ant", "bee", "cat"])
    assert export(predictor.network, tmp_path / "p.onnx") < 1e-5
    x = RNG.normal(size=(5, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(answers(tmp_path / "p.onnx", x), predictor.scores(x), rtol=1e-4, atol=1e-4)
    model = onnx.load(tmp_path / "p.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == ["ant", "bee", "cat"]
    assert json.loads(about["preprocessing"]) == tiny_backbone.preprocessing.to_json()
    assert model.opset_import[0].version >= 13 and model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("cut", [None, "flatten_output"])
def test_scores_or_features_come_back_the_same(cut, tmp_path):
    backbone = backbone_of(tiny_symbol(), cut=cut)
    export(backbone, tmp_path / "n.onnx")
    convert(tmp_path / "n.onnx", tmp_path / "back", preprocessing=backbone.preprocessing)
    x = RNG.normal(size=(3, 3, 16, 16)).astype(np.float32)
    back = backbones.load(tmp_path / "back", cut=cut)
    np.testing.assert_allclose(back.extract(x), backbone.extract(x), rtol=1e-4, atol=1e-5)


def all_layers():
    """A network with one of each kind of layer that real ones have."""
    x = mx.sym.var("data")
    x = mx.sym.pad(x, mode="constant", pad_width=(0, 0, 0, 0, 0, 1, 0, 1))
    x = mx.sym.Convolution(x, num_filter=8, kernel=(3, 3), stride=(2, 2), name="c0")
    x = mx.sym.clip(mx.sym.BatchNorm(x, name="bn0"), 0, 6)
    x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full", name="p0")
    left, right = mx.sym.SliceChannel(x, num_outputs=2, name="s0")
    left = mx.sym.LeakyReLU(left, act_type="prelu", name="prelu0") * 2 - 1
    right = 1 / (2 + mx.sym.sigmoid(mx.sym.slice_axis(right, axis=1, begin=0, end=4)))
    x = mx.sym.Concat(left, right, name="cat0")
    x = mx.sym.Pooling(x, kernel=(2, 2), pad=(1, 1), pool_type="avg", name="p1")
    x = mx.sym.LRN(x, nsize=3, name="lrn0") + mx.sym.LeakyReLU(x, act_type="gelu")
    x = mx.sym.transpose(mx.sym.reshape(x, shape=(0, 0, -1)), axes=(0, 2, 1))
    x = mx.sym.FullyConnected(x, num_hidden=6, flatten=False, name="fc0")
    x = mx.sym.Dropout(mx.sym.mean(mx.sym.Activation(x, act_type="tanh"), axis=1))
    return mx.sym.FullyConnected(x, num_hidden=4, name="fc1")


@pytest.mark.parametrize("head", [mx.sym.SoftmaxOutput, mx.sym.softmax, mx.sym.log_softmax, mx.sym.BlockGrad],
                         ids=lambda head: head.__name__)
def test_layers_and_heads(head, tmp_path):
    symbol = head(all_layers(), name="softmax")
    backbone = backbone_of(symbol, cut="softmax_output") if head is not mx.sym.SoftmaxOutput else None
    if backbone is None:
        plain = mx.sym.softmax(all_layers(), name="softmax")
        args = tiny_params(plain, shape=(1, 3, 16, 16))
        loss = backbones.Backbone("net", symbol, *args, Preprocessing((16, 16)), cut=None)
        wanted = backbones.Backbone("net", plain, *args, Preprocessing((16, 16)), cut=None)
        x = RNG.normal(size=(3, 3, 16, 16)).astype(np.float32)
        model = exporting.model_of(loss).SerializeToString()
        got = agreement.session(model).run(None, {"image": x})[0]
        np.testing.assert_allclose(got, wanted.extract(x), rtol=1e-4, atol=1e-6)
        return
    assert export(backbone, tmp_path / "layers.onnx") < 1e-5


def todays_layers():
    """What converted networks of today are made of: attention, norms, gates, broadcasting."""
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=8, kernel=(4, 4), stride=(4, 4), name="patches")
    x = x * mx.sym.hard_sigmoid(mx.sym.InstanceNorm(x, name="in0"), alpha=1 / 6, beta=0.5, name="gate")
    x = mx.sym.repeat(mx.sym.trunc(x * 10) / 10 + mx.sym.softsign(x), repeats=2, axis=2)
    x = mx.sym.transpose(mx.sym.reshape(x, shape=(0, 0, -1)), axes=(0, 2, 1))
    token = mx.sym.broadcast_like(mx.sym.var("token_weight", shape=(1, 1, 8)), x, lhs_axes=(0,), rhs_axes=(0,))
    x = mx.sym.LayerNorm(mx.sym.concat(token, x, dim=1), axis=-1, name="ln0")
    a = mx.sym.softmax(mx.sym.linalg_gemm2(x, x, transpose_b=True, alpha=0.3), axis=-1)
    x = mx.sym.linalg_gemm2(a, x) + mx.sym.expm1(x) * (x > 0.1) + mx.sym.rsqrt(mx.sym.square(x) + 1)
    x = mx.sym.broadcast_div(x, mx.sym.norm(x, ord=2, axis=2, keepdims=True))
    first = mx.sym.reshape(mx.sym.slice_axis(x, axis=1, begin=0, end=1), shape=(0, -1))
    x = mx.sym.concat(mx.sym.min(x, axis=1), first)
    return mx.sym.FullyConnected(x, num_hidden=4, name="fc0")


def test_layers_of_today(tmp_path):
    assert export(backbone_of(todays_layers(), cut=None), tmp_path / "today.onnx") < 1e-5


def test_tiny_sigmoids_are_no_difference(tmp_path):
    """onnxruntime cuts them to 0."""
    backbone = backbone_of(mx.sym.sigmoid(all_layers() * 0.01 - 40, name="sigmoid"), cut="sigmoid_output")
    assert export(backbone, tmp_path / "multi.onnx") < 1e-5


def test_pads_before_a_convolution_become_its_own():
    nodes = exporting.model_of(backbone_of(all_layers())).graph.node
    assert "Pad" not in {node.op_type for node in nodes}
    assert list(next(a for a in nodes[0].attribute if a.name == "pads").ints) == [0, 0, 1, 1]


def test_a_gunn_network_leaves_with_its_kernels_computed(tmp_path):
    backbone = backbones.load(ROOT / "models" / "gunn15_3class", cut=None)
    assert export(backbone, tmp_path / "gunn.onnx") < 1e-4


def test_a_layer_without_a_counterpart_is_named_and_nothing_written(tmp_path):
    odd = mx.sym.FullyConnected(mx.sym.arcsinh(mx.sym.var("data"), name="odd"), num_hidden=3, name="fc")
    with pytest.raises(InputError, match="'odd'.*arcsinh"):
        export(backbone_of(odd), tmp_path / "odd.onnx")
    assert not list(tmp_path.iterdir())


def test_an_engine_leaves(tmp_path):
    sys.path.insert(0, str(ROOT / "tests" / "knn_slicing" / "engine"))
    try:
        from test_classifier import random_engine
    finally:
        sys.path.pop(0)
    from mxelm.knn_slicing.engine import to_onnx
    engine = random_engine(filters=(5, 8), n_dims=6, counts=(2, 1, 3))
    images = RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    images[0] = 0
    assert to_onnx.export(engine, tmp_path / "engine.onnx", images) == 1
    upright = deskew(images).astype(np.float32)[:, None]
    found, distances = agreement.session(str(tmp_path / "engine.onnx")).run(["class", "distances"], {"image": upright})
    assert (distances.argmin(axis=1) == found).all()


def test_the_lines_of_the_documentation_classify_a_picture(tmp_path):
    from PIL import Image
    backbone = backbone_of(tiny_symbol(), cut="flatten_output", short_side=18, mean=100.0, scale=0.02)
    predictor = predictor_of(backbone, ["crow", "owl", "wren"])
    predictor.save(tmp_path / "birds")
    done = subprocess.run([sys.executable, "-m", "mxelm", "export", "birds", "birds.onnx"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "3 class names" in done.stdout, done.stderr
    image = RNG.integers(0, 256, (18, 25, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "bird.png")
    text = (ROOT / "docs" / "deploy.md").read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    assert len([line for line in lines.splitlines() if not re.match("import|from", line)]) <= 11
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == predictor.predict([image])[0], done.stderr
