"""A cascade: a chain with a classifier and a threshold at each exit; images leave as soon as one is sure."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mxelm.early_exit.features import exit_features, features_at
from mxelm.early_exit.rules import CONFIDENCES, Judged, decide
from mxelm.errors import InputError

if TYPE_CHECKING:
    from mxelm.chain import Chain
    from mxelm.data import Dataset
    from mxelm.runtime import mx

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """What a cascade says of n images.

    labels: int64 (n,), class numbers. exits: int64 (n,), where each left, from 0. confidences: float32 (n,).
    seconds: float64 (M,), wall time from the start of the batch up to each exit's decision; NaN where none came to it.
    """

    labels: np.ndarray
    exits: np.ndarray
    confidences: np.ndarray
    seconds: np.ndarray


class Cascade:
    """M exits: an image leaves at the first whose confidence exceeds its threshold, and at the last in any case.

    chain: mxelm.chain.Chain with M exits. heads: M functions of features (n, d) to scores (n, C) (mxelm.early_exit.
    heads). thresholds: (M,); +inf: nobody leaves there, the last is not used. classes: C names. confidence: "top",
    "margin" or "single". Raises InputError for numbers that do not fit together.
    """

    def __init__(self, chain: Chain, heads: Sequence[Callable], thresholds: Sequence[float], classes: Sequence[str], *,
                 confidence: Literal["top", "margin", "single"] = "top") -> None:
        self.chain, self.heads, self.classes, self.confidence = chain, list(heads), list(classes), confidence
        self.thresholds = np.asarray(thresholds, float)
        if not len(chain.exits) == len(self.heads) == len(self.thresholds):
            raise InputError(f"a chain of {len(chain.exits)} exits needs as many classifiers and thresholds, got "
                             f"{len(self.heads)} and {len(self.thresholds)}")
        if confidence not in CONFIDENCES:
            raise InputError(f"the confidence of an exit is one of {', '.join(CONFIDENCES)}, not {confidence!r}")
        if np.isnan(self.thresholds).any():
            raise InputError(f"a threshold is NaN: {self.thresholds.tolist()}")

    def answer(self, x: np.ndarray | mx.nd.NDArray) -> Answers:
        """Answers for preprocessed images x, float32 (n, channels, height, width).

        What has left is not computed further: a single image stops the network, of a batch the others go on.
        Raises InputError for images of another shape, and where features are NaN or infinite.
        Source: Savchenko, Algorithm 1.
        """
        start, n, last = time.perf_counter(), len(x), len(self.heads) - 1
        labels, exits = np.zeros(n, np.int64), np.full(n, last)
        confidences, seconds = np.zeros(n, np.float32), np.full(last + 1, np.nan)
        rows = np.arange(n)
        for m, (_, maps) in enumerate(self.chain.run(x)):
            if m < last and self.thresholds[m] == np.inf:
                continue
            found, sure, leaves = decide(self.heads[m](features_at(maps)), self.thresholds[m], self.confidence)
            leaves |= m == last
            labels[rows[leaves]], confidences[rows[leaves]], exits[rows[leaves]] = found[leaves], sure[leaves], m
            seconds[m] = time.perf_counter() - start
            if leaves.any():
                rows = rows[~leaves]
                self.chain.keep(np.flatnonzero(~leaves))
        return Answers(labels, exits, confidences, seconds)

    def answers(self, batches: Iterable[mx.io.DataBatch]) -> Answers:
        """Answers for all of an iterator of mx.io.DataBatch (a Dataset's module_iter), seconds added up by exit."""
        parts = [self.answer(batch.data[0]) for batch in batches]
        rows = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "exits", "confidences"))
        return Answers(*rows, np.nansum([part.seconds for part in parts], axis=0))

    def judged(self, dataset: Dataset, **options: Any) -> Judged:
        """What every exit by itself says of all images of a Dataset with classes: rules.Judged, (M, n).

        Classes are matched by name; an image of a class that the cascade does not know is wrong at every exit, which a
        warning tells. Raises InputError where it knows none of them.
        """
        there = [dataset.classes[number] for number in np.unique(dataset.targets)]
        unknown = [name for name in there if name not in self.classes]
        if len(unknown) == len(there):
            raise InputError(f"none of the classes of {dataset.name} ({', '.join(unknown[:3])}, ...) is one of the "
                             f"cascade's ({', '.join(self.classes[:3])}, ...): give images of its classes")
        if unknown:
            _log.warning("images of classes that the cascade does not know count as wrong: %s",
                         ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""))
        x, rows = exit_features(self.chain, dataset, **options)
        numbers = np.array([self.classes.index(name) if name in self.classes else -1 for name in dataset.classes])
        scores = [head(part) for head, part in zip(self.heads, x)]
        return Judged(scores, numbers[dataset.targets[rows]], self.confidence)
