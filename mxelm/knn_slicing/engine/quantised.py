"""Matrices of small whole numbers, a scale for each row, packed into as many bits as they need."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mxelm.errors import InputError, require_whole

MOST_BITS = 8


@dataclass(frozen=True, eq=False)
class Quantised:
    """A float32 matrix as `levels * scale`, symmetric around 0.

    levels: int8 (rows, columns) in -(2^(bits-1) - 1) .. 2^(bits-1) - 1. scale: float32 (rows,), positive.
    bits: int, 2 to 8, what a level takes in a file.
    """

    levels: np.ndarray
    scale: np.ndarray
    bits: int

    @classmethod
    def of(cls, values: np.ndarray, bits: int) -> Quantised:
        """The nearest such matrix to `values` (rows, columns): each row's largest magnitude is the outermost level.

        Raises InputError for bits outside 2..8 and for values that are not finite.
        """
        require_whole("bits", bits, 2, MOST_BITS)
        values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise InputError("values that are not finite cannot be quantised")
        outermost = 2 ** (bits - 1) - 1
        largest = np.abs(values).max(axis=1)
        scale = np.where(largest > 0, largest / outermost, 1).astype(np.float32)
        scale = np.maximum(scale, np.finfo(np.float32).tiny)  # where the quotient was too small for a float32
        return cls(np.rint(values / scale[:, None]).clip(-outermost, outermost).astype(np.int8), scale, bits)

    @property
    def values(self) -> np.ndarray:
        """float32 (rows, columns)."""
        return self.levels * self.scale[:, None]

    def pack(self) -> bytes:
        """The levels as bytes, most significant bit first, filled up with zero bits at the end."""
        shifted = (self.levels.reshape(-1).astype(np.int16) + 2 ** (self.bits - 1)).astype(np.uint8)
        return np.packbits(np.unpackbits(shifted[:, None], axis=1)[:, 8 - self.bits:]).tobytes()


def packed_size(shape: tuple[int, int], bits: int) -> int:
    """Bytes that `pack` makes of a matrix of this shape."""
    return -(-shape[0] * shape[1] * bits // 8)


def unpack(content: bytes, shape: tuple[int, int], bits: int) -> np.ndarray:
    """The levels that `pack` turned into `content`, int8 of `shape`."""
    n = shape[0] * shape[1]
    digits = np.unpackbits(np.frombuffer(content, np.uint8), count=n * bits).reshape(n, bits)
    whole = np.zeros((n, 8), np.uint8)
    whole[:, 8 - bits:] = digits
    return (np.packbits(whole, axis=1)[:, 0].astype(np.int16) - 2 ** (bits - 1)).astype(np.int8).reshape(shape)
