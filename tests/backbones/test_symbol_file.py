"""Old symbol files give the network that was trained, numbers and all."""
import json
import re

import numpy as np
import pytest
from old_symbols import old_json

from mxelm.backbones import inception21k, load
from mxelm.backbones.graph_parameters import infer_shapes
from mxelm.errors import InputError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

PREPROCESSING = Preprocessing((15, 15), resize="stretch")


def network(convention="valid", **pool):
    """conv, BatchNorm, ReLU, a pooling that halves 14 pixels to 6 (valid) or 7 (full), features, scores."""
    x = mx.sym.Convolution(mx.sym.var("data"), kernel=(2, 2), num_filter=4, name="conv")
    x = mx.sym.BatchNorm(x, fix_gamma=False, eps=1e-3, name="bn")
    x = mx.sym.Activation(x, act_type="relu", name="relu")
    x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", name="pool", pooling_convention=convention,
                       **pool)
    x = mx.sym.Convolution(x, kernel=(1, 1), num_filter=3, name="conv2")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x, name="flatten0"), num_hidden=6, name="fc0")
    x = mx.sym.Flatten(x, name="flatten")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(x, num_hidden=3, name="fc1"), name="softmax")


def random_params(symbol, input_shape, seed=0):
    random = np.random.default_rng(seed)
    shapes, _ = infer_shapes(symbol, input_shape)
    values = {}
    for name, shape in shapes.items():
        if name.endswith(("gamma", "var")):
            values[name] = random.uniform(0.5, 1.5, shape)
        elif name not in ("data", "softmax_label"):
            values[name] = random.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
    aux = symbol.list_auxiliary_states()
    return ({n: mx.nd.array(v) for n, v in values.items() if n not in aux},
            {n: mx.nd.array(values[n]) for n in aux})


def write(prefix, graph, params, epoch=0):
    prefix.with_name(prefix.name + "-symbol.json").write_text(json.dumps(graph, indent=2))
    arrays = {**{f"arg:{n}": a for n, a in params[0].items()}, **{f"aux:{n}": a for n, a in params[1].items()}}
    mx.nd.save(f"{prefix}-{epoch:04d}.params", arrays)
    return str(prefix)


def reference(symbol, params, cut, x):
    """Features by an executor without fusion, of the network of today."""
    features = symbol.get_internals()[cut]
    values = {**params[0], **params[1], "data": mx.nd.array(x)}
    args = {n: values[n] for n in features.list_arguments()}
    aux = {n: values[n] for n in features.list_auxiliary_states()}
    return features.bind(mx.cpu(), args, aux_states=aux, grad_req="write").forward(is_train=False)[0].asnumpy()


def images(shape, n=2):
    return np.random.default_rng(5).standard_normal((n, *shape)).astype(np.float32)


@pytest.mark.parametrize("version", [None, 901, 10300])
@pytest.mark.parametrize("convention", ["valid", "full"])
def test_old_file_gives_the_network_that_was_trained(tmp_path, convention, version):
    symbol = network(convention)
    params = random_params(symbol, (3, 15, 15))
    prefix = write(tmp_path / "old", old_json(symbol, version), params)
    x = images((3, 15, 15))
    got = load(prefix, preprocessing=PREPROCESSING).extract(x)
    np.testing.assert_allclose(got, reference(symbol, params, "flatten_output", x), rtol=1e-4, atol=1e-5)


def test_repairs_are_logged(tmp_path, caplog):
    symbol = network("full")
    prefix = write(tmp_path / "old", old_json(symbol, 901), random_params(symbol, (3, 15, 15)))
    with caplog.at_level("INFO"):
        load(prefix, preprocessing=PREPROCESSING)
    for said in ("version stamp is dropped", "older than fix_gamma", "poolings round up", "pool"):
        assert said in caplog.text


def test_stated_fix_gamma_is_kept(tmp_path):
    graph = old_json(network(), drop=())
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm":
            node["param"]["fix_gamma"] = "True"
    symbol = network()
    params = random_params(symbol, (3, 15, 15))
    x = images((3, 15, 15))
    got = load(write(tmp_path / "old", graph, params), preprocessing=PREPROCESSING).extract(x)
    params[0]["bn_gamma"][:] = 1
    np.testing.assert_allclose(got, reference(symbol, params, "flatten_output", x), rtol=1e-4, atol=1e-5)


