"""`mxelm verify` and `mxelm fetch` on the command line: output, JSON, exit codes, no traceback."""
import json
import shutil
from pathlib import Path

from mxelm.cli import main


def test_verify_whole(tiny_checkpoint, capsys):
    assert main(["verify", tiny_checkpoint]) == 0
    assert "is whole" in capsys.readouterr().out
    assert main(["verify", tiny_checkpoint, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_verify_damaged(tiny_checkpoint, capsys):
    path = Path(f"{tiny_checkpoint}-0000.params")
    path.write_bytes(path.read_bytes()[:-7])
    assert main(["verify", tiny_checkpoint]) == 1
    captured = capsys.readouterr()
    assert "tiny-0000.params is damaged" in captured.err and "is whole" not in captured.out
    assert "NOT AS RECORDED" in captured.out
    assert main(["verify", f"{tiny_checkpoint}-none"]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err


def test_fetch_lists_and_refuses(capsys):
    assert main(["fetch"]) == 0
    assert "Inception21k" in capsys.readouterr().out
    assert main(["fetch", "--json"]) == 0
    assert "cifar10" in json.loads(capsys.readouterr().out)["data"]
    assert main(["fetch", "resnet999"]) == 1
    assert "efficientnet_lite0" in capsys.readouterr().err


def test_fetch_marks_what_is_at_hand(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "weights"
    folder.mkdir()
    for ending in ("-symbol.json", "-0000.params", ".json"):
        shutil.copy(f"{tiny_checkpoint}{ending}", folder / f"efficientnet_lite1{ending}")
    monkeypatch.setenv("MXELM_DATA", str(tmp_path))
    monkeypatch.setenv("MXELM_CACHE", str(tmp_path / "cache"))
    assert main(["fetch"]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "at hand" in line]
    assert len(marked) == 1 and marked[0].endswith(f"(at hand: {folder / 'efficientnet_lite1'})")


def test_fetch_from_nowhere_says_what_to_put_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MXELM_MIRRORS", (tmp_path / "empty").as_uri())
    assert main(["fetch", "Inception21k", "--folder", str(tmp_path / "weights")]) == 1
    said = capsys.readouterr().err
    assert "Inception21k-0009.params" in said and str(tmp_path / "weights") in said and said.count("\n") == 1
    assert list((tmp_path / "weights").iterdir()) == []
