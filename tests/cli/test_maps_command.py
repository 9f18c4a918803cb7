"""mxelm maps: show, cache, merge, fit, predict, similar."""
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mxelm.cli import main


@pytest.fixture
def run(capsys):
    """A function: the JSON that an action prints, or its sentence on stderr where `code` says that it must fail."""
    def call(*arguments, code=0):
        returned = main(["maps", *map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert returned == code, said.err
        return json.loads(said.out) if code == 0 else said.err

    return call


def test_show_writes_a_picture_for_every_layer(run, tiny_checkpoint, image_folder, tmp_path):
    image = image_folder / "red" / "image_00.png"
    said = run("show", tiny_checkpoint, image, "--out", tmp_path / "pictures")
    assert list(said["layers"]) == ["conv0_output", "conv1_output"] and len(said["files"]) == 4
    assert all((cv2.imread(file) is not None) for file in said["files"])
    one = run("show", tiny_checkpoint, image, "--layers", "relu1", "--out", tmp_path / "pictures")
    assert one["layers"]["relu1_output"]["maps"] == [8, 8, 8] and len(one["files"]) == 1
    assert "the nearest are relu" in run("show", tiny_checkpoint, image, "--layers", "relu7", "--out", tmp_path, code=1)
    assert "cannot read" in run("show", tiny_checkpoint, tmp_path / "none.png", "--out", tmp_path, code=1)


def test_from_pictures_to_answers(run, tiny_checkpoint, image_folder, tmp_path):
    """Shards, merged; thresholds; answers; the most similar image, which is the image itself."""
    import shutil
    shutil.copytree(image_folder / "red", image_folder / "yellow")  # the network has four scores
    common = ["--images", image_folder, "--checkpoint", tiny_checkpoint, "--layers", "relu0", "relu1"]
    for i in (1, 2):
        run("cache", *common, "--shard", f"{i}/2", "--out", tmp_path / f"{i}.maps")
    said = run("merge", tmp_path / "1.maps", tmp_path / "2.maps", "--out", tmp_path / "all.maps")
    whole = run("cache", *common, "--out", tmp_path / "whole.maps")
    assert said["n_samples"] == whole["n_samples"] == 48 and whole["layers"] == ["relu0", "relu1"]
    assert "exists" in run("cache", *common, "--out", tmp_path / "whole.maps", code=1)
    assert run("cache", *common, "--out", tmp_path / "whole.maps", "--resume")["n_samples"] == 48
    fit = ["fit", tmp_path / "all.maps", "--images", tmp_path / "held", "--checkpoint", tiny_checkpoint, "--cut",
           "fc1_output", "--budget", "0.2", "--out", tmp_path / "model"]
    shutil.copytree(image_folder, tmp_path / "held")
    assert "of the held-out images are in the cache, as blue" in run(*fit, code=1)
    for path in (tmp_path / "held").rglob("*.png"):
        cv2.imwrite(str(path), cv2.GaussianBlur(cv2.imread(str(path)), (3, 3), 0))
    fitted = run(*fit, "--even-if-slower")
    assert fitted["cached"] == 48 and list(fitted["thresholds"]) == ["relu0_output", "relu1_output"]
    image = image_folder / "green" / "image_03.png"
    answer = run("predict", tmp_path / "model", image)["predictions"][str(image)]
    assert answer["matched_at"] is None or answer["class"] == "green"
    found = run("similar", tmp_path / "whole.maps", image, "-k", 3, "--out", tmp_path / "sheet.png")
    assert found["similar"][0]["id"] == "green/image_03.png" and found["similar"][0]["distance"] < 1e-6
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    assert "the cache has no layer 'x'" in run("similar", tmp_path / "whole.maps", image, "--layer", "x", code=1)
    assert "whole.maps is a cache: `mxelm maps fit`" in run("predict", tmp_path / "whole.maps", image, code=1)
    assert "is a recording, and" in run("similar", tmp_path / "whole.maps", tmp_path / "a.wav", code=1)
    np.save(tmp_path / "b.npy", np.zeros(3))
    for path in (tmp_path / "model", tmp_path / "b.npy", tmp_path / "none"):
        assert str(path) in run("similar", path, image, code=1)


def test_what_people_read(tiny_checkpoint, image_folder, tmp_path, capsys):
    path = tmp_path / "a.maps"
    assert main(["maps", "cache", "--images", str(image_folder), "--checkpoint", tiny_checkpoint, "--out",
                 str(path)]) == 0
    before, after = capsys.readouterr().out.splitlines()
    assert before.startswith("36 images at conv1_output: descriptors of ") and after.endswith("a.maps: 36 images")
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 36
    path.write_bytes(path.read_bytes()[:-3])
    said = subprocess.run([sys.executable, "-m", "mxelm", "maps", "similar", path, image_folder / "red/image_00.png"],
                          text=True, capture_output=True)
    assert said.returncode == 1 and said.stderr.count("\n") == 1 and "a.maps is not finished" in said.stderr
