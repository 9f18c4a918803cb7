"""Networks of anybody: inputs of other names, channels last, other precisions; the answers are the plain network's."""
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_network import tiny_params, tiny_symbol

from mxelm.backbones import load
from mxelm.backbones.anatomy import costs, describe
from mxelm.errors import InputError
from mxelm.fused.symbol import apart, predictor
from mxelm.graphs import nodes
from mxelm.runtime import mx

S = mx.sym
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def write(prefix, symbol, arrays, aux=(), sidecar=True, dtype="float32"):
    """What people have: two files, and a hand-written PREFIX.json."""
    Path(f"{prefix}-symbol.json").write_text(symbol if isinstance(symbol, str) else symbol.tojson())
    mx.nd.save(f"{prefix}-0000.params", {**{f"arg:{n}": a.astype(dtype) for n, a in arrays.items()},
                                         **{f"aux:{n}": a.astype(dtype) for n, a in dict(aux).items()}})
    if sidecar:
        Path(f"{prefix}.json").write_text(json.dumps({"input_shape": [3, 16, 16], "resize": {"rule": "stretch"}}))
    return str(prefix)


@pytest.fixture
def plain(tmp_path):
    """(symbol, arg_params, aux_params, features of IMAGES) of the plain network."""
    symbol = tiny_symbol()
    args, aux = tiny_params(symbol)
    return symbol, args, aux, load(write(tmp_path / "plain", symbol, args, aux)).extract(list(IMAGES))


@pytest.mark.parametrize("name", ["data_0", "images", "Placeholder", "input.1"])
def test_an_input_of_another_name(plain, tmp_path, name):
    symbol, args, aux, expected = plain
    prefix = write(tmp_path / "net", symbol(data=S.var(name)), args, aux)
    np.testing.assert_array_equal(load(prefix).extract(list(IMAGES)), expected)


def test_an_input_that_cannot_be_told(plain, tmp_path):
    symbol, args, aux, _ = plain
    prefix = write(tmp_path / "net", S.Group([symbol(data=S.var("left")), S.relu(S.var("right"))]), args, aux)
    with pytest.raises(InputError, match="which of its variables takes the images cannot be told: left, right"):
        load(prefix)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_network_of_another_precision(plain, tmp_path, dtype):
    symbol, args, aux, expected = plain
    graph = json.loads(S.Cast(symbol(data=S.Cast(S.var("data"), dtype=dtype, name="in")), dtype=dtype).tojson())
    for node in graph["nodes"]:
        if node["op"] == "null":
            node["attrs"] = {"__dtype__": {"float16": "2", "float64": "1"}[dtype]}
    found = load(write(tmp_path / "net", json.dumps(graph), args, aux, dtype=dtype)).extract(list(IMAGES))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-2 * np.abs(expected).max())


def test_images_whose_channels_come_last(plain, tmp_path):
    symbol, args, aux, expected = plain
    turned = symbol(data=S.transpose(S.var("data"), axes=(0, 3, 1, 2)))  # as gluoncv.utils.export_block has it
    np.testing.assert_array_equal(load(write(tmp_path / "net", turned, args, aux)).extract(list(IMAGES)), expected)


def test_layers_over_channels_that_come_last(plain, tmp_path):
    """Convolutions and poolings with layout NHWC, which MXNet itself has on GPUs alone."""
    symbol, args, aux, expected = plain
    graph, last = json.loads(symbol.tojson()), {}
    for node in graph["nodes"]:
        if node["op"] in ("Convolution", "Pooling") or node["name"].startswith("conv"):  # its variables too, as MXNet
            node.setdefault("attrs", {})["layout"] = "NHWC"
        if node["op"] == "BatchNorm":
            node["attrs"]["axis"] = "3"
    for name, array in args.items():
        last[name] = array.transpose((0, 2, 3, 1)) if array.ndim == 4 else array
    prefix = write(tmp_path / "net", json.dumps(graph), last, aux)
    np.testing.assert_allclose(load(prefix).extract(list(IMAGES)), expected, rtol=1e-5, atol=1e-5)


# what a network consists of

@pytest.mark.parametrize("sidecar", [True, False])
def test_the_anatomy_with_and_without_a_sidecar(plain, tmp_path, sidecar):
    symbol, args, aux, _ = plain
    found = describe(write(tmp_path / "net", symbol, args, aux, sidecar=sidecar))
    assert found["kind"] == "checkpoint" and found["outputs"] == ["softmax_output"]
    assert found["input"].startswith("3x16x16" if sidecar else "3x") and ("assumed" in found["input"]) != sidecar
    assert found["numbers"] == sum(array.size for array in [*args.values(), *aux.values()])
    assert [row["name"] for row in found["costs"]][-3:] == ["flatten_output", "fc1_output", "softmax_output"]


def test_costs_by_hand():
    symbol = tiny_symbol()
    rows = {row["name"]: row for row in costs(symbol, (3, 16, 16))}
    assert rows["conv0_output"]["cost"] == 6 * 16 * 16 * 3 * 9 and rows["conv0_output"]["shape"] == [6, 16, 16]
    assert rows["conv1_output"]["cost"] == 8 * 8 * 8 * 6 * 9
    assert rows["fc1_output"]["cost"] == 8 * 4 and rows["flatten_output"]["cost"] == 0
    assert rows["pool0_output"]["cost"] == rows["relu0_output"]["cost"] == 6 * 16 * 16
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


def test_the_anatomy_of_a_symbol_alone(tmp_path):
    symbol = S.Group([S.relu(S.Convolution(S.var("data"), num_filter=2, kernel=(3, 3), name="c"), name="twice"),
                      S.sigmoid(S.var("data"), name="twice")])
    symbol.save(f"{tmp_path}/net-symbol.json")
    found = describe(str(tmp_path / "net"))
    assert found["kind"] == "symbol, without parameters"
    assert [row["name"] for row in found["costs"]] == ["c_output", "twice_output", "twice_2_output"]


def test_an_elm_behind_an_elm_has_names_of_its_own(tiny_backbone):
    names, backbone = [], tiny_backbone
    for _ in range(3):
        backbone = apart(backbone)
        scores = predictor(backbone.features, 5, 4)
        args, aux = backbone.feature_params()
        rng = np.random.default_rng(0)
        args = {**args, "W": mx.nd.array(rng.normal(size=(5, backbone.n_features))),
                "beta": mx.nd.array(rng.normal(size=(4, 5)))}
        names = [node.name for node in nodes(scores)[0]]
        assert len(set(names)) == len(names)
        backbone = type(backbone)("again", scores, args, aux, backbone.preprocessing, cut="elm_hidden_output")
    assert {"W", "W_1", "W_2", "elm_hidden", "elm_hidden_2"} <= set(names)
