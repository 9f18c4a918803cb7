"""Pictures: they are PNGs of the size they should have, and nothing half-drawn is left behind."""
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mxelm.errors import FileError, InputError
from mxelm.reporting import plots

L2S, SIZES = np.logspace(-4, 4, 9), np.array([16, 32, 64, 128, 256])


def grid(**changes):
    given = {"accuracy": np.linspace(0, 1, 45).reshape(9, 5), "l2s": L2S, "sizes": SIZES, "chosen": (1.0, 256)}
    return {**given, **changes}


def picture(path):
    with Image.open(path) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB"))


def test_grid_heatmap_is_drawn_for_geometric_dense_and_single_sizes(tmp_path):
    for sizes in (SIZES, np.arange(1, 401), np.array([64])):
        accuracy = np.random.default_rng(0).random((9, len(sizes)))
        accuracy[0, 0] = np.nan
        plots.grid_heatmap(tmp_path / "grid.png", accuracy, l2s=L2S, sizes=sizes, chosen=(1.0, int(sizes[-1])))
        height, width, _ = picture(tmp_path / "grid.png").shape
        assert 900 < width < 1100 and 550 < height < 750


def test_grid_heatmap_marks_the_chosen_point(tmp_path):
    plots.grid_heatmap(tmp_path / "a.png", **grid(chosen=(1.0, 256)))
    plots.grid_heatmap(tmp_path / "b.png", **grid(chosen=(1.0, 64)))
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    below_title = slice(60, None)
    assert a.shape == b.shape and (a != b)[below_title].any()


@pytest.mark.parametrize("changes, words", [
    ({"accuracy": np.zeros((5, 9))}, r"shape \(5, 9\), expected \(9, 5\)"),
    ({"l2s": np.arange(9)}, "positive"),
    ({"sizes": SIZES[::-1]}, "ascending"),
    ({"accuracy": np.full((9, 5), np.nan)}, "NaN"),
])
def test_a_grid_that_does_not_fit_is_refused(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        plots.grid_heatmap(tmp_path / "grid.png", **grid(**changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n, least", [(2, 300), (10, 900), (101, 2000)])
def test_confusion_matrix_grows_with_the_classes(tmp_path, n, least):
    matrix = np.eye(n, dtype=int) * 30
    matrix[0, 1] = 1
    matrix[1] = 0  # a class without images
    plots.confusion_matrix(tmp_path / "confusion.png", matrix, [f"class {i}" for i in range(n)])
    height, width, _ = picture(tmp_path / "confusion.png").shape
    assert height > least and width > least


@pytest.mark.parametrize("matrix", [np.eye(3), -np.eye(2), np.ones(2)])
def test_a_confusion_matrix_that_does_not_fit_is_refused(tmp_path, matrix):
    with pytest.raises(InputError, match="2 classes"):
        plots.confusion_matrix(tmp_path / "confusion.png", matrix, ["a", "b"])


def test_curves_are_drawn_in_other_formats_too(tmp_path):
    lines = {f"run {i}": (range(5), np.arange(5) * i) for i in range(9)}
    plots.curves(tmp_path / "curves.png", lines, xlabel="epoch", ylabel="accuracy / %")
    assert picture(tmp_path / "curves.png").shape[1] > 900
    plots.curves(tmp_path / "curves.svg", {"one": ([0, 1], [2, 3])}, xlabel="epoch", ylabel="loss")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


@pytest.mark.parametrize("lines", [{}, {"a": ([], [])}, {"a": ([1, 2], [1])}])
def test_curves_without_points_are_refused(tmp_path, lines):
    with pytest.raises(InputError, match="curve"):
        plots.curves(tmp_path / "curves.png", lines, xlabel="x", ylabel="y")


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    lines = {"a": ([0, 1], [0, 1])}
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        plots.curves(tmp_path / "curves.doc", lines, xlabel="x", ylabel="y")
    with pytest.raises(FileError, match="missing"):
        plots.curves(tmp_path / "missing" / "curves.png", lines, xlabel="x", ylabel="y")
    assert not list(tmp_path.iterdir())


def test_drawing_leaves_pyplot_alone():
    code = "import sys, mxelm.reporting.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_a_gallery_shows_each_image_below_its_caption(tmp_path):
    images = [np.zeros((8, 8), np.uint8), np.full((6, 9, 3), 200, np.uint8)] * 4
    plots.gallery(tmp_path / "gallery.png", images, [f"image {i}\nexit 1" for i in range(8)])
    assert (tmp_path / "gallery.png").stat().st_size > 1000
    with pytest.raises(InputError, match="a caption for each image and one image or more, got 8 images and 1 captions"):
        plots.gallery(tmp_path / "gallery.png", images, ["one"])


def test_banks_of_kernels(tmp_path):
    rng = np.random.default_rng(0)
    plots.kernels(tmp_path / "k.png", {"before": rng.normal(size=(40, 3, 3)), "after": rng.normal(size=(5, 3, 3))})
    assert (tmp_path / "k.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no bank of kernels"):
        plots.kernels(tmp_path / "k.png", {})
