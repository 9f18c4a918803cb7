"""HᵀH and HᵀY in float64 at BLAS speed: rows gathered into blocks, each added in place into one triangle.

Source: Arcada, section 2, steps 2-4; "syrk" in section 3. dsyrk with the cast of its rows runs at 1.0-1.25 of half a
DGEMM from about 128 rows on; below, a row costs a quarter more.
"""
import numpy as np
from scipy.linalg import blas

from mxelm.runtime import blas_threads

BLOCK = 512  # rows; part of what makes sums of the same rows bit for bit the same


class Sums:
    """Running HᵀH, HᵀY and Σ y² over rows that come in any portions.

    n_neurons, n_outputs: columns of H and of Y. threads: BLAS threads of an addition (None: as many as there are).
    """

    def __init__(self, n_neurons, n_outputs, threads=None):
        self.threads = threads
        self.A = np.zeros((n_neurons, n_neurons), order="F")  # dsyrk silently leaves a C-ordered matrix as it is
        self.B = np.zeros((n_neurons, n_outputs), order="F")
        self.yty, self.n_samples = 0.0, 0
        self._H = np.empty((BLOCK, n_neurons))
        self._Y = np.empty((BLOCK, n_outputs))
        self._filled = 0

    def add(self, H, Y):
        """Take rows H (n, n_neurons) and Y (n, n_outputs) in; they are added whenever a block is full."""
        self.n_samples += len(H)
        while len(H):
            n = min(len(H), BLOCK - self._filled)
            self._H[self._filled:self._filled + n] = H[:n]
            self._Y[self._filled:self._filled + n] = Y[:n]
            self._filled += n
            H, Y = H[n:], Y[n:]
            if self._filled == BLOCK:
                self.flush()

    def flush(self):
        """Add what the block holds."""
        H, Y = self._H[:self._filled], self._Y[:self._filled]
        self._filled = 0
        if len(H):
            self.add_block(H, Y)

    def add_block(self, H, Y):
        """Add rows at once, past those that `add` may have waiting: float64, C-ordered."""
        self.yty += float(np.vdot(Y, Y))
        with blas_threads(self.threads):
            blas.dsyrk(1.0, H.T, beta=1.0, c=self.A, overwrite_c=1, lower=1)
            blas.dgemm(1.0, H.T, Y.T, beta=1.0, c=self.B, trans_b=1, overwrite_c=1)

    def matrices(self):
        """(HtH with both triangles, HtY), float64, of all rows so far."""
        self.flush()
        return mirrored(self.A.copy()), self.B.copy()


def mirrored(A):
    """A with its lower triangle copied into the upper one, in place: no second matrix beside a large one."""
    for i in range(len(A)):
        A[i, i + 1:] = A[i + 1:, i]
    return A
