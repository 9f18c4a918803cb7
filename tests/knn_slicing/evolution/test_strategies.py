"""Each strategy finds the optimum it should, owns its randomness, and goes on from its state bit for bit."""
import json
import random

import numpy as np
import pytest
from deap import creator

from mxelm.errors import InputError
from mxelm.knn_slicing.evolution import strategies

N = 10
SCALES = 10.0 ** np.linspace(0, 1.5, N)  # axis ratios of the ellipsoid


def sphere(x):
    return -float(((x - 1) ** 2).sum())


def ellipsoid(x):
    return -float(((SCALES * (x - 1)) ** 2).sum())


def generation(strategy, function):
    individuals = strategy.generate(creator.KernelIndividual)
    for individual in individuals:
        individual.fitness.values = (function(np.asarray(individual)),)
    strategy.update(individuals)
    return max(individual.fitness.values[0] for individual in individuals)


def made(method, seed=0, population=20, sigma=0.5, n=N):
    return strategies.make(method, np.zeros(n), sigma=sigma, population=population, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("method", ["cma", "sepcma", "pso"])
@pytest.mark.parametrize("function", [sphere, ellipsoid])
@pytest.mark.parametrize("seed", [0, 1])
def test_converges(method, function, seed):
    strategy = made(method, seed)
    best = max(generation(strategy, function) for _ in range(400))
    assert best > -1e-6


def test_the_separable_one_follows_axes_and_no_rotation():
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(N, N)))[0]

    def rotated(x):
        return -float(((SCALES * (rotation @ (x - 1))) ** 2).sum())

    best = {(name, f): max(generation(strategy, f) for _ in range(250))
            for name in ("cma", "sepcma") for f in (ellipsoid, rotated) for strategy in (made(name),)}
    assert best["cma", rotated] > -1e-8 and best["sepcma", ellipsoid] > -1e-8
    assert best["sepcma", rotated] < 1e3 * best["cma", rotated]


def test_the_separable_one_takes_a_whole_layer():
    strategy = made("sepcma", n=18_496, population=6)
    best = [generation(strategy, sphere) for _ in range(3)]
    assert np.isfinite(best).all() and sum(a.nbytes for a in strategy.state()[1].values()) == 4 * 8 * 18_496


@pytest.mark.parametrize("method", ["cma-talk", "pso-talk", "random"])
def test_the_talks_formulas_improve_on_the_start(method):
    strategy = made(method)
    best = max(generation(strategy, sphere) for _ in range(60))
    assert sphere(np.zeros(N)) + 2 < best < -1e-9  # better, and none of the three converges


def test_the_talks_cma_is_the_slides():
    """Mean and covariance of what it draws next, against the slide's sums."""
    strategy = made("cma-talk", population=8, n=3)
    old = strategy.mean.copy()
    individuals = strategy.generate(creator.KernelIndividual)
    for individual in individuals:
        individual.fitness.values = (sphere(np.asarray(individual)),)
    best = sorted((np.asarray(i) for i in individuals), key=sphere)[::-1][:4]
    strategy.update(individuals)
    mean = sum(best) / 4
    covariance = sum(np.outer(x - old, x - old) for x in best) / 4
    np.testing.assert_allclose(strategy.mean, mean)
    np.testing.assert_allclose(strategy.A @ strategy.A.T, covariance)
    strategy.lambda_ = 200_000
    drawn = np.array(strategy.generate(np.asarray))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.02 * covariance.max())


def test_the_talks_cma_stays_in_the_span_of_its_first_best():
    strategy = made("cma-talk", population=8)
    generation(strategy, sphere)
    span = strategy.A.copy()
    for _ in range(3):
        generation(strategy, sphere)
    assert np.linalg.matrix_rank(np.hstack([span, strategy.A]), tol=1e-9) == 4


@pytest.mark.parametrize("method", ["pso", "pso-talk"])
def test_particles_keep_the_speed_limit(method):
    strategy = made(method, sigma=0.1)
    for _ in range(30):
        before = strategy.x.copy()
        generation(strategy, sphere)
        assert np.abs(strategy.x - before).max() <= 0.2 + 1e-12


@pytest.mark.parametrize("method", strategies.METHODS)
@pytest.mark.parametrize("done", [0, 1, 7])
def test_goes_on_from_its_state_bit_for_bit(method, done):
    whole, first = made(method, 5), made(method, 5)
    for _ in range(done):
        generation(whole, ellipsoid)
        generation(first, ellipsoid)
    meta, arrays = first.state()
    resumed = made(method, 99)
    resumed.restore(json.loads(json.dumps(meta)), arrays)
    for _ in range(5):
        assert generation(whole, ellipsoid) == generation(resumed, ellipsoid)


@pytest.mark.parametrize("method", strategies.METHODS)
def test_global_random_states_are_neither_read_nor_changed(method):
    np.random.seed(1)
    random.seed(1)
    before = np.random.get_state()[1].copy(), random.getstate()
    first = [generation(made(method), sphere) for _ in range(2)]
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]
    np.random.seed(2)
    assert [generation(made(method), sphere) for _ in range(2)] == first


@pytest.mark.parametrize("change, message", [
    ({"method": "ga"}, "cma"), ({"sigma": 0.0}, "sigma"), ({"sigma": np.nan}, "sigma"),
    ({"population": 3}, "population must be a whole number of at least 4"),
    ({"start": np.zeros((2, 2))}, "vector"), ({"start": np.array([np.nan])}, "finite")])
def test_what_cannot_be_searched(change, message):
    arguments = {"method": "cma", "start": np.zeros(3), "sigma": 1.0, "population": 8, **change}
    with pytest.raises(InputError, match=message):
        strategies.make(**arguments, rng=np.random.default_rng(0))
