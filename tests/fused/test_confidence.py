"""Temperature and calibration error against float64 NumPy and a known answer."""
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from mxelm.errors import InputError
from mxelm.fused.confidence import calibration_error, confidences, fit_temperature


@pytest.fixture
def drawn():
    """Labels drawn from softmax(scores / 0.3)."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 5))
    labels = np.array([rng.choice(5, p=p) for p in confidences(scores, 0.3)])
    return scores, labels


def test_the_temperature_that_labels_were_drawn_by_is_found(drawn):
    scores, labels = drawn
    assert fit_temperature(scores, labels) == pytest.approx(0.3, rel=0.05)
    assert calibration_error(confidences(scores, fit_temperature(scores, labels)), labels) < 0.02
    assert calibration_error(confidences(scores, 0.03), labels) > 0.1


def test_it_is_the_minimum_of_the_smoothed_cross_entropy(drawn):
    scores, labels = drawn[0][:50], drawn[1][:50]
    targets = np.full((50, 5), 0.2 / 51)
    targets[np.arange(50), labels] = 50.2 / 51
    found = minimize(lambda t: -np.sum(targets * log_softmax(scores / np.exp(t), axis=1)), np.zeros(1), tol=1e-10)
    assert fit_temperature(scores, labels) == pytest.approx(float(np.exp(found.x[0])), rel=1e-6)


def test_a_sample_counts_as_often_as_its_weight_says(drawn):
    scores, labels, times = drawn[0][:60], drawn[1][:60], np.arange(60) % 4
    repeated = fit_temperature(np.repeat(scores, times, axis=0), np.repeat(labels, times))
    assert fit_temperature(scores, labels, times) == pytest.approx(repeated, rel=1e-9)


def test_a_few_right_answers_are_no_certainty():
    scores, labels = np.eye(3), np.arange(3)
    assert confidences(scores, fit_temperature(scores, labels)).max() == pytest.approx((3 + 1 / 3) / 4, rel=1e-3)


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_the_scale_of_scores_does_not_matter(drawn, factor):
    scores, labels = drawn
    assert fit_temperature(factor * scores, labels) == pytest.approx(factor * fit_temperature(scores, labels), rel=1e-3)


def test_equal_scores_and_no_samples():
    np.testing.assert_allclose(confidences(np.zeros((2, 4)), fit_temperature(np.zeros((2, 4)), np.array([0, 1]))), 0.25)
    with pytest.raises(InputError, match="samples"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    # 0.9: one of two right, off by 0.4; 0.8: both right, off by 0.2
    assert calibration_error(probabilities, np.array([0, 1, 1, 1])) == pytest.approx((2 * 0.4 + 2 * 0.2) / 4)
