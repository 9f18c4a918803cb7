"""Learning vector quantisation: its gradients are those of its cost, and it learns."""
import numpy as np
import pytest

from mxelm.knn_slicing.engine import soft_lvq


def cost_of(x, y, projection, prototypes, labels, sharpness):
    """The cost from its definition, float64."""
    z = x if projection is None else x @ projection
    distances = ((z[:, None] - prototypes[None]) ** 2).sum(axis=2)
    own = labels == y[:, None]
    likelihood = np.exp(-sharpness * distances)
    return -np.log((likelihood * own).sum(axis=1) / likelihood.sum(axis=1)).mean()


@pytest.mark.parametrize("mapped", [True, False])
def test_gradients_are_those_of_the_cost(mapped):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    projection = rng.normal(size=(4, 2)) if mapped else None
    prototypes, labels = rng.normal(size=(7, 2 if mapped else 4)), np.array([0, 0, 1, 1, 1, 2, 2])
    quantiser = soft_lvq.Quantiser(projection, prototypes, labels, sharpness=0.7)
    quantiser.parameters = [p.astype(np.float64) for p in quantiser.parameters]
    taken = []
    quantiser._adam = lambda gradients, rate: taken.extend(gradients)
    value = quantiser._step(x, y, 0.1)
    parameters = [prototypes] + [projection] * mapped
    assert value == pytest.approx(cost_of(x, y, projection, prototypes, labels, 0.7))
    for gradient, parameter in zip(taken, parameters):
        for index in np.ndindex(parameter.shape):
            values = []
            for step in (1e-5, -1e-5):
                kept, parameter[index] = parameter[index], parameter[index] + step
                values.append(cost_of(x, y, projection, prototypes, labels, 0.7))
                parameter[index] = kept
            assert gradient[index] == pytest.approx((values[0] - values[1]) / 2e-5, abs=2e-6)


def test_a_useless_dimension_is_unlearned():
    """Two classes told apart in one of two dimensions, the other of which is loud."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    x = np.stack([y + rng.normal(0, 0.2, 600), rng.normal(0, 5, 600)], axis=1).astype(np.float32)
    start = x[[np.flatnonzero(y == 0)[0], np.flatnonzero(y == 1)[0]]]
    quantiser = soft_lvq.Quantiser(np.eye(2), start, [0, 1], sharpness=1.0)

    def right():
        z = x @ quantiser.projection
        return (((z[:, None] - quantiser.prototypes) ** 2).sum(axis=2).argmin(axis=1) == y).mean()

    assert right() < 0.9
    for _ in range(20):
        quantiser.epoch(x, y, (0.05, 0.02), rng, batch=50)
    assert right() > 0.97


def test_what_is_given_stays_untouched_and_a_seed_repeats():
    x = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    y, prototypes, projection = np.arange(50) % 2, x[:4].copy(), np.eye(3, 2, dtype=np.float32)
    found = []
    for _ in range(2):
        quantiser = soft_lvq.Quantiser(projection, prototypes[:, :2], [0, 1, 0, 1])
        quantiser.epoch(x, y, (0.1, 0.1), np.random.default_rng(2))
        found.append(quantiser)
    np.testing.assert_array_equal(projection, np.eye(3, 2))
    np.testing.assert_array_equal(prototypes, x[:4])
    np.testing.assert_array_equal(found[0].prototypes, found[1].prototypes)
    np.testing.assert_array_equal(found[0].projection, found[1].projection)
    assert (found[0].prototypes != prototypes[:, :2]).any()
