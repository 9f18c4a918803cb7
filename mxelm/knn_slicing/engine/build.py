"""Makes a small engine from training images: no gradient ever reaches a kernel.

Deskewed images -> k-means kernels, quantised -> features -> LDA between subclasses -> prototypes by k-means -> map
and prototypes refined by learning vector quantisation on freshly distorted copies -> map quantised -> prototypes
refined behind the quantised map, and quantised. As many prototypes as the bytes allow.
"""
from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from mxelm.errors import InputError
from mxelm.knn_slicing import banks
from mxelm.knn_slicing.deskew import deskew
from mxelm.knn_slicing.engine import file, soft_lvq, subclass_lda
from mxelm.knn_slicing.engine.classifier import Bank, Engine, checked, features, project
from mxelm.knn_slicing.engine.distortions import distort
from mxelm.knn_slicing.engine.quantised import Quantised

TALK_BYTES = 75_264  # what the talk's 18,816 parameters take as float32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What an engine is made of, except the number of prototypes, which the bytes decide."""

    filters: tuple = (32, 64)
    bits: tuple = (6, 6, 6)  # of kernels, map, prototypes
    n_dims: int = 32
    n_components: int = 1600  # of the features, within which the map is learned
    n_subclasses: int = 4  # a class; more where n_dims needs them
    shrinkage: float = 0.02
    most_prototypes: int = 2000  # a class
    rounds: int = 8  # each with new distortions
    rate: float = 2e-3  # Adam's first step; falls to a hundredth
    sharpness: float = 0.5
    strength: float = 1.0  # of the distortions
    polish: int = 3  # rounds for the prototypes alone, behind the quantised map


PLANS = {  # from so many bytes on
    TALK_BYTES: Plan(),
    500_000: Plan(filters=(32, 128), bits=(8, 8, 8), n_dims=48),
    4_500_000: Plan(filters=(32, 256), bits=(8, 8, 8), n_dims=64, n_components=2048, rounds=6),
}


def plan_for(n_bytes: int) -> Plan:
    """The Plan for engines of up to n_bytes: the largest one made for at most so many, else the smallest."""
    fitting = [least for least in PLANS if least <= n_bytes]
    return PLANS[max(fitting) if fitting else min(PLANS)]


def prototypes_per_class(n_bytes: int, plan: Plan, classes: Sequence[str]) -> int:
    """How many prototypes a class fit into n_bytes beside all else; InputError where not even one does."""
    def size(per_class):
        return file.size(plan.bits, n_conv1=plan.filters[0], n_conv2=plan.filters[1], n_dims=plan.n_dims,
                         n_prototypes=per_class * len(classes), classes=classes)

    if size(1) > n_bytes:
        raise InputError(f"an engine of {len(classes)} classes takes at least {size(1):,} bytes, got {n_bytes:,}")
    each = plan.n_dims * len(classes) * plan.bits[2]
    count = 1 + (n_bytes - size(1)) * 8 // each
    return min(count - (size(count) > n_bytes), plan.most_prototypes)


def build(images: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, n_bytes: int = TALK_BYTES, seed: int = 0,
          plan: Plan | None = None, progress: bool = False) -> Engine:
    """An Engine whose file has at most n_bytes.

    images: uint8 (n, 28, 28) training images, bright on black. labels: integers (n,), numbers of `classes` (list of
    str). Everything, the choice of kernels included, comes from these images. plan: Plan, chosen by n_bytes.
    A seed gives the same bytes whatever OMP_NUM_THREADS says: k-means and BLAS, whose sums depend on the number of
    threads, have one. Raises InputError for images, labels or sizes that do not fit.
    """
    images, labels = checked(images), _checked_labels(images, labels, classes)
    plan = plan or plan_for(n_bytes)
    per_class = prototypes_per_class(n_bytes, plan, classes)
    with threadpool_limits(1):
        return _built(images, labels, classes, plan, per_class, seed, progress)


def _built(images, labels, classes, plan, per_class, seed, progress):
    upright = deskew(images)
    conv1, conv2 = _banks(upright, plan, seed)
    source = _Source(upright, labels, conv1, conv2, np.random.default_rng([seed, 1]), plan.strength)
    projection, prototypes, of_class = _learned_map(source, plan, per_class, seed, progress)
    centre = project(source.clean, projection).mean(axis=0, dtype=np.float64).astype(np.float32)
    prototypes = _polished(source, projection, centre, prototypes, of_class, plan, progress)
    return Engine(conv1, conv2, projection, centre, Quantised.of(prototypes.T, plan.bits[2]), np.bincount(of_class),
                  tuple(classes))


