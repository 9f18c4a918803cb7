"""What a model is chosen by, for every l2 and EVERY size from one factorisation an l2.

With RᵀR = A + l2 I (R upper triangular) the factor of a leading block is the leading block of the factor. So with
z = R⁻ᵀB, the scores of the model of l neurons are the running sum of V z over the first l columns of V = H R⁻¹, and its
squared error needs no rows at all: (yᵀy - 2 Σ (R⁻ᵀB_val ∘ z) + Σ (R⁻ᵀ A_val R⁻¹) ∘ zzᵀ) / n, sums over the leading l.
Source: Arcada, section 2, the two paragraphs after step 5: l2 and size are tuned on the existing matrices.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import LinAlgError, cholesky, lapack, solve_triangular

from mxelm.errors import InputError
from mxelm.fused.solver import IllConditionedWarning, check, check_l2, regularised

if TYPE_CHECKING:
    from mxelm.fused.state import ELMState

def factor(HtH: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """(R, l2): R upper triangular, RᵀR = HtH + l2 I, for all sizes at once.

    Where rounding forbids it, l2 comes back with jitter, which is reported: the smallest power of ten times the mean
    diagonal that lets the factorisation pass.
    """
    jitter = 0.0
    while True:
        try:
            return cholesky(regularised(HtH, l2 + jitter), overwrite_a=True, check_finite=False), l2 + jitter
        except LinAlgError:
            mean = np.trace(HtH) / len(HtH)
            jitter = max(10 * jitter, np.finfo(float).eps * (mean if mean > 0 else 1.0))
            warnings.warn(f"HtH + {l2:g} I is singular to working precision: {jitter:.1e} added to its diagonal",
                          IllConditionedWarning, stacklevel=2)


def grid_scores(R: np.ndarray, z: np.ndarray, H: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the scores (n, n_outputs) of rows H float64 (n, n_neurons) for each of the rising `sizes`.

    R: factor of HtH + l2 I. z = R⁻ᵀ HtY.
    """
    V = solve_triangular(R, H.T, trans="T", check_finite=False).T
    scores, before = np.zeros((len(H), z.shape[1])), 0
    for l in sizes:
        scores += V[:, before:l] @ z[before:l]
        before = l
        yield scores


def grid_mse(train: ELMState, validation: ELMState, l2s: Sequence[float]) -> np.ndarray:
    """Squared error a validation sample, of every l2 and every size, from accumulators alone.

    train, validation: ELMStates. float64 (len(l2s), n_neurons), entry [i, l-1] for l2s[i] and l neurons, summed over
    outputs.
    """
    _require_samples(validation)
    validation, train = validation.about(train), train.about(train)
    HtH, HtY = check(train.HtH, train.HtY)
    return np.stack([_squares(*solved(HtH, HtY, l2), validation) / validation.n_samples for l2 in l2s])


def cross_validate(folds: Sequence[ELMState], l2s: Sequence[float]) -> np.ndarray:
    """The same by exact K-fold cross-validation, without a validation set: each state in turn is the fold left out.

    folds: at least two ELMStates of disjoint samples. The training matrices of a fold are the total minus the fold.
    """
    if len(folds) < 2:
        raise InputError(f"cross-validation needs at least 2 states, one a fold, got {len(folds)}")
    total, errors = sum(folds[1:], folds[0]), 0.0
    for fold in folds:
        errors = errors + grid_mse(total - fold, fold, l2s) * fold.n_samples
    return errors / total.n_samples


def generalized_cross_validation(train: ELMState, l2s: Sequence[float],
                                 sizes: Sequence[int] | None = None) -> np.ndarray:
    """GCV of every l2 and size from one state: (RSS / n) / (1 - tr / n)², tr the trace of the hat matrix.

    float64 (len(l2s), len(sizes)), rising sizes, None: every one. With HtH = RᵀR - l2 I no row is needed; for l neurons
    tr = l - l2 |R⁻¹|², RSS = yᵀy - |z|² - l2 |beta|², squares of the leading l rows and columns, beta = R⁻¹z.
    inf where the trace reaches n (as many effective parameters as samples) and where rounding eats up the RSS.
    Source: Golub, Heath and Wahba, 1979.
    """
    _require_samples(train)
    n, intercept = train.n_samples, train.intercept
    train = train.about(train)
    HtH, HtY = check(train.HtH, train.HtY)
    sizes = np.arange(1, len(HtH) + 1) if sizes is None else np.asarray(sizes)
    scores = []
    for l2 in l2s:
        R, shift = factor(HtH, check_l2(l2))
        inverse, _ = lapack.dtrtri(R, overwrite_c=1)
        z = inverse.T @ HtY
        trace = np.arange(1, len(z) + 1) - shift * np.cumsum(np.einsum("ij,ij->j", inverse, inverse))
        rss = train.yty - np.cumsum(np.square(z).sum(axis=1))[sizes - 1] - shift * _norms(inverse, z, sizes)
        free = 1 - (trace[sizes - 1] + intercept) / n
        sound = (free > 1e-9) & (rss > 1e-10 * train.yty)  # below, the sums cancel and say nothing
        scores.append(np.where(sound, rss / n / np.maximum(free, 1e-9) ** 2, np.inf))
    return np.stack(scores)


def _norms(inverse, z, sizes):
    """|beta|², float64 (len(sizes),), of the models of the leading `sizes` neurons: beta = R⁻¹z, a running sum."""
    beta, before, norms = np.zeros_like(z), 0, []
    for l in sizes:
        beta[:l] += inverse[:l, before:l] @ z[before:l]
        before = l
        norms.append(np.vdot(beta, beta))
    return np.array(norms)


def solved(HtH: np.ndarray, HtY: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """(R, z) of one l2: the factor of HtH + l2 I and z = R⁻ᵀ HtY."""
    R, _ = factor(HtH, check_l2(l2))
    return R, solve_triangular(R, HtY, trans="T", check_finite=False)


def _squares(R, z, held):
    """Σ |y - scores|² over the samples of `held`, float64 (n_neurons,), for every leading size."""
    A, B = check(held.HtH, held.HtY)
    b = solve_triangular(R, B, trans="T", check_finite=False)
    products = np.triu(_congruence(A, R))
    products *= z @ z.T
    diagonal = np.diag(products)
    # a leading block grows by a column and its mirrored row
    blocks = np.cumsum(2 * products.sum(axis=0) - diagonal)
    return held.yty - 2 * np.cumsum((b * z).sum(axis=1)) + blocks


def _congruence(A, R):
    """R⁻ᵀ A R⁻¹, its upper triangle: half the cost of two triangular solves."""
    M, info = lapack.dsygst(A, R, itype=1)
    if info:
        raise InputError(f"LAPACK's dsygst refused the matrices (info {info})")
    return M


def _require_samples(state):
    if state.n_samples < 1:
        raise InputError("there is no sample to choose by")
