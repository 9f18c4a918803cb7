"""The report's layer against NumPy, the fast form against the step-by-step one, and the control."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_gunn import assert_same, forward_backward, gradual, gunn2d, parameters, randomised, simultaneous

from mxelm.backbones.gluon import count_parameters
from mxelm.errors import InputError
from mxelm.gunn import FastGunn2D, Gunn2D, Sunn2D
from mxelm.gunn.fast import folded, telescoped
from mxelm.runtime import mx, seed

SHAPES = [(1, 1, (3, 3)), (6, 2, (4, 5)), (6, 6, (3, 4)), (9, 1, (2, 2)), (60, 20, (3, 3))]


def noise(number, batch, n, size):
    rng = np.random.default_rng(number)
    return rng.normal(0, 1, (2, batch, n, *size))  # an input, and a gradient of the output


# the layer as one teaches it

@pytest.mark.parametrize("kind", [Gunn2D, FastGunn2D])
@pytest.mark.parametrize("n, K, size", SHAPES)
def test_the_layer_is_the_loop(kind, n, K, size):
    layer, (x, _) = randomised(kind(n, K), 1), noise(2, 2, n, size)
    found = layer(mx.nd.array(x, dtype="float64")).asnumpy()
    np.testing.assert_allclose(found, gunn2d(x, parameters(layer)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("n, K, size", SHAPES)
def test_the_control_reads_the_untouched_input(n, K, size):
    layer, (x, _) = randomised(Sunn2D(n, K), 1), noise(2, 2, n, size)
    found = layer(mx.nd.array(x, dtype="float64")).asnumpy()
    np.testing.assert_allclose(found, gunn2d(x, parameters(layer), simultaneous), rtol=0, atol=1e-11)
    gunn = randomised(Gunn2D(n, K), 1)
    assert {name: p.shape for name, p in parameters(gunn).items()} == {
        name: p.shape for name, p in parameters(layer).items()}
    if n > 1:
        assert np.abs(found - gunn2d(x, parameters(gunn))).max() > 0.01


@pytest.mark.parametrize("kind", [Gunn2D, FastGunn2D])
def test_gradients_are_those_of_the_loop(kind):
    """Along a random direction of input and parameters, by central differences of the NumPy loop."""
    layer, (x, dy) = randomised(kind(6, 2), 3), noise(4, 2, 6, (4, 4))
    found, values = forward_backward(layer, x, dy), {**parameters(layer), "x": x}
    rng = np.random.default_rng(5)
    direction = {name: rng.normal(0, 1, value.shape) for name, value in values.items()}

    def value(step):
        moved = {name: v + step * direction[name] for name, v in values.items()}
        return (dy * gunn2d(moved.pop("x"), moved)).sum()

    expected = (value(1e-6) - value(-1e-6)) / 2e-6
    assert sum((found[name] * direction[name]).sum() for name in values) == pytest.approx(expected, rel=1e-6)


def test_the_example_of_the_documentation():
    """One pixel of three channels, one channel a step."""
    x, W, b = np.array([1.0, 2, 3]), np.array([1.0, -1, 2]), np.zeros(1)
    pixel, kernel = x.reshape(1, 3, 1, 1), W.reshape(1, 3, 1, 1)
    assert gradual(pixel, kernel, b).ravel().tolist() == [5, 9, 2]
    assert simultaneous(pixel, kernel, b).ravel().tolist() == [5, 5, 5]
    F, (pixel, kernel, b) = mx.nd, (mx.nd.array(value) for value in (pixel, kernel, b))
    assert Gunn2D(3, 1).update(F, pixel, kernel, b, 1, 1).asnumpy().ravel().tolist() == [5, 9, 2]
    assert telescoped(F, pixel, kernel, b, 1, 3, 1).asnumpy().ravel().tolist() == [5, 9, 2]
    M, c = folded(F, kernel, b, 1, 3)
    assert M.asnumpy().reshape(3, 3).tolist() == [[1, -1, 2], [1, -2, 4], [0, 1, 0]] and c.asnumpy().tolist() == [0] * 3


@pytest.mark.parametrize("kind", [Gunn2D, FastGunn2D, Sunn2D])
@pytest.mark.parametrize("n, count", [(240, 48281), (300, 60341), (360, 72401)])
def test_parameters_of_the_report(kind, n, count):
    assert count_parameters(kind(n)) == {"total": count, "trainable": count, "non_trainable": 0}


@given(m=st.integers(1, 40), K=st.sampled_from([20, 20, 3]))
def test_parameters_by_formula(m, K):
    n = m * K
    expected = 201 * n + 41 if K == 20 else K * n + K + 9 * K * n + K + n + 1
    assert count_parameters(Gunn2D(n, K))["total"] == expected


# the same function, fast

@settings(max_examples=25, deadline=None)
@given(K=st.sampled_from([1, 2, 3, 5, 16, 17, 20]), m=st.integers(1, 4), batch=st.integers(1, 3),
       size=st.tuples(st.integers(1, 5), st.integers(1, 5)), train=st.booleans(), hybrid=st.booleans(),
       number=st.integers(0, 2**20))
def test_fast_is_the_same_function(K, m, batch, size, train, hybrid, number):
    x, dy = noise(number, batch, m * K, size)
    slow, fast = (randomised(kind(m * K, K), number) for kind in (Gunn2D, FastGunn2D))
    if hybrid:
        slow.hybridize()
        fast.hybridize()
    assert_same(forward_backward(fast, x, dy, train), forward_backward(slow, x, dy, train))


@pytest.mark.parametrize("options", [None, {}, {"static_alloc": True, "static_shape": True}])
def test_fast_is_the_same_function_at_the_report_s_channels(options):
    x, dy = noise(7, 2, 240, (3, 4))
    slow, fast = (Gunn2D(240), FastGunn2D(240))
    for layer in (slow, fast):
        layer.initialize()
        layer.cast("float64")
        if options is not None:
            layer.hybridize(**options)
    for name, p in slow._collect_params_with_prefix().items():
        fast._collect_params_with_prefix()[name].set_data(p.data())
    for _ in range(2):  # a static graph is made in the first pass and used again in the second
        assert_same(forward_backward(fast, x, dy), forward_backward(slow, x, dy))
    found = [layer(mx.nd.array(x, dtype="float64")).asnumpy() for layer in (fast, slow)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-10)


def test_a_kernel_that_makes_the_channels_grow():
    """Products of many factors 1 + w: the fold is exact where values are large too."""
    fast, (x, _) = randomised(FastGunn2D(40, 1), 3), noise(4, 1, 40, (2, 2))
    fast.W3.set_data(mx.nd.full(fast.W3.shape, 0.5, dtype="float64"))
    expected = gunn2d(x, parameters(fast))
    assert np.abs(expected).max() > 1e5
    np.testing.assert_allclose(fast(mx.nd.array(x, dtype="float64")).asnumpy(), expected, rtol=1e-9)


# initial values

@pytest.mark.parametrize("kind", [Gunn2D, FastGunn2D, Sunn2D])
def test_biases_begin_as_random_as_weights(kind):
    layer = kind(600, 600, prefix="wide_")
    seed(3)
    np.random.seed(3)
    layer.initialize(mx.init.Zero())  # what the network is initialised with does not count
    values = parameters(layer)
    for name in ("W1", "W2", "W3", "b1", "b2"):
        assert values[name].std() == pytest.approx(0.05, rel=0.15) and abs(values[name].mean()) < 0.01
    assert 0 < abs(values["b3"][0]) < 0.25
    assert len({values[name].ravel()[0] for name in values}) == 6


# what is refused

@pytest.mark.parametrize("kind", [Gunn2D, FastGunn2D, Sunn2D])
@pytest.mark.parametrize("n, K", [(241, 20), (10, 20), (0, 20), (-20, 20), (20, 0), (20, -20)])
def test_channels_that_are_no_multiple_of_K(kind, n, K):
    with pytest.raises(InputError, match=f"{n} channels are not a multiple of K = {K}|of at least 1, got {min(n, K)}"):
        kind(n, K)


@pytest.mark.parametrize("n, K", [(40, 2.5), (40.0, 20), ("40", 20)])
def test_channels_are_whole_numbers(n, K):
    with pytest.raises(InputError, match="must be a whole number of at least 1"):
        Gunn2D(n, K)


@pytest.mark.parametrize("kind", [Gunn2D, FastGunn2D, Sunn2D])
@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("shape", [(2, 20, 4, 4), (2, 60, 4, 4), (40, 4, 4)])
def test_images_of_other_channels(kind, hybrid, shape):
    layer = kind(40)
    layer.initialize()
    layer.hybridize(hybrid)
    for _ in range(2):  # before and after the layer has seen what fits
        with pytest.raises(InputError, match=r"takes \(batch, 40, height, width\), got"):
            layer(mx.nd.zeros(shape))
        assert layer(mx.nd.zeros((1, 40, 4, 4))).shape == (1, 40, 4, 4)
