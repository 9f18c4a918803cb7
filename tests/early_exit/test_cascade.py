"""Cascades over a small network: fitted, answered, saved, run by bare MXNet."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import full_disk
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from tiny_network import tiny_params

from mxelm import data, early_exit, seals
from mxelm.backbones import Backbone
from mxelm.chain import Chain, unfused
from mxelm.data import Dataset
from mxelm.early_exit.features import exit_features, features_at
from mxelm.early_exit.heads import NEVER, Estimator, Linear, classifier, head
from mxelm.errors import FileError, InputError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

EXITS = ["relu0", "pool0"]
DOCS = Path(__file__).parents[2] / "docs" / "early-exit.md"


@pytest.fixture
def images(image_folder):
    return data.load(image_folder)


def fitted(backbone, images, **recipe):
    recipe = {"rule": "fixed", "thresholds": (0.3, 0.2), "classifier": "svm", **recipe}
    return early_exit.fit(backbone, images, EXITS, recipe=early_exit.Recipe(**recipe))


def batches(cascade, images, size=32):
    return images.module_iter(size, cascade.chain.backbone.preprocessing, labels=False)


# heads

@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("estimator, linear", [
    (LinearSVC(), True), (LogisticRegression(), True), (SGDClassifier(), True), (GaussianNB(), False),
    (RandomForestClassifier(5), False)])
def test_a_head_scores_as_its_classifier_does(estimator, linear, n_classes):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % n_classes
    made = head(estimator.fit(x, y), n_classes + 1)
    assert isinstance(made, Linear if linear else Estimator)
    np.testing.assert_array_equal(made(x).argmax(axis=1), estimator.predict(x))
    tells = getattr(estimator, "predict_proba", None) or estimator.decision_function
    if n_classes > 2:
        np.testing.assert_allclose(made(x)[:, :n_classes], tells(x), rtol=1e-3, atol=1e-4)
    assert (made(x)[:, n_classes] == (0 if hasattr(estimator, "predict_proba") else NEVER)).all()


def test_the_talks_classifiers_have_names():
    assert [type(classifier(name)).__name__ for name in ("lr", "rf", "svm", "ridge")] == \
        ["LogisticRegression", "RandomForestClassifier", "LinearSVC", "RidgeClassifier"]
    with pytest.raises(InputError, match="one of lr, rf, svm, ridge or a scikit-learn one, not 'knn'"):
        classifier("knn")


# answers

def test_answers_are_those_of_each_exit_by_itself(tiny_backbone, images):
    cascade = fitted(tiny_backbone, images)
    x, rows = exit_features(cascade.chain, images)
    scores = [h(part) for h, part in zip(cascade.heads, x)]
    cascade.thresholds[:2] = [np.quantile(s.max(axis=1), 0.6) for s in scores[:2]]
    found = cascade.answers(batches(cascade, images))
    for i in range(len(images)):
        exit = next(m for m in range(3) if m == 2 or scores[m][i].max() > cascade.thresholds[m])
        assert found.exits[i] == exit and found.labels[i] == scores[exit][i].argmax()
        assert found.confidences[i] == pytest.approx(scores[exit][i].max(), abs=1e-4)
    assert len(set(found.exits)) > 1
    assert rows.tolist() == list(range(len(images)))


@pytest.mark.parametrize("size", [1, 7])
def test_an_image_answers_alike_alone_and_in_any_batch(tiny_backbone, images, size):
    cascade = fitted(tiny_backbone, images, confidence="margin", thresholds=(0.4, 0.2))
    whole, parts = cascade.answers(batches(cascade, images)), cascade.answers(batches(cascade, images, size))
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_array_equal(whole.exits, parts.exits)


def test_what_has_left_is_not_computed(tiny_backbone, images, monkeypatch):
    cascade = fitted(tiny_backbone, images, thresholds=(-np.inf, np.inf))
    monkeypatch.setattr(cascade.chain._pieces[1], "__class__", type("Broken", (), {}))
    assert (cascade.answers(batches(cascade, images)).exits == 0).all()


def test_an_exit_at_which_nobody_leaves_decides_nothing(tiny_backbone, images):
    cascade = fitted(tiny_backbone, images, thresholds=(np.inf, np.inf))
    found = cascade.answer(next(batches(cascade, images)).data[0])
    assert (found.exits == 2).all() and np.isnan(found.seconds[:2]).all() and found.seconds[2] > 0


def test_bad_images_are_named(tiny_backbone, images):
    cascade = fitted(tiny_backbone, images)
    x = np.zeros((2, 3, 16, 16), np.float32)
    x[1] = np.nan
    with pytest.raises(InputError, match="images have features that are NaN or infinite"):
        cascade.answer(x)
    with pytest.raises(InputError, match=r"takes images of shape \(3, 16, 16\), got \(3, 20, 16\)"):
        cascade.answer(np.zeros((2, 3, 20, 16), np.float32))


def test_a_class_never_seen_is_never_answered(tiny_backbone, images):
    some = images.take(np.flatnonzero(images.targets != 1))
    cascade = fitted(tiny_backbone, some)
    assert 1 not in cascade.answers(batches(cascade, images)).labels


def test_numbers_that_do_not_fit_are_refused(tiny_backbone):
    chain = Chain(tiny_backbone, EXITS)
    with pytest.raises(InputError, match="3 exits needs as many classifiers and thresholds, got 2 and 3"):
        early_exit.Cascade(chain, [None, None], [0, 0, 0], ["a"])
    with pytest.raises(InputError, match="threshold is NaN"):
        early_exit.Cascade(chain, [None] * 3, [0, np.nan, 0], ["a"])


# fitting

def test_a_classifier_with_partial_fit_sees_a_block_at_a_time(tiny_backbone, images):
    sizes = []

    class Watched(SGDClassifier):
        def partial_fit(self, X, y, classes=None):
            sizes.append(len(X))
            return super().partial_fit(X, y, classes=classes)

    recipe = early_exit.Recipe(Watched(), "paper", alpha=0.3)
    cascade = early_exit.fit(tiny_backbone, images, EXITS, recipe=recipe, batch=8)
    assert max(sizes) <= len(images) * 0.3 + 1 and sum(sizes) == 3 * len(images)
    assert cascade.answers(batches(cascade, images)).labels.shape == (len(images),)


def test_one_class_is_refused(tiny_backbone, images):
    with pytest.raises(InputError, match="needs images of two classes or more"):
        early_exit.fit(tiny_backbone, images.take(np.flatnonzero(images.targets == 0)), EXITS)


def test_the_estimator_speaks_scikit_learn(tiny_backbone, images):
    model = early_exit.EarlyExitClassifier(backbone=tiny_backbone, exits=EXITS, rule="conformal", alpha=0.4)
    arrays = [images.image(i) for i in range(len(images))]
    names = np.array(images.classes)[images.targets]
    assert model.fit(arrays, names).score(arrays, names) > 0.6
    assert set(model.predict(arrays[:5])) <= set(names) and model.get_params()["alpha"] == 0.4
    assert model.fit(images).score(images) > 0.6
    with pytest.raises(InputError, match="needs labels"):
        model.fit(arrays)


# files

@pytest.mark.parametrize("kind", ["svm", "lr"])
def test_a_cascade_comes_back_from_its_files(tiny_backbone, images, tmp_path, kind):
    cascade = fitted(tiny_backbone, images, classifier=kind)
    early_exit.save(cascade, tmp_path / "cascade")
    again = early_exit.load(tmp_path / "cascade")
    before, after = (c.answers(batches(cascade, images)) for c in (cascade, again))
    np.testing.assert_array_equal(before.labels, after.labels)
    np.testing.assert_array_equal(before.exits, after.exits)
    np.testing.assert_allclose(before.confidences, after.confidences, atol=1e-5)
    assert again.classes == images.classes and again.chain.exits == cascade.chain.exits


def test_bare_mxnet_gets_a_shared_convolution_right(images, tmp_path):
    """A shortcut that reads a convolution: bare MXNet fuses it wrongly unless the segments are saved guarded."""
    d = mx.sym.var("data")
    c = mx.sym.Convolution(d, kernel=(3, 3), pad=(1, 1), num_filter=8, name="c")
    r = mx.sym.Activation(mx.sym.BatchNorm(c, name="bn", fix_gamma=False), act_type="relu", name="r")
    s = mx.sym.Convolution(r, kernel=(3, 3), pad=(1, 1), num_filter=8, name="d") + c
    e = mx.sym.Convolution(mx.sym.Activation(s, act_type="relu", name="relu0"), kernel=(3, 3), num_filter=8, name="e")
    end = mx.sym.flatten(mx.sym.Pooling(e, global_pool=True, pool_type="avg", kernel=(1, 1)), name="flatten")
    network = Backbone("shared", end, *tiny_params(end), Preprocessing((16, 16), "stretch"), cut="flatten_output")
    cascade = early_exit.fit(network, images, ["relu0"], recipe=early_exit.Recipe(rule="fixed", thresholds=(0.0,)))
    early_exit.save(cascade, tmp_path / "cascade")
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(tmp_path / "cascade" / "segment-1"), 0)
    x = next(batches(cascade, images)).data[0]
    scores = symbol.bind(mx.cpu(), {**arg_params, "data": x}, aux_states=aux_params).forward()[0].asnumpy()
    with unfused():
        found = next(iter(Chain(network, ["relu0"]).run(x)))[1]
    np.testing.assert_allclose(scores, cascade.heads[0](features_at(found)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("confidence", ["top", "margin"])
def test_bare_mxnet_runs_it(tiny_backbone, images, tmp_path, confidence):
    cascade = fitted(tiny_backbone, images, confidence=confidence)
    early_exit.save(cascade, tmp_path / "cascade")
    x = next(batches(cascade, images)).data[0].asnumpy()
    np.save(tmp_path / "x.npy", x[:6])
    code = DOCS.read_text(encoding="utf-8").split("```python\n# bare MXNet\n")[1].split("```")[0]
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "cascade"), str(tmp_path / "x.npy")],
                         capture_output=True, text=True, check=True)
    found = [tuple(line.split()) for line in run.stdout.splitlines()]
    expected = cascade.answer(x[:6])
    assert found == [(images.classes[label], str(exit + 1)) for label, exit in zip(expected.labels, expected.exits)]


def test_only_linear_classifiers_become_layers(tiny_backbone, images, tmp_path):
    with pytest.raises(InputError, match="relu0_output is a RandomForestClassifier: only linear ones can be saved"):
        early_exit.save(fitted(tiny_backbone, images, classifier="rf"), tmp_path / "cascade")
    assert not (tmp_path / "cascade").exists()


def test_damaged_and_foreign_files_are_refused(tiny_backbone, images, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    early_exit.save(fitted(tiny_backbone, images), one)
    early_exit.save(fitted(tiny_backbone, images, classifier="lr"), other)
    for file in other.glob("segment-2*"):
        (one / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileError, match="segment-2 is not the checkpoint that"):
        early_exit.load(one)
    with pytest.raises(FileError, match="cascade.json"):
        early_exit.load(tmp_path)
    early_exit.save(fitted(tiny_backbone, images), tmp_path / "third")
    (tmp_path / "third" / "segment-2-0000.params").unlink()
    with pytest.raises(FileError, match="segment-2-0000.params is missing from the cascade: restore it, or fit"):
        early_exit.load(tmp_path / "third")
    content = json.loads((other / "cascade.json").read_text())
    for change in ({"kind": "poem"}, {"segments": [{}]}, {"version": 99}):
        (other / "cascade.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(FileError, match="cascade.json"):
            early_exit.load(other)


def test_a_killed_save_leaves_the_old_cascade_or_the_new_one(tiny_backbone, images, tmp_path, monkeypatch):
    """Every point at which a file takes its place, in a copy of the folder as a kill there would leave it."""
    folder, copies, replace = tmp_path / "cascade", [], os.replace
    early_exit.save(fitted(tiny_backbone, images), folder)
    (folder / "segment-notes.txt").write_text("mine")

    def copied(source, target):
        for moment in ("before", "after"):
            copies.append(tmp_path / f"{len(copies)}-{moment}")
            shutil.copytree(folder, copies[-1])
            if moment == "before":
                replace(source, target)

    monkeypatch.setattr(os, "replace", copied)
    early_exit.save(fitted(tiny_backbone, images, thresholds=(0.7, 0.6)), folder)
    monkeypatch.undo()
    found = [early_exit.load(copy).thresholds[0] for copy in copies]
    assert found == sorted(found) and set(found) == {0.3, 0.7} and len(found) > 15
    early_exit.save(fitted(tiny_backbone, images), copies[3])
    for whole in (folder, copies[3]):
        assert len([*whole.glob("segment-*"), *whole.glob(".*")]) == 3 * 3 + (whole / "segment-notes.txt").exists()


def test_a_save_that_fails_leaves_no_trace(tiny_backbone, images, tmp_path):
    cascade, folder = fitted(tiny_backbone, images), tmp_path / "cascade"
    early_exit.save(cascade, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with full_disk(2000), pytest.raises(FileError):
        early_exit.save(cascade, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_changed_bit_in_the_json_is_seen(tiny_backbone, images, tmp_path):
    folder = tmp_path / "cascade"
    path = folder / "cascade.json"
    early_exit.save(fitted(tiny_backbone, images), folder)
    text = path.read_text()
    path.write_text(text.replace('"threshold": 0.3', '"threshold": 0.8'))
    with pytest.raises(FileError, match="cascade.json is damaged or was changed by an editor"):
        early_exit.load(folder)
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert early_exit.load(folder).thresholds[0] == 0.8


@pytest.mark.parametrize("change", [
    lambda c: c["segments"].pop(), lambda c: c["classes"].pop(), lambda c: c["segments"][0].update(threshold="high"),
    lambda c: c["segments"][0].update(checkpoint="../segment-1"), lambda c: c.update(classes=[1, 2, 3])])
def test_odd_content_under_a_right_hash_is_refused(tiny_backbone, images, tmp_path, change):
    folder = tmp_path / "cascade"
    early_exit.save(fitted(tiny_backbone, images), folder)
    content = json.loads((folder / "cascade.json").read_text())
    change(content)
    (folder / "cascade.json").write_bytes(seals.sealed({**content, "sha256": seals.UNSEALED}))
    with pytest.raises(FileError, match="cascade.json is damaged or"):
        early_exit.load(folder)


def test_features_have_length_one():
    maps = np.random.default_rng(0).random((3, 4, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(features_at(maps), axis=1), 1, rtol=1e-6)


def test_a_cascade_is_not_strewn_among_other_files(tiny_backbone, images, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"")
    with pytest.raises(FileError, match=r"holds other files \(holiday.jpg\): name the cascade a folder of its own"):
        early_exit.save(fitted(tiny_backbone, images), folder)
    assert [file.name for file in folder.iterdir()] == ["holiday.jpg"]
    with pytest.raises(FileError, match="holiday.jpg is a file; name a folder"):
        early_exit.require_place(folder / "holiday.jpg")
    early_exit.require_place(tmp_path / "new" / "newer")
    assert not (tmp_path / "new").exists()


def test_classes_that_the_cascade_does_not_know(tiny_backbone, images, caplog):
    cascade = fitted(tiny_backbone, images)
    others = Dataset(images.source, images.targets, ["anchor", *images.classes[1:]], "others")
    judged = cascade.judged(others)
    assert "does not know count as wrong: anchor" in caplog.text
    wrong = judged.labels != judged.y
    assert wrong[:, others.targets == 0].all() and not wrong[-1, others.targets != 0].all()
    with pytest.raises(InputError, match=r"none of the classes of strange \(a, b, c, ...\) is one of the cascade's"):
        cascade.judged(Dataset(images.source, images.targets, ["a", "b", "c"], "strange"))


def test_a_class_of_two_images_is_named(tiny_backbone, images):
    few = images.take([*np.flatnonzero(images.targets != 1), *np.flatnonzero(images.targets == 1)[:2]])
    with pytest.raises(InputError, match=f"class {images.classes[1]} has 2 images: early exit needs 3 or more of each"):
        early_exit.fit(tiny_backbone, few, ["relu0"])
