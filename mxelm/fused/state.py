"""ELMState: what a pass leaves behind. Its size does not depend on how many images were seen."""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import lapack

from mxelm.containers import load_container, save_container, understood
from mxelm.errors import InputError
from mxelm.fused.gram import Gram, mirrored
from mxelm.fused.intercept import about, means, solve_with_intercept
from mxelm.fused.projection import Projection
from mxelm.fused.solver import solve
from mxelm.preprocessing import Preprocessing

KIND = "elm-state"


@dataclass(frozen=True)
class Origin:
    """What a state belongs to: states add up only where all of this agrees.

    backbone: its digest (sha256 of the cut graph and of its parameters). cut: name of the features' output.
    kind: "classes", "multilabel" or "regression". classes: names of HtY's columns. class_weight: dict of class name
    -> weight of its samples, or None. method: "blas" (float64 sums) or "paper" (float32). intercept: whether a column
    of ones stands beside H (mxelm.fused.intercept). place: where the backbone was read from, as Backbone.place; a hint,
    in which states may differ.
    """

    backbone: dict
    cut: str
    preprocessing: Preprocessing
    projection: Projection
    kind: str
    classes: tuple
    class_weight: dict = None
    method: str = "blas"
    intercept: bool = False
    place: dict = field(default=None, compare=False)

    def to_json(self) -> dict:
        return {"backbone": self.backbone, "cut": self.cut, "preprocessing": self.preprocessing.to_json(),
                "projection": self.projection.to_json(), "kind": self.kind, "classes": list(self.classes),
                "class_weight": self.class_weight, "method": self.method, "intercept": self.intercept,
                "place": self.place}

    @classmethod
    def from_json(cls, content: dict) -> Origin:
        return cls(content["backbone"], content["cut"], Preprocessing.from_json(content["preprocessing"]),
                   Projection.from_json(content["projection"]), content["kind"], tuple(content["classes"]),
                   content["class_weight"], content["method"], content.get("intercept", False),
                   content.get("place"))

    def require_same(self, other: Origin, remedy: str = "") -> None:
        """InputError naming the first thing in which two states differ; remedy: what to say where it is classes."""
        for name, mine in self.to_json().items():
            theirs = other.to_json()[name]
            if mine != theirs and name != "place":
                raise InputError(f"these states do not belong together: their {name} differs "
                                 f"({_shortened(mine)} and {_shortened(theirs)}){remedy if name == 'classes' else ''}")


