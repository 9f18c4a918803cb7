"""The trained three-class GUNN-15 of models/: what its card says of it."""
from pathlib import Path

import numpy as np
import pytest

from mxelm import backbones, data
from mxelm.files import read_json, sha256

MODELS = Path(__file__).parents[2] / "models"
PREFIX = str(MODELS / "gunn15_3class")


def test_its_files_are_those_of_the_manifest():
    for name, said in read_json(MODELS / "manifest.json")["gunn15_3class"]["files"].items():
        assert (MODELS / name).stat().st_size == said["bytes"] < 4e6
        assert sha256(MODELS / name) == said["sha256"]


def test_it_is_the_network_of_figure_6():
    backbone = backbones.load(PREFIX)
    arrays = {**backbone.arg_params, **backbone.aux_params}
    assert sum(array.size for array in arrays.values()) == 775334
    assert backbone.n_features == 360 and backbone.classes == ["airplane", "automobile", "bird"]


@pytest.mark.data
def test_it_knows_three_classes_of_cifar10(real_data):
    """The recorded figure is of the test images; these are training images beyond those it saw."""
    folder = real_data("cifar-10-batches-bin/data_batch_1.bin").parent
    images = data.load(str(folder)).only(["airplane", "automobile", "bird"]).take(range(14000, 14300))
    network = backbones.load(PREFIX, cut=None)
    decided = network.extract(images.module_iter(100, network.preprocessing)).argmax(axis=1)
    assert np.mean(decided == images.targets) > 0.8
