"""The main job end to end on a small network and small images, and the predictor that comes out of it."""
import numpy as np
import pytest

from mxelm import backbones, data
from mxelm.data import Dataset
from mxelm.errors import FileError, InputError
from mxelm.fused import Predictor, accumulate, calibrate, evaluate, fit, solve
from mxelm.fused.confidence import confidences
from mxelm.runtime import mx


@pytest.fixture
def dataset(image_folder):
    return data.load(str(image_folder))


def test_fit_learns_colours_and_solves_on_all_images(tiny_backbone, dataset):
    done = fit(tiny_backbone, dataset, n_neurons=40, seed=1)
    assert done.state.n_samples == len(dataset)
    decided = done.predictor.predict([dataset.image(i) for i in range(len(dataset))])
    assert done.selection.criterion == "gcv" and np.mean(decided == np.array(dataset.classes)[dataset.targets]) > 0.8
    H = done.state.origin.projection.hidden(tiny_backbone.extract(dataset.module_iter(8, tiny_backbone.preprocessing)))
    H = H.astype(np.float64)
    assert np.linalg.norm(done.state.HtH - H.T @ H) < 1e-6 * np.linalg.norm(H.T @ H)


def test_a_given_l2_takes_all_images_and_all_neurons(tiny_backbone, dataset):
    done = fit(tiny_backbone, dataset, n_neurons=20, l2=0.5)
    assert done.selection is None and done.predictor.details["n_neurons"] == 20
    assert done.state.n_samples == len(dataset)


def test_predictor_is_the_same_through_mxelm_module_and_symbolblock(tiny_backbone, dataset, tmp_path):
    done = fit(tiny_backbone, dataset, n_neurons=40, seed=1)
    prefix = str(tmp_path / "model")
    done.predictor.save(prefix)
    x = next(dataset.module_iter(7, tiny_backbone.preprocessing)).data[0]
    ours = Predictor.load(prefix).scores(x.asnumpy())
    np.testing.assert_allclose(ours, done.predictor.scores(x.asnumpy()), atol=1e-6)
    symbol, args, aux = mx.model.load_checkpoint(prefix, epoch=0)
    module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(args, aux)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), ours, atol=1e-5)
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    np.testing.assert_allclose(block(x).asnumpy(), ours, atol=1e-5)
    H = np.tanh(tiny_backbone.extract(x.asnumpy()) @ args["W"].asnumpy().T)
    np.testing.assert_allclose(ours, H @ args["beta"].asnumpy().T, atol=1e-5)


def test_predictor_carries_classes_and_preprocessing(tiny_backbone, dataset, tmp_path):
    fit(tiny_backbone, dataset, n_neurons=16, l2=1.0).predictor.save(str(tmp_path / "model"))
    read = Predictor.load(str(tmp_path / "model"))
    assert read.classes == ["blue", "green", "red"] and read.preprocessing == tiny_backbone.preprocessing


