"""The peers' script: every way it can run here solves the same problem, and what cannot run says why."""
import importlib
import json

import numpy as np
import pytest

from mxelm.reporting import results


@pytest.fixture
def script():
    import elm_peers
    return elm_peers


@pytest.fixture
def prepared(script, tmp_path):
    settings = {**script.QUICK, "n_neurons": 40}
    settings.update(script.prepare(settings, None, tmp_path))
    return settings, {name: np.load(tmp_path / f"{name}.npy") for name in script.FILES}


def test_prepared_rows_are_digits_with_W_of_the_seed(script, prepared):
    settings, arrays = prepared
    assert arrays["X"].shape == (settings["n_samples"], 64) and 0 <= arrays["X"].min() < arrays["X"].max() <= 1
    assert len(arrays["X"]) + len(arrays["X_test"]) == 1797 and arrays["X"].dtype == np.float64
    assert arrays["W"].shape == (40, 64) and arrays["bias"].shape == (40,)


def test_ours_and_ridge_decide_alike(script, prepared):
    settings, arrays = prepared
    X, y, W, bias = (arrays[name] for name in ("X", "y", "W", "bias"))
    decided = [run(settings, X.copy(), y, W, bias)(arrays["X_test"]) for run in (script.ours, script.ridge)]
    assert np.array_equal(*decided) and np.mean(decided[0] == arrays["y_test"]) > 0.8


@pytest.mark.parametrize("name, module", [("hpelm", "hpelm"), ("scikit_elm", "skelm")])
def test_peers_learn_where_they_are_installed(script, prepared, name, module):
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever an old package does on new ones
        pytest.skip(f"{module} cannot be imported: {error}")
    settings, arrays = prepared
    predict = script.RUNS[name][0](settings, *(arrays[part] for part in ("X", "y", "W", "bias")))
    assert np.mean(predict(arrays["X_test"]) == arrays["y_test"]) > 0.8


def test_a_quick_run_writes_ratios_and_reasons(script, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "packages"
    broken.mkdir()
    (broken / "hpelm.py").write_text("raise ImportError('its tables are gone')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    script.main(["--quick", "--neurons", "32", "--repeats", "1", "--threads", "1", "--peers", "hpelm", "ridge",
                 "blas_bound", "--out", str(tmp_path / "results" / "elm_peers.json")])
    rows = {row["id"]: row for row in results.read(tmp_path / "results")}
    assert set(rows) == {"peers.hpelm.time_ratio", "peers.hpelm.memory_ratio", "peers.ridge.time_ratio",
                         "peers.ridge.memory_ratio", "peers.blas_bound.time_ratio"}
    assert rows["peers.hpelm.time_ratio"]["value"] is None
    assert "its tables are gone" in rows["peers.hpelm.time_ratio"]["conditions"]["reason"]
    ridge = rows["peers.ridge.time_ratio"]
    ours, peer = ridge["conditions"]["ours"], ridge["conditions"]["peer"]
    assert ridge["value"] == pytest.approx(peer["seconds"] / ours["seconds"])
    assert rows["peers.ridge.memory_ratio"]["value"] == pytest.approx(ours["bytes"] / max(peer["bytes"], 1))
    assert ours["accuracy"] == peer["accuracy"] > 0.8 and ours["bytes"] > 0
    assert "its tables are gone" in capsys.readouterr().out


def test_a_run_that_dies_is_a_reason(script, prepared, tmp_path):
    found = script.child({**prepared[0], "name": "ridge", "folder": str(tmp_path / "nowhere"), "threads": 1})
    assert "nowhere" in found["reason"]
    assert script.medians([{"seconds": 1.0}, found]) == found
    assert script.medians([{"seconds": s} for s in (1.0, 5.0, 2.0)]) == {"seconds": 2.0}


def test_rows_hold_only_what_json_can(script):
    found = {"ours": {"seconds": 2.0, "bytes": 100.0, "accuracy": 0.9},
             "ridge": {"seconds": 3.0, "bytes": 1000.0, "accuracy": 0.9}}
    rows = script.rows_of(found, {"repeats": 4}, "command")
    assert {row["id"]: row["value"] for row in json.loads(json.dumps(rows))} == {
        "peers.ridge.time_ratio": 1.5, "peers.ridge.memory_ratio": 0.1}
    assert rows[0]["n"] == 4 and (rows[0]["better"], rows[1]["better"]) == ("higher", "lower")