def test_cudnn_batchnorm(tmp_path):
    symbol = network()
    params = random_params(symbol, (3, 15, 15))
    graph = old_json(symbol)
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm":
            node["op"] = "CuDNNBatchNorm"
            node["param"]["cudnn_tune"] = "off"
    x = images((3, 15, 15))
    got = load(write(tmp_path / "old", graph, params), preprocessing=PREPROCESSING).extract(x)
    np.testing.assert_allclose(got, reference(symbol, params, "flatten_output", x), rtol=1e-4, atol=1e-5)


def test_todays_file_is_left_alone(tmp_path):
    """Files of today leave out what is default: neither fix_gamma nor pooling may be guessed there."""
    symbol = network()
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        node.get("attrs", {}).pop("pooling_convention", None)
        node.get("attrs", {}).pop("fix_gamma", None)
    params = random_params(symbol, (3, 15, 15))
    x = images((3, 15, 15))
    got = load(write(tmp_path / "new", graph, params), preprocessing=PREPROCESSING).extract(x)
    np.testing.assert_allclose(
        got, reference(mx.sym.load_json(json.dumps(graph)), params, "flatten_output", x), rtol=1e-4, atol=1e-5)


def test_convention_by_hand(tmp_path, caplog):
    """Where both conventions fit (a global pooling hides the size), the hand decides, and is asked for."""
    x = mx.sym.Pooling(mx.sym.var("data"), kernel=(3, 3), stride=(2, 2), pool_type="max", name="pool",
                       pooling_convention="full")
    x = mx.sym.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg", name="gap")
    symbol = mx.sym.FullyConnected(mx.sym.Flatten(x, name="flatten"), num_hidden=2, name="fc")
    params = random_params(symbol, (3, 14, 14))
    prefix = write(tmp_path / "old", old_json(symbol, drop=("pooling_convention",)), params)
    x, settings = images((3, 14, 14)), Preprocessing((14, 14), resize="stretch")
    by_hand = load(prefix, preprocessing=settings, pooling_convention="full").extract(x)
    load(prefix, preprocessing=Preprocessing((15, 15), resize="stretch"))  # here both give the same sizes
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    found = load(prefix, preprocessing=settings).extract(x)
    assert re.search(r"does not say how its poolings round \(pool\).*--pooling", caplog.text)
    np.testing.assert_allclose(by_hand, reference(symbol, params, "flatten_output", x), rtol=1e-5)
    assert np.abs(found - by_hand).max() > 1e-3
    np.testing.assert_array_equal(found, load(prefix, preprocessing=settings, pooling_convention="valid").extract(x))
    with pytest.raises(InputError, match="half"):
        load(prefix, preprocessing=settings, pooling_convention="half")


def test_parameters_that_fit_neither_convention_are_named(tmp_path):
    symbol = network()
    params = random_params(symbol, (3, 15, 15))
    params[0]["fc0_weight"] = mx.nd.ones((6, 5))
    with pytest.raises(InputError, match="fc0_weight"):
        load(write(tmp_path / "old", old_json(symbol), params), preprocessing=PREPROCESSING)


@pytest.fixture(scope="module")
def inception():
    symbol = inception21k.symbol(10)
    return symbol, random_params(symbol, inception21k.INPUT_SHAPE)


def test_old_inception21k_file(tmp_path, inception):
    symbol, params = inception
    prefix = write(tmp_path / "Inception21k", old_json(symbol), params, 9)
    backbone = load(prefix, epoch=9, preprocessing=inception21k.PREPROCESSING)
    full = {n["name"] for n in json.loads(backbone.symbol.tojson())["nodes"]
            if n.get("attrs", {}).get("pooling_convention") == "full"}
    assert full == {"pool1", "pool2", "max_pool_3c_pool", "max_pool_4e_pool"}
    x = images(inception21k.INPUT_SHAPE, 1) * 50
    got = backbone.extract(x)
    assert got.shape == (1, 1024) and got.std() > 0
    np.testing.assert_allclose(got, reference(symbol, params, "flatten_output", x), rtol=1e-3, atol=1e-4 * got.max())


def test_padded_inception21k_file_is_warned_of(tmp_path, inception, caplog):
    symbol, params = inception
    graph = old_json(symbol)
    for node in graph["nodes"]:
        if node["name"] in ("max_pool_3c_pool", "max_pool_4e_pool"):
            node["param"]["pad"] = "(1,1)"
        if node["name"] == "fc1":
            node["param"]["num_hidden"] = "21841"
    params = ({**params[0], "fc1_weight": mx.nd.zeros((21841, 1024)), "fc1_bias": mx.nd.zeros(21841)}, params[1])
    load(write(tmp_path / "Inception21k", graph, params, 9), preprocessing=inception21k.PREPROCESSING)
    assert "max_pool_3c_pool, max_pool_4e_pool pad by (1, 1)" in caplog.text