def test_any_checkpoint_that_names_its_classes_is_a_predictor(tiny_checkpoint, dataset):
    network = Predictor.load(tiny_checkpoint)
    images = [dataset.image(i) for i in range(5)]
    scores, sure = network.scores(images), network.predict_proba(images)
    np.testing.assert_allclose(sure.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(sure.argmax(axis=1), scores.argmax(axis=1))
    assert set(network.predict(images)) <= set(network.classes)
    nameless = backbones.load(tiny_checkpoint, cut=None)
    nameless.classes = None
    with pytest.raises(InputError, match="no classifier"):
        Predictor(nameless)


def test_a_loss_layer_and_a_second_output_are_no_hindrance(tiny_checkpoint, dataset):
    plain = backbones.load(tiny_checkpoint, cut=None)
    features = backbones.load(tiny_checkpoint).features
    loss = mx.sym.SoftmaxOutput(plain.features, name="softmax")
    images = [dataset.image(i) for i in range(5)]
    for symbol in (loss, mx.sym.Group([features, loss])):
        network = Predictor(backbones.Backbone("two", symbol, plain.arg_params, plain.aux_params, plain.preprocessing,
                                               cut=None, classes=plain.classes))
        e = np.exp(plain.extract(images).astype(np.float64))
        np.testing.assert_allclose(network.predict_proba(images), e / e.sum(axis=1, keepdims=True), atol=1e-6)


def test_predictor_takes_files_folders_one_image_and_datasets(tiny_backbone, dataset, image_folder):
    predictor = fit(tiny_backbone, dataset, n_neurons=20).predictor
    all_of_them = predictor.scores(dataset)
    np.testing.assert_allclose(predictor.scores(image_folder), all_of_them, atol=1e-5)
    paths = [str(image_folder / name) for name in dataset.ids[:3]]
    np.testing.assert_allclose(predictor.scores(paths), all_of_them[:3], atol=1e-5)
    np.testing.assert_allclose(predictor.scores(np.array(paths)), all_of_them[:3], atol=1e-5)
    np.testing.assert_allclose(predictor.scores(paths[0]), all_of_them[:1], atol=1e-5)
    np.testing.assert_allclose(predictor.scores(dataset.image(0)), all_of_them[:1], atol=1e-5)
    assert predictor.predict(paths[0]).tolist() == [dataset.classes[all_of_them[0].argmax()]]


def test_confidences_are_kept_with_the_model(tiny_backbone, dataset, tmp_path):
    done = fit(tiny_backbone, dataset, n_neurons=20)
    done.predictor.save(tmp_path / "model")
    read = Predictor.load(tmp_path / "model")
    assert read.temperature == done.predictor.temperature > 0
    np.testing.assert_allclose(read.predict_proba(dataset), confidences(read.scores(dataset), read.temperature))
    score, _ = evaluate(read, dataset)
    assert 0 <= score["calibration_error"] < 0.5


def test_one_class_is_refused(tiny_backbone, dataset):
    with pytest.raises(InputError, match="one class alone, green"):
        fit(tiny_backbone, dataset.take(np.flatnonzero(dataset.targets == 1)), n_neurons=5)


def test_an_image_a_class_is_enough(tiny_backbone, dataset):
    done = fit(tiny_backbone, dataset.per_class(1)[0], n_neurons=5)
    assert done.predictor.temperature is None and done.state.n_samples == 3
    with pytest.raises(InputError, match="no confidences"):
        done.predictor.predict_proba(dataset)


def test_an_offset_of_the_targets_does_not_matter(tiny_backbone, dataset):
    redness = np.array([[dataset.image(i)[..., 0].mean() / 25] for i in range(len(dataset))], np.float32)
    scores = []
    for offset in (0, 1980):
        quantities = Dataset(dataset.source, redness + offset, ["redness"], "images", kind="regression")
        predictor = fit(tiny_backbone, quantities, n_neurons=30).predictor
        assert "intercept" in predictor.network.arg_params
        scores.append(predictor.predict(dataset) - offset)
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-2)
    assert np.corrcoef(scores[0][:, 0], redness[:, 0])[0, 1] > 0.9


def test_everything_says_what_it_is_in_a_line(tiny_backbone, dataset):
    done = fit(tiny_backbone, dataset, n_neurons=20)
    for one in (done, done.selection, done.state, done.predictor):
        assert len(repr(one)) < 400 and "\n" not in repr(one)
    assert done.selection._repr_html_().count("<tr>") == len(done.selection.l2s) + 1


