"""The estimators over ready features: scikit-learn's own checks, Ridge as the oracle, portions, weights."""
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, make_regression
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from mxelm.errors import InputError
from mxelm.fused import row_confidence, row_elm
from mxelm.fused.confidence import calibration_error
from mxelm.fused.projection import Projection
from mxelm.fused.row_estimators import ELMClassifier, ELMRegressor


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, np.array([f"digit {label}" for label in y])


def ill_conditioned(n=1100, n_features=6):
    """Rows whose columns differ by 1e-9 only, so that HᵀH has next to no rank."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 1)) + 1e-9 * rng.normal(size=(n, n_features))
    return X, rng.normal(size=(n, 2))


@pytest.mark.parametrize("estimator", [ELMClassifier(), ELMRegressor()], ids=["classifier", "regressor"])
def test_scikit_learns_own_checks(estimator):
    check_estimator(estimator)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [None, 3])
def test_regressor_is_ridge_on_hidden_rows(weighted, columns):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(700, 5)), rng.normal(5, 2, size=(700, columns or 1))
    y = y if columns else y[:, 0]
    weights = rng.uniform(0, 3, 700) if weighted else None
    ours = ELMRegressor(n_neurons=40, l2=0.3, random_state=4).fit(X, y, weights)
    H = np.tanh(X @ ours.projection_.W.T.astype(np.float64) + ours.bias_)
    ridge = Ridge(alpha=0.3, solver="cholesky").fit(H, y, weights)
    np.testing.assert_allclose(ours.predict(X), ridge.predict(H), rtol=1e-9)
    np.testing.assert_allclose(ours.beta_, np.atleast_2d(ridge.coef_).T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, ridge.intercept_, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::mxelm.fused.solver.IllConditionedWarning")
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 1100), max_size=12), fortran=st.booleans(), ask=st.booleans())
def test_any_portions_give_the_bits_of_fit_on_ill_conditioned_rows(cuts, fortran, ask):
    X, y = ill_conditioned()
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    whole = ELMRegressor(n_neurons=30, l2=1e-13, random_state=0).fit(X, y, weights)
    parts = ELMRegressor(n_neurons=30, l2=1e-13, random_state=0)
    edges = [0, *sorted(set(cuts) - {0, 1100}), 1100]
    for start, stop in zip(edges, edges[1:]):
        rows = X[start:stop]
        parts.partial_fit(np.asfortranarray(rows) if fortran else rows, y[start:stop], weights[start:stop])
        if ask and weights[:stop].any():
            parts.predict(X[:2])  # must not move the boundaries of blocks
    assert np.array_equal(parts.beta_, whole.beta_) and np.array_equal(parts.intercept_, whole.intercept_)


def test_row_by_row_gives_the_bits_of_fit(digits):
    X, y = digits[0][:600], digits[1][:600]
    whole = ELMClassifier(n_neurons=25, random_state=0).fit(X, y)
    parts = ELMClassifier(n_neurons=25, random_state=0)
    for i in range(len(X)):
        parts.partial_fit(X[i:i + 1], y[i:i + 1], classes=whole.classes_ if i == 0 else None)
    assert np.array_equal(parts.beta_, whole.beta_)


def test_a_row_of_weight_zero_leaves_no_trace(digits):
    X, y = digits
    weights = np.random.default_rng(2).integers(0, 2, len(X)).astype(float)
    kept = weights > 0
    options = {"n_neurons": 25, "random_state": 0}
    whole = ELMClassifier(**options).fit(X, y, weights)
    assert np.array_equal(whole.beta_, ELMClassifier(**options).fit(X[kept], y[kept]).beta_)


def test_partial_fit_only_accumulates_and_a_new_l2_needs_no_rows(digits, monkeypatch):
    X, y = digits
    solved = []
    solve = row_elm.solve_with_intercept
    monkeypatch.setattr(row_elm, "solve_with_intercept", lambda A, B, l2: solved.append(l2) or solve(A, B, l2))
    model = ELMClassifier(n_neurons=50, random_state=0)
    for rows in np.array_split(np.arange(len(X)), 7):
        model.partial_fit(X[rows], y[rows], classes=np.unique(y))
    assert solved == []
    model.predict(X)
    model.decision_function(X)
    assert solved == [1.0]
    model.set_params(l2=50.0)
    fresh = ELMClassifier(n_neurons=50, random_state=0, l2=50.0).fit(X, y)
    assert np.array_equal(model.decision_function(X), fresh.decision_function(X))


def test_a_fitted_model_goes_on_and_a_second_fit_forgets(digits):
    X, y = digits
    model = ELMClassifier(n_neurons=30, random_state=0).fit(X[:900], y[:900])
    model = pickle.loads(pickle.dumps(model)).partial_fit(X[900:], y[900:])
    whole = ELMClassifier(n_neurons=30, random_state=0).fit(X, y)
    assert np.array_equal(model.beta_, whole.beta_)
    assert np.array_equal(model.fit(X, y).beta_, whole.beta_)


def test_size_does_not_depend_on_the_number_of_rows(digits):
    X, y = (np.concatenate([part, part, part]) for part in digits)
    few, many = (ELMClassifier(n_neurons=30, random_state=0).fit(X[:n], y[:n]) for n in (2100, 5000))
    assert len(pickle.dumps(many)) - len(pickle.dumps(few)) < 10_000  # of 1.2 MB: numbers of rows are longer

    many.predict_proba(X[:1])
    assert len(many._confidence._held) == 2048


def test_confidences_are_calibrated_on_rows_judged_without_themselves(digits):
    X, y = digits
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:900], order[900:]
    for l2 in (1e-3, 1.0, 100.0):
        model = ELMClassifier(n_neurons=300, l2=l2, random_state=0).fit(X[train], y[train])
        P, codes = model.predict_proba(X[test]), np.searchsorted(model.classes_, y[test])
        assert calibration_error(P, codes) < 0.03
        np.testing.assert_array_equal(model.classes_[P.argmax(axis=1)], model.predict(X[test]))


def test_a_row_judged_without_itself_is_judged_by_the_model_of_the_others(digits):
    X, y, codes = digits[0][:120], digits[1][:120], np.searchsorted(np.unique(digits[1]), digits[1][:120])
    weights = np.linspace(0.1, 2, 120)
    model = ELMClassifier(n_neurons=30, l2=0.5, random_state=0).fit(X, y, weights)
    scores = model._running.scores_left_out(X, codes, weights, 0.5)
    for row in (0, 5, 77):
        rest = np.arange(120) != row
        other = ELMClassifier(n_neurons=30, l2=0.5, random_state=0).fit(X[rest], y[rest], weights[rest])
        np.testing.assert_allclose(scores[row:row + 1], other.decision_function(X[row:row + 1]), atol=1e-12)


def test_confidences_in_portions_are_those_of_fit(digits, monkeypatch):
    monkeypatch.setattr(row_confidence, "HELD", 200)
    X, y = digits
    weights = np.random.default_rng(2).integers(0, 2, len(X)).astype(float)
    whole = ELMClassifier(n_neurons=25, random_state=0).fit(X, y, weights)
    parts = ELMClassifier(n_neurons=25, random_state=0)
    for rows in np.array_split(np.arange(len(X)), 7):
        parts.partial_fit(X[rows], y[rows], np.unique(y), weights[rows])
    assert parts.temperature_ == whole.temperature_
    kept = np.flatnonzero(weights)
    assert ELMClassifier(n_neurons=25, random_state=0).fit(X[kept], y[kept]).temperature_ == whole.temperature_
    assert whole.set_params(l2=1e3).temperature_ != parts.temperature_


def test_W_and_bias_are_those_of_the_seed_whatever_the_data():
    X, y = make_regression(60, 9, random_state=0)
    one = ELMRegressor(n_neurons=12, random_state=5).fit(X, y)
    other = ELMRegressor(n_neurons=12, random_state=5).fit(1000 * X[:20] + 7, y[:20])
    assert one.projection_ == other.projection_ == Projection(12, 9, 5, 1 / 3)
    assert np.array_equal(one.bias_, other.bias_)
    wide = ELMRegressor(n_neurons=4000, random_state=5, scale=0.5).fit(X[:5], y[:5])
    assert abs(wide.bias_.std() - 0.5 * 3) < 0.05  # as much as XWᵀ on standardised features
    assert ELMRegressor(n_neurons=12, random_state=5, scale=0.5).fit(X, y).projection_.scale == 0.5
    drawn = [ELMRegressor(n_neurons=12, random_state=np.random.RandomState(s)).fit(X, y).projection_ for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_circle_is_told_from_what_surrounds_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = np.hypot(*X.T) > 1
    model = ELMClassifier(n_neurons=200, random_state=0).fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.9


def test_class_weights_are_sample_weights(digits):
    X, y = digits[0][:500], digits[1][:500]
    weight = {"digit 3": 4.0, "digit 8": 0.5}
    options = {"n_neurons": 40, "random_state": 0}
    expected = ELMClassifier(**options).fit(X, y, [weight.get(label, 1.0) for label in y]).decision_function(X)
    given = ELMClassifier(**options, class_weight=weight)
    np.testing.assert_allclose(given.fit(X, y).decision_function(X), expected, rtol=1e-9, atol=1e-10)
    parts = ELMClassifier(**options, class_weight=weight).partial_fit(X[:77], y[:77], classes=np.unique(y))
    np.testing.assert_array_equal(parts.partial_fit(X[77:], y[77:]).decision_function(X), given.decision_function(X))


def test_balanced_counts_a_sample_as_often_as_its_weight_says(digits):
    X, y = digits[0][:300], digits[1][:300]
    times = np.random.default_rng(0).integers(0, 4, len(y))
    times[y == "digit 2"] = 0
    options = {"n_neurons": 40, "random_state": 0, "class_weight": "balanced"}
    weighted = ELMClassifier(**options).fit(X, y, times)
    repeated = ELMClassifier(**options).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    kept = weighted.classes_ != "digit 2"
    np.testing.assert_allclose(weighted.decision_function(X)[:, kept], repeated.decision_function(X), atol=1e-9)
    assert not np.any(weighted.decision_function(X)[:, ~kept])


def test_pipeline_and_grid_search(digits):
    X, y = digits
    search = GridSearchCV(make_pipeline(StandardScaler(), ELMClassifier(n_neurons=200, random_state=0)),
                          {"elmclassifier__l2": [0.1, 10.0, 1e7]}, cv=3)
    assert search.fit(X[:1200], y[:1200]).best_params_["elmclassifier__l2"] < 1e7
    assert search.score(X[1200:], y[1200:]) > 0.85


def test_float32_rows_are_summed_in_float64(digits):
    X, y = digits[0].astype(np.float32), digits[1]
    models = [ELMClassifier(n_neurons=30, random_state=0).fit(rows, y) for rows in (X, X.astype(np.float64))]
    assert np.array_equal(models[0].beta_, models[1].beta_)


@pytest.mark.parametrize("option, value", [("n_neurons", 0), ("n_neurons", 2.5), ("l2", -1), ("l2", np.nan),
                                           ("scale", 0.0), ("scale", "wide"), ("class_weight", "even"),
                                           ("class_weight", {"digit 1": -1.0})])
def test_values_that_cannot_be_are_refused(digits, option, value):
    with pytest.raises(InputError, match="scale" if option == "scale" else "neuron" if "neuron" in option else option):
        ELMClassifier(**{"n_neurons": 10, option: value}).fit(*digits)


def test_partial_fit_says_what_it_misses(digits):
    X, y = digits
    model = ELMClassifier(n_neurons=10)
    with pytest.raises(InputError, match="first call"):
        model.partial_fit(X, y)
    with pytest.raises(InputError, match="digit 9"):
        model.partial_fit(X, y, classes=np.unique(y)[:9])
    model.partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(InputError, match="differ"):
        model.partial_fit(X, y, classes=np.unique(y)[:9])
    with pytest.raises(InputError, match="balanced"):
        ELMClassifier(class_weight="balanced").partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(InputError, match="columns"):
        ELMRegressor(n_neurons=10).partial_fit(X, X[:, :2]).partial_fit(X, X[:, :3])


def test_sample_weights_that_cannot_be_are_refused(digits):
    X, y = digits[0][:50], digits[1][:50]
    for weights, word in ((-np.ones(50), "negative"), (np.ones(49), "shape"), (np.zeros(50), "zero")):
        with pytest.raises(InputError, match=word):
            ELMClassifier(n_neurons=10).fit(X, y, weights)
    nothing = ELMClassifier(n_neurons=10).partial_fit(X, y, np.unique(y), np.zeros(50))
    with pytest.raises(InputError, match="positive weight"):
        nothing.predict(X)