class _Source:
    """Features of the training images, as they are and distorted."""

    def __init__(self, upright, labels, conv1, conv2, rng, strength):
        self.upright, self.labels, self.banks, self.rng, self.strength = upright, labels, (conv1, conv2), rng, strength
        self.clean = features(upright, *self.banks)

    def distorted(self, transform):
        """transform(features) of newly distorted images, in blocks: the features of all never stand in memory."""
        parts = [transform(features(distort(self.upright[start:start + 4096], self.rng, self.strength), *self.banks))
                 for start in range(0, len(self.upright), 4096)]
        return np.concatenate(parts)


def _banks(upright, plan, seed):
    """k-means kernels of both layers, quantised."""
    found = banks.kmeans(upright, seed, plan.filters)
    return Bank.of(found.conv1, found.bias1, plan.bits[0]), Bank.of(found.conv2, found.bias2, plan.bits[0])


def _learned_map(source, plan, per_class, seed, progress):
    """By LDA, k-means and matrix LVQ: the map as Quantised (n_dims, n_features), prototypes and their labels.

    The map is learned in whitened coordinates, where one step suits all directions.
    """
    n_subclasses = max(plan.n_subclasses, plan.n_dims // len(set(source.labels)) + 1)
    whitening, W, _ = subclass_lda.fit(source.clean, source.labels, n_components=plan.n_components,
                                       n_subclasses=n_subclasses, n_dims=plan.n_dims, shrinkage=plan.shrinkage,
                                       seed=seed)
    clean = whitening.apply(source.clean)
    quantiser = soft_lvq.Quantiser(W, *_centroids(clean @ W, source.labels, per_class, seed), sharpness=plan.sharpness)
    clean = clean.astype(np.float16)  # half the memory of the largest arrays
    y, rates = np.tile(source.labels, 2), np.geomspace(plan.rate, plan.rate / 100, plan.rounds + 1)
    with tqdm(range(plan.rounds), desc="map and prototypes", disable=not progress) as bar:
        for i in bar:
            x = np.concatenate([clean, source.distorted(lambda f: whitening.apply(f).astype(np.float16))])
            bar.set_postfix(cost=f"{quantiser.epoch(x, y, rates[i:i + 2], source.rng):.4f}")
    return Quantised.of((whitening.A @ quantiser.projection).T, plan.bits[1]), quantiser.prototypes, quantiser.labels


def _centroids(points, labels, per_class, seed):
    """k-means centroids of each class (n_prototypes, n_dims) and their labels; at most half as many as samples."""
    found, counts = [], []
    for label in range(labels.max() + 1):
        own = points[labels == label]
        count = min(per_class, -(-len(own) // 2))
        found.append(KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(own).cluster_centers_)
        counts.append(count)
    return np.concatenate(found), np.repeat(np.arange(len(counts)), counts)


def _polished(source, projection, centre, prototypes, of_class, plan, progress):
    """The prototypes refined behind the map as it is stored; both maps leave the training images' mean at 0."""
    quantiser = soft_lvq.Quantiser(None, prototypes, of_class, sharpness=plan.sharpness)
    points = project(source.clean, projection) - centre
    y, rates = np.tile(source.labels, 2), np.geomspace(plan.rate / 10, plan.rate / 100, plan.polish + 1)
    for i in tqdm(range(plan.polish), desc="prototypes", disable=not progress):
        x = np.concatenate([points, source.distorted(lambda f: project(f, projection)) - centre])
        quantiser.epoch(x, y, rates[i:i + 2], source.rng)
    return quantiser.prototypes


def _checked_labels(images, labels, classes):
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise InputError(f"labels must be integers ({len(images)},), one for each image, got {labels.dtype} "
                         f"{labels.shape}")
    found = np.unique(labels)
    if len(classes) < 2 or not np.array_equal(found, np.arange(len(classes))):
        raise InputError(f"each of two or more classes must occur among the labels; classes {len(classes)}, labels "
                         f"{found[:20].tolist()}")
    return labels.astype(np.int64)
