"""The small engine's part of the experiment, on digits: what lies on disk is what is counted and scored."""
import json


def test_engines_of_two_seeds(rows, tmp_path, monkeypatch):
    found = rows("engine", "--seeds", "2")["knn.engine.75k"]
    conditions = found["conditions"]
    assert found["value"] > 90 and found["n"] == 2 and found["std"] >= 0
    assert conditions["all_references"] > 90 and conditions["test_images"] == 539
    for seed, size in enumerate(conditions["bytes"]):
        assert size == (tmp_path / f"engine-quick-75k-{seed}.engine").stat().st_size <= 75_264
    assert (tmp_path / "engine.png").stat().st_size > 1000
    import knn_engine
    monkeypatch.setattr(knn_engine, "build", None)
    again = rows("engine", "--seeds", "2")["knn.engine.75k"]  # finished engines are not built again
    assert again["value"] == found["value"]


def test_validation_leaves_no_result(rows, tmp_path):
    assert not rows("engine", "--seeds", "1", "--validate")
    assert list(tmp_path.glob("engine-quick-held-out-75k-0.engine"))
    assert json.loads((tmp_path / "engine-quick-held-out-75k-0.json").read_text())["asked"]["images"] == 1048
