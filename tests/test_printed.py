"""Every Python block that README and docs/fused-elm.md print runs as printed, on small images and what ships; and the
examples of docstrings.
"""
import doctest
import importlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mxelm import backbones
from mxelm.fused import Predictor

ROOT = Path(__file__).resolve().parents[1]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)


@pytest.fixture
def workplace(image_folder, tmp_path, monkeypatch):
    """A folder with `photographs` and one picture, where the fetched network's name means the one that ships."""
    image_folder.rename(tmp_path / "photographs")
    cv2.imwrite(str(tmp_path / "water-lily.jpg"), np.full((40, 40, 3), 90, np.uint8))
    load = backbones.load
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backbones, "load", lambda name, *more, **options: load(
        "inception_small" if name == "efficientnet_lite0" else name, *more, **options))
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/fused-elm.md"])
def test_printed_blocks_run(page, workplace, capsys):
    found, names = blocks(page), {}
    assert found
    for block in found:
        exec(compile(re.sub(r"n_neurons=\d+", "n_neurons=32", block), page, "exec"), names)
    assert (workplace / "model-0000.params").exists()
    if "scores" in names:  # of plain MXNet, for the first photograph
        own = Predictor.load("model").scores(names["data"].load("photographs").image(0))
        np.testing.assert_allclose(names["scores"], own, atol=1e-6)


def test_examples_of_docstrings_run():
    pages = [path for path in (ROOT / "mxelm").rglob("*.py") if "    >>> " in path.read_text(encoding="utf-8")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in pages]
    found = [doctest.testmod(importlib.import_module(name)) for name in names]
    assert sum(result.failed for result in found) == 0 and sum(result.attempted for result in found) >= 8
