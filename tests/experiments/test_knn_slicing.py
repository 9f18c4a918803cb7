"""The experiment of paper 2: the counts of the talk, and every table on digits, finished seeds kept."""

import numpy as np
import pytest


def test_sizes_are_the_talks(rows):
    found = rows("sizes")
    counts = {"128": 1_199_882, "64": 121_930, "32": 70_378, "16": 44_602, "8": 31_714, "knn": 18_816}
    for name, count in counts.items():
        assert found[f"knn.params.{name}"]["value"] == count
        size = found[f"knn.bytes.{name}"]
        assert size["conditions"]["raw_bytes"] == 4 * count
        assert 4 * count < size["value"] < 4 * count + 1024  # names and shapes
    assert "274.9 KiB" in found["knn.bytes.32"]["conditions"]["reason"]  # where 273 are printed
    assert "reason" not in found["knn.bytes.knn"]["conditions"]
    assert found["knn.bytes.knn"]["conditions"]["with_references_bytes"] == {"4000": 75_264 + 4000 * 6401,
                                                                            "60000": 75_264 + 60000 * 6401}


def test_accuracy_goes_on_from_finished_seeds(rows, tmp_path, monkeypatch):
    words = ("accuracy", "--seeds", "2", "--networks", "8", "--columns", "4000_5")
    found = rows(*words)["knn.accuracy.8.4000_5"]
    assert found["n"] == 2 and found["value"] > 40 and found["conditions"]["test_images"] == 597
    assert found["command"] == f"python experiments/knn_slicing.py {' '.join(words)} --quick".replace(
        "--seeds 2 --networks 8 --columns 4000_5 --quick", "--quick --seeds 2 --columns 4000_5 --networks 8")
    import knn_baselines
    monkeypatch.setattr(knn_baselines, "trained", None)
    assert rows(*words)["knn.accuracy.8.4000_5"]["value"] == found["value"]


def test_baselines(rows, tmp_path, monkeypatch):
    words = ("baselines", "--seeds", "1", "--images", "4000")
    found = rows(*words)
    for bank in ("raw", "random", "kmeans", "pca", "backprop"):
        row = found[f"knn.baseline.{bank}.4000"]
        assert row["n"] == 1 and row["value"] > 85
        for variant in ("plain", "deskewed"):
            p = row["conditions"][variant]["mcnemar_p"]
            assert set(p) == {"raw", "random", "kmeans", "pca", "backprop"} - {bank}
            assert all(0 <= value <= 1 for value in p.values())
    assert (tmp_path / "kernels-1200.png").stat().st_size > 1000
    from mxelm import neighbours
    monkeypatch.setattr(neighbours.References, "nearest", None)
    again = rows(*words)
    assert all(again[id]["value"] == row["value"] for id, row in found.items())


def test_inference(rows):
    found = rows("inference")
    for batch in (1, 32):
        row = found[f"knn.inference_speedup.b{batch}"]
        milliseconds = row["conditions"]["milliseconds"]
        assert row["value"] == pytest.approx(milliseconds["full"] / milliseconds["400"])
        assert row["conditions"]["speedup_of_small_engine"] > 0


def test_mcnemar_stands_for_the_banks_it_names(knn_slicing):
    import knn_baselines
    rng = np.random.default_rng(0)
    right = {(bank, variant): rng.random((1, 2000)) < p for bank, p in (("raw", 0.9), ("random", 0.8))
             for variant in ("plain", "deskewed")}

    class Args:
        banks, quick, command = ("raw", "random"), False, ""

    row = knn_baselines.row_of(Args, "raw", 4000, right)
    assert row["conditions"]["test_images"] == "test9000" and row["std"] is None
    assert row["value"] == pytest.approx(100 * right["raw", "plain"][0, 1000:].mean())
    assert row["conditions"]["plain"]["mcnemar_p"]["random"] < 1e-6
