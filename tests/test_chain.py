"""Segments and the chain against the whole network."""
import numpy as np
import pytest
from tiny_network import tiny_params, tiny_symbol

from mxelm import graphs
from mxelm.backbones.backbone import Backbone
from mxelm.chain import Chain, unfused
from mxelm.errors import InputError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

SHAPE = (3, 16, 16)


def branching_symbol():
    """Shortcuts, two parallel branches, a split and a BatchNorm, so that several values cross most cuts."""
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=8, kernel=(3, 3), pad=(1, 1), name="stem")
    x = mx.sym.Activation(x, act_type="relu", name="stem_relu")
    left = mx.sym.Convolution(x, num_filter=8, kernel=(3, 3), pad=(1, 1), name="left")
    left = mx.sym.Activation(mx.sym.BatchNorm(left, fix_gamma=False, name="left_bn"), act_type="relu", name="left_relu")
    right = mx.sym.Convolution(x, num_filter=8, kernel=(1, 1), name="right")
    x = mx.sym.broadcast_add(left + right, x, name="sum")
    halves = mx.sym.split(x, num_outputs=2, axis=1, name="halves")
    first = mx.sym.Convolution(halves[0], num_filter=4, kernel=(3, 3), pad=(1, 1), name="first")
    x = mx.sym.concat(first, halves[1], mx.sym.Activation(first, act_type="relu"), dim=1, name="joined")
    x = mx.sym.Pooling(x, global_pool=True, pool_type="avg", name="pool")
    return mx.sym.flatten(x, name="flatten")


def backbone(symbol, cut=None):
    return Backbone("small", symbol, *tiny_params(symbol), Preprocessing(SHAPE[1:], "stretch"), cut=cut)


def operators(symbol):
    arguments = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    return [name for name in symbol.get_internals().list_outputs() if name not in arguments]


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(0, 1, (5, *SHAPE)).astype(np.float32)


def maps_of(chain, x):
    return [maps.asnumpy() for _, maps in chain.run(x)]


# segments

def test_no_operator_is_computed_twice_and_none_is_left_out():
    symbol = branching_symbol()
    parts = graphs.segments(symbol, ["right_output", "sum_output"])
    computed = [name for part in parts for name in operators(part.symbol) if not name.endswith("_head_output")]
    assert sorted(computed) == sorted(operators(symbol))
    assert [part.exit for part in parts] == ["right_output", "sum_output", "flatten_output"]


def test_what_crosses_a_cut_is_handed_on():
    first, second = graphs.segments(branching_symbol(), ["left_output"])
    assert first.crossings == ("stem_relu_output",) and second.inputs == ("left_output", "stem_relu_output")
    assert set(first.symbol.list_arguments()) | set(second.symbol.list_arguments()) - set(second.inputs) == \
        set(branching_symbol().list_arguments())


def test_the_networks_other_heads_cross_to_its_end():
    symbol = tiny_symbol()
    both = mx.sym.Group([symbol, symbol.get_internals()["relu0_output"]])
    first, last = graphs.segments(both, ["pool0_output"])
    assert first.crossings == ("relu0_output",)
    assert last.outputs == ("softmax_output", "relu0_output") and "relu0_output" in last.inputs


@pytest.mark.parametrize("exits, message", [
    (["lefft"], "no output 'lefft'; the nearest are left"),
    (["sum", "left"], "left_output is computed on the way to an exit before it"),
    (["sum", "sum"], "sum_output is computed on the way"),
    (["flatten"], "flatten_output is computed on the way"),
    (["stem_weight"], "no output 'stem_weight'")])
def test_exits_that_cannot_be_are_refused(exits, message):
    with pytest.raises(InputError, match=message):
        graphs.segments(branching_symbol(), exits)


# the chain

@pytest.mark.parametrize("interface", ["symbol", "gluon"])
@pytest.mark.parametrize("symbol", [tiny_symbol(), branching_symbol()], ids=["plain", "branching"])
def test_cut_at_every_operator_it_agrees_with_the_whole_network(symbol, interface, x):
    network = backbone(symbol)
    for exit in operators(network.features)[:-1]:
        chain = Chain(network, [exit], interface=interface)
        assert chain.agreement(x) < 1e-6
        with unfused():
            assert Chain(network, [exit], interface=interface).agreement(x) == 0


def test_gluon_segments_are_fused_but_where_that_is_wrong_or_switched_off():
    network = backbone(branching_symbol())
    plain = Chain(network, ["stem_relu"], interface="gluon")
    with unfused():
        asked = Chain(network, ["stem_relu"], interface="gluon")
    assert "_sg_mkldnn_conv" in plain._pieces[0].block._cached_graph[1].tojson()
    assert "_sg_mkldnn_conv" not in asked._pieces[0].block._cached_graph[1].tojson()


