"""The checkpoint that ships: what its card says of it."""
from pathlib import Path

import numpy as np
import pytest

from mxelm import backbones, data
from mxelm.backbones.loading import SHIPPED


@pytest.fixture(scope="module")
def backbone():
    return backbones.load("inception_small")


def test_it_ships_small_with_its_batchnorms(backbone):
    assert sum(path.stat().st_size for path in Path(SHIPPED).glob("inception_small*")) < 2 * 2 ** 20
    arrays = {**backbone.arg_params, **backbone.aux_params}
    assert sum(array.size for array in arrays.values()) == 414362
    assert any(name.endswith("moving_var") for name in backbone.aux_params)
    assert backbone.n_features == 248 and len(backbone.classes) == 10


def test_it_is_whole(backbone):
    assert backbones.verify("inception_small")["problems"] == []


@pytest.mark.data
def test_it_knows_cifar10(real_data, backbone):
    """The recorded figure is of all 10,000 test images; these are training images, in which it must not be worse."""
    folder = real_data("cifar-10-batches-bin/data_batch_1.bin").parent
    images = data.load(str(folder)).take(range(1000))
    network = backbones.load("inception_small", cut="softmax_output")
    decided = network.extract(images.module_iter(100, network.preprocessing)).argmax(axis=1)
    assert np.mean(decided == images.targets) > 0.88
