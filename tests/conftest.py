"""Small networks and data sets for every test, and the way to real data."""
import os
import signal
from pathlib import Path

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts background jobs so, and their children would inherit it: tests interrupt children of theirs
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data():
    """A function from a name below a data folder to its path; skips the test where no folder of MXELM_DATA has it."""
    folders = [Path(folder) for folder in os.environ.get("MXELM_DATA", "").split(os.pathsep) if folder]

    def find(name):
        for folder in folders:
            if (folder / name).exists():
                return folder / name
        pytest.skip(f"{name} is in none of MXELM_DATA's folders ({os.pathsep.join(map(str, folders)) or 'not set'})")

    return find


def tiny_symbol(n_classes=4):
    """3x16x16 -> convolution, BatchNorm, ReLU, pooling, twice -> 8 features at flatten_output -> softmax."""
    from mxelm.runtime import mx
    x = mx.sym.var("data")
    for number, width in enumerate((6, 8)):
        x = mx.sym.Convolution(x, num_filter=width, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"conv{number}")
        x = mx.sym.BatchNorm(x, fix_gamma=False, name=f"bn{number}")
        x = mx.sym.Activation(x, act_type="relu", name=f"relu{number}")
        x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name=f"pool{number}")
    x = mx.sym.Pooling(x, kernel=(4, 4), pool_type="avg", name="global_pool")
    x = mx.sym.flatten(x, name="flatten")
    return mx.sym.softmax(mx.sym.FullyConnected(x, num_hidden=n_classes, name="fc1"), name="softmax")


def tiny_params(symbol, seed=0, shape=(1, 3, 16, 16)):
    """Random parameters, with running statistics that are no identity."""
    from mxelm.runtime import mx
    rng = np.random.default_rng(seed)
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=shape)

    def draw(name, shape):
        if name.endswith(("gamma", "var")):
            return rng.uniform(0.5, 2, shape)
        return rng.normal(0, 0.5, shape)

    named = zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arg_shapes + aux_shapes)
    arrays = {name: mx.nd.array(draw(name, shape), dtype="float32") for name, shape in named if name != "data"}
    aux = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
    return arrays, aux


@pytest.fixture
def tiny_checkpoint(tmp_path):
    """Prefix of a small convolutional checkpoint with BatchNorms: 3x16x16 -> 8 features, 4 classes."""
    from mxelm.backbones.checkpoint import save_checkpoint
    from mxelm.preprocessing import Preprocessing
    symbol = tiny_symbol()
    sidecar = {**Preprocessing((16, 16), "stretch", mean=100.0, scale=0.02).to_json(), "features": "flatten_output",
               "classes": ["ant", "bee", "cat", "dog"]}
    prefix = tmp_path / "checkpoint" / "tiny"
    prefix.parent.mkdir()
    save_checkpoint(str(prefix), symbol, *tiny_params(symbol), sidecar)
    return str(prefix)


@pytest.fixture
def tiny_backbone(tiny_checkpoint):
    """The same as a Backbone."""
    from mxelm import backbones
    return backbones.load(tiny_checkpoint)


@pytest.fixture
def image_folder(tmp_path):
    """A folder of three class folders with 12 coloured noise images each, told apart by their mean colour."""
    import cv2
    rng = np.random.default_rng(5)
    for c, name in enumerate(("blue", "green", "red")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            image = rng.integers(0, 120, (20 + i, 24, 3))
            image[..., c] += 120
            cv2.imwrite(str(tmp_path / "images" / name / f"image_{i:02d}.png"), image.astype(np.uint8))
    return tmp_path / "images"
