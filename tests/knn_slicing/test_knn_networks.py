"""The talk's networks: the exact counts, the bytes, the children one can cut at."""
import numpy as np
import pytest

from mxelm.backbones.gluon import count_parameters
from mxelm.errors import InputError
from mxelm.knn_slicing import banks, kernels, networks
from mxelm.runtime import mx

COUNTS = {"128": 1_199_882, "64": 121_930, "32": 70_378, "16": 44_602, "8": 31_714, "knn": 18_816}


def initialised(name):
    made = networks.network(name)
    made.initialize()
    return made


@pytest.mark.parametrize("name", networks.NAMES)
def test_counts_bytes_and_shapes(name):
    made = initialised(name)
    assert count_parameters(made)["total"] == COUNTS[name]
    size = networks.engine_bytes(made)
    assert size["raw"] == 4 * COUNTS[name] < size["saved"] < size["raw"] + 1024  # names and shapes
    assert made(mx.nd.zeros((3, 1, 28, 28))).shape == (3, 1600 if name == "knn" else 10)


def test_children():
    assert list(networks.network("128")._children) == ["conv1", "conv2", "pool2", "flatten", "dense1", "dense2"]
    assert list(networks.network("knn")._children) == ["conv1", "pool1", "conv2", "pool2", "flatten"]


@pytest.mark.parametrize("filters", [(32, 64), (4, 6)])
def test_kernels_there_and_back(filters):
    bank = banks.random(0, filters)
    bank = bank.replace(bias1=np.arange(filters[0]) / 100, bias2=np.arange(filters[1]) / 100)
    made = networks.from_kernels(bank)
    assert all(np.array_equal(getattr(banks.backprop(made), name), getattr(bank, name))
               for name in ("conv1", "bias1", "conv2", "bias2"))
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    given = made(mx.nd.array(images[:, None] / np.float32(255))).asnumpy()
    np.testing.assert_allclose(kernels.features(images, bank), given, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="network '12' is not known"):
        networks.network("12")
