"""The choice of l2 and of the number of neurons, from the accumulated matrices and a validation set.

Source: Arcada, section 2: "different L2 parameter values give different solutions; the best value is found with a
validation set"; "both ... can be computed from the existing matrices A and B without re-creating training data".
"""
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from mxelm.errors import InputError, require_choice
from mxelm.fused.criteria import cross_validate, factor, generalized_cross_validation, grid_mse, grid_scores
from mxelm.fused.solver import check, check_l2, check_size

L2_GRID = tuple(float(f"{10 ** e:.3g}") for e in np.arange(-4, 5.1, 0.5))
CRITERIA = ("accuracy", "mse", "cv", "gcv")
ROWS = 2048  # validation rows scored at a time


@dataclass(frozen=True)
class Selection:
    """The chosen l2 and n_neurons, and the whole grid they were chosen from.

    grid: float64 (len(l2s), len(sizes)): accuracy, higher is better, or an error, lower is better.
    """

    l2: float
    n_neurons: int
    criterion: str
    grid: np.ndarray
    l2s: tuple
    sizes: tuple

    @property
    def best(self):
        """The criterion's value of the chosen model."""
        return float(self.grid[self.l2s.index(self.l2), self.sizes.index(self.n_neurons)])


def default_sizes(L):
    """About 40 sizes up to L, dense where accuracy still rises: powers of 2^(1/4)."""
    rising = np.unique(np.round(2 ** np.arange(2, np.log2(max(L, 4)) + 1e-9, 0.25)).astype(int))
    return tuple(int(n) for n in rising[rising < L]) + (L,)


def select(train, validation=None, criterion="accuracy", l2s=L2_GRID, sizes=None, progress=None):
    """Choose l2 and size; ties go to the larger l2, then to fewer neurons.

    train: ELMState of the training images. criterion and validation:
    "accuracy": validation is a pair of H float32 (n, n_neurons) and class labels int64 (n,).
    "mse": validation is an ELMState of the validation images; no row of theirs is needed.
    "cv": train is a list of ELMStates, each in turn left out; "gcv": from the training state alone.
    l2s: tried values. sizes: tried numbers of neurons (about 40 by default).
    progress: wraps the loop over l2s (tqdm, say). Raises InputError for unusable values or shapes.
    """
    states = list(train) if criterion == "cv" else [train]
    HtH, _ = check(states[0].HtH, states[0].HtY)
    l2s = tuple(sorted({check_l2(l2) for l2 in l2s}))
    sizes = tuple(sorted({check_size(n, len(HtH)) for n in sizes or default_sizes(len(HtH))}))
    if not l2s:
        raise InputError("give at least one l2 to choose from")
    require_choice("criterion", criterion, CRITERIA)
    columns = np.array(sizes) - 1
    one = {"accuracy": lambda l2: _accuracies(train, l2, validation, sizes),
           "mse": lambda l2: grid_mse(train, validation, [l2])[0, columns],
           "cv": lambda l2: cross_validate(states, [l2])[0, columns],
           "gcv": lambda l2: generalized_cross_validation(train, [l2])[0, columns]}[criterion]
    grid = np.stack([one(l2) for l2 in (progress(l2s) if progress else l2s)])
    if not np.isfinite(grid).any():
        raise InputError(f"no model has a finite {criterion}: take larger l2s, fewer neurons, or another criterion")
    row, column = _first_best(-grid if criterion == "accuracy" else grid)
    return Selection(l2s[row], sizes[column], criterion, grid, l2s, sizes)


def _accuracies(train, l2, validation, sizes):
    """Validation accuracy of every size for one l2: one factorisation, one running sum."""
    H, labels = validation
    if len(H) != len(labels) or not len(H):
        raise InputError(f"accuracy needs as many validation rows as labels, got {len(H)} and {len(labels)}")
    HtH, HtY = check(train.HtH, train.HtY)
    R = factor(HtH, l2)
    z = solve_triangular(R, HtY, trans="T")
    right = np.zeros(len(sizes))
    for start in range(0, len(H), ROWS):
        part = slice(start, start + ROWS)
        scores = grid_scores(R, z, np.asarray(H[part], np.float64), sizes)
        right += [np.count_nonzero(s.argmax(axis=1) == labels[part]) for s in scores]
    return right / len(H)


def _first_best(error):
    """(row, column) of the smallest error; of equal ones the largest l2 (lowest row), then the fewest neurons."""
    rows, columns = np.nonzero(error == np.nanmin(error))
    row = rows.max()
    return row, columns[rows == row].min()
