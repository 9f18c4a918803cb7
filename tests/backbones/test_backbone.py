"""A backbone's features against independent runs of the same network, and the identity that its digest gives."""
import json

import numpy as np
import pytest

from mxelm.backbones import Backbone, contained, load
from mxelm.backbones.backbone import graph_digest
from mxelm.containers import load_container, save_container
from mxelm.errors import InputError
from mxelm.runtime import mx

WEIGHTS = {"efficientnet_lite0_224": 1280, "mobilenet_v1_0.75_224": 768, "squeezenet_v1.1": 512}


@pytest.fixture
def tiny(tiny_checkpoint):
    return load(tiny_checkpoint)


def images(backbone, n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *backbone.preprocessing.shape)).astype(np.float32)


def by_module(backbone, x):
    """The features by a bare Module over the file's own symbol, as MXNet's documentation does it."""
    features = backbone.symbol.get_internals()[backbone.cut]
    module = mx.mod.Module(features, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(backbone.arg_params, backbone.aux_params, allow_extra=True)
    return module.predict(mx.io.NDArrayIter(x, batch_size=len(x))).asnumpy()


def by_symbol_block(backbone, x):
    block = mx.gluon.SymbolBlock(backbone.features, [mx.sym.var("data")])
    arg_params, aux_params = backbone.feature_params()
    for name, parameter in block.collect_params().items():
        parameter._load_init({**arg_params, **aux_params}[name], mx.cpu())
    return block(mx.nd.array(x)).asnumpy()


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def test_features_are_those_of_module_and_symbol_block(tiny):
    x = images(tiny, 6)
    got = tiny.extract(x)
    assert got.dtype == np.float32 and got.shape == (6, tiny.n_features)
    assert relative(got, by_module(tiny, x)) < 1e-5
    assert relative(got, by_symbol_block(tiny, x)) < 1e-5


def test_batches_do_not_matter(tiny):
    x = images(tiny, 70)  # more than two batches of extract
    whole = tiny.extract(x)
    np.testing.assert_allclose(np.concatenate([tiny.extract(x[i:i + 9]) for i in range(0, 70, 9)]), whole, rtol=1e-5,
                               atol=1e-6)
    assert tiny.extract(x[:0]).shape == (0, tiny.n_features)


def test_padding_of_an_iterator_is_left_out(tiny):
    x = images(tiny, 10)
    padded = mx.io.NDArrayIter(x, np.zeros(10), batch_size=4, last_batch_handle="pad")
    np.testing.assert_allclose(tiny.extract(padded), tiny.extract(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tiny.extract(padded), tiny.extract(x), rtol=1e-5, atol=1e-6)  # from its start again


def test_raw_images_go_through_the_preprocessing(tiny):
    random = np.random.default_rng(3)
    raw = [random.integers(0, 256, (20, 30, 3), np.uint8), random.integers(0, 256, (16, 16), np.uint8)]
    ready = np.stack([tiny.preprocessing(image) for image in raw])
    np.testing.assert_array_equal(tiny.extract(raw), tiny.extract(ready))


@pytest.mark.parametrize("shape", [(2, 3, 15, 16), (2, 1, 16, 16), (3, 16, 16)])
def test_images_of_another_shape_are_refused(tiny, shape):
    with pytest.raises(InputError, match="16"):
        tiny.extract(np.zeros(shape, np.float32))


def test_a_map_is_flattened(tiny):
    output = next(name for name in tiny.symbol.get_internals().list_outputs() if name.startswith(("conv", "relu"))
                  and name.endswith("_output"))
    cut = Backbone("map", tiny.symbol, tiny.arg_params, tiny.aux_params, tiny.preprocessing, cut=output)
    x = images(tiny, 2)
    flat = cut.extract(x)
    assert flat.shape == (2, cut.n_features)
    np.testing.assert_allclose(flat, by_module(cut, x).reshape(2, -1), rtol=1e-5, atol=1e-6)


def test_a_group_must_be_cut_and_a_loss_layer_answers(tiny):
    fc = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc")
    params = {"fc_weight": mx.nd.ones((2, 3 * 16 * 16)), "fc_bias": mx.nd.zeros(2)}
    with pytest.raises(InputError, match="fc_output"):
        Backbone("two", mx.sym.Group([fc, fc * 2]), params, {}, tiny.preprocessing, cut=None)
    loss = Backbone("loss", mx.sym.SoftmaxOutput(fc, name="softmax"), params, {}, tiny.preprocessing, cut=None)
    np.testing.assert_allclose(loss.extract(images(tiny, 3)).sum(axis=1), 1, rtol=1e-6)  # its label is never asked for


def test_feature_params_are_those_of_the_features(tiny):
    arg_params, aux_params = tiny.feature_params()
    assert set(arg_params) == set(tiny.features.list_arguments()) - {"data"}
    assert set(aux_params) == set(tiny.features.list_auxiliary_states())
    assert set(arg_params) < set(tiny.arg_params)  # the classifier is not among them


def test_digest_sees_parameters_and_layers_and_nothing_else(tiny, tiny_checkpoint):
    assert tiny.digest == load(tiny_checkpoint).digest
    arg_params = {name: array.copy() for name, array in tiny.arg_params.items()}
    head, first = list(set(arg_params) - set(tiny.feature_params()[0]))[0], next(iter(tiny.feature_params()[0]))

    def changed(name):
        return Backbone("x", tiny.symbol, {**arg_params, name: arg_params[name] + 1}, tiny.aux_params,
                        tiny.preprocessing, cut=tiny.cut).digest
    assert changed(head) == tiny.digest
    assert changed(first)["params"] != tiny.digest["params"] and changed(first)["symbol"] == tiny.digest["symbol"]


def small_graph(kernel=3, prefix="a", order=False):
    x = mx.sym.var("data")
    one = mx.sym.Convolution(x, mx.sym.var("w1"), kernel=(kernel, kernel), pad=(1, 1), num_filter=2, no_bias=True,
                             name=prefix + "1")
    two = mx.sym.Convolution(x, mx.sym.var("w2"), kernel=(3, 3), pad=(1, 1), num_filter=2, no_bias=True,
                             name=prefix + "2")
    return mx.sym.Concat(two, one, name=prefix) if order else mx.sym.Concat(one, two, name=prefix)


def test_graph_digest_is_canonical():
    same = graph_digest(small_graph())
    assert graph_digest(small_graph(prefix="b")) == same
    assert graph_digest(small_graph(kernel=1)) != same
    assert graph_digest(small_graph(order=True)) != same
    stamped = json.loads(small_graph().tojson())
    stamped["attrs"]["mxnet_version"] = ["int", 10300]
    assert graph_digest(mx.sym.load_json(json.dumps(stamped))) == same
    with mx.AttrScope(__ctx_group__="stage1"):
        assert graph_digest(small_graph()) == same  # how a graph is run is no part of what it computes
    longer = mx.sym.Flatten(small_graph(), name="beyond").get_internals()["a_output"]
    assert graph_digest(longer) == same


def test_unknown_context_is_refused(tiny_checkpoint):
    with pytest.raises(InputError, match="tpu"):
        load(tiny_checkpoint, ctx="tpu")
    assert load(tiny_checkpoint, ctx=mx.cpu(0)).ctx == load(tiny_checkpoint, ctx="cpu").ctx


@pytest.mark.data
@pytest.mark.parametrize("name, n_features", WEIGHTS.items())
def test_real_weights(real_data, name, n_features):
    prefix = str(real_data(f"weights/{name}-symbol.json")).replace("-symbol.json", "")
    backbone = load(prefix)
    assert backbone.n_features == n_features and backbone.source["source"]
    x = images(backbone, 3)
    got = backbone.extract(x)
    assert np.isfinite(got).all() and got.std() > 0.1
    assert relative(np.concatenate([backbone.extract(x[:1]), backbone.extract(x[1:])]), got) < 1e-5
    assert relative(got, by_module(backbone, x)) < 1e-5
    assert relative(got, by_symbol_block(backbone, x)) < 1e-5
    assert load(name).digest == backbone.digest  # found by its name


@pytest.mark.data
def test_real_images(real_data):
    folder = real_data("caltech101-mini/accordion")
    backbone = load(str(real_data("weights/mobilenet_v1_0.75_224-symbol.json")).replace("-symbol.json", ""))
    raw = [mx.image.imread(str(path)).asnumpy() for path in sorted(folder.iterdir())[:3]]
    features = backbone.extract(raw)
    assert features.shape == (3, 768) and np.isfinite(features).all() and features.min() >= 0


def test_in_a_container_it_is_the_same_network(tiny, tmp_path):
    metadata, arrays = contained.pack(tiny)
    save_container(tmp_path / "file", "test", {**metadata, "k": 3}, {**arrays, "labels": np.arange(4)})
    again = contained.unpack(*load_container(tmp_path / "file", "test"))
    assert again.digest == tiny.digest and again.preprocessing == tiny.preprocessing
    with pytest.raises(KeyError):
        contained.unpack({"name": "x"}, arrays)
