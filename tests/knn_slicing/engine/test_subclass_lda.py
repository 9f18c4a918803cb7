"""Subclass discriminant analysis against scikit-learn's LDA, and what it adds."""
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mxelm.errors import InputError
from mxelm.knn_slicing.engine import subclass_lda


@pytest.fixture
def samples():
    """Four classes in 12 correlated dimensions."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 4
    means = rng.normal(0, 2, (4, 12))
    x = (means[labels] + rng.normal(size=(600, 12)) @ rng.normal(size=(12, 12))).astype(np.float32)
    return x + 7, labels


def test_as_many_subclasses_as_samples_are_refused(samples):
    x, labels = samples
    with pytest.raises(InputError, match="8 samples are too few for 8 subclasses"):
        subclass_lda.fit(x[:8], labels[:8], n_components=8, n_subclasses=2, n_dims=3, shrinkage=0.02, seed=0)


def test_with_one_subclass_it_is_lda(samples):
    x, labels = samples
    whitening, W, groups = subclass_lda.fit(x, labels, n_components=12, n_subclasses=1, n_dims=3, shrinkage=0.0, seed=0)
    np.testing.assert_array_equal(np.unique(groups), range(4))
    found = whitening.apply(x) @ W
    expected = LinearDiscriminantAnalysis(solver="eigen").fit_transform(x, labels)
    for i in range(3):
        assert abs(np.corrcoef(found[:, i], expected[:, i])[0, 1]) == pytest.approx(1, abs=1e-4)


def test_scatter_within_subclasses_is_round(samples):
    x, labels = samples
    whitening, _, groups = subclass_lda.fit(x, labels, n_components=12, n_subclasses=2, n_dims=3, shrinkage=0.0, seed=0)
    assert groups.max() == 7 and all(len(set(labels[groups == g])) == 1 for g in range(8))
    z = whitening.apply(x)
    means = np.stack([z[groups == g].mean(axis=0) for g in range(8)])
    np.testing.assert_allclose(np.cov((z - means[groups]).T, bias=True), np.eye(12), atol=2e-3)


def test_fewer_components_keep_the_leading_directions(samples):
    x, labels = samples
    whitening, W, _ = subclass_lda.fit(x, labels, n_components=5, n_subclasses=1, n_dims=3, shrinkage=0.02, seed=0)
    assert whitening.A.shape == (12, 5) and W.shape == (5, 3)
    principal = np.linalg.svd(x - x.mean(axis=0))[2][:5]
    outside = whitening.A - principal.T @ (principal @ whitening.A)
    assert np.abs(outside).max() < 1e-3 * np.abs(whitening.A).max()
