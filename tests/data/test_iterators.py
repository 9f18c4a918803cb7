import gc
import os
import signal
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import class_folders, encoded, picture

from mxelm.data import load
from mxelm.data.dataset import Dataset
from mxelm.data.pipeline import AHEAD
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx

GREY_8 = Preprocessing((8, 8), "none", mean=3, scale=1 / 255, channel_order="GREY")
COLOUR_10 = Preprocessing((10, 10), mean=(1, 2, 3), scale=(0.1, 0.2, 0.3))
COUNT = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set of 23 files in three classes."""
    return load(class_folders(tmp_path_factory.mktemp("set"), {"a": 10, "b": 6, "c": 7}))


def counting(source, seen):
    """`source` with every decoded position noted in `seen`."""
    class Counting:
        images, ids = None, source.ids

        def __len__(self):
            return len(source)

        def image(self, i):
            seen.append(i)
            return source.image(i)

    return Counting()


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("mxelm-data")]


def rows_of(batches):
    return [list(b.index) for b in batches]


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, COUNT + 5), shuffle=st.sampled_from([None, 0, 7]), workers=st.integers(1, 3),
       in_memory=st.booleans())
def test_both_iterators_give_every_sample_once_in_the_same_order(folder, batch, shuffle, workers, in_memory):
    data = load("digits").take(range(COUNT)) if in_memory else folder
    prep = GREY_8 if in_memory else COLOUR_10
    module = list(data.module_iter(batch, prep, shuffle=shuffle, workers=workers))
    gluon = list(data.gluon_loader(batch, prep, shuffle=shuffle, workers=workers))
    order = np.arange(COUNT) if shuffle is None else np.random.default_rng([shuffle, 0]).permutation(COUNT)
    assert np.concatenate(rows_of(module)).tolist() == order.tolist()
    assert [len(b.index) for b in module] == [min(batch, COUNT - i) for i in range(0, COUNT, batch)]
    matrix = data.target_matrix()
    for one, (x, y) in zip(module, gluon):
        assert one.pad == 0
        assert np.array_equal(one.data[0].asnumpy(), x.asnumpy())
        assert np.array_equal(x.asnumpy(), np.stack([prep(data.image(i)) for i in one.index]))
        assert np.array_equal(one.label[0].asnumpy(), matrix[one.index])
        assert np.array_equal(y.asnumpy(), data.targets[one.index])
        assert x.dtype == y.dtype == one.label[0].dtype == np.float32
    assert len(module) == len(gluon) == len(data.gluon_loader(batch, prep))


@pytest.mark.parametrize("order", ["RGB", "BGR", "GREY"])
@pytest.mark.parametrize("colour", [True, False])
def test_sets_in_memory_are_preprocessed_as_single_images_are(order, colour):
    images = np.stack([picture(12, 9, i) for i in range(5)])
    data = Dataset(ArraySource(images if colour else images[..., 0], "x"), [0] * 5, ["a"], "x")
    for prep in (Preprocessing((12, 9), "none", mean=7, scale=0.5, channel_order=order),
                 Preprocessing((8, 8), "stretch", channel_order=order),
                 Preprocessing((6, 6), "short_side", 9, channel_order=order)):
        x, _ = next(iter(data.gluon_loader(5, prep)))
        assert np.array_equal(x.asnumpy(), np.stack([prep(data.image(i)) for i in range(5)]))


def test_targets_of_the_other_kinds_pass_through():
    targets = np.array([[0.5, -1], [2, 3], [4, 5]], np.float32)
    data = Dataset(ArraySource(np.zeros((3, 8, 8), np.uint8), "x"), targets, ["u", "v"], "x", kind="regression")
    assert [y.asnumpy().tolist() for _, y in data.gluon_loader(2, GREY_8)] == [targets[:2].tolist(),
                                                                              targets[2:].tolist()]
    assert np.array_equal(next(data.module_iter(3, GREY_8)).label[0].asnumpy(), targets)


def test_epochs_have_their_own_order_and_can_be_resumed():
    data = load("digits").take(range(40))
    loader, module = data.gluon_loader(40, GREY_8, shuffle=5), data.module_iter(40, GREY_8, shuffle=5)
    orders = []
    for epoch in range(3):
        assert loader.epoch == module.epoch == epoch
        (_, y), = loader
        batch, = module
        assert np.array_equal(data.targets[batch.index], y.asnumpy())
        orders.append(list(batch.index))
        module.reset()
    assert orders == [np.random.default_rng([5, epoch]).permutation(40).tolist() for epoch in range(3)]
    again = data.module_iter(40, GREY_8, shuffle=5)
    again.epoch = 2
    assert list(next(again).index) == orders[2]


def test_reset_in_mid_epoch_begins_the_same_epoch_again():
    module = load("digits").module_iter(10, GREY_8, shuffle=1)
    first = [list(next(module).index) for _ in range(3)]
    module.reset()
    assert [list(next(module).index) for _ in range(3)] == first
    assert module.epoch == 0


@pytest.mark.parametrize("start", [0, 4, 22, COUNT])
def test_start_leaves_out_what_an_interrupted_run_has_had(folder, start):
    module = folder.module_iter(5, COLOUR_10, shuffle=3, start=start)
    order = np.random.default_rng([3, 0]).permutation(COUNT)
    assert [i for rows in rows_of(module) for i in rows] == order[start:].tolist()
    module.reset()
    assert sum(map(len, rows_of(module))) == COUNT
    with pytest.raises(InputError, match="start"):
        folder.module_iter(5, COLOUR_10, start=COUNT + 1)


def test_augmentation_is_seeded_by_epoch_and_batch_whatever_the_threads():
    data = load("digits").take(range(30))

    def augment(images, rng):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (8, 8, 1)
        return rng.integers(0, 256, images.shape, dtype=np.uint8)

    def epoch(number, workers):
        loader = data.gluon_loader(8, GREY_8, shuffle=4, augment=augment, workers=workers)
        loader.epoch = number
        return [x.asnumpy() for x, _ in loader]

    for number in (0, 3):
        one = epoch(number, 1)
        for k, x in enumerate(one):
            images = np.random.default_rng([4, number, k]).integers(0, 256, (len(x), 8, 8, 1), dtype=np.uint8)
            assert np.array_equal(x, GREY_8.normalise(images))
        assert all(np.array_equal(a, b) for a, b in zip(one, epoch(number, 3)))
    with pytest.raises(InputError, match="augment"):
        list(data.gluon_loader(8, GREY_8, augment=lambda images, rng: images[:, 1:]))


def test_augmentation_may_write_into_the_images_and_leaves_the_set_alone():
    data = Dataset(ArraySource(np.full((4, 8, 8), 9, np.uint8), "x"), [0] * 4, ["a"], "x")

    def blacken(images, rng):
        images[:] = 0
        return images

    for order in ("GREY", "RGB"):
        x, _ = next(iter(data.gluon_loader(4, GREY_8.replace(channel_order=order, mean=0, scale=1), augment=blacken)))
        assert not x.asnumpy().any()
    assert (data.source.images == 9).all()


def broken_set(tmp_path):
    """Ten images in two classes, of which a/image_1 is cut, a/notes.txt no image and b/image_0 too narrow."""
    class_folders(tmp_path, {"a": 5, "b": 5}, "JPEG")
    cut = tmp_path / "a" / "image_1.jpeg"
    cut.write_bytes(cut.read_bytes()[:-20])
    (tmp_path / "a" / "image_2.jpeg").write_bytes(b"notes")
    (tmp_path / "b" / "image_0.jpeg").write_bytes(encoded(picture(2, 4000)))
    return load(tmp_path)


def test_a_broken_image_is_an_error_that_names_it(tmp_path):
    data = broken_set(tmp_path)
    with pytest.raises(FileError, match=r"a/image_1\.jpeg"):
        list(data.gluon_loader(3, COLOUR_10))
    with pytest.raises(InputError, match=r"b/image_0\.jpeg"):
        list(data.take([5]).module_iter(3, COLOUR_10))


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_broken_images_are_skipped_counted_and_listed_when_asked(tmp_path, batch):
    data = broken_set(tmp_path)
    module = data.module_iter(batch, COLOUR_10, skip_bad=True)
    loader = data.gluon_loader(batch, COLOUR_10, skip_bad=True)
    for _ in range(2):  # the second pass does not count them again
        good = [int(i) for b in module for i in b.index]
        assert good == [0, 3, 4, 6, 7, 8, 9]
        ys = np.concatenate([y.asnumpy() for _, y in loader])
        assert ys.tolist() == data.targets[good].tolist()
        for iterator in (module, loader):
            assert [name for name, _ in iterator.skipped] == ["a/image_1.jpeg", "a/image_2.jpeg", "b/image_0.jpeg"]
            assert all(name in reason for name, reason in iterator.skipped)
        module.reset()


def test_a_pass_of_which_nothing_is_left_is_an_error(tmp_path):
    with pytest.raises(FileError, match="none of the 2 images"):
        list(broken_set(tmp_path).take([1, 2]).gluon_loader(1, COLOUR_10, skip_bad=True))


def test_images_are_decoded_ahead_of_the_consumer_by_a_bounded_number(folder):
    seen = []
    data = Dataset(counting(folder.source, seen), folder.targets, folder.classes, "set")
    for workers in (1, 2):
        del seen[:]
        for consumed, _ in enumerate(data.gluon_loader(2, COLOUR_10, workers=workers), 1):
            assert len(seen) <= 2 * (consumed + AHEAD)
        assert len(seen) == COUNT


def test_memory_is_bounded_whatever_the_number_of_images(tmp_path):
    (tmp_path / "a").mkdir()
    content = encoded(picture(200, 200))
    for i in range(120):
        (tmp_path / "a" / f"{i}.png").write_bytes(content)
    loader = load(tmp_path).gluon_loader(4, Preprocessing((200, 200), "stretch"))
    one_batch = 4 * 200 * 200 * 3 * 4  # bytes as float32; the whole set takes thirty of them
    tracemalloc.start()
    try:
        for x, _ in loader:
            x.wait_to_read()
        assert tracemalloc.get_traced_memory()[1] < (AHEAD + 6) * one_batch
    finally:
        tracemalloc.stop()


def test_threads_end_with_the_pass_on_reset_when_dropped_and_after_an_error(folder, tmp_path):
    def ended():
        gc.disable()  # dropping must be enough
        try:
            threads = loader_threads()
            for thread in threads:
                thread.join(10)
            return not any(thread.is_alive() for thread in threads)
        finally:
            gc.enable()

    list(folder.gluon_loader(4, COLOUR_10))
    assert ended()
    module = folder.module_iter(2, COLOUR_10)
    next(module)
    module.reset()
    assert ended()
    next(module)
    assert loader_threads()
    del module
    assert ended()
    for _ in folder.gluon_loader(2, COLOUR_10):
        break
    assert ended()
    with pytest.raises(FileError):
        list(broken_set(tmp_path).gluon_loader(2, COLOUR_10))
    assert ended()


def test_an_interrupt_ends_the_program(folder):
    script = """
