"""Symbol files of strangers: refused by a sentence, never by the process's end, and read as far as they can be."""
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_network import tiny_params, tiny_symbol

from mxelm.backbones import load
from mxelm.backbones.graph_form import build, computable, read_graph
from mxelm.errors import FileError, InputError, MxelmError
from mxelm.runtime import mx


def graph():
    return json.loads(tiny_symbol().tojson())


def node(content, name):
    return next(node for node in content["nodes"] if node["name"] == name)


def read(content, cut=None):
    """The Symbol of a graph (a dict), by the way of a file."""
    raw = json.dumps(content).encode()
    return build(computable("a-symbol.json", read_graph("a-symbol.json", raw), cut))


def test_a_sound_graph_stays_as_it_is():
    again = read(graph())
    args, aux = tiny_params(tiny_symbol())
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 16, 16)))
    ours, theirs = (symbol.bind(mx.cpu(), {**args, "data": x}, aux_states=aux).forward()[0].asnumpy()
                    for symbol in (again, tiny_symbol()))
    assert again.list_arguments() == tiny_symbol().list_arguments() and np.array_equal(ours, theirs)


ODD = {
    "heads a number": lambda g: g.update(heads=3),
    "no heads": lambda g: g.update(heads=[]),
    "head beyond": lambda g: g.update(heads=[[999, 0, 0]]),
    "output of a head": lambda g: g.update(heads=[[len(g["nodes"]) - 1, 99, 0]]),
    "output below zero": lambda g: g.update(heads=[[len(g["nodes"]) - 1, -1, 0]]),
    "hidden output": lambda g: node(g, "relu0").update(inputs=[[g["nodes"].index(node(g, "bn0")), 1, 0]]),
    "output of a variable": lambda g: node(g, "conv0")["inputs"].__setitem__(0, [0, 7, 0]),
    "reads itself": lambda g: node(g, "flatten").update(inputs=[[g["nodes"].index(node(g, "flatten")), 0, 0]]),
    "reads what comes later": lambda g: node(g, "conv0").update(inputs=[[len(g["nodes"]) - 1, 0, 0]] * 2),
    "entry of floats": lambda g: node(g, "conv0").update(inputs=[[0.5, 0, 0]]),
    "entry too short": lambda g: node(g, "conv0").update(inputs=[[0]]),
    "variable with inputs": lambda g: node(g, "conv1_weight").update(inputs=[[0, 0, 0]]),
    "no operator": lambda g: node(g, "conv0").pop("op"),
    "name a number": lambda g: node(g, "conv0").update(name=3),
    "attribute a number": lambda g: node(g, "conv0").update(attrs={"kernel": 3}),
    "control character in a name": lambda g: node(g, "conv0").update(name="conv\0"),
    "line end in an attribute": lambda g: node(g, "conv0")["attrs"].update(num_filter="6\n"),
    "subgraphs": lambda g: node(g, "conv0").update(subgraphs=[{}]),
    "nodes an object": lambda g: g.update(nodes={}),
    "group of zero": lambda g: node(g, "conv0")["attrs"].update(num_group="0"),
    "group below zero": lambda g: node(g, "conv0")["attrs"].update(num_group="-1"),
    "axis beyond": lambda g: node(g, "relu0").update(op="softmax", attrs={"axis": "-1000000000"}),
    "endless count": lambda g: node(g, "relu0").update(op="SliceChannel", attrs={"num_outputs": "2147483647"}),
    "negative count": lambda g: node(g, "relu0").update(op="amp_multicast", attrs={"num_outputs": "-2"}),
    "too few inputs": lambda g: node(g, "relu0").update(op="take", attrs={}),
    "no bias": lambda g: node(g, "conv0")["inputs"].pop(),
    "no filters to enlarge by": lambda g: node(g, "relu0").update(op="UpSampling", inputs=[
        *node(g, "relu0")["inputs"], [1, 0, 0]], attrs={"scale": "2", "sample_type": "bilinear", "num_args": "2"}),
    "no attributes": lambda g: node(g, "conv0").update(attrs={}),
    "unknown attribute": lambda g: node(g, "conv0")["attrs"].update(colour="red"),
    **{op: lambda g, op=op: node(g, "relu0").update(op=op, attrs={"info": "4242"}) for op in (
        "_CachedOp", "_Native", "_NDArray", "_foreach", "_sg_mkldnn_conv", "_cvimread", "sgd_mom_update", "adam_update",
        "Custom", "NoSuchOperator")}}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_an_odd_graph_is_refused(change):
    content = graph()
    change(content)
    with pytest.raises(FileError, match="a-symbol.json is damaged or not"):
        read(content)


