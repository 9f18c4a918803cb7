"""The choice of l2 and of the number of neurons, from the accumulated matrices: by squared error on new samples.

Squared error varies smoothly over the grid, where the accuracy of hundreds of models on a few samples is the same; so
it chooses better on small sets (fused.selection.* in RESULTS.md). Source: Arcada, section 2: "different L2 parameter
values give different solutions; the best value is found with a validation set"; "both ... can be computed from the
existing matrices A and B without re-creating training data".
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from mxelm.errors import InputError, require_choice
from mxelm.fused.criteria import cross_validate, generalized_cross_validation, grid_mse, grid_scores, solved
from mxelm.fused.solver import check, check_l2, check_size
from mxelm.fused.state import ELMState, merge

if TYPE_CHECKING:
    from mxelm.fused.state import ELMState

L2_GRID = tuple(float(f"{10 ** e:.3g}") for e in np.arange(-4, 5.1, 0.5))
CRITERIA = {"mse": "squared error a validation sample", "cv": "squared error a sample, in cross-validation",
            "gcv": "squared error a sample, as generalized cross-validation estimates it",
            "accuracy": "accuracy on the validation samples"}
ROWS = 2048  # validation rows scored at a time


@dataclass(frozen=True, repr=False)
class Selection:
    """The chosen l2 and n_neurons, and the whole grid they were chosen from.

    grid: float64 (len(l2s), len(sizes)), the criterion's values: errors, or accuracies for "accuracy". accuracy: of the
    same models on the same validation rows, where these were given, else None.
    """

    l2: float
    n_neurons: int
    criterion: str
    grid: np.ndarray
    l2s: tuple
    sizes: tuple
    accuracy: np.ndarray = None

    @property
    def best(self) -> float:
        """The criterion's value of the chosen model."""
        return float(self.grid[self._place])

    @property
    def best_accuracy(self) -> float | None:
        """The accuracy of the chosen model on the validation rows, or None."""
        return None if self.accuracy is None else float(self.accuracy[self._place])

    @property
    def edges(self) -> list[str]:
        """Where the choice lies at the edge of the grid, list of str: beyond it may lie a better model."""
        edges = (("the smallest l2", len(self.l2s) > 1 and self.l2 == self.l2s[0]),
                 ("the largest l2", len(self.l2s) > 1 and self.l2 == self.l2s[-1]),
                 ("the most neurons", len(self.sizes) > 1 and self.n_neurons == self.sizes[-1]))
        return [name for name, reached in edges if reached]

    @property
    def _place(self):
        return self.l2s.index(self.l2), self.sizes.index(self.n_neurons)

    def __repr__(self) -> str:
        edges = f", at the edge of the grid: {', '.join(self.edges)}" if self.edges else ""
        return (f"<Selection: l2 {self.l2:g}, {self.n_neurons} neurons, {self.criterion} {self.best:.5g}, of "
                f"{self.grid.size} models{edges}>")

    def _repr_html_(self):
        """In a notebook: the same, and the grid."""
        heads = "".join(f"<th>{size}</th>" for size in self.sizes)
        rows = "".join(f"<tr><th>{l2:g}</th>" + "".join(f"<td>{value:.4g}</td>" for value in row) + "</tr>"
                       for l2, row in zip(self.l2s, self.grid))
        return f"<p>{repr(self)[1:-1]}</p><table><tr><th>l2</th>{heads}</tr>{rows}</table>"


def default_sizes(L: int) -> tuple[int, ...]:
    """About 40 sizes up to L, dense where accuracy still rises: powers of 2^(1/4)."""
    rising = np.unique(np.round(2 ** np.arange(2, np.log2(max(L, 4)) + 1e-9, 0.25)).astype(int))
    return tuple(int(n) for n in rising[rising < L]) + (L,)


