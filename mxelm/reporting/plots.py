"""Pictures of results, written whole or not at all: the grid of a selection, a confusion matrix, curves.

matplotlib is used through its Figure, never through pyplot, so that no global state of the caller's is touched.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mxelm.errors import InputError
from mxelm.files import atomic_write

DPI = 150
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # told apart by everyone
LINES = ("-", "--", ":", "-.")
MOST_TICKS = 12  # of a grid's sizes that are all named below the axis
ANNOTATED_CLASSES = 20  # up to here the cells of a confusion matrix are large enough for numbers


def grid_heatmap(path: str | os.PathLike, accuracy: np.ndarray, *, l2s: Sequence[float], sizes: Sequence[int],
                 chosen: tuple[float, int], error: str | None = None) -> None:
    """Draw the accuracy, or another criterion, of every (l2, number of neurons).

    path: .png, .svg or .pdf. accuracy: float (n_l2, n_sizes) in 0..1, NaN where there is none. l2s: (n_l2,) positive,
    sizes: (n_sizes,), both ascending. chosen: (l2, n_neurons), marked. error: name of the criterion where the values
    are errors (lower is better) instead. Raises InputError for what does not fit.
    """
    accuracy, l2s, sizes = np.asarray(accuracy, float), np.asarray(l2s, float), np.asarray(sizes, float)
    _refuse_grid(accuracy, l2s, sizes)
    geometric = len(sizes) > 2 and sizes[0] > 0 and sizes[-1] - sizes[-2] > 4 * (sizes[1] - sizes[0])
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    # the poorest models would else take all of the colours
    worst = {"vmin": np.nanquantile(accuracy, 0.1)} if error is None else {"vmax": np.nanquantile(accuracy, 0.9)}
    image = axes.pcolormesh(_edges(sizes, geometric), _edges(l2s, True), accuracy, rasterized=True,
                            cmap="viridis" if error is None else "viridis_r", **worst)
    axes.set(yscale="log", xscale="log" if geometric else "linear", xlabel="number of hidden neurons", ylabel="l2")
    if geometric and len(sizes) <= MOST_TICKS:
        axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
        axes.set_xticks([], minor=True)
    for width, colour in ((3.5, "white"), (1.3, "black")):  # seen on dark and on light cells
        axes.plot(chosen[1], chosen[0], "o", ms=10, mfc="none", mec=colour, mew=width, clip_on=False)
    axes.set_title(f"chosen (circle): l2 = {chosen[0]:.3g}, {chosen[1]} neurons", fontsize="medium")
    if error is None:
        figure.colorbar(image, label="validation accuracy", format=PercentFormatter(1), extend="min")
    else:
        figure.colorbar(image, label=error, extend="max")
    save(figure, path)


def _refuse_grid(accuracy, l2s, sizes):
    if accuracy.shape != (len(l2s), len(sizes)):
        raise InputError(f"accuracy has shape {accuracy.shape}, expected {(len(l2s), len(sizes))}: (l2s, sizes)")
    if not (l2s > 0).all() or (np.diff(l2s) <= 0).any() or (np.diff(sizes) <= 0).any():
        raise InputError("a grid is drawn over positive, ascending l2 and ascending sizes: leave out l2 = 0, and sort")
    if not np.isfinite(accuracy).any():
        raise InputError("a grid without any accuracy cannot be drawn: every cell is NaN")


def confusion_matrix(path: str | os.PathLike, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """Draw a confusion matrix, coloured by the share of each true class; up to 20 classes with the counts written in.

    matrix: counts (n_classes, n_classes), rows true, columns predicted. classes: their names. Raises InputError.
    """
    matrix = np.asarray(matrix)
    n = len(classes)
    if not n or matrix.shape != (n, n) or (matrix < 0).any():
        raise InputError(f"a confusion matrix of {n} classes has shape {(n, n)} and no negative counts, "
                         f"got shape {matrix.shape}")
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    few = n <= ANNOTATED_CLASSES
    side = 2.2 + 0.5 * n if few else 3 + 0.13 * n
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    if few:
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        _write_counts(axes, matrix, share)
    else:  # among many classes a single error must still be seen
        image = axes.imshow(np.ma.masked_equal(share, 0), cmap="cividis_r", norm=LogNorm(0.01, 1))
        axes.set_xticks(np.arange(n) - 0.5, minor=True)
        axes.set_yticks(np.arange(n) - 0.5, minor=True)
        axes.grid(which="minor", color="0.9", linewidth=0.4)
        axes.tick_params(which="minor", length=0)
    size = "medium" if few else 6
    short = few and max(len(str(name)) for name in classes) <= 3
    axes.set_xticks(range(n), classes, rotation=0 if short else 90, fontsize=size)
    axes.set_yticks(range(n), classes, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, label="share of the true class", format=PercentFormatter(1, decimals=0), shrink=0.6,
                    fraction=0.05, pad=0.02)
    save(figure, path)


def _write_counts(axes, matrix, share):
    for row, column in zip(*np.nonzero(matrix)):
        axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize="small",
                  color="white" if share[row, column] > 0.5 else "black")


def gallery(path: str | os.PathLike, images: Sequence[np.ndarray], captions: Sequence[str], *,
            columns: int = 6) -> None:
    """Draw images in rows of `columns`, each below its caption.

    images: uint8 arrays (h, w) or (h, w, 3). captions: as many strings; a line break may part them. Raises InputError.
    """
    if not len(images) or len(images) != len(captions):
        raise InputError(f"a gallery needs a caption for each image and one image or more, got {len(images)} images "
                         f"and {len(captions)} captions")
    n_rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.9 * n_rows), layout="constrained")
    for place, (image, caption) in enumerate(zip(images, captions)):
        axes = figure.add_subplot(n_rows, columns, place + 1)
        axes.imshow(image, cmap="gray" if np.ndim(image) == 2 else None)
        axes.set_title(caption, fontsize=7)
        axes.axis("off")
    save(figure, path)


def curves(path: str | os.PathLike, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str,
           ylabel: str) -> None:
    """Draw named curves over one pair of axes.

    lines: dict of name -> (x, y), two sequences of one length. xlabel, ylabel: with their units. Raises InputError.
    """
    if not lines:
        raise InputError("there is no curve to draw")
    for name, (x, y) in lines.items():
        if len(x) != len(y) or not len(x):
            raise InputError(f"curve {name!r} has {len(x)} x and {len(y)} y, expected as many of each, and some")
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (line, colour), (name, (x, y)) in zip(product(LINES, OKABE_ITO), lines.items()):
        axes.plot(x, y, line, color=colour, label=name, marker="o" if len(x) < 2 else None)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    else:
        axes.set_title(next(iter(lines)), fontsize="medium")
    save(figure, path)


def kernels(path: str | os.PathLike, banks: Mapping[str, np.ndarray]) -> None:
    """Draw the kernels of each bank in a row, blue below zero and red above.

    banks: dict of name -> (n_kernels, height, width); of each the first 32 are drawn. Raises InputError for none.
    """
    if not banks:
        raise InputError("there is no bank of kernels to draw")
    columns = min(32, max(len(bank) for bank in banks.values()))
    figure = Figure(figsize=(0.375 * columns + 0.5, 0.9 * len(banks)), layout="constrained")
    for (name, bank), cells in zip(banks.items(), figure.subplots(len(banks), columns, squeeze=False)):
        cells[0].set_title(name, loc="left", fontsize="small")
        for axes in cells:
            axes.set_axis_off()
        for axes, kernel in zip(cells, bank):
            largest = np.abs(kernel).max()
            axes.imshow(kernel, cmap="RdBu_r", vmin=-largest, vmax=largest)
    save(figure, path)


def _edges(centres, geometric):
    """Borders of cells around `centres`, halfway in between (geometrically where the axis is logarithmic)."""
    place = np.log(centres) if geometric else centres
    if len(place) == 1:
        middles, first, last = np.empty(0), place[0] - 0.5, place[0] + 0.5
    else:
        middles = (place[1:] + place[:-1]) / 2
        first, last = 2 * place[0] - middles[0], 2 * place[-1] - middles[-1]
    edges = np.concatenate([[first], middles, [last]])
    return np.exp(edges) if geometric else edges


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a matplotlib Figure as .png, .svg or .pdf, whole or not at all; InputError for another ending."""
    kinds = figure.canvas.get_supported_filetypes()
    kind = str(path).rpartition(".")[2]
    if kind not in kinds:
        raise InputError(f"cannot draw {path}: name a file that ends in .png, .svg or .pdf")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=kind, bbox_inches="tight", pad_inches=0.1)
