"""The original's layer against NumPy, its fast form against the step-by-step one, and the control."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_gunn import assert_same, forward_backward, original, parameters, randomised

from mxelm.backbones.gluon import count_parameters
from mxelm.errors import InputError
from mxelm.gunn import FastOriginalGunn, OriginalGunn, OriginalSunn
from mxelm.runtime import mx

LAYERS = [OriginalGunn, FastOriginalGunn, OriginalSunn]


def noise(number, batch, n, size):
    return np.random.default_rng(number).normal(0, 1, (2, batch, n, *size))


def running(found):
    return {name: value for name, value in found.items() if "running" in name}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("n, K", [(6, 2), (3, 3), (7, 1)])
@pytest.mark.parametrize("train", [True, False])
def test_the_layer_is_the_loop(kind, shortcut, n, K, train):
    """Output, and running statistics after a training step; in inference they stay."""
    layer, (x, dy) = randomised(kind(n, K, shortcut), 1), noise(2, 3, n, (4, 5))
    before = parameters(layer)
    expected, statistics = original(x, before, K, train, gradually=kind is not OriginalSunn)
    found = forward_backward(layer, x, dy, train)
    np.testing.assert_allclose(found["output"], expected, rtol=0, atol=1e-10)
    assert len(running(found)) == (8 if shortcut else 6) * n // K
    for name, value in running(found).items():
        np.testing.assert_allclose(value, statistics[name] if train else before[name], rtol=1e-10, atol=1e-12)


def test_running_statistics_answer_after_training():
    layer, (x, dy) = randomised(FastOriginalGunn(8, 4), 1), noise(2, 3, 8, (4, 4))
    forward_backward(layer, x, dy)
    expected, _ = original(x, parameters(layer), 4, train=False)
    np.testing.assert_allclose(layer(mx.nd.array(x, dtype="float64")).asnumpy(), expected, rtol=0, atol=1e-10)


def test_gradients_are_those_of_the_loop():
    layer, (x, dy) = randomised(FastOriginalGunn(6, 2), 3), noise(4, 3, 6, (4, 4))
    before = {**parameters(layer), "x": x}
    found = forward_backward(layer, x, dy)
    rng = np.random.default_rng(5)
    direction = {name: rng.normal(0, 1, value.shape) for name, value in before.items() if "running" not in name}

    def value(step):
        moved = {name: v + step * direction.get(name, 0) for name, v in before.items()}
        return (dy * original(moved.pop("x"), moved, 2, train=True)[0]).sum()

    expected = (value(1e-6) - value(-1e-6)) / 2e-6
    assert sum((found[name] * direction[name]).sum() for name in direction) == pytest.approx(expected, rel=1e-5)


# the same function, fast

@settings(max_examples=12, deadline=None)
@given(m=st.sampled_from([1, 2, 4, 5, 6, 11]), K=st.sampled_from([1, 2, 3]), batch=st.integers(2, 3),
       size=st.tuples(st.integers(3, 5), st.integers(3, 5)), shortcut=st.booleans(), train=st.booleans(),
       hybrid=st.booleans(), number=st.integers(0, 2**20))
def test_fast_is_the_same_function(m, K, batch, size, shortcut, train, hybrid, number):
    """Output, every gradient, and running statistics, in groups that are full, cut short, or one step."""
    x, dy = noise(number, batch, m * K, size)
    slow, fast = (randomised(kind(m * K, K, shortcut), number) for kind in (OriginalGunn, FastOriginalGunn))
    if hybrid:
        slow.hybridize()
        fast.hybridize()
    assert_same(forward_backward(fast, x, dy, train), forward_backward(slow, x, dy, train))


@pytest.mark.parametrize("shortcut, K", [(True, 12), (False, 40)])
def test_fast_is_the_same_function_at_the_original_s_blocks(shortcut, K):
    x, dy = noise(7, 3, 7 * K, (4, 4))
    slow, fast = (randomised(kind(7 * K, K, shortcut), 8) for kind in (OriginalGunn, FastOriginalGunn))
    fast.hybridize(static_alloc=True, static_shape=True)
    for _ in range(2):
        assert_same(forward_backward(fast, x, dy), forward_backward(slow, x, dy))
    found = [layer(mx.nd.array(x, dtype="float64")).asnumpy() for layer in (fast, slow)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-9)


# parameters

@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("n, K", [(240, 12), (36, 12), (80, 40), (5, 1)])
def test_parameters_by_formula(kind, n, K):
    with_shortcut, without = (count_parameters(kind(n, K, shortcut)) for shortcut in (True, False))
    assert with_shortcut["trainable"] == 3 * n * n + 38 * n * K + 12 * n
    assert without["trainable"] == 2 * n * n + 38 * n * K + 10 * n
    assert with_shortcut["non_trainable"] == 12 * n and without["non_trainable"] == 10 * n


@pytest.mark.parametrize("shortcut", [True, False])
def test_all_three_have_the_same_parameters(shortcut):
    found = [{name: p.shape for name, p in kind(24, 12, shortcut)._collect_params_with_prefix().items()}
             for kind in LAYERS]
    assert found[0] == found[1] == found[2] and len(found[0]) == 2 * (20 if shortcut else 15)


def test_no_convolution_has_a_bias():
    assert not [name for name in OriginalGunn(24, 12)._collect_params_with_prefix() if "bias" in name]


# what is refused

@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("n, K", [(241, 12), (6, 12), (0, 12), (12, 0)])
def test_channels_that_are_no_multiple_of_K(kind, n, K):
    with pytest.raises(InputError, match=f"{n} channels are not a multiple of K = {K}|of at least 1, got {min(n, K)}"):
        kind(n, K)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("hybrid", [False, True])
def test_images_of_other_channels(kind, hybrid):
    layer = kind(24, 12)
    layer.initialize()
    layer.hybridize(hybrid)
    with pytest.raises(InputError, match=r"takes \(batch, 24, height, width\), got \(2, 12, 4, 4\)"):
        layer(mx.nd.zeros((2, 12, 4, 4)))
