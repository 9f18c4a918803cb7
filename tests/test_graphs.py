from contextlib import contextmanager

import numpy as np
import pytest
from tiny_network import tiny_params, tiny_symbol

from mxelm import graphs
from mxelm.errors import InputError
from mxelm.runtime import mx

SHAPE = (2, 3, 16, 16)


@contextmanager
def unfused(monkeypatch):
    """Binds in the block fuse nothing: the reference for what a head's value is."""
    with monkeypatch.context() as patch:
        patch.setenv("MXNET_SUBGRAPH_BACKEND", "NONE")
        yield


@pytest.fixture(scope="module")
def x():
    return mx.nd.array(np.random.default_rng(0).normal(0, 1, SHAPE))


def outputs(symbol, x, params=None):
    """name -> float32 array of every output of `symbol`, through graphs.bind."""
    arrays, aux = params or tiny_params(symbol)
    arrays = {name: arrays[name] for name in symbol.list_arguments() if name != "data"}
    aux = {name: aux[name] for name in symbol.list_auxiliary_states()}
    module = graphs.bind(symbol, {"data": x.shape}, arrays, aux, ctx=mx.cpu())
    module.forward(mx.io.DataBatch([x]), is_train=False)
    return {name: o.asnumpy() for name, o in zip(symbol.list_outputs(), module.get_outputs())}


# cutting

def test_a_cut_ends_at_the_output_and_needs_no_parameter_behind_it():
    part = graphs.cut(tiny_symbol(), "relu0_output")
    assert part.list_outputs() == ["relu0_output"]
    assert part.list_arguments() == ["data", "conv0_weight", "bn0_gamma", "bn0_beta"]


def test_a_cut_computes_the_inner_value(x, monkeypatch):
    symbol = tiny_symbol()
    params = tiny_params(symbol)
    features = outputs(graphs.cut(symbol, "flatten_output"), x, params)["flatten_output"]
    with unfused(monkeypatch):
        pooled = outputs(graphs.cut(symbol, "pool1_output"), x, params)["pool1_output"]
    np.testing.assert_allclose(features, pooled.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_a_layers_own_name_will_do_and_shared_names_are_told_apart():
    first = mx.sym.relu(mx.sym.var("data"), name="relu")
    second = mx.sym.relu(first * 2, name="relu")
    network = mx.sym.flatten(second, name="flatten")
    assert graphs.cut(network, "flatten").list_outputs() == graphs.cut(network, "flatten_output").list_outputs()
    x = {"data": mx.nd.array([[-1, 3]])}
    found = [graphs.cut(network, name).eval(**x)[0].asnumpy().tolist()
             for name in ("relu", "relu_output", "relu_2_output")]
    assert found == [[[0, 3]], [[0, 3]], [[0, 6]]]
    with pytest.raises(InputError, match="the nearest are relu_output, relu_2_output"):
        graphs.cut(network, "relu_outputs")


@pytest.mark.parametrize("asked, nearest", [("flaten_output", "flatten_output"), ("rellu1", "relu1_output"),
                                            ("FC1_output", "fc1_output"), ("globalpool", "global_pool_output")])
def test_the_error_names_the_nearest_output_first(asked, nearest):
    with pytest.raises(InputError, match=f"no output '{asked}'; the nearest are {nearest}"):
        graphs.cut(tiny_symbol(), asked)


@pytest.mark.parametrize("asked", ["data", "conv0_weight", "bn0_moving_mean"])
def test_an_input_is_no_output(asked):
    with pytest.raises(InputError, match="the nearest are ") as caught:
        graphs.cut(tiny_symbol(), asked)
    assert asked not in str(caught.value).split("nearest are")[1].split(", ")


def test_where_nothing_is_near_the_last_outputs_are_named():
    with pytest.raises(InputError, match="the nearest are flatten_output, fc1_output, softmax_output"):
        graphs.cut(tiny_symbol(), "ζ")


# guarding

def head_sets(symbol):
    """Sets of inner heads, some of which are consumed by others of the set: in order, backwards, in pairs, alone."""
    inner = [name for name in symbol.get_internals().list_outputs()
             if name.endswith("_output") and not name.startswith(("data", "softmax"))]
    yield inner
    yield inner[::-1]
    yield from zip(inner, inner[1:])
    yield from ((name, inner[-1]) for name in inner[:-1])


def test_guarded_heads_are_right_where_they_are_consumed_inside(x, monkeypatch):
    symbol = tiny_symbol()
    params = tiny_params(symbol)
    internals = symbol.get_internals()
    with unfused(monkeypatch):
        expected = {name: outputs(internals[name], x, params)[name] for name in next(head_sets(symbol))}
    for names in head_sets(symbol):
        found = outputs(graphs.guard([internals[name] for name in names]), x, params)
        assert list(found) == [name.replace("_output", "_head_output") for name in names]
        for name, value in zip(names, found.values()):
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=f"{name} of {names}")


