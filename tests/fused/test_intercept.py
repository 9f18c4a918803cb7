"""The intercept against scikit-learn's Ridge, in every place that solves or chooses."""
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mxelm.errors import InputError
from mxelm.fused import ELMState, Projection, select
from mxelm.fused.state import Origin
from mxelm.preprocessing import Preprocessing

L = 12
ORIGIN = Origin({}, "flatten", Preprocessing((4, 4)), Projection(L, 3), "regression", ("year",), intercept=True)


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    H = np.tanh(rng.normal(0.4, 1, (90, L)))
    return H, H[:, :1] - H[:, 1:2] + 0.3 * rng.normal(size=(90, 1)) + 1983


def state(H, Y):
    H = np.column_stack([H, np.ones(len(H))])
    digests = np.frombuffer(H[:, :2].tobytes(), np.uint8).reshape(len(H), 16)
    return ELMState(H.T @ H, H.T @ Y, len(H), float(np.vdot(Y, Y)), ORIGIN, digests)


@pytest.mark.parametrize("size", [1, 5, L])
def test_solution_is_ridge_with_intercept(rows, size):
    H, Y = rows
    beta, intercept = state(H, Y).solve(0.7, size)
    ridge = Ridge(alpha=0.7).fit(H[:, :size], Y)
    np.testing.assert_allclose(beta.T, ridge.coef_.reshape(1, -1), atol=1e-8)
    np.testing.assert_allclose(intercept, ridge.intercept_, atol=1e-8)


def test_errors_of_the_grid_are_those_of_ridge(rows):
    H, Y = rows
    train, held = state(H[:60], Y[:60]), state(H[60:], Y[60:])
    found = select(train, held, l2s=[0.1, 10], sizes=range(1, L + 1))
    for i, l2 in enumerate(found.l2s):
        for size in found.sizes:
            ridge = Ridge(alpha=l2).fit(H[:60, :size], Y[:60])
            error = np.square(ridge.predict(H[60:, :size]) - Y[60:, 0]).mean()
            assert found.grid[i, size - 1] == pytest.approx(error, rel=1e-5)


def test_cross_validation_leaves_one_state_out(rows):
    H, Y = rows
    parts = [slice(0, 30), slice(30, 60), slice(60, 90)]
    found = select([state(H[p], Y[p]) for p in parts], criterion="cv", l2s=[1.0], sizes=[L])
    errors = []
    for part in parts:
        train = np.setdiff1d(np.arange(90), np.arange(90)[part])
        ridge = Ridge(alpha=1.0).fit(H[train], Y[train])
        errors.append(np.square(ridge.predict(H[part]) - Y[part, 0]))
    assert found.best == pytest.approx(np.mean(errors), rel=1e-5)


def test_gcv_counts_the_intercept(rows):
    H, Y = rows
    found = select(state(H, Y), l2s=[1.0], sizes=[L])
    C = H - H.mean(axis=0)
    hat = C @ np.linalg.solve(C.T @ C + np.eye(L), C.T) + 1 / 90
    residual = Y - hat @ Y
    expected = float(np.vdot(residual, residual)) / 90 / (1 - np.trace(hat) / 90) ** 2
    assert found.best == pytest.approx(expected, rel=1e-6)


def test_an_offset_changes_nothing_but_the_intercept(rows):
    H, Y = rows
    near, far = state(H, Y - 1983).solve(1.0), state(H, Y + 1e5).solve(1.0)
    np.testing.assert_allclose(near[0], far[0], atol=1e-6)
    np.testing.assert_allclose(far[1] - near[1], 1983 + 1e5, rtol=1e-9)


def test_states_add_and_subtract_with_their_means(rows):
    H, Y = rows
    whole, part = state(H, Y), state(H[:40], Y[:40])
    np.testing.assert_allclose((whole - part).solve(1.0)[0], state(H[40:], Y[40:]).solve(1.0)[0], atol=1e-8)
    with pytest.raises(InputError, match="no sample"):
        (part - part).solve(1.0)
