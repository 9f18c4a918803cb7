"""Each rule against its definition, and its promise by simulation."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mxelm import calibration
from mxelm.errors import InputError

ALL = np.ones


def falling(n):
    return np.arange(n, 0, -1.0)  # the j-th largest is n + 1 - j


@pytest.mark.parametrize("rule, n, budget, place", [
    ("paper", 100, 0.05, 5), ("paper", 100, 0.29, 29), ("paper", 99, 0.05, 4),
    ("conformal", 99, 0.05, 5), ("conformal", 100, 0.05, 5), ("conformal", 299, 0.01 / 3, 1)])
def test_the_rule_takes_the_place_that_the_paper_says(rule, n, budget, place):
    assert calibration.threshold(falling(n), ALL(n), budget, rule=rule) == n + 1 - place


@pytest.mark.parametrize("rule, n, budget", [("paper", 19, 0.05), ("conformal", 18, 0.05), ("conformal", 298, 0.01 / 3),
                                             ("pac", 689, 0.01 / 3), ("paper", 0, 0.5)])
def test_too_few_rows_promise_nothing(rule, n, budget):
    assert calibration.threshold(falling(n), ALL(n), budget, rule=rule) == np.inf


def test_pac_needs_690_rows_where_the_notes_say_so():
    assert calibration.threshold(falling(690), ALL(690), 0.01 / 3, rule="pac") == 690
    assert calibration.threshold(falling(690), ALL(690), 0.01 / 3, rule="pac", confidence=0.95) == np.inf


def test_rows_that_may_be_accepted_count_for_the_budget_alone():
    scores, wrong = falling(100), np.zeros(100, bool)
    wrong[[10, 20, 30]] = True
    assert calibration.threshold(scores, wrong, 0.02) == scores[20]
    assert calibration.threshold(scores, wrong, 0.05) == -np.inf


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.01, 0.99),
       st.sampled_from(calibration.RULES))
def test_ties_never_break_the_budget_on_the_rows_themselves(scores, budget, rule):
    scores = np.array(scores, float)
    t = calibration.threshold(scores, ALL(len(scores)), budget, rule=rule)
    assert (scores > t).sum() <= budget * (len(scores) + 1) + 1e-6


@pytest.mark.parametrize("alpha, n_exits", [(0.05, 1), (0.05, 3), (0.3, 5)])
def test_budgets_are_the_talks_or_keep_the_total(alpha, n_exits):
    m = np.arange(1, n_exits + 1)
    np.testing.assert_allclose(calibration.budgets(alpha, n_exits), alpha * m / n_exits)
    np.testing.assert_allclose(calibration.budgets(alpha, n_exits).sum(), alpha * (n_exits + 1) / 2)
    assert (calibration.budgets(alpha, n_exits, weights="equal") == alpha).all()
    total = calibration.budgets(alpha, n_exits, weights="total")
    np.testing.assert_allclose(total[:-1].sum(), alpha if n_exits > 1 else 0)
    assert total[-1] == 0


@pytest.mark.parametrize("n, epsilon, k", [(460, 0.005, 0), (459, 0.005, -1), (1000, 0.005, 1), (3030, 0.005, 9),
                                           (10000, 0.005, 40), (1000, 0.01, 5), (3030, 0.01, 22)])
def test_as_many_losses_are_safe_as_the_notes_say(n, epsilon, k):
    losses = np.zeros((60, n), bool)
    for member in range(60):
        losses[member, :member] = True
    assert calibration.largest_safe(losses, epsilon, 0.9) == k


def test_the_walk_stops_at_the_first_unsafe_member():
    losses = np.zeros((4, 1000), bool)
    losses[1, :300] = True
    assert calibration.largest_safe(losses, 0.01, 0.9) == 0


# promises, by simulation: wrong acceptances of new rows, over 200 draws of the rows that calibrate

def far(rule, n, budget, draws=200, seed=0):
    """The exact share of a standard normal above each draw's threshold."""
    rng = np.random.default_rng(seed)
    return np.array([stats.norm.sf(calibration.threshold(rng.normal(size=n), ALL(n), budget, rule=rule))
                     for _ in range(draws)])


@pytest.mark.parametrize("rule", ["paper", "conformal"])
@pytest.mark.parametrize("n, budget", [(324, 0.01), (50, 0.1)])
def test_the_expected_share_stays_within_the_budget(rule, n, budget):
    shares = far(rule, n, budget)
    assert shares.mean() <= budget + 3 * shares.std() / np.sqrt(len(shares))


@pytest.mark.parametrize("n, budget", [(324, 0.01), (755, 0.02)])
def test_pac_breaks_its_budget_in_a_tenth_of_the_draws_at_most(n, budget):
    violations = (far("pac", n, budget) > budget).mean()
    assert violations <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)


def test_the_largest_safe_member_breaks_its_promise_in_a_tenth_of_the_draws_at_most():
    rng = np.random.default_rng(1)
    risks = np.linspace(0, 0.02, 21)
    chosen = [calibration.largest_safe(rng.random(2000) < risks[:, None], 0.01, 0.9) for _ in range(200)]
    violations = np.mean([risks[member] > 0.01 for member in chosen if member >= 0])
    assert violations <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)
    assert np.mean(chosen) > 3  # and it does not buy that by promising nothing


@pytest.mark.parametrize("call, message", [
    (lambda: calibration.threshold([1.0], [True], 0), "budget must lie between 0 and 1, got 0"),
    (lambda: calibration.threshold([1.0], [True], 1.5), "budget must lie between 0 and 1, got 1.5"),
    (lambda: calibration.threshold([np.nan, 1], [True, True], 0.1), "1 of 2 scores are NaN"),
    (lambda: calibration.threshold([1.0], [True, False], 0.1), "of one length"),
    (lambda: calibration.threshold([1.0], [True], 0.1, rule="bayes"), "use paper, conformal or pac"),
    (lambda: calibration.threshold([1.0], [True], 0.1, rule="pac", confidence=1), "confidence must lie between"),
    (lambda: calibration.budgets(1, 3), "alpha must lie between 0 and 1, got 1"),
    (lambda: calibration.budgets(0.1, 3, weights="bh"), "weights 'bh' is not known"),
    (lambda: calibration.budgets(0.1, 0), "n_exits must be a whole number of at least 1"),
    (lambda: calibration.largest_safe([True], 0.1, 0.9), r"\(members, rows\)")])
def test_what_cannot_be_promised_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
