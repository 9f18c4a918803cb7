"""The sliced classifier: any network, any cut, against scikit-learn on activations had another way."""
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier

from mxelm import data
from mxelm.containers import load_container, save_container
from mxelm.errors import FileError, InputError
from mxelm.knn_slicing import SlicedClassifier, banks, kernels, networks
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx


@pytest.fixture(scope="module")
def digits():
    """(300 images, labels, 60 images, labels): digits blown up to 28x28."""
    found = data.load("digits")
    images = np.pad(np.repeat(np.repeat(found.source.images[:360], 3, 1), 3, 2), ((0, 0), (2, 2), (2, 2)))
    return images[:300], found.targets[:300], images[300:], found.targets[300:360]


@pytest.fixture(scope="module")
def fitted(digits):
    return SlicedClassifier(banks.random(0)).fit(*digits[:2])


@pytest.mark.parametrize("k, weights, metric", [(9, "uniform", "cosine"), (1, "uniform", "l2"), (4, "distance", "l2"),
                                                (12, "distance", "cosine")])
def test_same_as_scikit_learn(digits, k, weights, metric):
    images, labels, queries, truth = digits
    bank = banks.random(0)
    mine = SlicedClassifier(bank, k=k, weights=weights, metric=metric).fit(images, labels)
    name = "euclidean" if metric == "l2" else metric
    other = KNeighborsClassifier(k, weights=weights, algorithm="brute", metric=name)
    other.fit(kernels.features(images, bank), labels)
    given = kernels.features(queries, bank)
    np.testing.assert_array_equal(mine.kneighbors(queries)[1], other.kneighbors(given)[1])
    np.testing.assert_array_equal(mine.predict(queries), other.predict(given))
    assert mine.score(queries, truth) == other.score(given, truth) > 0.8


def test_a_trained_networks_child(digits):
    images, labels, queries, _ = digits
    net = networks.network("8")
    net.initialize(mx.init.Xavier())
    mine = SlicedClassifier(net, cut="pool2").fit(images, labels)
    whole = SlicedClassifier(banks.backprop(net)).fit(images, labels)
    np.testing.assert_allclose(mine.references_, whole.references_, rtol=1e-5, atol=1e-6)
    assert SlicedClassifier(net, cut="dense1").fit(images, labels).references_.shape == (300, 8)
    assert SlicedClassifier(net).fit(images, labels).references_.shape == (300, 10)
    assert SlicedClassifier(net, cut="net_conv1_fwd_output").fit(images[:20], labels[:20]).references_.shape[1] == 21632


def test_a_nested_child_of_any_network(digits):
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    inner = nn.HybridSequential()
    inner.add(nn.Conv2D(4, 5, activation="tanh"), nn.GlobalAvgPool2D())
    net.add(inner, nn.Dense(3))
    net.initialize()
    net(mx.nd.zeros((1, 3, 20, 20)))
    mine = SlicedClassifier(net, cut="0.1", preprocessing=Preprocessing((20, 20), "stretch", scale=1 / 255), k=3)
    mine.fit(digits[0], digits[1])
    assert mine.references_.shape == (300, 4)
    batch = mx.nd.array(mine.backbone_.preprocessing(digits[0][7])[None])
    np.testing.assert_allclose(mine.references_[7], inner(batch).asnumpy().reshape(-1), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_and_a_dataset(tiny_checkpoint, image_folder):
    dataset = data.load(str(image_folder))
    model = SlicedClassifier(tiny_checkpoint, k=3, metric="l2").fit(dataset)
    assert model.references_.shape == (36, 8) and list(model.classes_) == ["blue", "green", "red"]
    assert model.score(dataset) > 0.8
    assert model.score(dataset.only(["red", "blue", "green"])) == model.score(dataset)
    earlier = SlicedClassifier(tiny_checkpoint, cut="pool0_output", k=3).fit(dataset)
    assert earlier.references_.shape == (36, 6 * 8 * 8)
    images = [dataset.image(i) for i in range(len(dataset))]  # of different sizes
    np.testing.assert_array_equal(model.predict(images), model.predict(dataset))


def test_names_are_not_compared_with_numbers(fitted, digits):
    with pytest.raises(InputError, match="'3' cannot be compared .* like 0: give both as names or both as numbers"):
        fitted.score(digits[2][:1], np.array(["3"]))


def test_bytes(fitted):
    assert fitted.bytes == {"kernels": 4 * 18_816, "references": 300 * (4 * 1600 + 8)}


def test_file(fitted, digits, tmp_path):
    fitted.save(tmp_path / "model")
    again = SlicedClassifier.load(tmp_path / "model")
    for got, expected in zip(again.kneighbors(digits[2]), fitted.kneighbors(digits[2])):
        np.testing.assert_array_equal(got, expected)
    assert again.get_params()["k"] == 9 and again.score(*digits[2:]) == fitted.score(*digits[2:])


def test_names_of_classes_survive(digits, tmp_path):
    images, labels, queries, _ = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], object)
    model = SlicedClassifier(banks.random(0), k=3).fit(images, names[labels])
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(SlicedClassifier.load(tmp_path / "model").predict(queries), model.predict(queries))
    assert set(model.predict(queries)) <= set(names)


