"""The fast fitness against brute force on features computed anew, and the soft one against its definition."""
import pickle

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from mxelm.errors import InputError
from mxelm.knn_slicing import banks, kernels
from mxelm.knn_slicing.convolution import respond
from mxelm.knn_slicing.evolution import channel_distances
from mxelm.knn_slicing.evolution.candidates import Task, plugged, vector_of, weights_of
from mxelm.knn_slicing.evolution.fitness import KernelFitness
from mxelm.knn_slicing.kernels import Kernels

REFERENCES = np.arange(300)
HELD_OUT, LEFT_OUT = np.arange(300, 450), np.arange(100)


@pytest.fixture(scope="module")
def digits():
    """450 digits at 28x28 and their labels."""
    digits = load_digits()
    images = (digits.images[:450] * 15.9).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2)
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), digits.target[:450]


@pytest.fixture(scope="module")
def weights():
    """Four and six filters, with biases."""
    bank, rng = banks.random(0, (4, 6)), np.random.default_rng(0)
    return weights_of(bank.replace(bias1=rng.normal(0, 0.1, 4), bias2=rng.normal(0, 0.1, 6)))


def task(weights, layer, filter, queries, spread, count=6, tau=1.0, seed=0):
    start = vector_of(weights, layer, filter)
    candidates = start + np.random.default_rng(seed).normal(0, spread, (count, len(start)))
    candidates[0] = start
    return Task(weights, layer, filter, queries, tau, candidates)


def brute(images, labels, weights, queries, layer="conv2", metric="l2", k=9):
    """Distances (q, r), a query's own infinite, and votes; features by MXNet's operators, all in float64."""
    extract = kernels.features if layer == "conv2" else kernels.pool1
    features = extract(images, Kernels(*weights)).reshape(len(images), -1).astype(np.float64)
    distances = cdist(features[queries], features[REFERENCES], "sqeuclidean" if metric == "l2" else metric)
    distances[queries[:, None] == REFERENCES] = np.inf
    near = np.argsort(distances, axis=1, kind="stable")[:, :k]
    counts = np.stack([(labels[REFERENCES][near] == c).sum(axis=1) for c in range(10)], axis=1)
    return distances, counts.argmax(axis=1)


