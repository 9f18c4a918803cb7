"""Dataset: images with their targets, and the subsets and splits one takes of them."""
from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mxelm.errors import InputError

if TYPE_CHECKING:
    from mxelm.data.iterators import GluonLoader, ModuleIter
    from mxelm.data.sources import Source
    from mxelm.preprocessing import Preprocessing

KINDS = ("classes", "multilabel", "regression")


class Dataset:
    """Images and targets of one kind, in a fixed order.

    source: where images come from: `len(source)`, `source.ids`, `source.image(i)` -> uint8 (h, w) or (h, w, 3) RGB,
        and `source.images`, the whole array for a set held in memory or None (see mxelm.data.sources).
    targets: int64 (n,) class numbers from 0 for kind "classes"; float32 (n, n_outputs) for "multilabel" (0 or 1)
        and "regression".
    classes: list of str, the class names, kept in Unicode's NFC; the column names for the two other kinds.
    positions: int64 (n,), where each sample lies in `source`; all of it by default.
    Raises InputError for targets that do not fit the kind, the classes or the source.
    """

    def __init__(self, source: Source, targets: np.ndarray, classes: Sequence[str], name: str,
                 *, kind: Literal["classes", "multilabel", "regression"] = "classes",
                 positions: np.ndarray | None = None) -> None:
        self.source = source
        self.classes = [unicodedata.normalize("NFC", str(c)) for c in classes]
        self.name = name
        self.kind = kind
        self.positions = np.arange(len(source)) if positions is None else np.asarray(positions, np.int64)
        self.targets = _checked_targets(targets, self.classes, name, kind)
        if len(self.targets) != len(self.positions):
            raise InputError(f"{name} has {len(self.positions)} images and {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: int) -> tuple[np.ndarray, Any]:
        return self.image(i), self.targets[i]

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self)} images, {self.n_outputs} {self.kind}>"

    @property
    def n_outputs(self) -> int:
        """Number of classes, or of target columns."""
        return len(self.classes)

    @property
    def ids(self) -> list[str]:
        """A stable name for each sample, list of str: "mnist/train/17", or a path relative to the set's folder."""
        return [self.source.ids[p] for p in self.positions]

    @property
    def identity(self) -> dict:
        """Which samples in which order these are, JSON-able, so that another run's file is not taken for this one's."""
        samples = hashlib.sha256("\n".join(self.ids).encode() + self.targets.tobytes()).hexdigest()
        return {"dataset": self.name, "samples": samples, "of": len(self)}

    def digests(self) -> np.ndarray:
        """16 bytes for each sample, uint8 (n, 16), from its id and content: the same sample has the same anywhere."""
        source = self.source
        whole = (hashlib.blake2b(source.ids[p].encode() + b"\0" + source.content(p), digest_size=16).digest()
                 for p in self.positions)
        return np.frombuffer(b"".join(whole), np.uint8).reshape(-1, 16)

    def image(self, i: int) -> np.ndarray:
        """Image i as uint8 (height, width, 3) RGB or (height, width) grey; FileError names a broken one."""
        return self.source.image(self.positions[i])

    def target_matrix(self) -> np.ndarray:
        """Targets as float32 (n, n_outputs): one-hot rows for classes, else the targets themselves."""
        if self.kind != "classes":
            return self.targets
        matrix = np.zeros((len(self), self.n_outputs), np.float32)
        matrix[np.arange(len(self)), self.targets] = 1
        return matrix

    def take(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The samples at `indices` (integers, in that order) as a Dataset over the same source."""
        indices = np.asarray(indices)
        if indices.size == 0:
            indices = indices.astype(np.int64)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise InputError(f"indices must be a list of integers, got {indices.dtype} of shape {indices.shape}")
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            raise InputError(f"indices must lie in 0..{len(self) - 1}, got {indices.min()}..{indices.max()}")
        return self._with(self.positions[indices], self.targets[indices], self.classes)

    def only(self, classes: Sequence[str] | Sequence[int]) -> Dataset:
        """The samples of these classes (names or numbers), relabelled from 0 in the order given.

        Raises InputError for a class that the set does not have, or that is named twice.
        """
        self._require_classes("only")
        numbers = [self._class_number(c) for c in classes]
        if not numbers or len(set(numbers)) != len(numbers):
            raise InputError(f"name one or more classes, each once, got {list(classes)}")
        relabel = np.full(self.n_outputs, -1)
        relabel[numbers] = np.arange(len(numbers))
        kept = np.flatnonzero(relabel[self.targets] >= 0)
        return self._with(self.positions[kept], relabel[self.targets[kept]], [self.classes[n] for n in numbers])

    def shard(self, i: int, n: int) -> Dataset:
        """Part i of n (i from 1 to n), every n-th sample: the parts are disjoint and make up the whole."""
        if not 1 <= i <= n:
            raise InputError(f"a shard is i of n with i from 1 to n, got {i} of {n}")
        if n > len(self):
            raise InputError(f"{self.name} has {len(self)} samples: too few for {n} shards")
        return self.take(np.arange(i - 1, len(self), n))

    def split(self, fraction: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Two Datasets (rest, part), `part` with about `fraction` of the samples; both keep the dataset's order.

        Stratified for classes: a class with two or more samples has at least one in both, a single one stays in
        `rest`. Plain random for the other kinds. Raises InputError where nothing can be split off.
        """
        if not 0 < fraction < 1:
            raise InputError(f"the fraction to split off must lie between 0 and 1, got {fraction}")
        if len(self) < 2:
            raise InputError(f"{self.name} has {len(self)} samples: too few to split")
        rng = np.random.default_rng(seed)
        part = [rng.permutation(members)[:_share(fraction, len(members))] for members in self._groups()]
        part = np.sort(np.concatenate(part))
        if not len(part):
            raise InputError(f"no class of {self.name} has two samples: none can be split off")
        return self.take(np.setdiff1d(np.arange(len(self)), part)), self.take(part)

    def per_class(self, n: int, seed: int = 0, rest: int | None = None) -> tuple[Dataset, Dataset]:
        """Two Datasets: `n` random samples a class, and up to `rest` of the others a class (all of them when None).

        Both keep the dataset's order. Raises InputError that names a class with fewer than `n` samples.
        """
        self._require_classes("per_class")
        if n < 1 or (rest is not None and rest < 0):
            raise InputError(f"per_class needs n >= 1 and rest >= 0, got n={n} and rest={rest}")
        rng = np.random.default_rng(seed)
        chosen, others = [], []
        for name, members in zip(self.classes, self._groups()):
            if len(members) < n:
                raise InputError(f"class {name} of {self.name} has {len(members)} samples, fewer than the {n} wanted")
            members = rng.permutation(members)
            chosen.append(members[:n])
            others.append(members[n:] if rest is None else members[n:n + rest])
        return self.take(np.sort(np.concatenate(chosen))), self.take(np.sort(np.concatenate(others)))

    def module_iter(self, batch: int, preprocessing: Preprocessing, *, shuffle: int | None = None,
                    skip_bad: bool = False, start: int = 0, labels: bool = True, workers: int = 2) -> ModuleIter:
        """A ModuleIter (`mx.io.DataIter`) over these samples; see mxelm.data.iterators."""
        from mxelm.data.iterators import ModuleIter
        return ModuleIter(self, batch, preprocessing, shuffle=shuffle, skip_bad=skip_bad, start=start, labels=labels,
                          workers=workers)

    def gluon_loader(self, batch: int, preprocessing: Preprocessing, *, shuffle: int | None = None,
                     augment: Callable | None = None, skip_bad: bool = False, workers: int = 2) -> GluonLoader:
        """A GluonLoader, (x, y) batches for a Gluon loop, over these samples; see mxelm.data.iterators."""
        from mxelm.data.iterators import GluonLoader
        return GluonLoader(self, batch, preprocessing, shuffle=shuffle, augment=augment, skip_bad=skip_bad,
                           workers=workers)

    def _with(self, positions, targets, classes):
        return Dataset(self.source, targets, classes, self.name, kind=self.kind, positions=positions)

    def _groups(self):
        """Indices of each class's samples; one group of all samples for the other kinds."""
        if self.kind != "classes":
            return [np.arange(len(self))]
        return [np.flatnonzero(self.targets == c) for c in range(self.n_outputs)]

    def _require_classes(self, method):
        if self.kind != "classes":
            raise InputError(f"{method} needs a set with classes; {self.name} has {self.kind} targets")

    def _class_number(self, wanted):
        if isinstance(wanted, str):
            wanted = unicodedata.normalize("NFC", wanted)
            if wanted not in self.classes:
                raise InputError(f"{self.name} has no class {wanted!r}; its classes are {_shortened(self.classes)}")
            return self.classes.index(wanted)
        if not 0 <= wanted < self.n_outputs or int(wanted) != wanted:
            raise InputError(f"{self.name} has classes 0..{self.n_outputs - 1}, not {wanted}")
        return int(wanted)


def _checked_targets(targets, classes, name, kind):
    targets = np.asarray(targets)
    if kind not in KINDS:
        raise InputError(f"a dataset's kind is one of {', '.join(KINDS)}, not {kind!r}")
    if kind != "classes":
        if targets.ndim != 2 or targets.shape[1] != len(classes) or not np.isfinite(targets).all():
            raise InputError(f"targets of {name} must be finite, (n, {len(classes)}); got shape {targets.shape}")
        return targets.astype(np.float32)
    if targets.ndim != 1 or (targets.size and targets.dtype.kind not in "iu"):
        raise InputError(f"class labels of {name} must be integers, (n,); got {targets.dtype} {targets.shape}")
    if targets.size and (targets.min() < 0 or targets.max() >= len(classes)):
        raise InputError(f"class labels of {name} must lie in 0..{len(classes) - 1}, "
                         f"got {targets.min()}..{targets.max()}")
    return targets.astype(np.int64)


def _share(fraction, count):
    """How many of `count` make up `fraction`: at least one, and never all."""
    return min(max(round(fraction * count), 1), count - 1) if count > 1 else 0


def _shortened(names, limit=8):
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
