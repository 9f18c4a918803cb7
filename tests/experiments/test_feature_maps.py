"""feature_maps.py and its benchmarks at their smallest."""
import sys
from pathlib import Path

import pytest
from lab.kept import Seed
from lab.runner import Lab

sys.path.append(str(Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"))


def small(script, run, tmp_path, **settings):
    """Figures and row ids of one seed on digits."""
    settings = {**script.RUNS[run], **settings}
    lab = Lab("feature_maps", {run: settings}, run, tmp_path, None, True, tmp_path / "seeds")
    figures = script.one_seed(run, settings, 0, lab)
    return figures, {row["id"]: row for row in script.rows(run, settings, [Seed(run, settings, 0, [], figures)], lab)}


def test_matching_and_training_on_maps(tmp_path):
    import feature_maps
    figures, rows = small(feature_maps, "mnist", tmp_path, epochs=1, batch=20, cached=400, held=400,
                          budgets=[0.005, 0.05])
    assert rows["maps.hits.mnist.relu3_fwd.5pc"]["value"] >= rows["maps.hits.mnist.relu3_fwd.0_5pc"]["value"]
    assert {"maps.accuracy.mnist", "maps.network_accuracy.mnist", "maps.half_labelled.accuracy",
            "maps.wrong_hits.mnist.relu2_fwd.0_5pc"} <= set(rows)
    assert figures["half_labelled"]["images"] == 458
    assert (tmp_path / "mnist-hits.png").exists()
    _, rows = small(feature_maps, "pairs", tmp_path, epochs=1, batch=50, pairs=["3-8"], images=100)
    layers = ("conv1", "conv2", "conv3", "all")
    assert set(rows) == {"maps.model1.3-8", *(f"maps.model2.{layer}.3-8" for layer in layers)}


def test_what_a_cache_costs(tmp_path):
    import map_cache
    _, rows = small(map_cache, "mnist", tmp_path, trained=100, sizes=[50, 100], held=250, queries=50, rounds=1,
                    layers=[["relu3_fwd"]])
    assert rows["maps.net_speedup.mnist"]["value"] > 0 and (tmp_path / "mnist-saved.png").exists()
    pytest.importorskip("hnswlib")
    _, rows = small(map_cache, "search", tmp_path, descriptors=300, queries=100, rounds=1)
    assert rows["maps.search_over_bound"]["conditions"]["hnsw_agrees"][0] > 0.5
