"""Gluon blocks and zoo networks as backbones: the same numbers as the block itself gives."""
import numpy as np
import pytest

from mxelm.backbones import from_block, save_checkpoint, zoo
from mxelm.errors import FileError, InputError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx, seed

PREPROCESSING = Preprocessing((12, 12), resize="stretch")


def small_block(initialise=True):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3), mx.gluon.nn.BatchNorm(), mx.gluon.nn.Activation("relu"),
            mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dropout(0.5), mx.gluon.nn.Dense(5))
    if initialise:
        net.initialize(mx.init.Xavier())
    return net


def images(shape, n=3):
    return np.random.default_rng(0).standard_normal((n, *shape)).astype(np.float32)


@pytest.mark.parametrize("hybridised", [False, True])
def test_features_are_the_blocks_output(hybridised):
    seed(0)
    block, x = small_block(), images((3, 12, 12))
    if hybridised:
        block.hybridize()
    backbone = from_block(block, PREPROCESSING, name="small")
    with mx.autograd.predict_mode():
        expected = block(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(backbone.extract(x), expected, rtol=1e-5, atol=1e-6)
    assert backbone.name == "small" and backbone.n_features == 5


def test_the_backbone_keeps_its_parameters_when_the_block_is_trained_on():
    block, x = small_block(), images((3, 12, 12))
    backbone = from_block(block, PREPROCESSING)
    before, digest = backbone.extract(x), backbone.digest
    for parameter in block.collect_params().values():
        parameter.set_data(parameter.data() + 1)
    np.testing.assert_array_equal(backbone.extract(x), before)
    assert from_block(block, PREPROCESSING).digest["params"] != digest["params"]


def test_cut_inside_and_saved_as_a_checkpoint(tmp_path):
    block = small_block()
    outputs = from_block(block, PREPROCESSING).symbol.get_internals().list_outputs()
    backbone = from_block(block, PREPROCESSING, cut=next(name for name in outputs if "pool" in name))
    assert backbone.n_features == 4
    save_checkpoint(tmp_path / "net", backbone.symbol, backbone.arg_params, backbone.aux_params,
                    PREPROCESSING.to_json())
    block2 = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"],
                                          str(tmp_path / "net-0000.params"))
    x = images((3, 12, 12))
    np.testing.assert_allclose(block2(mx.nd.array(x)).asnumpy(), block(mx.nd.array(x)).asnumpy(), rtol=1e-5, atol=1e-6)


def test_half_precision_block_becomes_float32():
    block = small_block()
    block(mx.nd.zeros((1, 3, 12, 12)))
    block.cast("float16")
    assert {a.dtype for a in from_block(block, PREPROCESSING).arg_params.values()} == {np.float32}


def test_blocks_that_cannot_be_one():
    with pytest.raises(InputError, match="initialise"):
        from_block(small_block(initialise=False), PREPROCESSING)
    with pytest.raises(InputError, match="HybridBlock"):
        from_block(mx.gluon.nn.Sequential(), PREPROCESSING)

    class Asks(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return x.reshape((x.shape[0], -1))
    with pytest.raises(InputError, match="cannot be traced"):
        from_block(Asks(), PREPROCESSING)


@pytest.mark.parametrize("name, shape, n_features", [
    ("cifar_resnet20_v1", (3, 32, 32), 64), ("mobilenet0.25", (3, 224, 224), 256),
])
def test_zoo_is_cut_before_its_classifier(name, shape, n_features):
    backbone = zoo(name)
    assert backbone.preprocessing.shape == shape and backbone.n_features == n_features
    assert not any(node.startswith("dense") for node in backbone.feature_params()[0])
    assert np.isfinite(backbone.extract(images(shape, 2))).all()


def test_zoo_refusals(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="resnet18_v1"):
        zoo("resnet18_v9")
    with pytest.raises(InputError, match="no FullyConnected.*cut"):
        zoo("squeezenet1.1")
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")  # nobody listens
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    with pytest.raises(FileError, match=r"put cifar_resnet20_v1-\w{8}.params into .*models"):
        zoo("cifar_resnet20_v1", pretrained=True)
