"""The small engine's part of the experiment, on digits: what lies on disk is what is counted and scored."""
import json
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def row(monkeypatch, tmp_path):
    """A function: the row that a quick run writes."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import knn_slicing

    from mxelm.knn_slicing import kernels
    monkeypatch.setattr(kernels, "PATCHES", 5000)

    def run(*words):
        knn_slicing.main(["engine", "--quick", *words, "--work", str(tmp_path)])
        return {row["id"]: row for row in json.loads((tmp_path / "quick.json").read_text())["rows"]}["knn.engine.75k"]

    return run


def test_engines_of_two_seeds(row, tmp_path, monkeypatch):
    found = row("--seeds", "2")
    conditions = found["conditions"]
    assert found["value"] > 90 and found["n"] == 2 and found["std"] >= 0
    assert conditions["all_references"] > 90 and conditions["test_images"] == 539
    for seed, size in enumerate(conditions["bytes"]):
        assert size == (tmp_path / f"engine-quick-75k-{seed}.engine").stat().st_size <= 75_264
    assert (tmp_path / "engine.png").stat().st_size > 1000
    import knn_engine
    monkeypatch.setattr(knn_engine, "build", None)
    assert row("--seeds", "2")["value"] == found["value"]  # finished engines are not built again


def test_validation_leaves_no_result(row, tmp_path):
    with pytest.raises(FileNotFoundError):
        row("--seeds", "1", "--validate")
    assert list(tmp_path.glob("engine-quick-held-out-75k-0.engine"))
    assert json.loads((tmp_path / "engine-quick-held-out-75k-0.json").read_text())["asked"]["images"] == 1048