@pytest.mark.parametrize("version", [["int", 2 ** 70], ["int", True], ["int", -5]])
def test_a_version_that_is_none_is_left_away(version):
    content = graph()
    content["attrs"]["mxnet_version"] = version
    assert read_graph("a", json.dumps(content).encode())["attrs"] == {}


def test_names_in_any_script(tiny_checkpoint):
    expected = load(tiny_checkpoint).extract([np.full((16, 16, 3), 90, np.uint8)])
    path = Path(f"{tiny_checkpoint}-symbol.json")
    content = json.loads(path.read_text())
    node(content, "relu0").update(name="层")
    forget_hashes(tiny_checkpoint)
    path.write_text(json.dumps(content))
    found = load(tiny_checkpoint)
    np.testing.assert_array_equal(found.extract([np.full((16, 16, 3), 90, np.uint8)]), expected)
    assert found.features.get_internals()["层_output"].list_outputs() == ["层_output"]


def test_what_mxnet_gets_is_the_form_alone():
    content = graph()
    node(content, "conv0").update(control_deps=[999999], backward_source_id=-1)
    content.update(node_row_ptr=[-5, 10 ** 9], arg_nodes=[0])
    content["attrs"].update(more=["pointer", 4242])
    assert read(content).list_arguments() == tiny_symbol().list_arguments()


@pytest.mark.parametrize("attributes", [{"op_type": "rpn_fpn_ohem3"}, {}])
def test_an_unknown_operator_behind_the_cut_is_left_away(attributes, caplog):
    content = graph()
    node(content, "softmax").update(op="Custom", attrs=attributes)
    assert read(content, "flatten_output").list_outputs() == ["fc1_output"]
    assert "cannot compute softmax (Custom" in caplog.text and "ends before it" in caplog.text
    for cut in (None, "softmax_output", "softmax"):
        with pytest.raises(FileError, match=r"cannot compute softmax \(Custom.*--cut"):
            read(content, cut)


def test_an_unknown_operator_before_the_cut_is_named():
    content = graph()
    node(content, "relu1").update(op="Swish", attrs={})
    with pytest.raises(FileError, match=r"cannot compute relu1 \(Swish"):
        read(content, "flatten_output")


def test_what_fails_only_when_it_is_computed_is_a_sentence(tiny_checkpoint):
    path = Path(f"{tiny_checkpoint}-symbol.json")
    content = json.loads(path.read_text())
    node(content, "relu0").update(op="_npi_flip", attrs={"axis": "7"})
    forget_hashes(tiny_checkpoint)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="MXNet cannot compute tiny.*axis"):
        load(tiny_checkpoint).extract([np.zeros((16, 16, 3), np.uint8)])


@pytest.mark.parametrize("shape", ["(1, 1536)", "(2, 1536)", "(7, -1)", "(1, 6, 256)"])
def test_a_batch_size_within_the_network_is_refused(tiny_checkpoint, shape):
    """MXNet reads and writes beyond its arrays there."""
    path = Path(f"{tiny_checkpoint}-symbol.json")
    content = json.loads(path.read_text())
    node(content, "flatten").update(op="Reshape", attrs={"shape": shape})
    forget_hashes(tiny_checkpoint)
    path.write_text(json.dumps(content))
    with pytest.raises(MxelmError, match="does not fit|a row an image"):
        load(tiny_checkpoint)


@pytest.mark.parametrize("shape", [[3, 8192, 8192], [3, 2 ** 31, 8], [3, 10 ** 30, 8], [3, 8000, 8000]])
def test_an_input_beyond_reason_is_refused(tiny_checkpoint, shape):
    forget_hashes(tiny_checkpoint, input_shape=shape)
    with pytest.raises(MxelmError, match="input_shape|does not fit an input"):
        load(tiny_checkpoint)


def forget_hashes(prefix, **changes):
    path = Path(f"{prefix}.json")
    sidecar = json.loads(path.read_text())
    del sidecar["files"]
    path.write_text(json.dumps({**sidecar, **changes}))
