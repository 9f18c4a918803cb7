"""The Inception21k symbol against the published Caffe twin and the numbers known of it."""
import json
import re
import shutil

import numpy as np
import pytest

from mxelm.backbones import inception21k, load
from mxelm.backbones.graph_parameters import infer_shapes
from mxelm.errors import FileError
from mxelm.graphs import cut
from mxelm.runtime import mx


@pytest.fixture(scope="module")
def symbol():
    return inception21k.symbol()


@pytest.fixture(scope="module")
def nodes(symbol):
    graph = json.loads(symbol.tojson())["nodes"]
    return {node["name"]: {**node, "inputs": [graph[i[0]]["name"] for i in node["inputs"]]} for node in graph}


def parameters(symbol):
    shapes, _ = infer_shapes(symbol, inception21k.INPUT_SHAPE)
    return {name: shape for name, shape in shapes.items() if name not in ("data", "softmax_label")}


def test_number_of_parameters(symbol):
    sizes = {name: int(np.prod(shape)) for name, shape in parameters(symbol).items()}
    statistics = sum(size for name, size in sizes.items() if "moving" in name)
    assert sum(sizes.values()) == 33_641_569  # with gamma, beta, and the 21,600 running statistics
    assert statistics == 21_600
    assert sizes["fc1_weight"] + sizes["fc1_bias"] == 21_841 * 1_025


@pytest.mark.parametrize("output, shape", [
    ("relu_conv1_output", (96, 112, 112)), ("pool1_output", (96, 56, 56)), ("pool2_output", (288, 28, 28)),
    ("ch_concat_3c_chconcat_output", (864, 14, 14)), ("ch_concat_4e_chconcat_output", (960, 7, 7)),
    ("ch_concat_5b_chconcat_output", (1024, 7, 7)), ("flatten_output", (1024,)), ("softmax_output", (21841,)),
])
def test_spatial_sizes(symbol, output, shape):
    assert infer_shapes(cut(symbol, output), inception21k.INPUT_SHAPE)[1] == [(1, *shape)]


def test_the_params_file_alone_is_enough(symbol, tmp_path):
    random = np.random.default_rng(0)
    arrays = {}
    for name, shape in parameters(symbol).items():
        kind = "aux" if "moving" in name else "arg"
        value = np.ones(shape) if name.endswith(("gamma", "var")) else random.standard_normal(shape, np.float32) * 0.05
        arrays[f"{kind}:{name}"] = mx.nd.array(value)
    mx.nd.save(str(tmp_path / "Inception21k-0009.params"), arrays)
    (tmp_path / "synset.txt").write_text("".join(f"n{i:08d} thing {i}\n" for i in range(21841)))
    backbone = load(str(tmp_path / "Inception21k"), epoch=9)
    assert backbone.preprocessing == inception21k.PREPROCESSING
    assert backbone.preprocessing.mean == (117.0, 117.0, 117.0) and backbone.n_features == 1024
    assert len(backbone.classes) == 21841 and backbone.classes[5] == "n00000005 thing 5"
    features = backbone.extract([np.full((30, 40, 3), 200, np.uint8)])
    assert features.shape == (1, 1024) and np.isfinite(features).all() and features.std() > 0


def test_params_of_another_network_do_not_pass_for_it(tiny_checkpoint, tmp_path):
    shutil.copy(f"{tiny_checkpoint}-0000.params", tmp_path / "Inception21k-0009.params")
    with pytest.raises(FileError, match="Inception21k-symbol.json"):
        load(str(tmp_path / "Inception21k"))


def caffe_layers(text):
    """The layers of a prototxt: list of dicts of name, type, bottoms, and the numbers of their parameters."""
    layers = []
    for block in re.split(r"^layer\s*\{", text, flags=re.M)[1:]:
        words = {key: re.findall(rf'\b{key}:\s*"?(\w+)', block) for key in ("name", "type", "pool")}
        numbers = re.findall(r"(num_output|kernel_size|stride|pad):\s*(\d+)", block)
        layers.append({**{key: found[0] for key, found in words.items() if found}, **{k: int(v) for k, v in numbers},
                       "bottoms": re.findall(r'bottom:\s*"(\w+)"', block), "global": "global_pooling" in block})
    return layers


def pair(node, key, default):
    values = [int(n) for n in node["attrs"].get(key, f"({default}, {default})").strip("()").split(",")]
    assert values[0] == values[1]
    return values[0]


