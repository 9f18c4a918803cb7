"""The lesson of paper 1, on digits: the spelled-out method keeps up with stored features, and is what `fit` does."""
import numpy as np
import pytest

from mxelm import backbones, data, fused
from mxelm.backbones.features import features_of


def test_the_method_is_what_fit_does(capsys):
    import fused_elm
    settings = {**fused_elm.RUNS["caltech101"], "n_neurons": 64}
    backbone, learning = backbones.load("inception_small"), data.load("digits").take(np.arange(120))
    predictor, choice, state = fused_elm.fuse_and_solve(backbone, learning, settings, seed=3)
    same = fused.fit(backbone, learning, n_neurons=64, seed=3)
    assert (choice.l2, choice.n_neurons) == (same.selection.l2, same.selection.n_neurons)
    ours, its = (p.network.arg_params["beta"].asnumpy() for p in (predictor, same.predictor))
    np.testing.assert_allclose(ours, its, atol=1e-4 * np.abs(its).max())
    assert state.n_samples == 120 and "Step 5" in capsys.readouterr().out


def test_baselines_choose_on_the_validation_images():
    import fused_elm
    learning, test = data.load("digits").take(np.arange(150)).split(0.3)
    X = [features_of(backbones.load("inception_small"), part).rows for part in (learning, test)]
    found = fused_elm.baselines(*X, learning, test, {"validation": 0.2}, 0)
    assert set(found) == {"ridge", "logreg", "svm"}
    assert all(accuracy > 0.7 and parameter in fused_elm.BASELINES[name][1]
               for name, (accuracy, parameter) in found.items())


def test_a_demo_s_rows(script, capsys, monkeypatch):
    from mxelm.cli import demo
    monkeypatch.setattr(demo, "measure", lambda seed: (None, {
        "accuracy": 0.9 + seed / 100, "ridge_raw": 0.8, "test_images": 9, "learning_images": 20}))
    script("fused_elm", "demo", "--seeds", "0", "2", "--quick")
    out = capsys.readouterr().out
    assert "quick.demo.accuracy" in out and "91.0 ± 1.4 % (n = 2)" in out


@pytest.mark.slow
def test_the_lesson(script, capsys, tmp_path):
    script("fused_elm")
    assert "fused ELM" in capsys.readouterr().out and (tmp_path / "fused_elm-work" / "grid.png").exists()


def test_claims_in_words(script, capsys):
    script("fused_claims", "terabytes", "--quick")
    assert "244,140,625 images" in capsys.readouterr().out
