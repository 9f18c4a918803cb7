"""float64 sums through float32, exactly: every number is cut into slices of whole numbers on a scale that all share.

float32 adds whole numbers up to 2**24 without rounding. Sums of whole numbers do not depend on the order in which
they come either: the result is the same bit for bit, whoever is first.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from mxelm.errors import InputError

KEPT_BITS = 60  # of each number, counted from the highest bit of the largest number in its matrix


def exponent(values: np.ndarray) -> int | None:
    """The least e with all |values| < 2**e; None where all are zero. InputError where one is not finite."""
    if not np.isfinite(values).all():
        raise InputError("the sums of this shard hold NaN or infinity: check the network's weights and its images")
    largest = np.abs(values).max()
    return int(np.frexp(largest)[1]) if largest else None


def slice_bits(workers: int) -> tuple[int, int]:
    """(bits of a slice, number of slices): as many of them added up stay below 2**24, with a bit to spare."""
    bits = 24 - (workers - 1).bit_length() - 1
    return bits, -(-KEPT_BITS // bits)


def slices(values: np.ndarray, exponent: int, workers: int) -> Iterator[np.ndarray]:
    """Yield float64 `values`, all below 2**exponent, as float32 arrays of whole numbers, the highest bits first.

    What is lost lies below 2**(exponent - KEPT_BITS - 1).
    """
    bits, count = slice_bits(workers)
    rest = np.ldexp(values, bits - exponent)
    for k in range(count):
        part = np.rint(rest) if k == count - 1 else np.trunc(rest)
        yield part.astype(np.float32)
        rest = np.ldexp(rest - part, bits)


def joined(sums: Iterable[np.ndarray], exponent: int, workers: int) -> np.ndarray:
    """float64 numbers from the sums of all workers' slices; `sums` come as float32 arrays, the lowest bits first."""
    bits, _ = slice_bits(workers)
    total = 0.0
    for part in sums:
        total = np.ldexp(total + part.astype(np.float64), -bits)
    return np.ldexp(total, exponent)
