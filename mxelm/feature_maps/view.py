"""Pictures: the maps that an image leaves at a layer, the filters that made them, images side by side."""
from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mxelm.errors import InputError

GAP = 1  # pixels between two maps
MOST_FILTERS = 64  # rows, and columns, of the filters of one picture


def dead(maps: np.ndarray) -> np.ndarray:
    """Which of the maps (channels, h, w) are the same number all over, bool (channels,)."""
    return np.ptp(maps.reshape(len(maps), -1), axis=1) == 0


def maps_figure(maps: np.ndarray, name: str) -> Figure:
    """A grid of one image's maps at a layer, on one scale; dead maps (constant ones) are crossed out.

    maps: float (channels, h, w). name: the layer's. Raises InputError for another shape and numbers not finite.
    """
    maps = np.asarray(maps, float)
    if maps.ndim != 3 or not np.isfinite(maps).all():
        raise InputError(f"the maps of {name} must be finite numbers (channels, h, w), got shape {maps.shape}")
    columns = int(np.ceil(np.sqrt(len(maps))))
    crossed = np.flatnonzero(dead(maps))
    title = (f"{name}: {len(maps)} maps of {maps.shape[1]}x{maps.shape[2]}, {maps.min():.3g} to {maps.max():.3g}, "
             f"{len(crossed)} dead")
    figure, axes = _grid(maps, columns, title)
    for number in crossed:
        row, column = divmod(number, columns)
        top, left = row * (maps.shape[1] + GAP), column * (maps.shape[2] + GAP)
        for ends in ((top, top + maps.shape[1] - 1), (top + maps.shape[1] - 1, top)):
            axes.plot([left, left + maps.shape[2] - 1], ends, color="#D55E00", linewidth=1)
    axes.set_yticks([row * (maps.shape[1] + GAP) + maps.shape[1] / 2 for row in range(-(-len(maps) // columns))],
                    [row * columns for row in range(-(-len(maps) // columns))], fontsize="x-small")
    axes.set_ylabel("number of the row's first map", fontsize="small")
    return figure


def filters_figure(weights: np.ndarray, name: str) -> Figure:
    """A grid of a convolution's filters: a row each of its outputs, a column each of its inputs, on one scale.

    weights: float (outputs, inputs, kh, kw); of more than 64 outputs or inputs the first 64 are drawn.
    """
    weights = np.asarray(weights, float)
    if weights.ndim != 4 or not np.isfinite(weights).all():
        raise InputError(f"the filters of {name} must be finite numbers (outputs, inputs, h, w), got shape "
                         f"{weights.shape}")
    shown = weights[:MOST_FILTERS, :MOST_FILTERS]
    outputs, inputs, height, width = shown.shape
    part = "" if shown.shape == weights.shape else f" (the first {outputs} and {inputs} are shown)"
    title = f"{name}: {len(weights)} filters, {height}x{width} on {weights.shape[1]} maps{part}"
    columns = inputs if inputs > 1 else int(np.ceil(np.sqrt(outputs)))
    figure, axes = _grid(shown.reshape(-1, height, width), columns, title)
    if inputs > 1:
        axes.set(xlabel="input map", ylabel="filter")
    return figure


def contact_sheet(images: list, titles: list) -> Figure:
    """Images uint8 (h, w[, 3]) of any sizes side by side, a title below each."""
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    for number, (image, title) in enumerate(zip(images, titles), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(image, cmap="gray")
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(title, fontsize="x-small", wrap=True)
    return figure


def _grid(pictures, columns, title):
    """A Figure of pictures (n, h, w) in rows of `columns`, gaps between them, with the scale beside it."""
    n, height, width = pictures.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), np.nan)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = row * (height + GAP), column * (width + GAP)
        canvas[top:top + height, left:left + width] = picture
    signed = pictures.min() < 0
    reach = np.abs(pictures).max() or 1.0
    figure = Figure(figsize=(6.4, 6.4 * min(2.0, max(0.3, canvas.shape[0] / canvas.shape[1]))), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(canvas, cmap="RdBu_r" if signed else "viridis", vmin=-reach if signed else 0, vmax=reach,
                        interpolation="nearest")
    axes.set_title(title, fontsize="small")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    figure.colorbar(image, fraction=0.04, pad=0.02)
    return figure, axes
