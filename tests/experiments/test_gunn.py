"""The lesson of paper 3 and the report's own figures: one small training, and what rows make of seeds."""
from types import SimpleNamespace

import numpy as np
import pytest
from lab import Seed, gunn_rows

from mxelm import data, training
from mxelm.gunn import tasks
from mxelm.runtime import mx


@pytest.fixture
def small(monkeypatch):
    """The lesson with a network that takes a second to train instead of minutes."""
    import gunn

    def build(settings, seed):
        network = mx.gluon.nn.HybridSequential()
        network.add(mx.gluon.nn.Conv2D(4, 3), mx.gluon.nn.BatchNorm(momentum=settings["momentum"]),
                    mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(settings["classes"]))
        network.initialize(mx.init.Xavier())
        network.hybridize(static_alloc=True, static_shape=True)
        return network
    monkeypatch.setattr(gunn, "build", build)
    monkeypatch.setattr(gunn.gunn, "save", lambda *rest, **source: None)
    return gunn


def test_one_seed_trains_settles_and_is_scored_once(small, lab):
    settings = {**small.REPORT, "images": 40, "epochs": 2, "batch": 20, "momentum": 0.99}
    found = small.one_seed("plain", settings, 0, lab(small, "plain"))
    assert len(found["history"]) == 2 and {"validation_accuracy", "seconds"} <= set(found["history"][0])
    assert sum(found["answers"]) == 161 and sum(found["answers_of_the_first_100"]) == 100
    assert found["settled"]["constant_answer"] == found["constant_answer"] and "ended_by" not in found


def test_a_training_that_overflows_is_scored_after_its_last_whole_epoch(small, lab, monkeypatch):
    monkeypatch.setitem(small.SCHEDULES, "constant", lambda peak: lambda done: 1e38 if done >= 0.5 else 1e-3)
    settings = {**small.REPORT, "images": 40, "epochs": 2, "batch": 20, "schedule": "constant",
                "labels": "as-published"}
    found = small.one_seed("plain", settings, 0, lab(small, "plain"))
    assert len(found["history"]) == 1 and "not finite" in found["ended_by"]
    seed = Seed("plain", settings, 0, [], found)
    reason = gunn_rows.accuracy("gunn.a", "test100", settings, [seed], "of 50")["conditions"]["reason"]
    assert reason.startswith("of 50; seed 0 is scored after epoch 1, for ")
    monkeypatch.setitem(small.SCHEDULES, "constant", lambda peak: lambda done: 1e38)
    with pytest.raises(training.NotFinite):
        small.one_seed("sunn", settings, 0, lab(small, "sunn"))


def seed_of(run, number, accuracy, **more):
    history = [{"epoch": 1, "accuracy": 0.5, "validation_accuracy": 0.5, "seconds": 60.0}]
    return Seed(run, {}, number, [], {"test3000": accuracy, "test100": accuracy, "minutes": 1.0, "history": history,
                                      "settled": {"test3000": accuracy + 0.1}, **more})


def test_a_control_says_what_the_gradual_run_gains(small):
    lab = SimpleNamespace(kept=lambda run: [seed_of(run, n, 0.9 + n / 100) for n in (0, 2)])
    seeds = [seed_of("sunn", n, 0.7) for n in range(4)]
    rows = {row["id"]: row for row in small.rows("sunn", small.RUNS["sunn"], seeds, lab)}
    gain = rows["gunn.3class.sunn.gain"]
    assert (gain["value"], gain["std"], gain["n"]) == (pytest.approx(21), pytest.approx(2 ** 0.5), 2)
    assert gain["conditions"]["seeds"] == [0, 2] and gain["conditions"]["reason"].startswith("2 seeds of both")
    assert rows["gunn.3class.sunn.test3000"]["n"] == 4
    alone = small.rows("sunn", small.RUNS["sunn"], [seed_of("sunn", 0, 0.7)], SimpleNamespace(kept=lambda run: []))[-1]
    assert alone["value"] is None and alone["conditions"]["reason"].startswith("0 seeds of both")


def test_what_the_softmax_and_lagging_statistics_cost():
    import gunn_report
    lab = SimpleNamespace(kept=lambda run: [seed_of(run, 0, 0.4)])
    row, = gunn_report.rows("report_plain", gunn_report.RUNS["report_plain"], [seed_of("", 0, 0.7)], lab)
    assert row["value"] == pytest.approx(30) and row["conditions"]["plain"] == [0.7]
    assert row["conditions"]["reason"] == "8 of 50 epochs: what there was time for"
    row, = gunn_report.rows("batchnorm", gunn_report.RUNS["batchnorm"], [seed_of("", 0, 0.7)], lab)
    assert row["value"] == pytest.approx(10) and row["id"] == "gunn.batchnorm.running_statistics"


def test_the_report_s_one_scalar_and_published_labels(small, lab):
    import gunn_report
    settings = {**gunn_report.RUNS["as_published"], "images": 40}
    found = gunn_report.constant_answer(settings, lab(small, "plain"))
    assert found["answer"] == 0 and sum(found["labels_that_count_as_each_class"]) == 100
    task, preprocessing = small.the_task(settings, lab(small, "plain"))
    assert preprocessing == tasks.PER_CHANNEL and task.train.kind == "multilabel"


@pytest.mark.parametrize("epochs, sizes", [(6, [16, 16, 24, 24, 32, 32]), (2, [24, 32]), (1, [32])])
def test_images_grow_and_the_last_epoch_sees_them_whole(epochs, sizes):
    images = data.load("digits").take(np.arange(20))
    loader = training.Growing(images, 10, tasks.PER_CHANNEL, sizes=[16, 24, 32], epochs=epochs, shuffle=1,
                              augment=training.flip_and_crop)
    assert len(loader) == 2 and ["'pad': 2" in loader.identity[0]["augmentation"], "'pad': 4" in
                                 loader.identity[2]["augmentation"]] == [True, True]
    for epoch, size in enumerate(sizes):
        loader.epoch = epoch
        batches = list(loader)
        assert {x.shape for x, _ in batches} == {(10, 3, size, size)}
        order = np.random.default_rng([1, epoch]).permutation(20)  # that of whole images
        np.testing.assert_array_equal(np.concatenate([y.asnumpy() for _, y in batches]), loader.targets[order])


def test_gradual_updates_by_the_original_multiply_no_more_than_their_control(script, capsys):
    script("gunn_report", "params", "--quick")
    out = capsys.readouterr().out
    assert "quick.gunn.cost_over_sunn.original 1 ratio" in " ".join(out.split())
    assert "quick.gunn.output_shapes 26 layers" in " ".join(out.split())


@pytest.mark.slow
def test_the_lesson(script, capsys, tmp_path):
    script("gunn")
    out = capsys.readouterr().out
    assert "[5. 9. 2.]" in out and "control (SUNN)" in out and (tmp_path / "gunn-work" / "curve.png").exists()


@pytest.mark.slow
def test_both_forms_are_timed(script, capsys):
    script("gunn_speed", "memory", "--quick")
    assert "quick.gunn.fast_memory_ratio" in capsys.readouterr().out