def test_damaged_and_foreign_files_are_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    (tmp_path / "cut").write_bytes(content[:len(content) // 2])
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 16
    (tmp_path / "flipped").write_bytes(flipped)
    banks.random(0).save(tmp_path / "kernels")
    meta, arrays = load_container(tmp_path / "model", "sliced-classifier")
    for name, change in (("labels", {"labels": arrays["labels"] + 8}), ("rows", {"labels": arrays["labels"][1:]}),
                         ("narrow", {"references": arrays["references"][:, 1:]})):
        save_container(tmp_path / name, "sliced-classifier", meta, {**arrays, **change})
    save_container(tmp_path / "graph", "sliced-classifier", {**meta, "symbol": "{}"}, arrays)
    save_container(tmp_path / "many", "sliced-classifier", {**meta, "k": 301}, arrays)
    save_container(tmp_path / "empty", "sliced-classifier", {}, {})
    for name in ("cut", "flipped", "kernels", "labels", "rows", "narrow", "graph", "many", "empty", "missing"):
        with pytest.raises(FileError, match=name):
            SlicedClassifier.load(tmp_path / name)


def test_clone(fitted):
    twin = clone(fitted)
    assert twin.k == 9 and not hasattr(twin, "references_")
    with pytest.raises(NotFittedError):
        twin.predict(np.zeros((1, 28, 28), np.uint8))


def test_what_cannot_be_is_refused(digits, tiny_backbone):
    images, labels, _, _ = digits
    bank = banks.random(0)
    with pytest.raises(InputError, match="prefix of a checkpoint, got int"):
        SlicedClassifier(5).fit(images, labels)
    with pytest.raises(InputError, match="one class"):
        SlicedClassifier(bank).fit(images[:20], np.zeros(20, int))
    with pytest.raises(InputError, match="from 1 to 8, got 9"):
        SlicedClassifier(bank).fit(images[:8], labels[:8])
    with pytest.raises(InputError, match="there are 300 images and 299 targets"):
        SlicedClassifier(bank).fit(images, labels[1:])
    with pytest.raises(InputError, match="use uniform or distance"):
        SlicedClassifier(bank, weights="rank").fit(images, labels)
    with pytest.raises(InputError, match="image 0 is float64"):
        SlicedClassifier(bank).fit(images / 255, labels)
    with pytest.raises(InputError, match="no output 'pool9'"):
        SlicedClassifier(networks.from_kernels(bank), cut="pool9").fit(images, labels)
    with pytest.raises(InputError, match="cut already"):
        SlicedClassifier(tiny_backbone, cut="pool0_output").fit(images, labels)


def test_activations_that_are_not_finite_are_refused(digits):
    huge = banks.random(0)
    huge = huge.replace(conv1=huge.conv1 * 1e30, conv2=huge.conv2 * 1e30)
    with pytest.raises(InputError, match="activations of image 0 are not finite"):
        SlicedClassifier(huge).fit(*digits[:2])