def test_regression_and_multilabel(tiny_backbone, image_folder, tmp_path):
    paths = sorted(image_folder.glob("*/*.png"))
    names = ["blue", "green", "red"]
    rows = [(p, [float(p.parent.name == n) for n in names]) for p in paths]
    (tmp_path / "labels.csv").write_text("path,blue,green,red\n" + "".join(
        f"{p},{','.join(f'{v:.0f}' for v in values)}\n" for p, values in rows))
    multilabel = data.load(str(tmp_path / "labels.csv"))
    assert multilabel.kind == "multilabel"
    done = fit(tiny_backbone, multilabel, n_neurons=30, seed=2)
    assert done.selection.criterion == "gcv"
    images = [multilabel.image(i) for i in range(len(multilabel))]
    assert np.mean(done.predictor.predict(images) == multilabel.targets) > 0.95

    (tmp_path / "values.csv").write_text("path,redness\n" + "".join(
        f"{p},{multilabel.image(i)[..., 0].mean() / 255:.6f}\n" for i, p in enumerate(paths)))
    regression = data.load(str(tmp_path / "values.csv"))
    assert regression.kind == "regression"
    done = fit(tiny_backbone, regression, n_neurons=30, l2=1e-3)
    scores = done.predictor.predict(images)
    assert np.corrcoef(scores[:, 0], regression.targets[:, 0])[0, 1] > 0.9


def test_calibration_does_not_depend_on_order(tiny_backbone, dataset):
    straight = calibrate(tiny_backbone, dataset, 50, seed=4)
    shuffled = calibrate(tiny_backbone, dataset.take(np.random.default_rng(0).permutation(len(dataset))), 50, seed=4)
    assert straight == shuffled
    features = tiny_backbone.extract(dataset.module_iter(8, tiny_backbone.preprocessing))
    assert np.std(features @ straight.W.T) == pytest.approx(1.0, rel=1e-3)


def test_smaller_projection_is_the_leading_rows():
    from mxelm.fused import Projection
    np.testing.assert_array_equal(Projection(30, 5, seed=9).W[:12], Projection(12, 5, seed=9).W)


def test_skipped_images_are_named_and_absent(tiny_backbone, image_folder):
    (image_folder / "red" / "image_99.png").write_bytes(b"no image")
    dataset = data.load(str(image_folder))
    with pytest.raises(FileError, match="image_99.png"):
        fit(tiny_backbone, dataset, n_neurons=8)
    done = fit(tiny_backbone, dataset, n_neurons=8, skip_bad=True)
    assert [name for name, _ in done.skipped] == ["red/image_99.png"]
    assert done.state.n_samples == len(dataset) - 1 == len(done.state.samples)


def test_state_of_two_halves_is_the_state_of_the_whole(tiny_backbone, dataset):
    projection = calibrate(tiny_backbone, dataset, 30)
    a, b = dataset.split(0.4, seed=3)
    whole, _ = accumulate(tiny_backbone, dataset, projection)
    both = accumulate(tiny_backbone, a, projection)[0] + accumulate(tiny_backbone, b, projection, batch=5)[0]
    np.testing.assert_allclose(both.HtH, whole.HtH, rtol=1e-6, atol=1e-6 * np.abs(whole.HtH).max())
    np.testing.assert_array_equal(both.samples, whole.samples)
    np.testing.assert_allclose(solve(both.HtH, both.HtY, 1.0), solve(whole.HtH, whole.HtY, 1.0), atol=1e-5)


def test_gluon_network_works_the_same(dataset):
    from mxelm.preprocessing import Preprocessing
    network = mx.gluon.nn.HybridSequential()
    network.add(mx.gluon.nn.Conv2D(6, 3, activation="relu"), mx.gluon.nn.BatchNorm(), mx.gluon.nn.GlobalAvgPool2D(),
                mx.gluon.nn.Flatten(prefix="flat_"), mx.gluon.nn.Dense(10))
    network.initialize(mx.init.Xavier())
    backbone = backbones.from_block(network, Preprocessing((20, 20), "stretch", mean=127.0, scale=1 / 64),
                                    cut="flat_flatten0_output")
    assert backbone.n_features == 6
    assert fit(backbone, dataset, n_neurons=20, seed=0).selection.best < 0.2
