import numpy as np
import pytest
from maps_network import LAYERS, PREPROCESSING, backbone, block, images
from sklearn.exceptions import NotFittedError

from mxelm.containers import load_container, save_container
from mxelm.errors import FileError, InputError
from mxelm.feature_maps import Cache, MatchingClassifier
from mxelm.feature_maps.gain import DoesNotPay, Gain
from mxelm.feature_maps.search import distance


def fitted(network=None, layers=LAYERS, **options):
    options = {"must_pay": False, "budget": 0.1, "batch": 16, **options}
    return MatchingClassifier(network or backbone(), layers, preprocessing=PREPROCESSING, **options)


@pytest.fixture(scope="module")
def model():
    return fitted().fit(images(240))


def test_every_decision_is_the_nearest_cached_image_or_the_networks(model):
    """Against a walk through the layers by hand, one image at a time."""
    test, network = images(50, seed=1), model.backbone_
    made, V = model.decide(test), Cache.of(network, test, LAYERS).descriptors
    own = network.extract([test.image(i) for i in range(50)]).argmax(axis=1)
    assert {-1, 0, 1} >= set(made.layer) and (made.layer >= 0).any()
    for i in range(50):
        expected = own[i], -1, -1
        for m, layer in enumerate(LAYERS):
            D = [distance(V[layer][i], T) for T in model.cache_.descriptors[layer]]
            if min(D) < model.thresholds_[m]:
                expected = model.cache_.labels[np.argmin(D)], m, np.argmin(D)
                assert made.distance[i] == pytest.approx(min(D), abs=1e-6)
                break
        assert (made.labels[i], made.layer[i], made.neighbour[i]) == expected


def test_wrong_hits_stay_within_the_budget_on_the_calibration_images():
    """Labels at random: no match is right but by chance."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (400, 12, 12), np.uint8)
    y = rng.integers(0, 3, 400)
    model = fitted(budget=0.05).fit(noise, y)
    held = images(2)  # any two classes
    made = model.decide(noise[np.arange(400)])
    wrong = (made.layer >= 0) & (model.classes_[made.labels] != y)
    assert wrong.mean() <= 0.05 and len(held) == 2
    assert (fitted(budget=0.0001).fit(noise, y).decide(noise).layer == -1).all()  # too few images to promise it


@pytest.mark.parametrize("make", [backbone, block])
def test_given_images_arrays_or_a_dataset(make):
    dataset = images(120)
    pixels, names = dataset.source.images, np.array(dataset.classes)[dataset.targets]
    a, b = fitted(make()).fit(dataset), fitted(make()).fit(pixels, names)
    assert a.predict(pixels).tolist() == b.predict(dataset).tolist()
    assert a.score(dataset) == b.score(pixels, names)
    assert a.thresholds_ == pytest.approx(b.thresholds_)


def test_saved_and_loaded_it_decides_the_same(model, tmp_path):
    test = images(40, seed=2)
    model.save(tmp_path / "model")
    again = MatchingClassifier.load(tmp_path / "model")
    for a, b in zip(vars(model.decide(test)).values(), vars(again.decide(test)).values()):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert again.predict(test).tolist() == model.predict(test).tolist()
    assert again.cache_.ids == model.cache_.ids and again.gain_ == model.gain_
    meta, arrays = load_container(tmp_path / "model", "matching-classifier")
    del arrays[f"V.{LAYERS[0]}"]
    save_container(tmp_path / "lacking", "matching-classifier", meta, arrays)
    (tmp_path / "cut").write_bytes((tmp_path / "model").read_bytes()[:-5])
    for name in ("lacking", "cut", "none"):
        with pytest.raises(FileError, match=name):
            MatchingClassifier.load(tmp_path / name)


def test_an_image_whose_maps_are_dead_matches_nothing(model):
    """Without biases a black image leaves only zeros, and V of zeros is like nothing, not even like itself."""
    black = np.zeros((5, 12, 12), np.uint8)
    dark = fitted(budget=0.5).fit(np.concatenate([black, images(120).source.images]), np.arange(125) % 3)
    assert (dark.decide(black).layer == -1).all()
    constant = dark.decide(np.full((1, 12, 12), 9, np.uint8))
    assert constant.labels.shape == (1,)


def test_a_cache_of_another_network_or_other_classes_is_refused():
    cache = Cache.of(backbone(), images(60), LAYERS)
    assert fitted(layers=LAYERS[1:]).fit(images(60, seed=1), cache=cache).chain_.exits[:-1] == tuple(LAYERS[1:])
    with pytest.raises(FileError, match="another run: its relu1_fwd_output differs"):
        fitted(backbone(seed=1)).fit(images(60), cache=cache)
    other = images(60)
    other.classes = ["a", "b", "c"]
    with pytest.raises(InputError, match="the cache has other classes"):
        fitted().fit(other, cache=cache)


def test_what_cannot_be_fitted():
    for told, change, data in (("all images are of one class", {}, images(30).only([0])),
                               ("3 scores and the images have 2 classes", {}, images(30, 2)),
                               ("rule 'best' is not known", {"rule": "best"}, images(30)),
                               ("search 'fast' is not known", {"search": "fast"}, images(30)),
                               ("budget must lie between", {"budget": 0}, images(30)),
                               ("no output 'relu9'", {"layers": ["relu9"]}, images(30)),
                               ("network is a Gluon block", {"network": 3}, images(30))):
        with pytest.raises(InputError, match=told):
            fitted(**change).fit(data)
    with pytest.raises(NotFittedError):
        fitted().predict(images(3))


def test_a_cache_that_does_not_pay_is_refused_with_its_figures(monkeypatch):
    figures = Gain(hit_rate=0.5, skipped=0.001, search=0.002, network=0.003, batch=16)
    monkeypatch.setattr("mxelm.feature_maps.gain.measured", lambda *args: figures)  # seconds are the machine's
    with pytest.raises(DoesNotPay, match=r"180 images at relu2_fwd_output does not pay: .* % hits x .* ms skipped is "
                                         r"less than .* ms of search an image, in batches of 16"):
        fitted(layers=LAYERS[1:], must_pay=True, budget=0.02).fit(images(240))
    assert fitted(layers=LAYERS[1:], must_pay=False, budget=0.02).fit(images(240)).gain_ == figures
    with pytest.raises(InputError, match="60 held-out images are too few to keep wrong labels within 0.0001 of all "
                                         "images: give 9999 or more"):
        fitted(layers=LAYERS[1:], must_pay=True, budget=0.0001).fit(images(240))


def test_the_gain_is_hit_rate_times_cost_skipped_less_the_search():
    gain = Gain(hit_rate=0.5, skipped=0.010, search=0.001, network=0.016, batch=32)
    assert gain.saved == pytest.approx(0.004) and gain.speedup == pytest.approx(16 / 12)
    gain.require(100, ["conv1"])
