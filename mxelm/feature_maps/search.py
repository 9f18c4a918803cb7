"""The nearest cached descriptor by the paper's distance D(U, T) = 1 - U.T / (|U| |T|)."""
from __future__ import annotations

from typing import Literal

import numpy as np

from mxelm.errors import EnvironmentProblem, require_choice
from mxelm.neighbours import References

WAYS = ("blas", "hnsw")


def distance(U: np.ndarray, T: np.ndarray) -> float:
    """D(U, T) of two descriptors (d,), as printed; 1 where one of them is all zeros. Source: Anand et al., 2.3.1."""
    U, T = np.asarray(U, np.float64), np.asarray(T, np.float64)
    norms = np.sqrt((U ** 2).sum()) * np.sqrt((T ** 2).sum())
    return float(1 - (U * T).sum() / norms) if norms else 1.0


class Nearest:
    """Cached descriptors float32 (n, d) made ready for many searches.

    way: "blas", exact, one product of matrices; or "hnsw", an approximate graph (hnswlib, `pip install mxelm[ann]`),
    which pays for single images before a large cache.
    """

    def __init__(self, descriptors: np.ndarray, way: Literal["blas", "hnsw"] = "blas") -> None:
        self.search = {"blas": _Blas, "hnsw": _Hnsw}[require_choice("search", way, WAYS)](descriptors)

    def __call__(self, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance float64 (q,) and number int64 (q,) of the nearest cached image to each row of U (q, d).

        A row of zeros, an image whose maps are all dead, is like nothing: its distance is infinite.
        """
        distances, numbers = self.search.nearest(np.ascontiguousarray(U))
        return np.where(np.any(U != 0, axis=1), distances, np.inf), numbers


class _Blas:
    def __init__(self, descriptors):
        self.references = References(descriptors, metric="cosine")

    def nearest(self, U):
        distances, numbers = self.references.nearest(U, 1)
        return distances[:, 0], numbers[:, 0]


class _Hnsw:
    def __init__(self, descriptors):
        try:
            import hnswlib
        except ImportError:
            raise EnvironmentProblem("hnswlib is not installed: pip install 'mxelm[ann]', or search by blas") from None
        self.index = hnswlib.Index("cosine", descriptors.shape[1])
        self.index.init_index(len(descriptors), ef_construction=100, M=16, random_seed=0)
        self.index.add_items(descriptors, num_threads=1)  # with more, the graph differs from run to run
        self.index.set_ef(32)

    def nearest(self, U):
        numbers, distances = self.index.knn_query(U, k=1, num_threads=1)
        return distances[:, 0].astype(np.float64), numbers[:, 0].astype(np.int64)