def producer(name):
    """The MXNet node whose output the Caffe twin calls `name`: in Caffe BatchNorm and ReLU work in place."""
    if name.startswith("conv_"):
        return name.replace("conv_", "relu_", 1)
    return {"global_pool": "flatten"}.get(name, name.replace("ave_pool", "avg_pool"))


def check_convolution(layer, node, width):
    assert node["inputs"] == [producer(layer["bottoms"][0]), f"{layer['name']}_weight", f"{layer['name']}_bias"]
    assert int(node["attrs"]["num_filter"]) == layer["num_output"]
    check_window(layer, node)
    width[layer["name"]] = layer["num_output"]
    return layer["num_output"] * (width[layer["bottoms"][0]] * layer["kernel_size"] ** 2 + 1)


def check_window(layer, node):
    assert pair(node, "kernel", 0) == layer["kernel_size"]
    assert pair(node, "stride", 1) == layer["stride"]
    assert pair(node, "pad", 0) == layer["pad"]


def check_batchnorm(layer, node, width):
    """Caffe's BatchNorm holds the running mean and variance, its Scale gamma and beta: two numbers a channel each."""
    assert node["op"] == "BatchNorm" and node["inputs"][0] == layer["bottoms"][0]
    return 2 * width[layer["bottoms"][0]]


def check_relu(layer, node, width):
    assert node["attrs"]["act_type"] == "relu"
    assert node["inputs"] == [layer["bottoms"][0].replace("conv_", "bn_", 1)]
    return 0


def check_pooling(layer, node, width):
    assert node["attrs"]["pool_type"] == {"MAX": "max", "AVE": "avg"}[layer["pool"]]
    assert node["inputs"] == [producer(layer["bottoms"][0])]
    if layer["global"]:
        assert pair(node, "kernel", 0) == 7  # the whole map
    else:
        check_window(layer, node)
        assert (node["attrs"].get("pooling_convention") == "full") == (layer["stride"] == 2)  # Caffe rounds up
    width[layer["name"]] = width[layer["bottoms"][0]]
    return 0


def check_concat(layer, node, width):
    assert node["inputs"] == [producer(bottom) for bottom in layer["bottoms"]]
    width[layer["name"]] = sum(width[bottom] for bottom in layer["bottoms"])
    return 0


def check_classifier(layer, node, width):
    assert int(node["attrs"]["num_hidden"]) == layer["num_output"] == 21841
    assert node["inputs"][0] == producer(layer["bottoms"][0])
    return layer["num_output"] * (width[layer["bottoms"][0]] + 1)


CHECKS = {  # by the twin's type of layer: the check, and the name of our node from that of the layer or its input
    "Convolution": (check_convolution, lambda name, bottom: name),
    "BatchNorm": (check_batchnorm, lambda name, bottom: bottom.replace("conv_", "bn_", 1)),
    "Scale": (check_batchnorm, lambda name, bottom: bottom.replace("conv_", "bn_", 1)),
    "ReLU": (check_relu, lambda name, bottom: bottom.replace("conv_", "relu_", 1)),
    "Pooling": (check_pooling, lambda name, bottom: name.replace("ave_pool", "avg_pool")),
    "Concat": (check_concat, lambda name, bottom: name),
    "InnerProduct": (check_classifier, lambda name, bottom: name),
}


@pytest.mark.data
def test_every_layer_of_the_published_twin(real_data, nodes):
    layers = caffe_layers(real_data("inception21k_meta/deploy.prototxt").read_text())
    seen, numbers, width = [], 0, {"data": 3}
    for layer in layers:
        if layer["type"] in CHECKS:
            check, named = CHECKS[layer["type"]]
            node = nodes[named(layer["name"], layer["bottoms"][0])]
            numbers += check(layer, node, width)
            seen.append(node["name"])
    assert {layer["type"] for layer in layers} - set(CHECKS) == {"Input", "Softmax"}
    assert numbers == 33_641_569
    assert {name for name, node in nodes.items() if node["op"] != "null"} - set(seen) == {"flatten", "softmax"}


@pytest.mark.data
def test_synset_has_a_name_for_every_class(real_data):
    assert len(real_data("inception21k_meta/synset.txt").read_text(encoding="utf-8").splitlines()) == 21841
