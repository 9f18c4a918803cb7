"""Decisions by hand; promises by simulation on digits, 200 splits."""
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC

from mxelm.early_exit import Recipe
from mxelm.early_exit.baselines import cascaded_thresholds, cdl_stages
from mxelm.early_exit.fitting import thresholds_of
from mxelm.early_exit.heads import cross_validated, head, held_out
from mxelm.early_exit.placement import area, curve, place
from mxelm.early_exit.rules import Judged, decide, false_acceptance, far_thresholds, path, risk_thresholds
from mxelm.errors import InputError
from mxelm.pooling import l2_normalised

SCORES = np.array([[1.5, 0.2, -1], [0.4, 0.6, 0.5], [-2, -1, -0.5], [0.9, 0.9, 0]], np.float32)


@pytest.mark.parametrize("confidence, sure, leaves", [
    ("top", [1.5, 0.6, -0.5, 0.9], [True, True, False, True]),
    ("margin", [1.3, 0.1, 0.5, 0], [True, False, False, False]),
    ("single", [1.5, 0.6, -0.5, 0.9], [True, True, False, False])])
def test_an_exit_decides_by_its_confidence(confidence, sure, leaves):
    labels, found, left = decide(SCORES, 0.5, confidence)
    np.testing.assert_array_equal(labels, [0, 1, 2, 0])
    np.testing.assert_allclose(found, sure, atol=1e-6)
    np.testing.assert_array_equal(left, leaves)


def test_what_is_accepted_falsely_is_the_best_other_class():
    y = np.array([0, 0, 2, 1])
    scores, wrong = false_acceptance(SCORES, y)
    np.testing.assert_allclose(scores, [0.2, 0.6, -1, 0.9])
    assert wrong.all()
    margins, wrong = false_acceptance(SCORES, y, "margin")
    np.testing.assert_array_equal(wrong, [False, True, False, True])


def test_the_documents_example_by_hand():
    y = np.array([0, 0, 1, 1, 2])
    first = np.array([[0.9, -0.4, -0.8], [0.2, 0.1, -0.6], [-0.5, 0.7, -0.2], [0.4, 0.3, -0.9], [-0.7, -0.3, 0.6]])
    second = np.array([[1, 0.5, 0], [1, 0.2, 0], [-2, 1, 0], [-1, 1, -0.1], [-0.6, -1, 1]])
    t = far_thresholds([first, second, second], y, 0.6, rule="paper")
    np.testing.assert_array_equal(t, [0.4, 0.2, -np.inf])
    np.testing.assert_array_equal(decide(first, t[0])[2], [True, False, True, False, True])


def test_too_few_images_leave_nobody_and_say_so(caplog):
    scores = [np.random.default_rng(0).normal(size=(20, 3))] * 3
    found = far_thresholds(scores, np.zeros(20, int), 0.01, names=["first", "second", "third"])
    np.testing.assert_array_equal(found, [np.inf, np.inf, -np.inf])
    assert "20 held-out images are too few" in caplog.text and "at second" in caplog.text


def test_saturated_scores_never_leave():
    scores = np.zeros((100, 2))
    scores[:, 1] = 1  # every row is sure of class 1, and half of them wrongly
    t = far_thresholds([scores, scores], np.arange(100) % 2, 0.1)
    assert t[0] == 1 and not decide(scores, t[0])[2].any()


# judged rows and the path

@pytest.fixture(scope="module")
def digits():
    """Features of three growing parts of an image, L2-normed, and labels."""
    x, y = load_digits(return_X_y=True)
    rows = l2_normalised(x.astype(np.float32) + 1e-3)
    return [l2_normalised(part) for part in (rows[:, 16:28], rows[:, 12:44], rows)], y


@pytest.fixture(scope="module")
def judged(digits):
    x, y = digits
    scores = [cross_validated("svm", part, y, 10) for part in x]
    return Judged(scores, y, "margin")