@pytest.mark.parametrize("seed", range(8))
def test_cut_anywhere_several_times_dropped_rows_change_no_other(seed, x):
    rng = np.random.default_rng(seed)
    network = backbone(branching_symbol())
    names = [name for name in operators(network.features)[:-1] if name != "halves_output1"]
    places = sorted(rng.choice(len(names), 3, replace=False))
    chain = Chain(network, [names[place] for place in places])
    whole, rows = maps_of(chain, x), np.arange(len(x))
    for number, (_, maps) in enumerate(chain.run(x)):
        np.testing.assert_allclose(maps.asnumpy(), whole[number][rows], rtol=1e-5, atol=1e-6)
        kept = np.sort(rng.choice(len(rows), len(rows) - 1, replace=False))
        chain.keep(kept)
        rows = rows[kept]
    for again, before in zip(maps_of(chain, x), whole):  # nothing of the dropped rows is left behind
        np.testing.assert_array_equal(again, before)


def test_who_stops_asking_has_stopped_the_network_and_none_kept_ends_it(x):
    chain = Chain(backbone(tiny_symbol(), "flatten_output"), ["relu0", "relu1"])
    exit, maps = next(chain.run(x))
    assert (exit, maps.shape) == ("relu0_output", (5, 6, 16, 16))
    seen = []
    for exit, _ in chain.run(x):
        seen.append(exit)
        chain.keep([])
    assert seen == ["relu0_output"]


def test_executors_are_given_up_where_their_memory_is_used_up(x):
    network = backbone(tiny_symbol(), "flatten_output")
    one = Chain(network, ["relu0"])
    whole = dict(one.run(x))
    taken = [piece.taken[len(x)] for piece in one._pieces]
    chain = Chain(network, ["relu0"], memory=max(taken))
    for rows in (1, 2, 3, 4, 2):
        found = dict(chain.run(x[:rows]))
        assert [list(piece.executors)[-1] for piece in chain._pieces] == [rows, rows]
        assert all(sum(piece.taken[n] for n in piece.executors) <= max(taken) for piece in chain._pieces)
        for exit, maps in found.items():
            np.testing.assert_allclose(maps.asnumpy(), whole[exit].asnumpy()[:rows], rtol=1e-5, atol=1e-6)
    tight = Chain(network, ["relu0"], memory=0)
    for rows in (2, 3):
        list(tight.run(x[:rows]))
        assert all(list(piece.executors) == [rows] for piece in tight._pieces)


def test_the_callers_images_and_parameters_are_not_written_into(x):
    network = backbone(tiny_symbol(), "flatten_output")
    chain = Chain(network, ["relu0"])
    mine = mx.nd.array(x)
    first = maps_of(chain, mine)[-1]
    maps_of(chain, x + 1)
    np.testing.assert_array_equal(mine.asnumpy(), x)
    network.arg_params["conv0_weight"][:] = 0
    np.testing.assert_array_equal(maps_of(chain, mine)[-1], first)


def test_every_segment_takes_time():
    seconds = Chain(backbone(tiny_symbol(), "flatten_output"), ["relu0", "relu1"]).seconds(2, repeats=3)
    assert seconds.shape == (3,) and (seconds > 0).all()


def test_bad_calls_are_refused(x):
    chain = Chain(backbone(tiny_symbol(), "flatten_output"), ["relu0"])
    with pytest.raises(InputError, match=r"takes images of shape \(3, 16, 16\), got \(3, 8, 8\)"):
        next(chain.run(x[:, :, :8, :8]))
    with pytest.raises(InputError, match="interface 'onnx' is not known: use symbol or gluon"):
        Chain(chain.backbone, ["relu0"], interface="onnx")
    for rows in ([2, 1], [0, 0], [5], [-1]):
        next(chain.run(x))
        with pytest.raises(InputError, match="rising positions in 0..4"):
            chain.keep(rows)


def test_a_segment_that_is_silently_wrong_is_found(monkeypatch, x):
    monkeypatch.setattr(graphs, "_guarded", lambda head: head)  # without the guards, fusion changes the shortcut
    monkeypatch.setattr("mxelm.chain.fusible", lambda symbol: symbol)
    data = mx.sym.var("data")
    c = mx.sym.Convolution(data, num_filter=4, kernel=(3, 3), pad=(1, 1), name="c")
    r = mx.sym.Activation(c, act_type="relu", name="r")
    with pytest.raises(InputError, match="cut at r_output differs from the whole network by"):
        Chain(backbone(mx.sym.flatten(r + c, name="end")), ["r"])