def test_without_the_guard_a_head_is_wrong(x, monkeypatch):
    """What the guard is there for; if this fails, MXNet has mended itself and the guard can go."""
    data = mx.sym.var("data")
    before = mx.sym.Convolution(data, num_filter=4, kernel=(3, 3), name="conv")
    both = [before, mx.sym.Activation(before, act_type="relu", name="relu")]
    params = tiny_params(mx.sym.Group(both))
    with unfused(monkeypatch):
        expected = outputs(mx.sym.Group(both), x, params)
    assert expected["conv_output"].min() < 0 <= expected["relu_output"].min()
    monkeypatch.setattr(graphs, "fusible", lambda symbol: symbol)
    bare = outputs(mx.sym.Group(both), x, params)
    assert not all(np.allclose(bare[name], expected[name], atol=1e-4) for name in expected)
    guarded = outputs(graphs.guard(both), x, params)
    for name in expected:
        np.testing.assert_allclose(guarded[name.replace("_output", "_head_output")], expected[name], atol=1e-5)


@pytest.mark.parametrize("follow, reference", [
    (lambda f: mx.sym.Activation(f, act_type="relu"), lambda f: np.maximum(f, 0)),
    (mx.sym.square, np.square),
    (lambda f: mx.sym.Activation(f, act_type="tanh") + mx.sym.Activation(f, act_type="relu"),
     lambda f: np.tanh(f) + np.maximum(f, 0)),
])
def test_a_fully_connected_head_and_what_follows_it_are_right(x, follow, reference):
    """FullyConnected is fused even behind BlockGrad, but for the switch that the door to MXNet sets."""
    f = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=5, name="f")
    after = follow(f)
    params = tiny_params(after)
    W, b = params[0]["f_weight"].asnumpy(), params[0]["f_bias"].asnumpy()
    expected = x.asnumpy().reshape(2, -1).astype(np.float64) @ W.T + b
    for heads in ([f, after], [after, f], [after]):
        for name, found in outputs(graphs.guard(heads), x, params).items():
            wanted = expected if name == "f_head_output" else reference(expected)
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=name)


# binding

def test_bind_takes_inputs_in_the_order_given_and_trains_nothing():
    a, b = mx.sym.var("a"), mx.sym.var("b")
    symbol = mx.sym.broadcast_mul(b - 2 * a, mx.sym.var("w", shape=(1, 1)))
    module = graphs.bind(symbol, {"b": (2, 3), "a": (2, 3)}, {"w": mx.nd.array([[10]])}, {}, ctx=mx.cpu())
    assert module.data_names == ["b", "a"] and not module.for_training
    module.forward(mx.io.DataBatch([mx.nd.ones((2, 3)) * 7, mx.nd.ones((2, 3))]))
    np.testing.assert_array_equal(module.get_outputs()[0].asnumpy(), np.full((2, 3), 50))


def test_bind_says_nothing_on_stderr(x, capfd):
    outputs(tiny_symbol(), x)
    assert capfd.readouterr().err == ""