@pytest.mark.parametrize("shape", [(28, 1), (13, 4), (12, 2)])
@pytest.mark.parametrize("filters", [1, 5])
def test_responses_are_mxnets(shape, filters):
    from mxelm.runtime import mx
    side, channels = shape
    rng = np.random.default_rng(side)
    maps, weights = rng.random((37, side, side, channels)), rng.normal(size=(filters, channels, 3, 3))
    biases = rng.normal(size=filters)
    out = mx.nd.Convolution(mx.nd.array(maps.transpose(0, 3, 1, 2)), mx.nd.array(weights), mx.nd.array(biases),
                            kernel=(3, 3), num_filter=filters)
    out = mx.nd.Pooling(mx.nd.relu(out), kernel=(2, 2), stride=(2, 2), pool_type="max").asnumpy()
    found = respond(maps.astype(np.float32), weights, biases)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, out.reshape(37, filters, -1).transpose(0, 2, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("queries", [HELD_OUT, LEFT_OUT], ids=["held out", "left out"])
@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("listed", [1, 32, 1000])
def test_votes_are_those_of_brute_force(digits, weights, metric, queries, spread, listed):
    """Whether lists certify none of the queries or all of them."""
    fitness = KernelFitness(*digits, REFERENCES, kind="accuracy", metric=metric, listed=listed)
    asked = task(weights, "conv2", 3, queries, spread)
    votes, values = fitness.votes(asked), fitness.evaluate(asked)
    for vector, found, value in zip(asked.vectors, votes, values):
        candidate = plugged(weights, "conv2", 3, vector)
        expected = brute(*digits, candidate, queries, metric=metric)[1]
        np.testing.assert_array_equal(found, expected)
        assert value == (expected == digits[1][queries]).mean() == fitness.score(candidate, "conv2", queries)


def test_votes_are_scikit_learns(digits, weights):
    fitness = KernelFitness(*digits, REFERENCES, kind="accuracy", k=5)
    asked = task(weights, "conv2", 0, HELD_OUT, 0.1, 3)
    for vector, found in zip(asked.vectors, fitness.votes(asked)):
        features = kernels.features(digits[0], Kernels(*plugged(weights, "conv2", 0, vector)))
        theirs = KNeighborsClassifier(5, algorithm="brute").fit(features[REFERENCES], digits[1][REFERENCES])
        np.testing.assert_array_equal(found, theirs.predict(features[HELD_OUT]))


def test_a_filter_after_the_whole_layer(digits, weights):
    """The same weights and queries: what was kept for one kind of task is not taken for the other."""
    fitness, layer = KernelFitness(*digits, REFERENCES, kind="accuracy"), task(weights, "conv2", None, HELD_OUT, 0.1, 2)
    one = task(weights, "conv2", 3, HELD_OUT, 0.1)
    expected = KernelFitness(*digits, REFERENCES, kind="accuracy").evaluate(one)
    first = fitness.evaluate(layer)
    np.testing.assert_array_equal(fitness.evaluate(one), expected)
    np.testing.assert_array_equal(fitness.evaluate(layer), first)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_the_first_layer_by_its_maps(digits, weights, metric):
    fitness = KernelFitness(*digits, REFERENCES, kind="accuracy", metric=metric, listed=32)
    asked = task(weights, "conv1", 2, HELD_OUT, 0.1)
    for vector, found in zip(asked.vectors, fitness.votes(asked)):
        expected = brute(*digits, plugged(weights, "conv1", 2, vector), HELD_OUT, "conv1", metric)[1]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("filter", [2, None])
def test_the_first_layer_through_the_second(digits, weights, filter):
    fitness = KernelFitness(*digits, REFERENCES, kind="accuracy", conv1="conv2")
    asked = task(weights, "conv1", filter, HELD_OUT, 0.1, 3)
    for vector, value in zip(asked.vectors, fitness.evaluate(asked)):
        expected = brute(*digits, plugged(weights, "conv1", filter, vector), HELD_OUT)[1]
        assert value == (expected == digits[1][HELD_OUT]).mean()


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_a_whole_layer_as_one_candidate(digits, weights, layer):
    fitness = KernelFitness(*digits, REFERENCES, kind="accuracy")
    asked = task(weights, layer, None, HELD_OUT, 0.05, 3)
    for vector, value in zip(asked.vectors, fitness.evaluate(asked)):
        expected = brute(*digits, plugged(weights, layer, None, vector), HELD_OUT, layer)[1]
        assert value == (expected == digits[1][HELD_OUT]).mean()


def soft(distances, labels, queries, tau):
    """The definition of the soft fitness, in extended precision."""
    shares = np.exp(-(distances - distances.min(axis=1, keepdims=True)).astype(np.longdouble) / tau)
    right = (shares * (labels[REFERENCES] == labels[queries][:, None])).sum(axis=1) / shares.sum(axis=1)
    return np.log(np.maximum(right, 1e-12)).mean()


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("queries", [HELD_OUT, LEFT_OUT], ids=["held out", "left out"])
@pytest.mark.parametrize("listed", [20, 300])
def test_the_soft_fitness_is_its_definition(digits, weights, metric, queries, listed):
    """Over the references that are nearest without the channel: all 300, or 20."""
    fitness = KernelFitness(*digits, REFERENCES, kind="nca", metric=metric, listed=listed)
    tau = fitness.temperature(weights, "conv2", queries)
    asked = task(weights, "conv2", 3, queries, 0.2, tau=tau)
    without = brute(*digits, plugged(weights, "conv2", 3, np.zeros(37)), queries, metric=metric)[0]
    outside = np.argsort(np.argsort(without, axis=1), axis=1) >= listed
    for vector, value in zip(asked.vectors, fitness.evaluate(asked)):
        candidate = plugged(weights, "conv2", 3, vector)
        distances = brute(*digits, candidate, queries, metric=metric)[0]
        whole = fitness.score(candidate, "conv2", queries, kind="nca", tau=tau)
        assert whole == pytest.approx(soft(distances, digits[1], queries, tau), rel=1e-4)
        distances[outside] = np.inf
        assert value == pytest.approx(soft(distances, digits[1], queries, tau), rel=1e-4)


def test_the_temperature_is_the_neighbours_scale(digits, weights):
    found = KernelFitness(*digits, REFERENCES, k=7).temperature(weights, "conv2", LEFT_OUT)
    distances = np.sort(brute(*digits, weights, LEFT_OUT)[0], axis=1)
    assert found == pytest.approx(0.2 * np.median(distances[:, 6]), rel=1e-5)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_equal_distances_go_by_index(metric):
    """Every image occurs several times under different labels: ties everywhere."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 28, 28)).astype(np.uint8)[np.arange(300) % 12]
    labels = rng.integers(0, 4, 300)
    weights = weights_of(banks.random(1, (2, 3)))
    fitness = KernelFitness(images, labels, np.arange(200), kind="accuracy", metric=metric, listed=40)
    asked = task(weights, "conv2", 1, np.arange(150, 300), 0.1)
    expected = []
    for query in asked.queries:
        twins = [r for r in range(200) if r % 12 == query % 12 and r != query][:9]
        expected.append(np.bincount(labels[twins], minlength=4).argmax())
    for found in fitness.votes(asked):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_a_dead_filter_and_dead_images(digits, weights, metric):
    """Filters that answer nothing, and blank images whose features are all zero."""
    images, labels = digits[0].copy(), digits[1]
    images[[3, 5, 301]] = 0
    weights = weights._replace(bias1=np.zeros(4, np.float32), bias2=np.zeros(6, np.float32))
    asked = task(weights, "conv2", 2, HELD_OUT, 0.1)
    asked.vectors[1] = 0
    found = KernelFitness(images, labels, REFERENCES, kind="accuracy", metric=metric, listed=32).votes(asked)
    blank = HELD_OUT == 301  # a zero vector has no direction: its cosine is left to the distance's own convention
    for vector, votes in zip(asked.vectors, found):
        with np.errstate(invalid="ignore"):
            expected = brute(images, labels, plugged(weights, "conv2", 2, vector), HELD_OUT, metric=metric)[1]
        kept = ~blank if metric == "cosine" else slice(None)
        np.testing.assert_array_equal(votes[kept], expected[kept])


def test_threads_blocks_and_order_change_no_bit(digits, weights):
    tasks = [task(weights, "conv2", f, q, 0.1, seed=f) for f in (0, 4) for q in (HELD_OUT, LEFT_OUT)]
    for kind in ("nca", "accuracy"):
        one = KernelFitness(*digits, REFERENCES, kind=kind)
        expected = [one.evaluate(t) for t in tasks]
        other = pickle.loads(pickle.dumps(KernelFitness(*digits, REFERENCES, kind=kind, threads=3)))
        for t, values in list(zip(tasks, expected))[::-1]:
            np.testing.assert_array_equal(other.evaluate(t), values)
            np.testing.assert_array_equal(one.evaluate(t), values)


def test_caches_follow_the_kernels(digits, weights):
    """The same filter after another one, or the first layer, has changed."""
    fitness = KernelFitness(*digits, REFERENCES, kind="accuracy")
    fitness.evaluate(task(weights, "conv2", 0, HELD_OUT, 0.1))
    for layer in ("conv2", "conv1"):
        changed = plugged(weights, layer, 1, 3 * vector_of(weights, layer, 1))
        again = task(changed, "conv2", 0, HELD_OUT, 0.1)
        fresh = KernelFitness(*digits, REFERENCES, kind="accuracy").evaluate(again)
        np.testing.assert_array_equal(fitness.evaluate(again), fresh)


def test_a_vector_is_plugged_where_it_was_read(weights):
    for layer, filter in (("conv1", 1), ("conv2", 5), ("conv1", None), ("conv2", None)):
        vector = vector_of(weights, layer, filter) + 1
        changed = plugged(weights, layer, filter, vector)
        np.testing.assert_allclose(vector_of(changed, layer, filter), vector, rtol=1e-6)
        difference = sum(int((a != b).sum()) for a, b in zip(weights, changed))
        assert difference == len(vector)


def test_votes_of_whole_matrices():
    distances = np.array([[3.0, 1, 2, 1], [1, 1, 1, 1], [np.inf, 2, 2, 1]])
    labels = np.array([2, 0, 1, 2])
    assert channel_distances.votes(distances, labels, 2, n_classes=3, rounding=1e-12).tolist() == [0, 0, 0]
    assert channel_distances.votes(distances, labels, 3, n_classes=3, rounding=1e-12).tolist() == [0, 0, 0]
    assert channel_distances.votes(distances, labels, 1, n_classes=3, rounding=1e-12).tolist() == [0, 2, 2]


@pytest.mark.parametrize("change, message", [
    ({"images": np.zeros((450, 28, 28))}, "uint8"), ({"labels": np.zeros(3, int)}, "one for each of 450"),
    ({"labels": np.zeros(450, int)}, "one class"), ({"k": 299}, "k, .* from 1 to 298"),
    ({"k": 0}, "k, .*got 0"), ({"k": 2.5}, "k, .*got 2.5"), ({"threads": 0}, "threads"),
    ({"kind": "f1"}, "accuracy or nca"), ({"metric": "l1"}, "l2 or cosine"), ({"conv1": "pool2"}, "pool1 or conv2"),
    ({"references": np.array([1, 1])}, "each once"), ({"references": np.array([450])}, "0..449"),
    ({"references": np.array([], int)}, "one or more")])
def test_what_cannot_be_used(digits, change, message):
    arguments = {"images": digits[0], "labels": digits[1], "references": REFERENCES, **change}
    with pytest.raises(InputError, match=message):
        KernelFitness(**arguments)


def test_what_cannot_be_evaluated(digits, weights):
    fitness = KernelFitness(*digits, REFERENCES)
    asked = task(weights, "conv2", 0, HELD_OUT, 0.1)
    with pytest.raises(InputError, match="candidates, 37"):
        fitness.evaluate(asked._replace(vectors=asked.vectors[:, 1:]))
    with pytest.raises(InputError, match="finite"):
        fitness.evaluate(asked._replace(vectors=asked.vectors * np.nan))
    with pytest.raises(InputError, match="infinite"), np.errstate(all="ignore"):
        fitness.evaluate(asked._replace(vectors=asked.vectors * 1e39))
    with pytest.raises(InputError, match="0..449"):
        fitness.evaluate(asked._replace(queries=np.array([450])))
    with pytest.raises(InputError, match="NaN"), np.errstate(all="ignore"):
        fitness.score(weights._replace(conv2=weights.conv2 * np.float32(np.inf)), "conv2", HELD_OUT)
    with pytest.raises(InputError, match="one filter"):
        fitness.votes(task(weights, "conv2", None, HELD_OUT, 0.1))
