"""The scripts beside onnxruntime run, on digits and small networks, in this process."""
import pytest

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr("lab.measuring.in_a_process", lambda function, *arguments, threads=1: function(*arguments))


@pytest.mark.parametrize("run, lines", [
    ("forward", ["quick.alternatives.forward.inception_small.b2"]),
    ("fit", [f"quick.alternatives.{way}.{what}" for way in ("fit", "ort_logreg", "ort_svm", "ort_ridge")
             for what in ("seconds_ratio", "memory_ratio", "accuracy_per_class")])])
def test_alternatives(run, lines, script, capsys):
    script("alternatives", run, "--quick")
    out = capsys.readouterr().out
    assert all(line in out for line in lines)


def test_a_network_out_and_in_again(script, capsys):
    script("onnx_exchange", "resnet50", "--quick")
    assert "quick.onnx.resnet50_over_native" in capsys.readouterr().out