def test_rows_leave_at_the_first_exit_that_is_sure(judged):
    t = np.array([0.5, 0.8, -np.inf])
    exits = judged.exits(t)
    for i in range(0, len(exits), 50):
        sure = [judged.confidences[m, i] > t[m] for m in range(2)] + [True]
        assert exits[i] == sure.index(True)
        assert judged.answers(t)[i] == judged.labels[exits[i], i]
    assert judged.loss(t) <= judged.harmed(t).mean()
    assert judged.seconds(t, [1, 2, 3]) == pytest.approx((exits + 1).mean())


def test_the_path_goes_from_nobody_to_everybody_and_never_back(judged):
    family = path(judged, [1.0, 2.0, 3.0])
    assert (family[1:] <= family[:-1]).all()
    assert (judged.exits(family[0]) == 2).all() and (judged.exits(family[-1]) == 0).all()
    times = [judged.seconds(t, [1.0, 2.0, 3.0]) for t in family]
    assert (np.diff(times) <= 1e-12).all()


def test_the_path_takes_what_a_late_exit_has_to_give():
    """Rows by sureness: the first exit has the surest 40 % right, the second 70 %, the last all of them."""
    sure, seconds = np.linspace(1, 0, 600), np.array([0.3, 0.6, 1.0])
    scores = [np.stack([np.where(np.arange(600) < right, sure, 0), np.where(np.arange(600) < right, 0, sure)], axis=1)
              for right in (240, 420, 600)]
    judged = Judged(scores, np.zeros(600, int), "margin")
    best = min(judged.seconds(t, seconds) for t in path(judged, seconds) if not judged.harmed(t).any())
    assert best == pytest.approx(0.4 * 0.3 + 0.3 * 0.6 + 0.3, abs=0.02)  # nearly all of it, by levels of a thirtieth


def test_the_best_place_is_the_best_of_all_places(judged):
    seconds = np.array([1.0, 2.0, 3.0])
    exits, t, expected = place(judged, seconds, 0.01, n_exits=1)
    by_hand = {}
    for m in (0, 1):
        part = judged.of_exits([m, 2])
        by_hand[m] = min(part.seconds(t, seconds[[m, 2]]) for t in path(part, seconds[[m, 2]], net=True)
                        if part.loss(t) <= 0.01)
    assert exits == (min(by_hand, key=by_hand.get), 2) and expected == pytest.approx(min(by_hand.values()))
    assert place(judged, seconds, 0.01, n_exits=2)[2] <= expected
    assert place(judged, seconds, 0.01, n_exits=2, decision=5.0)[2] > 5
    with pytest.raises(InputError, match="2 candidates for early exits, 3 are wanted"):
        place(judged, seconds, 0.01, n_exits=3)


def test_the_area_of_a_flat_curve_is_one(judged):
    assert area(np.array([3.0, 2.0, 1.0]), np.array([0.9, 0.9, 0.9])) == pytest.approx(1)
    seconds, accuracies = curve(judged, judged, [1.0, 2.0, 3.0])
    assert 0.7 < area(seconds, accuracies) <= 1.05


# baselines

def test_cascaded_inference_takes_the_least_threshold_that_is_accurate_enough():
    top = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True, True])
    scores = np.stack([np.where(right, top, 1 - top), np.where(right, 1 - top, top)], axis=1)
    y = np.zeros(5, int)
    assert decide(scores, cascaded_thresholds([scores] * 2, y, 0)[0])[2].tolist() == [True, False, False, False, False]
    assert decide(scores, cascaded_thresholds([scores] * 2, y, 0.2)[0])[2].all()


def test_cdl_keeps_a_stage_whose_gain_exceeds_its_cost():
    sure = np.tile([0.9, 0.1], (10, 1))
    unsure = np.tile([0.5, 0.5], (10, 1))
    y, seconds = np.zeros(10, int), [1, 2, 10]
    assert cdl_stages([sure, sure, sure], y, seconds, 0.1, 0.7) == [0, 2]  # nobody is left for the second
    assert cdl_stages([unsure, sure, sure], y, seconds, 0.1, 0.7) == [1, 2]
    assert cdl_stages([sure, sure, sure], y, seconds, 20, 0.7) == [2]


