"""The choice of l2 and size: the best of the grid, ties to the larger l2 and the fewer neurons."""
import numpy as np
import pytest

from mxelm.errors import InputError
from mxelm.fused import ELMState, select, solve
from mxelm.fused.selection import _first_best, default_sizes

L, C = 32, 3


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(C, 10))
    W = rng.normal(size=(10, L)) * 0.3

    def draw(n):
        labels = rng.integers(0, C, n)
        return np.tanh((centres[labels] + 1.5 * rng.normal(size=(n, 10))) @ W), labels

    return draw(150), draw(80)


def state(H, labels):
    Y = np.eye(C)[labels]
    return ELMState(H.T @ H, H.T @ Y, len(H), float(Y.sum()))


def test_accuracy_grid_is_one_model_at_a_time(problem):
    (H, y), (V, t) = problem
    found = select(state(H, y), (V, t), criterion="accuracy", l2s=[0.01, 1.0, 100.0], sizes=[1, 5, L])
    for i, l2 in enumerate(found.l2s):
        for j, size in enumerate(found.sizes):
            scores = V[:, :size] @ solve(H.T @ H, H.T @ np.eye(C)[y], l2, n_neurons=size)
            assert found.grid[i, j] == np.mean(scores.argmax(axis=1) == t)
    assert found.best == found.grid.max()


def test_mse_needs_no_row(problem):
    (H, y), (V, t) = problem
    found = select(state(H, y), state(V, t), criterion="mse", l2s=[0.01, 1.0, 100.0], sizes=range(1, L + 1))
    assert found.grid.shape == (3, L)
    assert found.best == found.grid.min()
    beta = solve(H.T @ H, H.T @ np.eye(C)[y], found.l2, n_neurons=found.n_neurons)
    assert found.best == pytest.approx(np.square(V[:, :found.n_neurons] @ beta - np.eye(C)[t]).sum() / len(V))


def test_criteria_without_a_validation_set(problem):
    (H, y), (V, t) = problem
    folds = select([state(H, y), state(V, t)], criterion="cv", l2s=[0.01, 1.0], sizes=[3, L])
    alone = select(state(H, y), criterion="gcv", l2s=[0.01, 1.0], sizes=[3, L])
    for found in (folds, alone):
        assert found.grid.shape == (2, 2) and found.best == found.grid.min()


def test_ties_go_to_the_larger_l2_then_to_fewer_neurons():
    error = np.array([[0.5, 0.2, 0.2], [0.2, 0.5, 0.2], [0.5, 0.2, 0.2], [0.5, 0.5, 0.5]])
    assert _first_best(error) == (2, 1)


@pytest.mark.parametrize("largest", [1, 2, 3, 4, 5, 100, 4096])
def test_default_sizes(largest):
    sizes = default_sizes(largest)
    assert list(sizes) == sorted(set(sizes)) and sizes[-1] == largest and sizes[0] >= 1 and len(sizes) < 60


def test_unusable_choices(problem):
    (H, y), (V, t) = problem
    with pytest.raises(InputError, match="criterion"):
        select(state(H, y), (V, t), criterion="taste")
    with pytest.raises(InputError, match="at least one l2"):
        select(state(H, y), (V, t), l2s=[])
    with pytest.raises(InputError, match="1 to 32"):
        select(state(H, y), (V, t), sizes=[0])
    with pytest.raises(InputError, match="as many validation rows"):
        select(state(H, y), (V, t[:-1]))