def test_a_missing_parameter_is_not_made_up():
    symbol = tiny_symbol()
    arrays, aux = tiny_params(symbol)
    del arrays["fc1_bias"]
    with pytest.raises(RuntimeError, match="fc1_bias is not presented"):
        graphs.bind(symbol, {"data": SHAPE}, arrays, aux, ctx=mx.cpu())


def C(x, name, kernel=3):
    return mx.sym.Convolution(x, kernel=(kernel, kernel), pad=(kernel // 2,) * 2, num_filter=3, name=name)


def R(x):
    return mx.sym.Activation(x, act_type="relu")


SHARED = {  # of a convolution c, its BatchNorm b and the input d: all but the last come out wrong, or fail, unguarded
    "shortcut": lambda c, b, d: C(R(b), "e") + c,
    "shortcut first": lambda c, b, d: c + C(R(b), "e"),
    "normalised and not": lambda c, b, d: R(b + c),
    "clip": lambda c, b, d: mx.sym.clip(c, a_min=0, a_max=6) + c,
    "tanh": lambda c, b, d: mx.sym.Activation(c, act_type="tanh") + c,
    "both heads": lambda c, b, d: mx.sym.Group([c, R(c)]),
    "a BatchNorm's shortcut": lambda c, b, d: C(R(b), "e") + b,
    "a BatchNorm as a head": lambda c, b, d: mx.sym.Group([R(b), b]),
    "twice the same": lambda c, b, d: c + c,
    "twice the same BatchNorm": lambda c, b, d: b + b,
    "two sums": lambda c, b, d: C(c + d, "e") + c,
    "activated sum": lambda c, b, d: C(R(c + d), "e") + c,
    "a sum and a head": lambda c, b, d: mx.sym.Group([c + d, c]),
    "a sum's shortcut": lambda c, b, d: (lambda s: C(R(s), "e") + s)(c + d),
}
ALONE = {
    "one reader": lambda c, b, d: C(R(b), "e") + 1,
    "a residual block": lambda c, b, d: C(R(C(c, "e")), "f") + c,
    "read behind the activation": lambda c, b, d: (lambda r: C(r, "e") + r)(R(b)),
}


@pytest.mark.parametrize("kind", [*SHARED, *ALONE])
def test_fusion_leaves_alone_what_others_read_too(kind, x, monkeypatch):
    d = mx.sym.var("data")
    c = C(d, "c")
    symbol = {**SHARED, **ALONE}[kind](c, mx.sym.BatchNorm(c, name="bn", fix_gamma=False), d)
    with unfused(monkeypatch):
        expected = outputs(symbol, x)
    found = outputs(symbol, x)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)
    guarded = graphs.fusible(symbol)
    assert (guarded is symbol) == (kind in ALONE) == graphs.keeps_numbers(symbol)
    assert guarded.list_arguments() == symbol.list_arguments() and guarded.list_outputs() == symbol.list_outputs()


@pytest.mark.parametrize("seed", range(40))
def test_fusion_of_random_graphs(seed, x, monkeypatch):
    rng = np.random.default_rng(seed)
    made = [mx.sym.var("data")]
    for number in range(rng.integers(3, 9)):
        one, other = (made[-1] if rng.random() < 0.5 else made[rng.integers(len(made))] for _ in range(2))
        made.append([lambda: C(one, f"c{number}", 1), lambda: mx.sym.BatchNorm(one, name=f"b{number}"),  # noqa: B023
                     lambda: R(one), lambda: one + other][rng.choice(4, p=[0.4, 0.2, 0.2, 0.2])]())  # noqa: B023
    with unfused(monkeypatch):
        expected = outputs(made[-1], x)
    for value, wanted in zip(outputs(made[-1], x).values(), expected.values()):
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_a_resnet_whose_shortcut_reads_a_convolution(monkeypatch):
    """cifar_resnet20_v2 as MXNet 1.9.1 fuses it is wrong by a third."""
    from mxelm import backbones
    network = backbones.zoo("cifar_resnet20_v2")
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 32, 32)).astype(np.float32)
    with unfused(monkeypatch):
        expected = network.extract(x)
    np.testing.assert_allclose(network.extract(x), expected, rtol=1e-4, atol=1e-5)
