"""How a lesson shows its steps: a sentence with the arrays that it is about, and small tables."""
import numpy as np


def step(text, **values):
    """Print one step of a method, and each value: an array by dtype, shape and range, anything else as it is."""
    print(f"\n{text}")
    for name, value in values.items():
        print(f"    {name:14s} {_describe(value)}")


def table(header, lines):
    """Print a table: names on the left, then a column for each other word of `header`; floats with two decimals."""
    cells = [[str(word) for word in header], *([_cell(value) for value in line] for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    print()
    for line in cells:
        print("    " + "  ".join(cell.rjust(width) if i else cell.ljust(width)
                                 for i, (cell, width) in enumerate(zip(line, widths))))


def _describe(value):
    if isinstance(value, np.ndarray) and value.size > 1:
        spread = f", {value.min():.3g} to {value.max():.3g}" if value.dtype.kind in "biuf" else ""
        return f"{value.dtype} {value.shape}{spread}"
    return f"{value:,.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _cell(value):
    return f"{value:,.2f}" if isinstance(value, (float, np.floating)) else str(value)
