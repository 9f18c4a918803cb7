"""The experiment of paper 1 on digits: every row is there, and the fused ELM keeps up with the stored features."""
import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "fused_elm.py"


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A function: the rows that a quick run writes, by id."""
    def run(name):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), name, "--quick", "--seeds", "1", "--work", str(tmp_path)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return {row["id"]: row for row in json.loads((tmp_path / "quick.json").read_text())["rows"]}

    return run


def test_accuracy_beside_stored_features(rows):
    found = rows("caltech101")
    elm = found["fused.digits.elm_per_class"]["value"]
    best = max(found[f"fused.digits.{name}_per_class"]["value"] for name in ("ridge", "logreg", "svm"))
    assert elm > 85 and elm > best - 6  # 200 images, 256 neurons
    assert found["fused.digits.state_bytes"]["value"] == 8 * (256 * 257 // 2 + 256 * 10)
    assert found["fused.digits.feature_bytes"]["value"] == 4 * 200 * 248


def test_claims(rows):
    found = rows("claims")
    assert found["fused.unfused_agreement"]["value"] < 1e-6
    assert found["fused.paper_float32_error"]["value"] < 1e-5
    assert found["fused.terabyte_images.pooled"]["value"] == pytest.approx(1e12 / 4096)
    assert found["fused.terabyte_images.map"]["value"] == pytest.approx(1e12 / (4 * 7 * 7 * 1024))