import itertools, sys, time
from mxelm.data import load
from mxelm.preprocessing import Preprocessing
data = load(sys.argv[1])
for turn in itertools.count():
    for x, y in data.gluon_loader(2, Preprocessing((10, 10))):
        if turn == 0:
            print("running", flush=True)
        time.sleep(0.01)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(folder.source.folder)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")


@pytest.mark.parametrize("changes", [{"batch": 0}, {"batch": 2.5}, {"workers": 0}, {"shuffle": -1}])
def test_sizes_that_cannot_be_are_refused(folder, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        folder.gluon_loader(**{"batch": 2, "preprocessing": COLOUR_10, **changes})


def test_a_set_without_samples_is_refused(folder):
    with pytest.raises(InputError, match="no samples"):
        folder.take([]).module_iter(2, COLOUR_10)


def small_network(with_loss):
    scores = mx.sym.FullyConnected(mx.sym.flatten(mx.sym.Variable("data")), num_hidden=10, name="fc")
    return mx.sym.SoftmaxOutput(scores, name="softmax") if with_loss else scores


def test_module_fits_scores_and_predicts_with_a_short_last_batch():
    data = load("digits").take(range(90))
    module = mx.mod.Module(small_network(True))
    module.fit(data.module_iter(32, GREY_8, shuffle=1), num_epoch=30, eval_metric="mse",
               optimizer_params={"learning_rate": 1.0})
    scores = module.predict(data.module_iter(32, GREY_8)).asnumpy()
    assert scores.shape == (90, 10)
    assert np.mean(scores.argmax(axis=1) == data.targets) > 0.9
    (_, error), = module.score(data.module_iter(90, GREY_8), "mse")
    assert error == pytest.approx(np.mean((scores - data.target_matrix()) ** 2), rel=1e-4)


def test_module_without_labels_predicts_with_a_short_last_batch():
    data = load("digits").take(range(50))
    batches = data.module_iter(32, GREY_8, labels=False)
    module = mx.mod.Module(small_network(False), label_names=None)
    module.bind(batches.provide_data, for_training=False)
    module.init_params()
    weights = {name: value.asnumpy() for name, value in module.get_params()[0].items()}
    x = np.stack([GREY_8(data.image(i)) for i in range(50)]).reshape(50, -1)
    expected = x @ weights["fc_weight"].T + weights["fc_bias"]
    assert np.allclose(module.predict(batches).asnumpy(), expected, atol=1e-6)


@pytest.mark.data
def test_every_photograph_of_the_small_caltech_set_passes(real_data):
    data = load(real_data("caltech101-mini"))
    assert sum(len(y) for _, y in data.gluon_loader(64, Preprocessing((64, 64)))) == 480
