"""mxelm demo: what it promises, from another folder, offline."""
import json

from mxelm.cli import main
from mxelm.fused import Predictor


def test_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MXELM_DATA", "")
    assert main(["demo", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"] > result["ridge_raw"] and result["accuracy"] > 0.97
    assert result["state_bytes"] == 8 * (1024 * 1025 // 2 + 1024 * 10)
    assert (tmp_path / "mxelm-demo" / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert len(Predictor.load("mxelm-demo/digits").classes) == 10


def test_demo_names_an_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 1
    assert "cannot make the folder" in capsys.readouterr().err
