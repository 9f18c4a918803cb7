"""ELMState: what a pass leaves behind. Its size does not depend on how many images were seen."""
import hashlib
from dataclasses import dataclass, field

import numpy as np

from mxelm.errors import InputError
from mxelm.files import load_container, save_container
from mxelm.fused.projection import Projection
from mxelm.preprocessing import Preprocessing

KIND = "elm-state"


@dataclass(frozen=True)
class Origin:
    """What a state belongs to: states add up only where all of this agrees.

    backbone: its digest (sha256 of the cut graph and of its parameters). cut: name of the features' output.
    kind: "classes", "multilabel" or "regression". classes: names of HtY's columns.
    """

    backbone: dict
    cut: str
    preprocessing: Preprocessing
    projection: Projection
    kind: str
    classes: tuple

    def to_json(self):
        return {"backbone": self.backbone, "cut": self.cut, "preprocessing": self.preprocessing.to_json(),
                "projection": self.projection.to_json(), "kind": self.kind, "classes": list(self.classes)}

    @classmethod
    def from_json(cls, content):
        return cls(content["backbone"], content["cut"], Preprocessing.from_json(content["preprocessing"]),
                   Projection.from_json(content["projection"]), content["kind"], tuple(content["classes"]))

    def require_same(self, other):
        """InputError naming the first thing in which two states differ."""
        for name, mine in self.to_json().items():
            theirs = other.to_json()[name]
            if mine != theirs:
                raise InputError(f"these states do not belong together: their {name} differs "
                                 f"({_shortened(mine)} and {_shortened(theirs)})")


@dataclass(frozen=True, eq=False)
class ELMState:
    """HtH, HtY and n_samples of a pass, with what they belong to.

    HtH: float64 (n_neurons, n_neurons). HtY: float64 (n_neurons, n_outputs). yty: sum of all squared targets, for
    validation errors without rows. origin: Origin, or None for matrices of one's own. samples: uint8 (n_samples, 16),
    sorted digests of the sample ids it holds, so that no sample is ever counted twice; may be empty where origin is
    None.
    Source: Arcada, section 2: "partial matrices from new training data batches are added to the original one".
    """

    HtH: np.ndarray
    HtY: np.ndarray
    n_samples: int
    yty: float = 0.0
    origin: Origin = None
    samples: np.ndarray = field(default_factory=lambda: np.empty((0, 16), np.uint8))

    def __add__(self, other):
        """The state of both passes; InputError where they do not belong together or share samples."""
        if not isinstance(other, ELMState):
            return NotImplemented
        if self.HtH.shape != other.HtH.shape or self.HtY.shape != other.HtY.shape:
            raise InputError(f"states of {self.HtH.shape[0]} and {other.HtH.shape[0]} neurons, {self.HtY.shape[1]} and "
                             f"{other.HtY.shape[1]} outputs do not add up")
        if (self.origin is None) != (other.origin is None):
            raise InputError("a state that says what it belongs to cannot be added to one that does not")
        if self.origin is not None:
            self.origin.require_same(other.origin)
        samples = np.concatenate([self.samples, other.samples])
        merged = np.unique(samples, axis=0) if len(samples) else samples
        if len(merged) < len(samples):
            raise InputError(f"these states share {len(samples) - len(merged)} samples, which would count twice")
        return ELMState(self.HtH + other.HtH, self.HtY + other.HtY, self.n_samples + other.n_samples,
                        self.yty + other.yty, self.origin, merged)

    @property
    def nbytes(self):
        """Bytes that a pass leaves: one triangle of HtH, and HtY."""
        L, n_outputs = self.HtY.shape
        return 8 * (L * (L + 1) // 2 + L * n_outputs)

    def save(self, path):
        """Write the state as one checksummed file, one triangle of HtH, whole or not at all."""
        meta = {"n_samples": self.n_samples, "yty": self.yty,
                "origin": None if self.origin is None else self.origin.to_json()}
        triangle = self.HtH[np.tril_indices(len(self.HtH))]
        save_container(path, KIND, meta, {"HtH_lower": triangle, "HtY": self.HtY, "samples": self.samples})

    @classmethod
    def load(cls, path):
        """Read a state; FileError names a file that is missing, damaged, or of another kind."""
        meta, arrays = load_container(path, KIND)
        L = len(arrays["HtY"])
        HtH = np.zeros((L, L))
        HtH[np.tril_indices(L)] = arrays["HtH_lower"]
        HtH += np.tril(HtH, -1).T
        origin = None if meta["origin"] is None else Origin.from_json(meta["origin"])
        return cls(HtH, arrays["HtY"], meta["n_samples"], meta["yty"], origin, arrays["samples"])


def sample_digests(ids):
    """Sorted 16-byte digests of sample ids, uint8 (n, 16)."""
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=16).digest() for i in ids)
    return np.unique(np.frombuffer(digests, np.uint8).reshape(-1, 16), axis=0)


def _shortened(value):
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
