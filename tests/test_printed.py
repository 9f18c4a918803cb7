"""Python blocks that README and docs print run as printed, on small images and what ships; docstrings' examples too."""
import doctest
import importlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mxelm import backbones, data
from mxelm.data import Dataset
from mxelm.data.sources import in_memory
from mxelm.fused import Predictor, fit

ROOT = Path(__file__).resolve().parents[1]


# What a page names that is not at hand, and what stands for it: a network of the same kind, its layers, less work
STAND_INS = {"efficientnet_lite0": "inception_small", "mobilenet_v1_0.75_224": "inception_small",
             "conv_pw_9_relu": "ch_concat_3a_chconcat", "conv_pw_11_relu": "ch_concat_4a_chconcat",
             'data.load("pictures")': 'data.load("photographs")'}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)


@pytest.fixture
def workplace(image_folder, tmp_path, monkeypatch):
    """A folder with `photographs` and one picture."""
    image_folder.rename(tmp_path / "photographs")
    cv2.imwrite(str(tmp_path / "water-lily.jpg"), np.full((40, 40, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page, made", [("README.md", "model-0000.params"), ("docs/fused-elm.md", "model-0000.params"),
                                        ("docs/early-exit.md", "cascade/cascade.json")])
def test_printed_blocks_run(page, made, workplace, capsys):
    found, names = [block for block in blocks(page) if "# bare MXNet" not in block], {}  # see tests/early_exit
    assert found
    for block in found:
        for printed, stand_in in STAND_INS.items():
            block = block.replace(printed, stand_in)
        exec(compile(re.sub(r"n_neurons=\d+", "n_neurons=32", block), page, "exec"), names)
    assert (workplace / made).exists()
    if "scores" in names:  # of plain MXNet, for the first photograph
        own = Predictor.load("model").scores(names["data"].load("photographs").image(0))
        np.testing.assert_allclose(names["scores"], own, atol=1e-6)


def test_examples_of_docstrings_run():
    pages = [path for path in (ROOT / "mxelm").rglob("*.py") if "    >>> " in path.read_text(encoding="utf-8")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in pages]
    found = [doctest.testmod(importlib.import_module(name)) for name in names]
    assert sum(result.failed for result in found) == 0 and sum(result.attempted for result in found) >= 8


LESS = {"np.arange(4000)": "np.arange(120)", "np.arange(3000)": "np.arange(80)",  # less of everything
        "np.arange(3000, 4000)": "np.arange(80, 120)",
        "n_queries=1000": "n_queries=20, generations=1, population=4, filters=1",
        "images=5000, validation=500": "images=40, validation=10", "gluon_loader(50,": "gluon_loader(20,",
        "flip_and_crop), 14,": "flip_and_crop), 1,", "arange(300)": "arange(20)",
        "budget=0.005": "budget=0.3, must_pay=False", "k=9)": "k=2)", "block4_add": "ch_concat_3a_chconcat",
        "block15_project": "ch_concat_4a_chconcat", "efficientnet_lite0_224": "inception_small"}


BIRDS = ["airplane", "automobile", "bird"]


@pytest.fixture
def small_sets(monkeypatch):
    """What stands for MNIST and CIFAR-10: digits at their sizes, under their classes."""
    real = data.load

    def load(name, **options):
        if name not in ("mnist", "cifar10"):
            return real(name, **options)
        digits = real("digits").take(np.arange(400))
        side, classes = (28, digits.classes) if name == "mnist" else (32, [*BIRDS, *"3456789"])
        pixels = np.stack([cv2.resize(digits.image(i), (side, side)) for i in range(len(digits))])
        if name == "cifar10":
            pixels = np.repeat(pixels.reshape(-1, side, side, 1), 3, axis=3)
        return Dataset(in_memory(pixels), digits.targets, classes, name)

    monkeypatch.setattr(data, "load", load)


@pytest.mark.slow
@pytest.mark.parametrize("page, made", [("docs/knn-slicing.md", "sliced.model"),
                                        ("docs/gunn.md", "gunn15-0000.params"),
                                        ("docs/feature-maps.md", "train.maps")])
def test_printed_blocks_run_on_less(page, made, workplace, small_sets, capsys):
    (workplace / "models").symlink_to(ROOT / "models")
    names = {}
    if page == "docs/feature-maps.md":  # it begins with a trained checkpoint
        fit(backbones.load("inception_small"), data.load("photographs"), n_neurons=16).predictor.save("model")
    for block in blocks(page):
        for printed, less in LESS.items():
            block = block.replace(printed, less)
        exec(compile(block, page, "exec"), names)
    assert (workplace / made).exists()
