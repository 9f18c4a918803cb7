"""A linear map that separates classes: principal components, whitened within subclasses, then LDA."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from sklearn.cluster import KMeans

from mxelm.errors import InputError

BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Whitening:
    """x -> (x - mean) A: coordinates in which the scatter within subclasses is (nearly) round.

    mean: float32 (n_features,). A: float32 (n_features, n_components).
    """

    mean: np.ndarray
    A: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """float32 (n, n_features) -> float32 (n, n_components)."""
        return x @ self.A - self.mean @ self.A


def fit(x: np.ndarray, labels: np.ndarray, *, n_components: int, n_subclasses: int, n_dims: int, shrinkage: float,
        seed: int) -> tuple[Whitening, np.ndarray, np.ndarray]:
    """(Whitening, W (n_components, n_dims), subclass of each sample) of features x float32 (n, n_features).

    Each class is split into `n_subclasses` by k-means, because a digit is written in more than one way. The scatter
    within them, plus shrinkage * its mean eigenvalue on the diagonal, is whitened; W holds the leading directions of
    the scatter between them. Source: Zhu and Martinez, IEEE TPAMI 28, 2006, "Subclass discriminant analysis".
    """
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    components = _components(x, mean, n_components)
    z = x @ components - mean @ components
    groups = subclasses(z, labels, n_subclasses, seed)
    means = np.stack([z[groups == g].mean(axis=0, dtype=np.float64) for g in range(groups.max() + 1)])
    share = np.bincount(groups) / len(groups)
    within = _scatter(z) - (means.T * share) @ means
    if not np.trace(within) > 0:
        raise InputError(f"{len(x)} samples are too few for {groups.max() + 1} subclasses: their scatter is zero")
    within[np.diag_indices_from(within)] += shrinkage * np.trace(within) / len(within)
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values)
    means = means @ white
    _, directions = np.linalg.eigh((means.T * share) @ means)
    whitening = Whitening(mean, (components.astype(np.float64) @ white).astype(np.float32))
    return whitening, directions[:, ::-1][:, :n_dims].astype(np.float32), groups


def subclasses(z: np.ndarray, labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """int64 (n_samples,): the k-means cluster of each sample within its class, numbered through over the classes."""
    groups, first = np.empty(len(z), np.int64), 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(n, len(members))
        groups[members] = first + KMeans(count, n_init=1, random_state=seed).fit(z[members]).labels_
        first += count
    return groups


def _components(x, mean, n):
    """The n leading principal directions, float32 (n_features, n)."""
    scatter = _scatter(x, mean)
    n = min(n, len(scatter))
    _, vectors = linalg.eigh(scatter, subset_by_index=(len(scatter) - n, len(scatter) - 1))
    return vectors[:, ::-1].astype(np.float32)


def _scatter(x, mean=0):
    """Mean outer product of the rows of x - mean, float64."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), BLOCK):
        block = x[start:start + BLOCK] - mean
        total += block.T @ block
    return total / len(x)
