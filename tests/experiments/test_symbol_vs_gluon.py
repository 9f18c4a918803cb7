"""The five ways compute the same things, are timed in turn, and rows say what was measured."""
from types import SimpleNamespace

import numpy as np
import pytest
from lab import Seed

from mxelm.runtime import mx


@pytest.fixture
def script():
    import symbol_vs_gluon
    symbol_vs_gluon.TINY = {**symbol_vs_gluon.SETTINGS, **symbol_vs_gluon.QUICK, "repeats": 1}
    return symbol_vs_gluon


@pytest.fixture
def ways():
    import ways
    return ways


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("way", ["module", "executor", "gluon", "hybrid", "optimized"])
def test_forward_and_accumulate_against_numpy(tiny_checkpoint, tiny_backbone, script, ways, way):
    problem = ways.Problem(tiny_checkpoint, "forward", way, 3, script.TINY)
    X = tiny_backbone.extract(problem.inputs["data"].asnumpy())
    run = ways.start(problem)
    run.step()
    assert relative(run.numbers()[0].asnumpy(), X) < 1e-6

    problem = ways.Problem(tiny_checkpoint, "accumulate", way, 3, script.TINY)
    n_neurons = script.TINY["n_neurons"]
    W = np.random.default_rng(1).standard_normal((n_neurons, 8)) / np.sqrt(8)
    H = np.tanh(X.astype(np.float64) @ W.astype(np.float32).T.astype(np.float64))
    run = ways.start(problem)
    run.step()
    HtH, HtY = [array.asnumpy() for array in run.numbers()]
    assert relative(HtH, H.T @ H) < 1e-6
    assert relative(HtY, H.T @ problem.inputs["Y"].asnumpy()) < 1e-6


@pytest.mark.parametrize("way", ["module", "executor", "gluon", "hybrid"])
def test_a_training_step_against_numpy(tiny_checkpoint, script, ways, way):
    """The Dense layer moves by -learning rate times the mean of (softmax - target) xᵀ."""
    gluon = ways.Problem(tiny_checkpoint, "train", "gluon", 3, script.TINY)
    weight, bias = (gluon.block[1].params.get(name).data().asnumpy() for name in ("weight", "bias"))
    with mx.autograd.train_mode():
        X = gluon.block[0](gluon.inputs["data"]).asnumpy().astype(np.float64)
    scores = np.exp(X @ weight.T + bias)
    error = scores / scores.sum(axis=1, keepdims=True)
    error[np.arange(3), gluon.inputs["softmax_label"].asnumpy().astype(int)] -= 1
    names = sorted(name for name, p in gluon.block.collect_params().items() if p.grad_req != "null")

    run = ways.start(ways.Problem(tiny_checkpoint, "train", way, 3, script.TINY))
    moved = dict(zip(names, script.first_numbers(run, "train")))
    rate = script.TINY["learning_rate"]
    np.testing.assert_allclose(moved["classifier_weight"], -rate * error.T @ X / 3, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(moved["classifier_bias"], -rate * error.mean(axis=0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("task", ["forward", "accumulate", "train"])
def test_ways_agree(tiny_checkpoint, script, task):
    runs, agreement = script.compared(tiny_checkpoint, task, 2, script.TINY)
    assert agreement["module"] == 0 and set(agreement) == set(script.WAYS)
    assert all(agreement[way] < 1e-4 for way in runs)
    if task == "train":  # oneDNN's fused operators have no gradient
        assert set(runs) == set(script.WAYS) - {"optimized"} and isinstance(agreement["optimized"], str)
    else:
        assert set(runs) == set(script.WAYS)


def test_a_zoo_network_is_the_same_each_time(script, ways):
    first, second = (ways.Problem("cifar_resnet20_v1", "forward", "gluon", 1, script.TINY) for _ in range(2))
    assert first.inputs["data"].shape == (1, 3, 32, 32)
    outputs = [problem.block(problem.inputs["data"]).asnumpy() for problem in (first, second)]
    assert outputs[0].shape == (1, 64)
    np.testing.assert_array_equal(*outputs)


def test_timed_in_turn(script, ways):
    order = []
    runs = {way: ways.Run(lambda way=way: order.append(way), None) for way in ("module", "hybrid", "gluon")}
    times, calls = script.timed(runs, 3, 0.0, SimpleNamespace(update=lambda: None))
    assert calls == 1 and all(values.shape == (3,) for values in times.values())
    assert order[-9:] == ["module", "hybrid", "gluon", "gluon", "hybrid", "module", "module", "hybrid", "gluon"]


def test_a_row_is_the_median_of_paired_ratios(script):
    found = script.figures(np.array([2.0, 9.0, 4.0]), np.array([1.0, 3.0, 4.0]))
    assert found["ratio"] == 2.0 and found["milliseconds"] == 4000.0


def test_labels_fit_ids(script):
    assert script.label("mobilenet1.0") == "mobilenet1_0"
    assert script.label("folder/squeezenet_v1.1") == "squeezenet_v1_1"


def test_one_network_s_figures_and_rows(script, lab, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    settings = {**script.TINY, "network": tiny_checkpoint, "batches": [2]}
    monkeypatch.setattr(script, "memory_mb", lambda *problem: 1.5)
    monkeypatch.setattr(script, "TASKS", ("forward", "train"))
    found = script.one_seed("tiny", settings, 0, lab(script, "resnet18_v1"))
    rows = {row["id"]: row for row in script.rows("tiny", settings, [Seed("tiny", settings, 0, [], found)] * 2,
                                                  lab(script, "resnet18_v1"))}
    assert len(rows) == 2 * 5 and rows["twins.tiny.forward.module.b2"]["value"] == 1
    assert rows["twins.tiny.forward.gluon.b2"]["n"] == 2 and rows["twins.tiny.train.optimized.b2"]["value"] is None
    assert rows["twins.tiny.forward.hybrid.b2"]["conditions"]["memory_mb"] == 1.5
    assert (tmp_path / "test_symbol_vs_gluon.png").exists() or (tmp_path / "symbol_vs_gluon.png").exists()
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny ")]) == 2


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(script, tiny_checkpoint):
    assert script.memory_mb(tiny_checkpoint, "forward", "executor", 1, script.TINY) >= 0
    assert script.memory_mb("no-such-network", "forward", "executor", 1, script.TINY) is None
