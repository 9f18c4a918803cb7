"""The peers' script: every way it can run here solves the same problem, and what cannot run says why."""
import importlib

import numpy as np
import pytest
from lab import Seed


@pytest.fixture
def script():
    import elm_peers
    return elm_peers


@pytest.fixture
def prepared(script, lab, tmp_path):
    settings = {**script.MNIST, **script.QUICK, "n_neurons": 40, "threads": 1, "repeats": 1}
    sizes = script.prepare(settings, lab(script, "mnist"), tmp_path)
    return settings, sizes, {name: np.load(tmp_path / f"{name}.npy") for name in script.FILES}


def test_prepared_rows_are_digits_with_W_of_the_seed(prepared):
    _, sizes, arrays = prepared
    assert arrays["X"].shape == (sizes["n_samples"], 64) and 0 <= arrays["X"].min() < arrays["X"].max() <= 1
    assert len(arrays["X"]) + len(arrays["X_test"]) == 1797 and arrays["X"].dtype == np.float64
    assert arrays["W"].shape == (40, 64) and arrays["bias"].shape == (40,)


def test_ours_and_ridge_decide_alike(script, prepared):
    settings, _, arrays = prepared
    X, y, W, bias = (arrays[name] for name in ("X", "y", "W", "bias"))
    decided = [run(settings, X.copy(), y, W, bias)(arrays["X_test"]) for run in (script.ours, script.ridge)]
    assert np.array_equal(*decided) and np.mean(decided[0] == arrays["y_test"]) > 0.8


@pytest.mark.parametrize("name, module", [("hpelm", "hpelm"), ("scikit_elm", "skelm")])
def test_peers_learn_where_they_are_installed(script, prepared, name, module):
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever an old package does on new ones
        pytest.skip(f"{module} cannot be imported: {error}")
    settings, _, arrays = prepared
    predict = script.PEERS[name][0](settings, *(arrays[part] for part in ("X", "y", "W", "bias")))
    assert np.mean(predict(arrays["X_test"]) == arrays["y_test"]) > 0.8


def test_a_fit_in_a_process_of_its_own(script, prepared, tmp_path):
    found = script.fitted("ridge", prepared[0], tmp_path)
    assert found["accuracy"] > 0.8 and found["bytes"] > 0 and found["seconds"] > 0
    assert "nowhere" in script.fitted("ridge", prepared[0], tmp_path / "nowhere")["reason"]


def test_what_cannot_be_imported_is_a_reason(script, prepared, monkeypatch, tmp_path):
    monkeypatch.setitem(script.PEERS, "ridge", (script.ridge, "no_such_module", "scikit-learn", ""))
    found = script.one_fit("ridge", prepared[0], tmp_path)
    assert "no_such_module cannot be imported" in found["reason"]
    assert script.medians([{"seconds": 1.0}, found]) == found
    assert script.medians([{"seconds": s} for s in (1.0, 5.0, 2.0)]) == {"seconds": 2.0}


def test_rows_are_ratios_or_reasons(script):
    mine = {"seconds": 2.0, "bytes": 100.0, "accuracy": 0.9, "version": "1"}
    figures = {"sizes": {"n_samples": 9}, "ours": mine, "ridge": {**mine, "seconds": 3.0, "bytes": 1000.0},
               "hpelm": {"reason": "its tables are gone", "version": "missing"}, "scikit_elm": mine}
    settings = {**script.MNIST, "repeats": 4}
    rows = {row["id"]: row for row in script.rows("mnist", settings, [Seed("mnist", settings, 0, [], figures)], None)}
    assert rows["peers.ridge.time_ratio"]["value"] == 1.5 and rows["peers.ridge.memory_ratio"]["value"] == 0.1
    assert rows["peers.ridge.time_ratio"]["n"] == 4 and rows["peers.hpelm.time_ratio"]["value"] is None
    assert rows["peers.hpelm.memory_ratio"]["conditions"]["reason"] == "its tables are gone"