@dataclass(frozen=True, eq=False, repr=False)
class ELMState:
    """HtH, HtY and n_samples of a pass, with what they belong to.

    HtH: float64 (n_neurons, n_neurons). HtY: float64 (n_neurons, n_outputs). yty: sum of all squared targets, for
    validation errors without rows. origin: Origin, or None for matrices of one's own. samples: uint8 (n_samples, 16),
    sorted digests of the samples it holds, so that none is ever counted twice; empty where origin is None.
    progress: how far a pass has come, for its resumption; sums have none. waiting: rows (H, Y) of a pass under way that
    it has counted but not yet added to HtH and HtY, or None: blocks of rows end where they do without a pause.
    Source: Arcada, section 2: "partial matrices from new training data batches are added to the original one".
    """

    HtH: np.ndarray
    HtY: np.ndarray
    n_samples: int
    yty: float = 0.0
    origin: Origin = None
    samples: np.ndarray = field(default_factory=lambda: np.empty((0, 16), np.uint8))
    progress: dict = None
    waiting: tuple = None

    def __add__(self, other: ELMState) -> ELMState:
        """The state of both passes; InputError where they do not belong together or share samples."""
        if not isinstance(other, ELMState):
            return NotImplemented
        self._require_same(other, "; the union of classes can be merged (--union-classes)")
        shared = len(self.samples) - len(difference(self.samples, other.samples))
        if shared:
            raise InputError(f"these states share {shared} samples, which would count twice")
        return ELMState(self.HtH + other.HtH, self.HtY + other.HtY, self.n_samples + other.n_samples,
                        self.yty + other.yty, self.origin,
                        sorted_digests(np.concatenate([self.samples, other.samples])))

    def __sub__(self, other: ELMState) -> ELMState:
        """This state without the samples of `other`, a shard of it; InputError where it does not hold them all.

        A shard whose classes are among this state's, as after a merge by their union, takes its order of them.
        """
        if not isinstance(other, ELMState):
            return NotImplemented
        if self._has_classes_of(other):
            other = other.with_classes(self.origin.classes)
        self._require_same(other)
        rest = difference(self.samples, other.samples)
        missing = len(other.samples) - (len(self.samples) - len(rest))
        if missing or other.n_samples > self.n_samples:
            raise InputError(f"{missing} of the {other.n_samples} samples to take out are not in this state")
        return ELMState(self.HtH - other.HtH, self.HtY - other.HtY, self.n_samples - other.n_samples,
                        self.yty - other.yty, self.origin, rest)

    def with_classes(self, classes: Sequence[str]) -> ELMState:
        """The same state with HtY's columns put in the order of `classes`; new ones are zero.

        With it, new classes are added to an old model without its images. InputError where one of its own classes
        is not among them, or where the kind has no classes.
        """
        if self.origin is None or self.origin.kind != "classes":
            raise InputError("only a state of classes can take new ones")
        lost = [name for name in self.origin.classes if name not in classes]
        if lost:
            raise InputError(f"the new class list lacks {lost[0]!r}")
        HtY = np.zeros((len(self.HtY), len(classes)))
        HtY[:, [list(classes).index(name) for name in self.origin.classes]] = self.HtY
        return replace(self, HtY=HtY, origin=replace(self.origin, classes=tuple(classes)), progress=None)

    def _has_classes_of(self, other):
        both = self.origin is not None and other.origin is not None
        return both and self.origin.kind == other.origin.kind == "classes" and \
            set(other.origin.classes) <= set(self.origin.classes)

    def _require_same(self, other, remedy=""):
        if (self.origin is None) != (other.origin is None):
            raise InputError("a state that says what it belongs to does not go together with one that does not")
        if self.origin is not None:
            self.origin.require_same(other.origin, remedy)
        if self.HtH.shape != other.HtH.shape or self.HtY.shape != other.HtY.shape:
            raise InputError(f"states of {self.HtH.shape[0]} and {other.HtH.shape[0]} neurons, {self.HtY.shape[1]} and "
                             f"{other.HtY.shape[1]} outputs do not belong together")

    def __repr__(self) -> str:
        of = "" if self.origin is None else f" of {len(self.origin.classes)} {self.origin.kind}"
        return f"<ELMState: {self.n_samples} samples{of}, {self.n_neurons} neurons, {self.nbytes:,} bytes>"

    @property
    def intercept(self) -> bool:
        """Whether the last row and column of HtH, the last row of HtY, are those of a column of ones beside H."""
        return self.origin is not None and self.origin.intercept

    @property
    def n_neurons(self) -> int:
        """Neurons of the hidden layer, without the column of ones."""
        return len(self.HtH) - self.intercept

    def about(self, train: ELMState) -> ELMState:
        """This state with the means of `train` taken out of its rows of H and Y; itself where there is no intercept."""
        if not self.intercept:
            return self
        HtH, HtY, yty = about(self.HtH, self.HtY, self.yty, *means(train.HtH, train.HtY))
        return ELMState(HtH, HtY, self.n_samples, yty)

    def solve(self, l2: float, n_neurons: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """(beta float64 (n_neurons, n_outputs), intercept (n_outputs,) or None); InputError without a sample.

        n_neurons: a smaller model, of the leading neurons. Source: Arcada, section 2, step 5.
        """
        if self.n_samples < 1:
            raise InputError("there is nothing to solve: the state holds no sample")
        if self.intercept:
            return solve_with_intercept(self.HtH, self.HtY, l2, n_neurons=n_neurons)
        return solve(self.HtH, self.HtY, l2, n_neurons=n_neurons), None

    def whole(self) -> ELMState:
        """The same state with the rows that wait in its matrices."""
        if self.waiting is None:
            return self
        sums = Gram(*self.HtY.shape)
        sums.A[:], sums.B[:] = self.HtH, self.HtY
        sums.add(*self.waiting)
        HtH, HtY = sums.matrices()
        return replace(self, HtH=HtH, HtY=HtY, waiting=None)

    @property
    def nbytes(self) -> int:
        """Bytes that a pass leaves: one triangle of HtH, and HtY."""
        L, n_outputs = self.HtY.shape
        return 8 * (L * (L + 1) // 2 + L * n_outputs)

    def save(self, path: str | os.PathLike) -> None:
        """Write the state as one checksummed file, one triangle of HtH, whole or not at all."""
        meta = {"n_samples": self.n_samples, "yty": self.yty, "progress": self.progress,
                "origin": None if self.origin is None else self.origin.to_json()}
        triangle, _ = lapack.dtrttp(self.HtH, uplo="U")  # by columns, which are the rows of the lower one
        waiting = {} if self.waiting is None else dict(zip(("waiting_H", "waiting_Y"), self.waiting))
        save_container(path, KIND, meta, {"HtH_lower": triangle, "HtY": self.HtY, "samples": self.samples, **waiting})

    @classmethod
    def load(cls, path: str | os.PathLike, whole: bool = True) -> ELMState:
        """Read a state; FileError names a file that is missing, damaged, or of another kind.

        whole: with the rows that wait added; a pass that goes on adds them itself.
        """
        meta, arrays = load_container(path, KIND)
        with understood(path):
            HtY = arrays.take("HtY", _shape_of_HtY(meta["origin"]))  # before W is drawn, of whatever size the file says
            origin = None if meta["origin"] is None else Origin.from_json(meta["origin"])
            if origin is not None and len(set(origin.classes)) < len(origin.classes):
                raise ValueError("it names a class twice")
            triangle = arrays.take("HtH_lower", (len(HtY) * (len(HtY) + 1) // 2,))
            samples = arrays.take("samples", (-1, 16))
            if origin is not None and (samples.dtype, len(samples)) != (np.uint8, meta["n_samples"]):
                raise ValueError(f"it counts {meta['n_samples']} samples and names {len(samples)}")
            if not (np.isfinite(HtY).all() and np.isfinite(triangle).all() and np.isfinite(meta["yty"])):
                raise ValueError("its sums are not finite")
            waiting = None
            if "waiting_H" in arrays:
                H = arrays.take("waiting_H", (-1, len(HtY)))
                waiting = H, arrays.take("waiting_Y", (len(H), HtY.shape[1]))
                if not all(np.isfinite(rows).all() for rows in waiting):
                    raise ValueError("the rows that wait are not finite")
            upper, _ = lapack.dtpttr(len(HtY), triangle, uplo="U")
        state = cls(mirrored(upper.T), HtY, meta["n_samples"], meta["yty"], origin, samples, meta["progress"], waiting)
        return state.whole() if whole else state


def _shape_of_HtY(origin):
    if origin is None:
        return -1, -1
    return origin["projection"]["n_neurons"] + origin.get("intercept", False), len(origin["classes"])


def merge(states: Iterable[ELMState], union_classes: bool = False) -> ELMState:
    """The sum of an iterable of states, one in memory at a time; with union_classes also where their classes differ."""
    total = None
    for state in states:
        if total is not None and union_classes and total.origin is not None and state.origin is not None:
            classes = list(dict.fromkeys([*total.origin.classes, *state.origin.classes]))
            total, state = total.with_classes(classes), state.with_classes(classes)
        total = state if total is None else total + state
    if total is None:
        raise InputError("give at least one state")
    return total


def sorted_digests(digests: np.ndarray) -> np.ndarray:
    """Digests uint8 (n, 16) in their order as byte strings; InputError where one occurs twice."""
    keys = np.sort(_keys(digests))
    if (keys[1:] == keys[:-1]).any():
        raise InputError(f"{int((keys[1:] == keys[:-1]).sum())} samples occur twice: the same name and content")
    return keys.view(np.uint8).reshape(-1, 16)


def difference(digests: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Those of `digests` that are not among `others`, sorted."""
    return np.setdiff1d(_keys(digests), _keys(others)).view(np.uint8).reshape(-1, 16)


def _keys(digests):
    """Digests as sortable items; plain bytes would lose their trailing zeros."""
    return np.ascontiguousarray(digests).view([("high", ">u8"), ("low", ">u8")]).reshape(-1)


def _shortened(value):
    text = str(value)
    return text if len(text) < 80 else text[:77] + "..."