def select(train: ELMState | Sequence[ELMState], validation: ELMState | tuple[np.ndarray, np.ndarray] | None = None,
           *, criterion: Literal["mse", "accuracy", "cv", "gcv"] | None = None, l2s: Sequence[float] = L2_GRID,
           sizes: Sequence[int] | None = None, progress: Callable | None = None) -> Selection:
    """Choose l2 and size by the squared error on new samples; ties go to the larger l2, then to fewer neurons.

    train: ELMState of the training images, or several of disjoint ones. validation: ELMState of the validation images,
    or their rows: H float32 (n, n_neurons) and class labels int64 (n,). criterion:
    "gcv": generalized cross-validation, from the training images alone, which is taken where no validation is given;
    "mse": on the validation, taken where there is one; "cv": each state of `train` is a fold, in turn left out;
    "accuracy": on validation rows, ties by squared error.
    l2s: tried values. sizes: tried numbers of neurons (about 40 by default).
    progress: wraps the loop over l2s (tqdm, say). Raises InputError for unusable values or shapes.
    """
    states = [train] if isinstance(train, ELMState) else list(train)
    criterion = criterion or ("gcv" if validation is None else "mse")
    require_choice("criterion", criterion, CRITERIA)
    l2s = tuple(sorted({check_l2(l2) for l2 in l2s}))
    if not l2s:
        raise InputError("give at least one l2 to choose from")
    L = states[0].n_neurons
    sizes = tuple(sorted({check_size(n, L) for n in sizes or default_sizes(L)}))
    scored = _scorer(criterion, states, validation, sizes)
    errors, accuracy = zip(*[scored(l2) for l2 in (progress(l2s) if progress else l2s)])
    errors, accuracy = np.stack(errors), None if accuracy[0] is None else np.stack(accuracy)
    if not np.isfinite(errors).any():
        raise InputError(f"no model has a finite {criterion}: take larger l2s, fewer neurons, or another criterion")
    by_accuracy = criterion == "accuracy"
    row, column = _first_best(np.where(accuracy == accuracy.max(), errors, np.inf) if by_accuracy else errors)
    return Selection(l2s[row], sizes[column], criterion, accuracy if by_accuracy else errors, l2s, sizes, accuracy)


def _scorer(criterion, states, validation, sizes):
    """l2 -> (errors of all sizes, their accuracies or None), by this criterion."""
    columns = np.array(sizes) - 1
    if criterion == "cv":
        return lambda l2: (cross_validate(states, [l2])[0, columns], None)
    train = merge(states)
    if criterion == "gcv":
        return lambda l2: (generalized_cross_validation(train, [l2], sizes)[0], None)
    if criterion == "mse" and isinstance(validation, ELMState):
        return lambda l2: (grid_mse(train, validation, [l2])[0, columns], None)
    H, labels = validation
    if len(H) != len(labels) or not len(H):
        raise InputError(f"as many validation rows as labels are needed, got {len(H)} and {len(labels)}")
    return lambda l2: _by_rows(train, l2, H, labels, sizes)


def _by_rows(train, l2, H, labels, sizes):
    """(squared error a sample, accuracy) of every size for one l2: one factorisation, one running sum."""
    R, z = solved(*check(train.HtH, train.HtY), l2)
    squares, right = np.zeros(len(sizes)), np.zeros(len(sizes))
    for start in range(0, len(H), ROWS):
        part, y = np.asarray(H[start:start + ROWS], np.float64), labels[start:start + ROWS]
        rows = np.arange(len(y))
        for i, scores in enumerate(grid_scores(R, z, part, sizes)):
            # |y - scores|² of a one-hot y
            squares[i] += np.vdot(scores, scores) - 2 * scores[rows, y].sum() + len(y)
            right[i] += np.count_nonzero(scores.argmax(axis=1) == y)
    return squares / len(H), right / len(H)


def _first_best(error):
    """(row, column) of the smallest error; of equal ones the largest l2 (lowest row), then the fewest neurons."""
    rows, columns = np.nonzero(error == np.nanmin(error))
    row = rows.max()
    return row, columns[rows == row].min()
