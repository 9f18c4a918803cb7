"""solve against scikit-learn's Ridge, the exact grid against one solve a model."""
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_triangular
from sklearn.linear_model import Ridge

from mxelm.errors import InputError
from mxelm.fused import ELMState, solve
from mxelm.fused.criteria import (
    cross_validate,
    factor,
    generalized_cross_validation,
    grid_mse,
    grid_scores,
)
from mxelm.fused.solver import IllConditionedWarning

N, L, C = 200, 40, 5


def state_of(H, Y):
    return ELMState(H.T @ H, H.T @ Y, len(H), float((Y ** 2).sum()))


def rows(seed, n=N):
    rng = np.random.default_rng(seed)
    H = np.tanh(rng.normal(size=(n, 12)) @ rng.normal(size=(12, L)) + rng.normal(size=(n, L)))
    return H, rng.normal(size=(n, C))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 5), l2=st.floats(1e-6, 1e4), size=st.integers(1, L))
def test_solve_is_ridge(seed, l2, size):
    H, Y = rows(seed)
    beta = solve(H.T @ H, H.T @ Y, l2, n_neurons=size)
    ridge = Ridge(alpha=l2, fit_intercept=False, solver="cholesky").fit(H[:, :size], Y)
    assert beta.shape == (size, C)
    assert np.linalg.norm(beta - ridge.coef_.T) <= 1e-8 * np.linalg.norm(ridge.coef_)


def test_inputs_stay_unchanged():
    H, Y = rows(0)
    A, B = H.T @ H, H.T @ Y
    before = A.copy(), B.copy()
    solve(A, B, 3.0, n_neurons=17)
    state = ELMState(A, B, 5, 1.0)
    grid_mse(state, state, [1.0])
    generalized_cross_validation(state, [1.0])
    np.testing.assert_array_equal(A, before[0])
    np.testing.assert_array_equal(B, before[1])


def test_singular_system_is_solved_by_minimum_norm_with_a_warning():
    H, Y = rows(1, n=15)  # fewer rows than neurons
    with pytest.warns(IllConditionedWarning):
        beta = solve(H.T @ H, H.T @ Y, 0.0)
    expected = np.linalg.pinv(H) @ Y
    assert np.isfinite(beta).all()
    assert np.linalg.norm(H @ beta - Y) <= 1e-6 * np.linalg.norm(Y)
    np.testing.assert_allclose(beta, expected, rtol=1e-4, atol=1e-6)


def test_residual_where_the_condition_is_beyond():
    rng = np.random.default_rng(3)
    H = rng.normal(size=(300, 30)) @ np.diag(np.logspace(0, -6, 30))
    A, B = H.T @ H, H.T @ rng.normal(size=(300, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        beta = solve(A, B, 1e-12)
    assert np.linalg.norm((A + 1e-12 * np.eye(30)) @ beta - B) <= 1e-9 * np.linalg.norm(B)


def test_a_well_conditioned_system_does_not_warn():
    H, Y = rows(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(H.T @ H, H.T @ Y, 1.0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 20), l2=st.sampled_from([1e-4, 0.1, 10.0]))
def test_grid_mse_is_the_error_of_every_model(seed, l2):
    H, Y = rows(seed)
    V, T = rows(seed + 100, 60)
    errors = grid_mse(state_of(H, Y), state_of(V, T), [l2])
    one_by_one = [np.square(V[:, :l] @ solve(H.T @ H, H.T @ Y, l2, n_neurons=l) - T).sum() / len(V)
                  for l in range(1, L + 1)]
    np.testing.assert_allclose(errors[0], one_by_one, rtol=1e-9)


def test_grid_scores_are_the_scores_of_every_model():
    H, Y = rows(2)
    V, _ = rows(3, 30)
    R, _ = factor(H.T @ H, 0.5)
    z = solve_triangular(R, H.T @ Y, trans="T")
    sizes = [1, 2, 7, 30, L]
    for size, scores in zip(sizes, grid_scores(R, z, V, sizes)):
        beta = solve(H.T @ H, H.T @ Y, 0.5, n_neurons=size)
        np.testing.assert_allclose(scores, V[:, :size] @ beta, rtol=1e-9, atol=1e-11)


def test_factor_reports_its_jitter():
    H, _ = rows(1, n=15)
    with pytest.warns(IllConditionedWarning, match="added to its diagonal"):
        R, _ = factor(H.T @ H, 0.0)
    assert np.isfinite(R).all()


@pytest.mark.parametrize("l2", [-1.0, float("nan"), float("inf"), "much"])
def test_unusable_l2(l2):
    with pytest.raises(InputError, match="l2 must be"):
        solve(np.eye(3), np.ones((3, 1)), l2)


@pytest.mark.parametrize("size", [0, -1, 4, 1.5])
def test_unusable_size(size):
    with pytest.raises(InputError, match="1 to 3"):
        solve(np.eye(3), np.ones((3, 1)), 1.0, n_neurons=size)


@pytest.mark.parametrize("A, B", [(np.ones((3, 2)), np.ones((3, 1))), (np.eye(3), np.ones((2, 1))),
                                  (np.eye(3), np.ones(3)), (np.zeros((0, 0)), np.zeros((0, 1)))])
def test_shapes_that_do_not_fit(A, B):
    with pytest.raises(InputError, match="HtH must be"):
        solve(A, B, 1.0)


def test_broken_matrices_are_refused():
    A = np.eye(3)
    A[1, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        solve(A, np.ones((3, 1)), 1.0)


def test_cross_validation_is_one_fold_and_model_at_a_time():
    parts = [rows(seed, 40 + seed) for seed in range(3)]
    errors = cross_validate([state_of(H, Y) for H, Y in parts], [0.3])
    for l in (1, 9, L):
        total = 0.0
        for k, (V, T) in enumerate(parts):
            H = np.concatenate([H for i, (H, _) in enumerate(parts) if i != k])
            Y = np.concatenate([Y for i, (_, Y) in enumerate(parts) if i != k])
            total += np.square(V[:, :l] @ solve(H.T @ H, H.T @ Y, 0.3, n_neurons=l) - T).sum()
        assert errors[0, l - 1] == pytest.approx(total / sum(len(V) for V, _ in parts), rel=1e-9)
    with pytest.raises(InputError, match="at least 2"):
        cross_validate([state_of(*parts[0])], [0.3])


def test_gcv_is_its_definition():
    H, Y = rows(4)
    found = generalized_cross_validation(state_of(H, Y), [0.7])
    for l in (1, 12, L):
        V = H[:, :l]
        hat = V @ np.linalg.solve(V.T @ V + 0.7 * np.eye(l), V.T)
        expected = np.square(Y - hat @ Y).sum() / N / (1 - np.trace(hat) / N) ** 2
        assert found[0, l - 1] == pytest.approx(expected, rel=1e-9)


def test_gcv_does_not_choose_what_rounding_made():
    H, Y = rows(1, n=15)  # fewer samples than neurons: the larger models fit them exactly
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        found = generalized_cross_validation(state_of(H, Y), [1e-12, 1.0])
    assert np.isinf(found[0, 20:]).all() and np.isfinite(found[1]).all()
