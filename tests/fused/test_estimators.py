"""The estimators over images: in memory and from a Dataset, against `mxelm.fused.job` itself."""
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from mxelm import data
from mxelm.data import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import InputError
from mxelm.fused import fit
from mxelm.fused.estimators import FusedELMClassifier, FusedELMRegressor


@pytest.fixture
def dataset(image_folder):
    return data.load(str(image_folder))


@pytest.fixture
def images(dataset):
    return [dataset.image(i) for i in range(len(dataset))]


@pytest.fixture
def labels(dataset):
    return np.array(dataset.classes)[dataset.targets]


def test_a_list_of_images_of_any_sizes(tiny_backbone, images, labels):
    model = FusedELMClassifier(tiny_backbone, n_neurons=40, random_state=1).fit(images, labels)
    assert list(model.classes_) == ["blue", "green", "red"]
    assert model.score(images, labels) == np.mean(model.predict(images) == labels) > 0.8
    assert model.decision_function(images).shape == (len(images), 3)


def test_a_dataset_gives_what_fit_gives(tiny_backbone, dataset, labels):
    model = FusedELMClassifier(tiny_backbone, n_neurons=40, random_state=1).fit(dataset)
    own = fit(tiny_backbone, dataset, n_neurons=40, seed=1)
    images = [dataset.image(i) for i in range(len(dataset))]
    np.testing.assert_array_equal(model.decision_function(images), own.predictor.scores(images))
    assert model.fit_.selection.l2 == own.selection.l2
    np.testing.assert_array_equal(model.predict(dataset), model.predict(images))
    assert model.score(dataset) == np.mean(model.predict(dataset) == labels)


def test_a_dataset_is_scored_by_names_of_classes(tiny_backbone, dataset):
    model = FusedELMClassifier(tiny_backbone, n_neurons=40, l2=1.0, random_state=1).fit(dataset)
    assert model.score(dataset.only(["red", "blue", "green"])) == model.score(dataset) > 0.8


def test_an_array_of_the_networks_own_size_and_two_classes(tiny_backbone):
    rng = np.random.default_rng(0)
    bright = np.arange(60) % 2 == 1
    images = (rng.integers(0, 60, (60, 16, 16, 3)) + 120 * bright[:, None, None, None]).astype(np.uint8)
    model = FusedELMClassifier(tiny_backbone, n_neurons=30, l2=1.0).fit(images, bright)
    scores = model.decision_function(images)
    assert scores.shape == (60,) and np.array_equal(model.predict(images), scores > 0)
    assert model.score(images, bright) > 0.9
    grey = model.predict(list(images[..., 0]))
    assert grey.shape == (60,) and grey.dtype == bool


def test_clone_parameters_and_cross_validation(tiny_backbone, tiny_checkpoint, images, labels):
    model = FusedELMClassifier(tiny_checkpoint, n_neurons=30, l2=1.0, random_state=3)
    twin = clone(model.fit(images, labels))
    assert twin.get_params() == model.get_params() and not hasattr(twin, "predictor_")
    np.testing.assert_array_equal(twin.fit(images, labels).decision_function(images), model.decision_function(images))
    of_object = clone(FusedELMClassifier(tiny_backbone, n_neurons=30, l2=1.0, random_state=3)).fit(images, labels)
    np.testing.assert_array_equal(of_object.decision_function(images), model.decision_function(images))
    assert cross_val_score(model, images, labels, cv=2).mean() > 0.6


@pytest.mark.parametrize("columns", [None, 2])
def test_regression(tiny_backbone, images, columns):
    y = np.array([image[..., :columns or 1].mean(axis=(0, 1)) for image in images]) / 255
    y = y if columns else y[:, 0]
    model = FusedELMRegressor(tiny_backbone, n_neurons=40, l2=1e-3).fit(images, y)
    assert model.predict(images).shape == y.shape and model.score(images, y) > 0.7
    names = [f"mean {i}" for i in range(columns or 1)]
    array = ArraySource(np.stack([image[:20, :20] for image in images]), "crops")
    of_dataset = Dataset(array, y.reshape(len(y), -1), names, "crops", kind="regression")
    again = FusedELMRegressor(tiny_backbone, n_neurons=40, l2=1e-3).fit(of_dataset)
    assert again.predict(of_dataset).shape == (len(y), columns or 1) and again.score(of_dataset) > 0.7


def test_what_cannot_be_is_refused(tiny_backbone, dataset, images, labels):
    model = FusedELMClassifier(tiny_backbone, n_neurons=10, l2=1.0)
    with pytest.raises(InputError, match="targets"):
        model.fit(images)
    with pytest.raises(InputError, match="36 images and 35 targets"):
        model.fit(images, labels[:-1])
    with pytest.raises(InputError, match="leave y out"):
        model.fit(dataset, labels)
    with pytest.raises(InputError, match="image 2 is float64"):
        model.fit([*images[:2], images[2] / 255, *images[3:]], labels)
    with pytest.raises(ValueError, match="continuous"):
        model.fit(images, np.linspace(0, 1, len(images)))
    with pytest.raises(InputError, match="regression"):
        FusedELMRegressor(tiny_backbone, n_neurons=10).fit(dataset)
    with pytest.raises(ValueError, match="NaN"):
        FusedELMRegressor(tiny_backbone, n_neurons=10).fit(images, np.full(len(images), np.nan))
