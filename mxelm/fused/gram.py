"""HᵀH and HᵀY in float64 at BLAS speed: rows gathered into blocks, each added in place into one triangle.

Source: Arcada, section 2, steps 2-4; "syrk" in section 3. dsyrk with the cast of its rows runs at 1.0-1.25 of half a
DGEMM from about 128 rows on; below, a row costs a quarter more.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import blas

from mxelm.runtime import blas_threads

BLOCK = 512  # rows; part of what makes sums of the same rows bit for bit the same


class Blocks:
    """Rows that come in any portions, gathered into blocks of BLOCK.

    widths: columns of each kind of row, such as (n_neurons, n_outputs). use: called with one float64 array (n, width)
    a kind whenever a block is full, and by `flush`.
    """

    def __init__(self, widths: Sequence[int], use: Callable) -> None:
        self._rows = [np.empty((BLOCK, width)) for width in widths]
        self._use, self._filled = use, 0

    def add(self, *rows: np.ndarray) -> None:
        """Take rows (n, width) of each kind in."""
        start, n = 0, len(rows[0])
        while start < n:
            count = min(n - start, BLOCK - self._filled)
            for held, given in zip(self._rows, rows):
                held[self._filled:self._filled + count] = given[start:start + count]
            start, self._filled = start + count, self._filled + count
            if self._filled == BLOCK:
                self.flush()

    @property
    def waiting(self) -> list[np.ndarray]:
        """The rows that wait for their block to fill, an array (n, width) a kind."""
        return [held[:self._filled] for held in self._rows]

    def flush(self) -> None:
        """Use what waits."""
        rows, self._filled = self.waiting, 0
        if len(rows[0]):
            self._use(*rows)


class Gram:
    """Running HᵀH and HᵀY over rows that come in any portions.

    n_neurons, n_outputs: columns of H and of Y. threads: BLAS threads of an addition (None: as many as there are).
    """

    def __init__(self, n_neurons: int, n_outputs: int, threads: int | None = None) -> None:
        self.threads = threads
        self.A = np.zeros((n_neurons, n_neurons), order="F")  # dsyrk silently leaves a C-ordered matrix as it is
        self.B = np.zeros((n_neurons, n_outputs), order="F")
        self._blocks = Blocks((n_neurons, n_outputs), self.add_block)

    def add(self, H: np.ndarray, Y: np.ndarray) -> None:
        """Take rows H (n, n_neurons) and Y (n, n_outputs) in; they are added whenever a block is full."""
        self._blocks.add(H, Y)

    def flush(self) -> None:
        """Add what the block holds."""
        self._blocks.flush()

    def add_block(self, H: np.ndarray, Y: np.ndarray) -> None:
        """Add rows at once, past those that `add` may have waiting: float64, C-ordered."""
        with blas_threads(self.threads):
            blas.dsyrk(1.0, H.T, beta=1.0, c=self.A, overwrite_c=1, lower=1)
            blas.dgemm(1.0, H.T, Y.T, beta=1.0, c=self.B, trans_b=1, overwrite_c=1)

    def as_they_stand(self) -> tuple[np.ndarray, np.ndarray, tuple | None]:
        """(HtH, HtY, waiting) without the rows of the block that is not full: waiting is (H, Y), or None."""
        waiting = tuple(rows.copy() for rows in self._blocks.waiting)
        return mirrored(self.A.copy()), self.B.copy(), waiting if len(waiting[0]) else None

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """(HtH with both triangles, HtY), float64, of all rows so far."""
        self.flush()
        return mirrored(self.A.copy()), self.B.copy()


def mirrored(A: np.ndarray) -> np.ndarray:
    """A with its lower triangle copied into the upper one, in place: no second matrix beside a large one."""
    for i in range(len(A)):
        A[i, i + 1:] = A[i + 1:, i]
    return A
