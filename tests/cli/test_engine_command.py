"""`mxelm engine`: built from an idx folder, asked about image files."""
import gzip
import json
import struct

import numpy as np
import pytest
from PIL import Image

from mxelm.cli import main
from mxelm.knn_slicing import banks
from mxelm.knn_slicing.engine import build

SMALL = build.Plan(filters=(6, 8), bits=(8, 8, 8), n_dims=4, n_components=40, n_subclasses=2, rounds=1, polish=1)


@pytest.fixture
def run(capsys, monkeypatch):
    """A function: what a command prints, as JSON if asked for, or its sentence on stderr where it must fail."""
    monkeypatch.setattr(build, "PLANS", {1: SMALL})
    monkeypatch.setattr(banks, "PATCHES", 5000)

    def call(*arguments, code=0):
        try:
            returned = main(["engine", *map(str, arguments)])
        except SystemExit as stop:
            returned = stop.code
        said = capsys.readouterr()
        assert returned == code and "Traceback" not in said.err, said.err
        return said.err if code else json.loads(said.out) if "--json" in arguments else said.out

    return call


def sign(label, rng):
    """A bar (0) or a dash (1), uint8 (28, 28)."""
    image = np.zeros((28, 28), np.uint8)
    place = rng.integers(11, 16)
    image[5:23, place:place + rng.integers(1, 4)] = rng.integers(120, 256)
    return image if label == 0 else image.T.copy()


@pytest.fixture
def idx(tmp_path):
    """A folder in MNIST's format: 160 bars and dashes to train on."""
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    images = np.stack([sign(label, rng) for label in labels])
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels.astype(np.uint8))):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path


def test_build_and_predict(run, idx, tmp_path):
    built = run("build", "--data", idx, "--bytes", 3000, "--out", tmp_path / "a.engine", "--json")
    assert built["bytes"] == (tmp_path / "a.engine").stat().st_size <= 3000
    assert built["training_images"] == 160 and built["kernels"] == [6, 8] and built["dimensions"] == 4
    rng, paths = np.random.default_rng(1), []
    for i in range(6):
        image = Image.fromarray(sign(i % 2, rng))
        if i > 1:  # on white paper, in another size
            image = Image.fromarray(255 - np.asarray(image)).resize((100, 100)).convert("RGB")
        paths.append(tmp_path / f"{i}.png")
        image.save(paths[-1])
    found = run("predict", tmp_path / "a.engine", *paths, "--json")["predictions"]
    assert [found[str(path)] for path in paths] == ["0", "1"] * 3
    assert run("predict", tmp_path / "a.engine", paths[1]).startswith(f"1  {paths[1]}  (margin ")
    assert "6 and 8 kernels" in run("build", "--data", idx, "--bytes", 3000, "--out", tmp_path / "b.engine")
    assert (tmp_path / "a.engine").read_bytes() == (tmp_path / "b.engine").read_bytes()


def test_what_cannot_be_done_is_one_sentence(run, idx, tmp_path, image_folder):
    assert "--out" in run("build", code=2)
    assert "at least 1" in run("build", "--out", tmp_path / "a", "--bytes", 0, code=2)
    assert "takes at least" in run("build", "--data", idx, "--out", tmp_path / "a", "--bytes", 100, code=1)
    assert "nowhere" in run("build", "--data", tmp_path / "nowhere", "--out", tmp_path / "a", code=1)
    assert "no/such" in run("build", "--data", idx, "--out", tmp_path / "no" / "such", code=1)
    assert "28, 28" in run("build", "--data", "digits", "--out", tmp_path / "a", code=1)
    (tmp_path / "text").write_text("no engine")
    assert "not an engine" in run("predict", tmp_path / "text", "image.png", code=1)
    assert not (tmp_path / "a").exists()


def test_info_describes_an_engine(run, idx, tmp_path, capsys):
    built = run("build", "--data", idx, "--bytes", 3000, "--out", tmp_path / "a.engine", "--json")
    assert main(["info", str(tmp_path / "a.engine"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "engine" and found["classes"] == ["0", "1"]
    for name in ("bytes", "prototypes", "dimensions", "kernels"):
        assert found[name] == built[name]
    assert main(["info", str(tmp_path / "a.engine")]) == 0
    assert f"prototypes: {built['prototypes']}" in capsys.readouterr().out
    content = (tmp_path / "a.engine").read_bytes()
    (tmp_path / "cut.engine").write_bytes(content[:-1])
    assert main(["info", str(tmp_path / "cut.engine")]) == 1
    assert "cut.engine is cut" in capsys.readouterr().err


def test_an_image_that_is_none_is_named(run, idx, tmp_path):
    run("build", "--data", idx, "--bytes", 3000, "--out", tmp_path / "a.engine", "--json")
    (tmp_path / "note.png").write_text("no image")
    said = run("predict", tmp_path / "a.engine", tmp_path / "note.png", code=1)
    assert "note.png is not an image" in said and len(said.splitlines()) == 1
