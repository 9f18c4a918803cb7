"""The five ways compute the same things, are timed in turn, and the script writes what it measured."""
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mxelm.reporting import results
from mxelm.runtime import mx

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "symbol_vs_gluon.py"


@pytest.fixture
def script():
    import symbol_vs_gluon
    return symbol_vs_gluon


@pytest.fixture
def ways():
    import symbol_vs_gluon_ways
    return symbol_vs_gluon_ways


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("way", ["module", "executor", "gluon", "hybrid", "optimized"])
def test_forward_and_accumulate_against_numpy(tiny_checkpoint, tiny_backbone, script, ways, way):
    problem = ways.Problem(tiny_checkpoint, "forward", way, 3, script.QUICK)
    X = tiny_backbone.extract(problem.inputs["data"].asnumpy())
    run = ways.start(problem)
    run.step()
    assert relative(run.numbers()[0].asnumpy(), X) < 1e-6

    problem = ways.Problem(tiny_checkpoint, "accumulate", way, 3, script.QUICK)
    n_neurons = script.QUICK["n_neurons"]
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
    gluon = ways.Problem(tiny_checkpoint, "train", "gluon", 3, script.QUICK)
    weight, bias = (gluon.block[1].params.get(name).data().asnumpy() for name in ("weight", "bias"))
    with mx.autograd.train_mode():
        X = gluon.block[0](gluon.inputs["data"]).asnumpy().astype(np.float64)
    scores = np.exp(X @ weight.T + bias)
    error = scores / scores.sum(axis=1, keepdims=True)
    error[np.arange(3), gluon.inputs["softmax_label"].asnumpy().astype(int)] -= 1
    names = sorted(name for name, p in gluon.block.collect_params().items() if p.grad_req != "null")

    run = ways.start(ways.Problem(tiny_checkpoint, "train", way, 3, script.QUICK))
    moved = dict(zip(names, script.first_numbers(run, "train")))
    rate = script.QUICK["learning_rate"]
    np.testing.assert_allclose(moved["classifier_weight"], -rate * error.T @ X / 3, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(moved["classifier_bias"], -rate * error.mean(axis=0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("task", ["forward", "accumulate", "train"])
def test_ways_agree(tiny_checkpoint, script, task):
    runs, agreement = script.compared(tiny_checkpoint, task, 2, script.QUICK)
    assert agreement["module"] == 0 and set(agreement) == set(script.WAYS)
    assert all(agreement[way] < 1e-4 for way in runs)
    if task == "train":  # oneDNN's fused operators have no gradient
        assert set(runs) == set(script.WAYS) - {"optimized"} and isinstance(agreement["optimized"], str)
    else:
        assert set(runs) == set(script.WAYS)


def test_a_zoo_network_is_the_same_each_time(script, ways):
    first, second = (ways.Problem("cifar_resnet20_v1", "forward", "gluon", 1, script.QUICK) for _ in range(2))
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
    made = script.row("twins.a.forward.gluon.b1", np.array([2.0, 9.0, 4.0]), np.array([1.0, 3.0, 4.0]), 0.0, 12.5, {},
                      "")
    assert made["value"] == 2.0 and made["n"] == 3 and made["conditions"]["milliseconds"] == 4000.0


def test_labels_fit_ids(script):
    assert script.label("mobilenet1.0") == "mobilenet1_0"
    assert script.label("folder/squeezenet_v1.1") == "squeezenet_v1_1"


def test_the_script(tiny_checkpoint, tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--quick", "--repeats", "1", "--networks", tiny_checkpoint,
                           "--work", "quick"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "checkpoint") == ["quick"]
    rows = {row["id"]: row for row in results.read(tmp_path / "quick")}
    assert len(rows) == 2 * 3 * 5
    for id, row in rows.items():
        if ".train.optimized." in id:
            assert row["value"] is None and row["conditions"]["reason"]
        else:
            assert row["value"] > 0 and row["conditions"]["memory_mb"] >= 0
            assert row["conditions"]["agreement"] < 1e-4 and row["conditions"]["batch"] in (1, 4)
    assert rows["twins.tiny.forward.module.b4"]["value"] == 1
    assert (tmp_path / "quick" / "quick.png").read_bytes().startswith(b"\x89PNG")
    assert len([line for line in done.stdout.splitlines() if line.startswith("tiny ")]) == 6


def test_stopped_by_ctrl_c(tiny_checkpoint, tmp_path):
    process = subprocess.Popen([sys.executable, SCRIPT, "--quick", "--repeats", "10000", "--networks", tiny_checkpoint],
                               cwd=tmp_path, stderr=subprocess.PIPE, text=True, bufsize=1)
    said = ""
    while "tiny" not in said:
        letter = process.stderr.read(1)
        assert letter, said
        said += letter
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said, said
    assert not list(tmp_path.rglob("quick.*"))