# promises

@pytest.fixture(scope="module")
def populations(digits):
    """Scores at every exit by classifiers of 600 digits; of the other digits, the population that one draws from."""
    x, y = digits
    train = np.random.default_rng(0).permutation(len(y))[:600]
    rest = np.setdiff1d(np.arange(len(y)), train)
    scores = [head(LinearSVC().fit(part[train], y[train]), 10)(part[rest]) for part in x]
    return scores, y[rest]


def drawn(populations, splits=200):
    """(scores, y) of rows that calibrate, drawn with replacement: the population then is the truth."""
    scores, y = populations
    for split in range(splits):
        rows = np.random.default_rng(split).integers(0, len(y), len(y))
        yield [s[rows] for s in scores], y[rows]


@pytest.mark.parametrize("confidence", ["top", "margin"])
@pytest.mark.parametrize("rule", ["conformal", "paper"])
def test_the_mean_false_acceptance_rate_stays_within_alpha_m(populations, rule, confidence):
    alpha, rates = 0.06, []
    recipe = Recipe(rule=rule, alpha=alpha, weights="paper", confidence=confidence)
    whole = [false_acceptance(s, populations[1], confidence) for s in populations[0]]
    for scores, y in drawn(populations):
        t = thresholds_of(scores, y, recipe)
        rates.append([(wrong & (s > t[m])).mean() for m, (s, wrong) in enumerate(whole[:2])])
    rates = np.array(rates)
    budget = alpha * np.array([1, 2]) / 3
    assert (rates.mean(axis=0) <= budget + 3 * rates.std(axis=0) / np.sqrt(len(rates))).all()


def test_pac_and_risk_break_their_promise_in_a_tenth_of_the_splits_at_most(populations):
    most = 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)
    pac = Recipe(rule="pac", alpha=0.1, weights="equal", confidence="top")
    whole = false_acceptance(populations[0][0], populations[1])[0]
    over = [(whole > thresholds_of(scores, y, pac)[0]).mean() > 0.1 for scores, y in drawn(populations)]
    assert np.mean(over) <= most
    truth, harmed, saved = Judged(*populations, "margin"), [], []
    for scores, y in drawn(populations):
        t = risk_thresholds(scores, y, 0.02, [1.0, 2.0, 3.0])
        harmed.append(truth.harmed(t).mean() > 0.02)
        saved.append(truth.seconds(t, [1.0, 2.0, 3.0]))
    assert np.mean(harmed) <= most
    assert np.mean(saved) < 2.9  # and somebody leaves


def test_too_few_rows_for_a_risk_leave_nobody_and_say_so(caplog):
    scores = [np.random.default_rng(0).normal(size=(60, 3)) for _ in range(2)]
    np.testing.assert_array_equal(risk_thresholds(scores, np.zeros(60, int), 0.001, [1, 2]), [np.inf, -np.inf])
    assert "60 scored images are too few to promise with certainty 0.9 that 0.1 points are lost at most: give 3453" in (
        caplog.text)


@pytest.mark.parametrize("change, message", [
    ({"rule": "bayes"}, "one of paper, conformal, pac, fixed, risk, not 'bayes'"), ({"scores": "training"}, "held_out"),
    ({"alpha": 0}, "alpha must lie between 0 and 1"), ({"max_loss": 1}, "max_loss must lie"),
    ({"rule": "fixed"}, "needs thresholds")])
def test_recipes_that_cannot_be_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Recipe(**change)


def test_the_held_out_rows_are_a_stratified_share(digits):
    x, y = digits
    _, scores, rest = held_out("svm", x[0], y, 10, fraction=0.3)
    assert len(scores) == len(rest) == pytest.approx(0.3 * len(y), abs=1)
    assert abs(np.bincount(y[rest]) / np.bincount(y) - 0.3).max() < 0.02
