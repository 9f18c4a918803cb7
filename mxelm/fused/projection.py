"""W, the fixed random projection: drawn from a seed, scaled once by a calibration sample, before the first update.

The paper leaves W's distribution open. Pooled features are non-negative and strongly correlated, so that with
W ~ N(0, 1) nearly every tanh saturates into a sign; W is therefore scaled by spread / std(XW).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mxelm.backbones.features import features_of
from mxelm.containers import array_digest
from mxelm.errors import InputError

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.data.dataset import Dataset

CALIBRATION_SAMPLES = 256


@dataclass(frozen=True)
class Projection:
    """W = scale * N(0, 1) of shape (n_neurons, n_features), float32, a function of these four numbers.

    Its leading rows are the W of a smaller n_neurons with the same seed.
    """

    n_neurons: int
    n_features: int
    seed: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.n_neurons < 1 or self.n_features < 1:
            raise InputError(f"a projection needs at least 1 neuron and 1 feature, got {self.n_neurons} neurons "
                             f"and {self.n_features} features")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"the scale of W must be a positive number, got {self.scale}")

    @cached_property
    def W(self) -> np.ndarray:
        """float32 (n_neurons, n_features), as FullyConnected stores it."""
        normal = np.random.default_rng(self.seed).standard_normal((self.n_neurons, self.n_features))
        return (self.scale * normal).astype(np.float32)

    @cached_property
    def sha256(self) -> str:
        """Identity of W, checked when a state is read: other NumPy versions must draw the same numbers."""
        return array_digest(self.W)

    def hidden(self, features: np.ndarray) -> np.ndarray:
        """H = tanh(XW), float32 (n, n_neurons), of features float32 (n, n_features); outside any graph."""
        H = features @ self.W.T
        return np.tanh(H, out=H)

    def to_json(self) -> dict:
        """The four numbers and W's identity."""
        return {"n_neurons": self.n_neurons, "n_features": self.n_features, "seed": self.seed, "scale": self.scale,
                "sha256": self.sha256}

    @classmethod
    def from_json(cls, content: dict) -> Projection:
        """The projection a state was made with; InputError when this NumPy draws another W from the same seed."""
        content = dict(content)
        sha256 = content.pop("sha256")
        made = cls(**content)
        if made.sha256 != sha256:
            raise InputError(f"W of seed {made.seed} comes out differently here than where the state was made: "
                             "use the NumPy version of that place")
        return made


def calibrate(backbone: Backbone, dataset: Dataset, n_neurons: int, *, spread: float = 1.0,
              seed: int = 0) -> Projection:
    """A Projection with std(XW) = spread over a sample of `dataset`'s images, float deviation of all entries together.

    The sample is drawn by `seed` from the sorted ids, so that it does not depend on the order of batches.
    Raises InputError when the features of the sample are all zero.
    """
    if not (np.isfinite(spread) and spread > 0):
        raise InputError(f"the spread std(XW) must be a positive number, got {spread}")
    by_id = np.argsort(np.asarray(dataset.ids), kind="stable")
    chosen = np.random.default_rng(seed).permutation(by_id)[:CALIBRATION_SAMPLES]
    features = features_of(backbone, dataset.take(np.sort(chosen)), skip_bad=True).rows
    unit = Projection(n_neurons, backbone.n_features, seed)
    deviation = float(np.std(features.astype(np.float64) @ unit.W.T.astype(np.float64)))
    if deviation == 0 or (len(features) > 1 and not np.ptp(features, axis=0).any()):
        raise InputError(f"the backbone {backbone.name} gives the same features for all of {len(chosen)} images: "
                         "check its weights and preprocessing")
    return Projection(n_neurons, backbone.n_features, seed, spread / deviation)
