"""Banks of kernels to start or to compare from: random, principal components, k-means, and a trained network's."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mxelm.errors import InputError
from mxelm.knn_slicing.kernels import FILTERS, Kernels, checked, pool1

if TYPE_CHECKING:
    from mxelm.knn_slicing.networks import TalkNetwork

PATCHES = 100_000  # sampled for a learned bank
RIDGE = 0.3  # of the whitening, in mean variances of the patches; of 0.03, 0.1 and 0.3 best on held-out images


def random(seed: int, filters: tuple[int, int] = FILTERS) -> Kernels:
    """Glorot's uniform kernels, as the talk's library draws them; biases zero."""
    rng = np.random.default_rng(seed)
    f1, f2 = filters
    return _without_bias(_glorot(rng, f1, 1), _glorot(rng, f2, f1))


def pca(images: np.ndarray, seed: int, filters: tuple[int, int] = FILTERS) -> Kernels:
    """Principal components of patches, each with both signs because ReLU keeps one; biases zero.

    images: uint8 training images (n, height, width). Where a patch has too few components for the layer (nine of
    conv1's 32), random mixtures of them fill up. conv2's patches come from conv1's pooled maps.
    """
    return _learned(images, seed, filters, _components, _components, True)


def kmeans(images: np.ndarray, seed: int, filters: tuple[int, int] = FILTERS) -> Kernels:
    """Centroids of patches as kernels (scikit-learn's mini-batch k-means); biases zero.

    images: uint8 training images (n, height, width). Patches are brought to unit length, flat ones left out. conv1's
    are freed of their mean; conv2's come from conv1's pooled maps and are whitened, and so are its kernels.
    Source: Coates, Lee and Ng, AISTATS 2011, "An analysis of single-layer networks in unsupervised feature learning".
    """
    return _learned(images, seed, filters, _centroids, _whitened_centroids, False)


def backprop(network: TalkNetwork) -> Kernels:
    """The kernels of a trained network of mxelm.knn_slicing.networks."""
    return Kernels(*(parameter.data().asnumpy() for layer in (network.conv1, network.conv2)
                     for parameter in (layer.weight, layer.bias)))


BANKS = {"random": lambda images, seed: random(seed), "pca": pca,
         "kmeans": kmeans}  # name -> callable(training images, seed)


def _learned(images, seed, filters, learn1, learn2, centre2):
    """Kernels from patches of images for conv1, freed of their mean, and of conv1's maps for conv2."""
    images = checked(images)
    rng = np.random.default_rng(seed)
    some = images[np.sort(rng.permutation(len(images))[:4000])]  # more do not change the patches' statistics
    f1, f2 = filters
    conv1 = learn1(_patches(some[:, None].astype(np.float32) / 255, rng, True), f1, rng).reshape(f1, 1, 3, 3)
    first = Kernels(conv1, np.zeros(f1), np.zeros((1, f1, 3, 3)), np.zeros(1))
    conv2 = learn2(_patches(pool1(some, first), rng, centre2), f2, rng).reshape(f2, f1, 3, 3)
    return _without_bias(conv1, conv2)


def _patches(maps, rng, centre):
    """3x3 patches at random places of maps (n, c, h, w): float32 (at most PATCHES, c * 9), of unit length.

    centre: whether to take off each one's mean before; those of little length are left out.
    """
    n, _, h, w = maps.shape
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(2, 3))  # (n, c, h - 2, w - 2, 3, 3)
    found = windows[rng.integers(0, n, PATCHES), :, rng.integers(0, h - 2, PATCHES), rng.integers(0, w - 2, PATCHES)]
    found = found.reshape(PATCHES, -1)
    if centre:
        found = found - found.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(found, axis=1)
    kept = lengths > 0.1 * np.quantile(lengths, 0.9)
    if kept.sum() < found.shape[1]:
        raise InputError("the images hold too few patches with any contrast to learn kernels from")
    return found[kept] / lengths[kept, None]


def _components(patches, count, rng):
    values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
    used = vectors[:, ::-1][:, :max(1, min(count // 2, int((values > 1e-6 * values[-1]).sum())))].T
    signed = np.concatenate([used, -used])
    mixtures = rng.normal(size=(max(0, count - len(signed)), len(used))) @ used
    return np.concatenate([signed, _unit(mixtures)])[:count]


def _centroids(patches, count, rng):
    from sklearn.cluster import MiniBatchKMeans
    found = MiniBatchKMeans(count, batch_size=4096, n_init=3, max_iter=50,
                            random_state=int(rng.integers(1 << 31))).fit(patches).cluster_centers_
    return _unit(found)


def _whitened_centroids(patches, count, rng):
    """Centroids c of whitened patches (p - m)Z as kernels cZ, so that a response is that of the whitened patch."""
    values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
    Z = (vectors / np.sqrt(values + RIDGE * values.mean())) @ vectors.T
    return _unit(_centroids(((patches - patches.mean(axis=0)) @ Z).astype(np.float32), count, rng) @ Z)


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _glorot(rng, filters, channels):
    limit = np.sqrt(6 / (9 * (filters + channels)))
    return rng.uniform(-limit, limit, (filters, channels, 3, 3))


def _without_bias(conv1, conv2):
    return Kernels(conv1, np.zeros(len(conv1)), conv2, np.zeros(len(conv2)))
