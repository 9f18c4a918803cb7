"""`mxelm exits`: costs, a cascade fitted on a folder, images told by it, its curve."""
import json

import pytest

from mxelm.cli import main


@pytest.fixture
def run(capsys):
    """A function: what a command prints, as JSON if asked for, or its sentence on stderr where it must fail."""
    def call(*arguments, code=0):
        returned = main(["exits", *map(str, arguments)])
        said = capsys.readouterr()
        assert returned == code and "Traceback" not in said.err, said.err
        return said.err if code else json.loads(said.out) if "--json" in arguments else said.out

    return call


def test_costs_are_shares_that_rise_to_the_whole(run, tiny_checkpoint):
    found = run("costs", tiny_checkpoint, "--json")
    shares = [entry["share"] for entry in found["layers"]]
    assert shares == sorted(shares) and shares[-1] == 1
    assert found["layers"][-1] == {"layer": "flatten_output", "share": 1, "features": 8}
    assert "8 features  flatten_output" in run("costs", tiny_checkpoint)


@pytest.mark.parametrize("exits", ["relu0,pool1", "auto"])
def test_from_a_folder_to_answers_and_a_curve(run, tiny_checkpoint, image_folder, tmp_path, exits, capsys):
    cascade = tmp_path / "cascade"
    said = run("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--exits", exits, "--max-loss", "20",
               "--out", cascade)
    assert f"wrote {cascade}: 3 classes" in said and "(margin)" in said
    image = next((image_folder / "red").iterdir())
    found = run("predict", cascade, image, "--json")["predictions"][str(image)]
    assert found["class"] in ("blue", "green", "red") and found["exit"].endswith("_output")
    assert run("predict", cascade, image).startswith(f"{image}: {found['class']} (")
    bad = image.with_name("bad.txt.jpg")
    bad.write_text("no picture")
    assert "bad.txt.jpg is not an image: remove it" in run("predict", cascade, bad, image, code=1)
    bad.unlink()
    assert main(["info", str(cascade), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["last exit"] == "flatten_output" and told["kind"] == "cascade" and len(told["classes"]) == 3
    assert all(value in ("nobody leaves", "all leave") or isinstance(value, float) for value in told["exits"].values())
    run("curve", cascade, "--images", image_folder, "--out", tmp_path / "curve")
    header, *points = (tmp_path / "curve.csv").read_text().splitlines()
    assert header.startswith("milliseconds,accuracy,threshold at ") and len(points) > 2
    assert points[0].endswith(",inf") and points[-1].endswith(",-inf")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_wrong_is_said_in_a_sentence(run, tiny_checkpoint, image_folder, tmp_path):
    fit = ("fit", "--images", image_folder, "--checkpoint", tiny_checkpoint, "--out", tmp_path / "cascade")
    assert "no output 'rellu0'; the nearest are relu0_output" in run(*fit, "--exits", "rellu0", code=1)
    assert "is computed on the way to an exit before it" in run(*fit, "--exits", "pool1,relu0", code=1)
    assert "alpha must lie between 0 and 1" in run(*fit, "--rule", "paper", "--alpha", "2", code=1)
    assert "--max-loss is in points of accuracy and below 100, got 100" in run(*fit, "--max-loss", "100", code=1)
    assert "risk goes by --max-loss" in run(*fit, "--alpha", "0.3", code=1)
    assert "pac goes by --alpha" in run(*fit, "--rule", "pac", "--exits", "relu0", "--max-loss", "3", code=1)
    assert "holds other files" in run(*fit[:-1], image_folder, code=1)
    assert "cannot read" in run("predict", tmp_path, "x.png", code=1)
    assert not (tmp_path / "cascade").exists()
