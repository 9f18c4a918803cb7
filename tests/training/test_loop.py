import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mxelm import training
from mxelm.containers import load_container, save_container
from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx, seed
from mxelm.training import accuracy, fit, flip_and_crop, load_parameters, steps, warmup_linear

PREPROCESSING = Preprocessing((6, 6), "none", mean=128, scale=1 / 64)
NAG = {"optimizer": "nag", "settings": {"momentum": 0.9, "wd": 1e-3}}
ADAM = {"optimizer": "adam", "settings": {"beta1": 0.8}}


class Stop(Exception):
    """What ends a run in the middle."""


class Stopping:
    """A loader that raises in step 2 of one epoch."""

    def __init__(self, loader, epoch):
        self.loader, self.last, self.epoch, self.identity = loader, epoch, 0, loader.identity

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.loader.epoch = self.epoch
        for step, batch in enumerate(self.loader):
            if (self.epoch, step) == (self.last, 1):
                raise Stop
            yield batch


class Doubled:
    """A loader of float64 images."""

    def __init__(self, loader):
        self.loader, self.epoch, self.identity = loader, 0, loader.identity

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.loader.epoch = self.epoch
        for x, y in self.loader:
            yield x.astype("float64"), y


def dataset(n=36, first=0):
    """Three classes of noise images, told apart by their brightest channel."""
    rng = np.random.default_rng(first)
    labels = np.arange(n) % 3
    images = rng.integers(0, 160, (n, 6, 6, 3))
    images[np.arange(n), :, :, labels] += 95
    return Dataset(ArraySource(images.astype(np.uint8), "noise"), labels, ["red", "green", "blue"], "noise")


def loader(n=36):
    return dataset(n).gluon_loader(8, PREPROCESSING, shuffle=3, augment=partial(flip_and_crop, pad=1))


def watched():
    return dataset(15, first=1).gluon_loader(8, PREPROCESSING)


def network(start=0, width=5, prefixes=(None, None)):
    """Convolution, BatchNorm, dropout and two layers of one shape; sizes are deferred to the first batch."""
    seed(start)
    np.random.seed(start)  # MXNet's initialisers draw from both
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(width, 3), mx.gluon.nn.BatchNorm(), mx.gluon.nn.Activation("relu"),
            mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Flatten(), mx.gluon.nn.Dropout(0.2),
            mx.gluon.nn.Dense(width, prefix=prefixes[0]), mx.gluon.nn.Dense(width, prefix=prefixes[1]),
            mx.gluon.nn.Dense(3))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    return net


def parameters(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


def same(net, other):
    found, expected = parameters(net), parameters(other)
    assert found.keys() == expected.keys()
    return all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def timeless(history):
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


def run(net, data=None, epochs=4, **options):
    options = {**NAG, "schedule": warmup_linear(0.1, 0.3), "seed": 5, **options}
    return fit(net, data or loader(), epochs, **options)


# learning

@pytest.mark.parametrize("optimizer, peak", [(NAG, 0.02), (ADAM, 0.02)])
def test_a_network_learns(optimizer, peak):
    net = network()
    history = run(net, epochs=8, schedule=warmup_linear(peak, 0.2), validation=watched(), **optimizer)
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert history[-1]["validation_accuracy"] == accuracy(net, watched()) > 0.8
    assert all(0 <= entry["accuracy"] <= 1 and entry["seconds"] > 0 for entry in history)


def test_accuracy_counts_the_highest_scores():
    class Scores:
        def __call__(self, x):
            return mx.nd.array([[1, 2, 3], [9, 0, 0], [0, 1, 0]][:len(x)])

    batches = [(mx.nd.zeros((3, 1)), mx.nd.array([2, 1, 1])), (mx.nd.zeros((1, 1)), mx.nd.array([2]))]
    assert accuracy(Scores(), batches) == 3 / 4


def rows_loader(n=36):
    """`loader`, its labels as rows."""
    data = dataset(n)
    rows = Dataset(data.source, data.target_matrix(), data.classes, data.name, kind="multilabel")
    return rows.gluon_loader(8, PREPROCESSING, shuffle=3, augment=partial(flip_and_crop, pad=1))


def test_label_rows_train_as_the_class_numbers_they_say():
    numbers, rows = network(), network()
    expected = run(numbers, validation=watched())
    found = run(rows, rows_loader(), validation=watched())
    for entry, other in zip(found, expected):
        assert entry["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert entry["accuracy"] == other["accuracy"] and entry["validation_accuracy"] == other["validation_accuracy"]
    for name, value in parameters(numbers).items():
        np.testing.assert_allclose(parameters(rows)[name], value, rtol=1e-3, atol=1e-5)
    assert accuracy(rows, rows_loader()) == accuracy(rows, loader())


def any_rows(network, x, y):
    """Softmax cross-entropy with label rows that are no distribution."""
    scores = network(x)
    return mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)(scores, y), scores


def test_rows_without_a_class_count_as_class_0_and_have_no_loss():
    class Scores:
        def __call__(self, x):
            return mx.nd.array([[3, 1, 0], [0, 5, 0]])

    assert accuracy(Scores(), [(mx.nd.zeros((2, 1)), mx.nd.zeros((2, 3)))]) == 1 / 2
    data = dataset(8)
    none = Dataset(data.source, np.zeros((8, 3)), data.classes, "no class", kind="multilabel")
    with pytest.raises(InputError, match="8 of 8 label rows do not sum to 1 .* such images have no class"):
        run(network(), none.gluon_loader(8, PREPROCESSING), epochs=1)
    history = run(network(), none.gluon_loader(8, PREPROCESSING), epochs=1, forward=any_rows)
    assert history[0]["loss"] == 0


def relabelled(labels, kind="classes"):
    """A loader of the images of `dataset`, with other labels."""
    data = dataset(len(labels))
    classes = [f"class {i}" for i in range(5)]
    return Dataset(data.source, np.asarray(labels), classes, "noise", kind=kind).gluon_loader(8, PREPROCESSING)


@pytest.mark.parametrize("wrong, right, told", [
    (relabelled([0, 1, 2, 3, 4]), loader(), "class 3 among the labels: the network has scores for 0..2"),
    (relabelled(np.eye(5)[:5], "multilabel"), rows_loader(),
     "label rows of 5 classes do not fit a network of 3 scores")])
@pytest.mark.parametrize("watched_alone", [False, True])
def test_labels_that_name_no_class_of_the_network(wrong, right, told, watched_alone):
    net = network()
    with pytest.raises(InputError, match=told):
        run(net, right if watched_alone else wrong, epochs=1, validation=wrong)
    with pytest.raises(InputError, match=told):
        accuracy(net, wrong)


def test_watched_rows_without_a_class():
    data = dataset(8)
    none = Dataset(data.source, np.zeros((8, 3)), data.classes, "no class", kind="multilabel")
    options = {"epochs": 1, "validation": none.gluon_loader(8, PREPROCESSING)}
    with pytest.raises(InputError, match="8 of 8 label rows do not sum to 1"):
        run(network(), rows_loader(), **options)
    assert run(network(), rows_loader(), forward=any_rows, **options)


def test_labels_are_judged_before_the_first_step_also_of_a_loader_without_targets():
    """By one pass over it; nothing of the network has moved then."""
    net = network()
    net(mx.nd.zeros((1, 3, 6, 6)))
    before = parameters(net)
    batches = [(x, y) for x, y in relabelled([0, 1, 2, 0, 1, 2, 0, 1, 2, 4])]  # the wrong one is in the second batch

    class Bare(list):
        epoch = 0

    for wrong in (Bare(batches), relabelled([0, 1, 2, 0, 1, 2, 0, 1, 2, 4])):
        with pytest.raises(InputError, match="class 4 among the labels"):
            run(net, wrong, epochs=1)
        trained = parameters(net)
        assert all(trained[name].tobytes() == before[name].tobytes() for name in before if "running" not in name)


def test_several_heads_train_through_forward():
    """The loss is the sum over heads, the scores are the last head's."""
    class Two(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.first, self.last = mx.gluon.nn.Dense(3), mx.gluon.nn.Dense(3)

        def hybrid_forward(self, F, x):
            return self.first(x), self.last(x)

    def both(network, x, y):
        losses, heads = mx.gluon.loss.SoftmaxCrossEntropyLoss(), network(x)
        return sum(losses(scores, y) for scores in heads), heads[-1]

    seed(0)
    net = Two()
    net.initialize(mx.init.Xavier())
    history = run(net, epochs=8, forward=both, validation=watched())
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    scores = [net(x)[1].asnumpy().argmax(axis=1) for x, _ in watched()]
    right = [y.asnumpy() for _, y in watched()]
    assert history[-1]["validation_accuracy"] == np.mean(np.concatenate(scores) == np.concatenate(right))


def test_a_learning_rate_of_zero_moves_running_statistics_alone():
    net = network()
    run(net, epochs=1)
    before = parameters(net)
    run(net, epochs=1, schedule=steps(0.0, ()), **ADAM)
    moved = {name for name, value in parameters(net).items() if value.tobytes() != before[name].tobytes()}
    assert moved == {"1.running_mean", "1.running_var"}


@pytest.mark.parametrize("options, told", [
    ({"optimizer": "foo"}, "no optimizer 'foo' with learning_rate.*: Cannot find optimizer foo"),
    ({"settings": {"momentums": 0.9}}, "no optimizer 'nag' with learning_rate, momentums: .*momentums"),
    ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0")])
def test_trainings_that_are_not(options, told):
    with pytest.raises(InputError, match=told):
        run(network(), **options)


def test_the_same_seed_gives_the_same_run_and_another_does_not():
    nets = [network() for _ in range(3)]
    first, second, other = (run(net, epochs=2, seed=number) for net, number in zip(nets, (5, 5, 6)))
    assert timeless(first) == timeless(second) and same(nets[0], nets[1])
    assert timeless(first) != timeless(other)  # the dropout differs


def test_random_numbers_are_those_of_any_other_process(monkeypatch):
    """A checkpoint goes on as it began on another machine only while these numbers stay."""
    seeds = []
    monkeypatch.setattr(training.loop, "seed_mxnet", seeds.append)
    for number in (0, 7):
        fit(network(), loader(8), 2, lambda done: 0.01, seed=number)
    assert seeds == [397586535, 16979904, 318162123, 2085039140]


# resuming

@contextmanager
def stopped(epoch):
    with pytest.raises(Stop):
        yield Stopping(loader(), epoch)


@pytest.mark.parametrize("options", [
    NAG, ADAM, {"optimizer": "sgd", "settings": None}, {"optimizer": "lars", "settings": {"momentum": 0.9}},
    {"optimizer": "nadam", "settings": None}])
def test_a_run_that_was_stopped_ends_as_if_nothing_had_happened(tmp_path, options):
    whole, begun, resumed = network(), network(), network(start=9)
    expected = run(whole, validation=watched(), **options)
    options = {**options, "validation": watched(), "checkpoint": tmp_path / "run.state", "resume": True}
    with stopped(epoch=2) as data:
        run(begun, data, **options)
    history = run(resumed, **options)
    assert timeless(history) == timeless(expected)
    assert same(resumed, whole)
    assert sorted(os.listdir(tmp_path)) == ["run.state", "run.state.best"]


def test_a_run_may_be_stopped_in_every_epoch(tmp_path):
    whole, net = network(), network()
    expected = run(whole)
    for epoch in (0, 1, 3):
        with stopped(epoch) as data:
            run(net, data, checkpoint=tmp_path / "run.state", resume=True)
        net = network(start=epoch)  # what the stopped run had in memory is gone
        if epoch == 0:
            net = network()
    assert timeless(run(net, checkpoint=tmp_path / "run.state", resume=True)) == timeless(expected)
    assert same(net, whole)


def test_float64_states_are_kept_to_the_last_bit(tmp_path):
    whole, begun, resumed = network(), network(), network()
    for net in (whole, begun, resumed):
        net.cast("float64")
    run(whole, Doubled(loader()), **ADAM)
    with stopped(epoch=2) as data:
        run(begun, Doubled(data), checkpoint=tmp_path / "run.state", **ADAM)
    run(resumed, Doubled(loader()), checkpoint=tmp_path / "run.state", resume=True, **ADAM)
    assert parameters(whole)["0.weight"].dtype == np.float64
    assert same(resumed, whole)


def test_states_find_their_parameters_whatever_was_built_before(tmp_path):
    """Gluon counts layers: of the same two, the second's name may sort first in another process."""
    whole, begun = network(prefixes=("dense8_", "dense9_")), network(prefixes=("dense8_", "dense9_"))
    resumed = network(prefixes=("dense9_", "dense10_"))
    expected = run(whole)
    with stopped(epoch=2) as data:
        run(begun, data, checkpoint=tmp_path / "run.state")
    history = run(resumed, checkpoint=tmp_path / "run.state", resume=True)
    assert timeless(history) == timeless(expected) and same(resumed, whole)


def test_what_is_finished_is_only_loaded(tmp_path):
    first, again = network(), network(start=1)
    history = run(first, epochs=2, checkpoint=tmp_path / "run.state")
    assert run(again, Stopping(loader(), 0), epochs=2, checkpoint=tmp_path / "run.state", resume=True) == history
    assert same(first, again)


def test_a_shared_parameter_is_trained_once(tmp_path):
    def tied():
        net = mx.gluon.nn.HybridSequential()
        first = mx.gluon.nn.Dense(4, in_units=4)
        net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(4, in_units=108), first,
                mx.gluon.nn.Dense(4, in_units=4, params=first.params), mx.gluon.nn.Dense(3, in_units=4))
        net.initialize(mx.init.One())
        return net

    net, reference = tied(), tied()
    run(net, epochs=1, schedule=lambda done: 0.01, optimizer="sgd", settings={}, checkpoint=tmp_path / "run.state")
    trainer = mx.gluon.Trainer(reference.collect_params(), "sgd", {"learning_rate": 0.01}, kvstore=None)
    for x, y in loader():
        with mx.autograd.record():
            value = mx.gluon.loss.SoftmaxCrossEntropyLoss()(reference(x), y)
        value.backward()
        trainer.step(len(x))
    assert same(net, reference)
    again = tied()
    load_parameters(again, tmp_path / "run.state")
    assert same(again, net)


def test_settings_may_be_numpy_numbers(tmp_path):
    options = {"optimizer": "sgd", "epochs": 1, "seed": np.int64(3), "checkpoint": tmp_path / "run.state"}
    options["settings"] = {"momentum": np.float32(0.9), "wd": np.float64(0.1)}
    run(network(), **options)
    assert len(run(network(), resume=True, **options)) == 1


@pytest.mark.parametrize("change, told", [
    ({"seed": 6}, "its seed is 5, this run's is 6"), ({"epochs": 3}, "its epochs is 2, this run's is 3"),
    ({"optimizer": "adam", "settings": {}}, "its optimizer is nag"),
    ({"settings": {"momentum": 0.5}}, "its settings is .*0.9.* this run's is .*0.5")])
def test_the_checkpoint_of_another_run_is_refused(tmp_path, change, told):
    run(network(), epochs=2, checkpoint=tmp_path / "run.state")
    net = network()
    run(net, epochs=1)
    before = parameters(net)
    with pytest.raises(FileError, match=f"run.state is of another run: {told}"):
        run(net, **{"epochs": 2, "checkpoint": tmp_path / "run.state", "resume": True, **change})
    assert all((parameters(net)[name] == value).all() for name, value in before.items())


def test_the_checkpoint_of_other_images_is_refused(tmp_path):
    run(network(), epochs=2, checkpoint=tmp_path / "run.state")
    data = dataset(36)
    brighter = Dataset(ArraySource(data.source.images + np.uint8(1), "noise"), data.targets, data.classes, "noise")
    others = brighter.gluon_loader(8, PREPROCESSING, shuffle=3, augment=partial(flip_and_crop, pad=1))
    with pytest.raises(FileError, match="run.state is of another run: its data differs in .*samples"):
        run(network(), others, epochs=2, checkpoint=tmp_path / "run.state", resume=True)


def test_a_new_run_that_is_stopped_early_does_not_go_on_as_the_old_one(tmp_path):
    options = {"checkpoint": tmp_path / "run.state", "validation": watched()}
    run(network(), **options)
    with stopped(epoch=0) as data:
        run(network(), data, **options)
    assert os.listdir(tmp_path) == []
    whole, again = network(), network()
    assert timeless(run(again, resume=True, **options)) == timeless(run(whole, validation=watched()))
    assert same(again, whole)


@pytest.mark.parametrize("change, told", [
    ({"schedule": warmup_linear(0.1, 0.4)}, "its learning rates differs from this run's"),
    ({"schedule": warmup_linear(0.2, 0.3)}, "its learning rates"), ({"schedule": steps(0.1)}, "its learning rates"),
    ({"data": loader(12)}, "its batches is 5, this run's is 2"),
    ({"data": dataset(36).gluon_loader(8, PREPROCESSING, shuffle=4)},
     "its data differs in .*shuffle, which is 3, this run's is 4"),
    ({"data": dataset(36).gluon_loader(8, PREPROCESSING, shuffle=3)},
     "its data differs in augmentation, which is .*pad.*, this run's is None"),
    ({"forward": any_rows}, "its forward is classify, this run's is any_rows")])
def test_the_checkpoint_of_another_schedule_or_length_is_refused(tmp_path, change, told):
    run(network(), epochs=2, checkpoint=tmp_path / "run.state")
    with pytest.raises(FileError, match=f"run.state is of another run: {told}"):
        run(network(), **{"epochs": 2, "checkpoint": tmp_path / "run.state", "resume": True, **change})


def test_the_parameters_of_the_best_epoch_are_no_checkpoint_to_resume(tmp_path):
    run(network(), epochs=2, checkpoint=tmp_path / "run.state", validation=watched())
    with pytest.raises(FileError, match="run.state.best holds parameters alone"):
        run(network(), epochs=2, checkpoint=tmp_path / "run.state.best", resume=True, validation=watched())


def test_parameters_that_are_not_finite_are_not_kept(tmp_path):
    """The last step's loss is taken before its update, which nothing looks at any more."""
    with pytest.raises(InputError, match="not finite"):
        run(network(), epochs=1, checkpoint=tmp_path / "run.state",
            schedule=lambda done: 1e38 if done == 4 / 5 else 0.0, optimizer="sgd", settings={"wd": 1e10})
    assert not (tmp_path / "run.state").exists()


def test_a_checkpoint_that_does_not_tell_all_of_its_run_is_refused(tmp_path):
    """As those of an older version, which did not keep the number of batches."""
    run(network(), epochs=1, checkpoint=tmp_path / "run.state")
    meta, arrays = load_container(tmp_path / "run.state", training.KIND)
    del meta["batches"]
    save_container(tmp_path / "run.state", training.KIND, meta, arrays)
    with pytest.raises(FileError, match="run.state is of another run: its batches is None, this run's is 5"):
        run(network(), epochs=1, checkpoint=tmp_path / "run.state", resume=True)


def deeper():
    net = network()
    net.add(mx.gluon.nn.Dense(3))
    net[-1].initialize()
    return net


def shallower():
    net = mx.gluon.nn.HybridSequential()
    net.add(*list(network())[:-1])
    return net


@pytest.mark.parametrize("other, told", [(lambda: network(width=4), r"0\.weight of shape"),
                                         (deeper, r"9\.weight .* it holds nothing"),
                                         (shallower, r"it holds 8\.bias, not wanted here")])
def test_the_checkpoint_of_another_network_is_refused(tmp_path, other, told):
    run(network(), epochs=1, checkpoint=tmp_path / "run.state")
    for use in (lambda net: run(net, epochs=1, checkpoint=tmp_path / "run.state", resume=True),
                lambda net: load_parameters(net, tmp_path / "run.state")):
        with pytest.raises(FileError, match=f"run.state is of another network: .*{told}"):
            use(other())


@pytest.mark.parametrize("change, told", [
    (lambda meta, arrays: arrays.pop("optimizer.0.1"), "no array optimizer.0.1"),
    (lambda meta, arrays: arrays.update({"optimizer.0.1": np.zeros(1)}), r"optimizer.0.1 is float64 \(1,\)"),
    (lambda meta, arrays: arrays.update({"optimizer.0.1": np.array(["a"])}), "optimizer.0.1 is <U1"),
    (lambda meta, arrays: meta.pop("update_counts"), "update_counts"),
    (lambda meta, arrays: meta["update_counts"].update({"99": 1}), "list index out of range"),
    (lambda meta, arrays: meta.update(history=[{"epoch": "one"}]), "history"),
    (lambda meta, arrays: meta.update(num_update=None), "num_update: None is not of type"),
    (lambda meta, arrays: arrays.update({"parameter.0.weight": np.array(["a"])}), "0.weight of shape")])
def test_a_checkpoint_of_odd_content_is_refused(tmp_path, change, told):
    path = tmp_path / "run.state"
    run(network(), epochs=1, checkpoint=path, **ADAM)
    meta, arrays = load_container(path, training.KIND)
    change(meta, arrays)
    save_container(path, training.KIND, meta, arrays)
    with pytest.raises(FileError, match=f"{path}.*{told}"):
        run(network(), epochs=1, checkpoint=path, resume=True, **ADAM)


@pytest.mark.parametrize("optimizer", ["lars", "nadam"])
def test_a_checkpoint_without_what_its_optimizer_remembers_is_refused(tmp_path, optimizer):
    """As those of an older version, with which a run would go on another way."""
    path = tmp_path / "run.state"
    run(network(), epochs=1, checkpoint=path, optimizer=optimizer, settings=None)
    meta, arrays = load_container(path, training.KIND)
    del meta["optimizer_numbers"]
    save_container(path, training.KIND, meta, arrays)
    with pytest.raises(FileError, match=f"(?i){path}.*{optimizer} remembers"):
        run(network(), epochs=1, checkpoint=path, resume=True, optimizer=optimizer, settings=None)


@pytest.mark.parametrize("resume", [True, False])
def test_what_killed_saves_have_left_is_removed(tmp_path, resume):
    for name in (".run.state.part-ab12.state", ".run.state.best.part-ab12.best"):
        (tmp_path / name).touch()
    run(network(), epochs=1, checkpoint=tmp_path / "run.state", resume=resume)
    assert os.listdir(tmp_path) == ["run.state"]


def test_an_optimizer_that_remembers_more_than_numbers_keeps_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="lbsgd .* take another optimizer"):
        run(network(), optimizer="lbsgd", settings=None, checkpoint=tmp_path / "run.state")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    run(network(), epochs=1, checkpoint=tmp_path / "run.state")
    content = (tmp_path / "run.state").read_bytes()
    (tmp_path / "run.state").write_bytes(content[:-100])
    with pytest.raises(FileError, match="damaged"):
        run(network(), epochs=1, checkpoint=tmp_path / "run.state", resume=True)


THREADS = """
import sys
import threading
from pathlib import Path

import test_loop as t
from mxelm.runtime import mx

def threads():  # but those of Python, which the loader starts and ends
    return int(Path("/proc/self/status").read_text().split("Threads:")[1].split()[0]) - threading.active_count()

class Watched:
    targets = t.watched().targets

    def __iter__(self):
        yield from t.watched()
        print(threads())  # validation's last batch is through

net = mx.gluon.nn.HybridSequential()
net.add(mx.gluon.nn.Conv2D(64, 3, in_channels=3), mx.gluon.nn.Conv2D(64, 3, in_channels=64), mx.gluon.nn.Dense(3))
net.initialize()
net.hybridize(static_alloc=True, static_shape=True)
t.run(net, epochs=1, validation=Watched(), checkpoint=sys.argv[1])
mx.nd.array(t.np.ones(300000)).wait_to_read()  # as many numbers as a batch of large images has
print(threads())
"""


def test_neither_a_checkpoint_nor_a_large_batch_starts_a_team_of_threads_beside_that_of_mxnet(tmp_path):
    """More OpenMP threads than cores make each of them sleep at every barrier: half the speed from then on."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parent)}
    call = [sys.executable, "-c", THREADS, str(tmp_path / "run.state")]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after <= before  # a thread of the loader may still have been ending when the first was counted


def test_a_checkpoint_that_cannot_be_written_is_told_before_any_step(tmp_path):
    class Untouched:
        epoch = 0

        def __iter__(self):
            pytest.fail("a batch was drawn")

    with pytest.raises(FileError, match=r"cannot write .*missing/run\.state"):
        run(network(), Untouched(), checkpoint=tmp_path / "missing" / "run.state")


# the best epoch

def test_the_best_epoch_is_that_of_the_validation(tmp_path, monkeypatch):
    """Scores rise and fall by decree; the first of equals is kept."""
    scores = iter([0.2, 0.7, 0.7, 0.3])
    kept = []

    def score(net, *_, **__):
        kept.append(parameters(net))
        return next(scores)

    monkeypatch.setattr(training.loop, "accuracy", score)
    net = network()
    run(net, validation=watched(), checkpoint=tmp_path / "run.state")
    best, last = network(start=1), network(start=2)
    assert [entry["validation_accuracy"] for entry in load_parameters(best, f"{tmp_path}/run.state.best")] == [0.2, 0.7]
    assert len(load_parameters(last, tmp_path / "run.state")) == 4
    assert all((parameters(best)[name] == kept[1][name]).all() for name in kept[1])
    assert same(last, net) and not same(best, last)


def test_the_best_of_before_is_remembered_on_resuming(tmp_path, monkeypatch):
    options = {"validation": watched(), "checkpoint": tmp_path / "run.state"}
    monkeypatch.setattr(training.loop, "accuracy", lambda *_, **__: 0.9)
    with stopped(epoch=1) as data:
        run(network(), data, **options)
    before = (tmp_path / "run.state.best").read_bytes()
    monkeypatch.setattr(training.loop, "accuracy", lambda *_, **__: 0.8)
    run(network(), resume=True, **options)
    assert (tmp_path / "run.state.best").read_bytes() == before


def decreed(monkeypatch, scores):
    """Validation accuracies by decree."""
    scores = iter(scores)
    monkeypatch.setattr(training.loop, "accuracy", lambda *_, **__: next(scores))


@pytest.mark.parametrize("patience, scores", [
    (1, [0.5, 0.4]), (2, [0.5, 0.6, 0.6, 0.6]), (2, [0.5, 0.4, 0.6, 0.5, 0.5]), (3, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    (9, [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), (None, [0.6, 0.5, 0.4, 0.3, 0.2, 0.1])])
def test_patience_ends_a_run_that_gains_no_more(monkeypatch, patience, scores):
    """An equal accuracy is no gain; without patience, or with much, all six epochs run."""
    decreed(monkeypatch, scores)
    history = run(network(), loader(16), epochs=6, validation=watched(), patience=patience)
    assert [entry["validation_accuracy"] for entry in history] == scores


def test_patience_goes_on_counting_after_a_stop(tmp_path, monkeypatch):
    options = {"epochs": 9, "validation": watched(), "patience": 2, "checkpoint": tmp_path / "run.state"}
    decreed(monkeypatch, [0.5, 0.4, 0.4])
    whole = network()
    expected = run(whole, validation=watched(), epochs=9, patience=2)
    decreed(monkeypatch, [0.5, 0.4])
    with stopped(epoch=2) as data:
        run(network(), data, **options)
    decreed(monkeypatch, [0.4])
    resumed = network(start=3)
    assert timeless(run(resumed, resume=True, **options)) == timeless(expected) and same(resumed, whole)
    again = network(start=4)  # what has run out of patience is only loaded
    assert len(run(again, Stopping(loader(), 3), resume=True, **options)) == 3 and same(again, whole)


@pytest.mark.parametrize("patience, validation", [(3, None), (0, "watched"), (-1, "watched")])
def test_patience_that_cannot_be_is_refused(patience, validation):
    with pytest.raises(InputError, match="validation loader and a patience of at least 1 epoch"):
        run(network(), patience=patience, validation=validation and watched())


def test_without_validation_nothing_is_called_best(tmp_path):
    run(network(), epochs=1, checkpoint=tmp_path / "run.state")
    assert os.listdir(tmp_path) == ["run.state"]


def test_parameters_go_into_a_network_that_was_never_initialised(tmp_path):
    net = network()
    run(net, epochs=1, checkpoint=tmp_path / "run.state")
    bare = mx.gluon.nn.HybridSequential()
    bare.add(*(type(layer)(*arguments) for layer, arguments in zip(net, (
        (5, 3), (), ("relu",), (), (), (0.2,), (5,), (5,), (3,)))))
    load_parameters(bare, tmp_path / "run.state")
    x = mx.nd.ones((2, 3, 6, 6))
    np.testing.assert_array_equal(bare(x).asnumpy(), net(x).asnumpy())


# a loss that explodes

def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_epoch(tmp_path):
    options = {"schedule": lambda done: 0.05 if done < 0.4 else 1e30, "checkpoint": tmp_path / "run.state"}
    with pytest.raises(InputError, match=r"not finite in epoch 3, step [2345]: lower the learning rate"):
        run(network(), epochs=5, **options)
    net = network()
    assert len(load_parameters(net, tmp_path / "run.state")) == 2
    assert all(np.isfinite(value).all() for value in parameters(net).values())


# schedules

def test_warmup_then_down_to_zero():
    rate = warmup_linear(0.4, 0.25)
    np.testing.assert_allclose([rate(done) for done in (0, 0.125, 0.25, 0.625, 1)], [0, 0.2, 0.4, 0.2, 0])


@pytest.mark.parametrize("warmup", [0, 1, -0.1, 5])
def test_a_warmup_that_is_no_fraction_of_the_run(warmup):
    with pytest.raises(InputError, match="warmup must be a fraction of the run"):
        warmup_linear(0.1, warmup)


def test_steps_come_at_their_fractions_of_the_run():
    rate = steps(0.1)
    np.testing.assert_allclose([rate(done) for done in (0, 0.49, 0.5, 0.74, 0.75, 1)],
                               [0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    rate = steps(2, at=(0.25,), factor=0.5)
    assert [rate(done) for done in (0.2, 0.25, 0.9)] == [2, 1, 1]
    assert {steps(0.3, ())(done) for done in (0, 0.5, 1)} == {0.3}


@pytest.mark.parametrize("at", [(0,), (0.5, 1), (-0.1,), (30, 60)])
def test_steps_that_are_at_no_fraction_of_the_run(at):
    with pytest.raises(InputError, match="steps come at fractions of the run between 0 and 1"):
        steps(0.1, at)


def test_the_schedule_sees_the_run_in_equal_steps():
    seen = []
    run(network(), epochs=2, schedule=lambda done: seen.append(done) or 0.01)
    np.testing.assert_allclose(seen[-10:], np.arange(10) / 10)  # 36 images are 5 batches


# augmentation

def test_flip_and_crop_takes_shifted_and_mirrored_pieces():
    """Each result is one of the 2 x 3 x 3 pieces of its own image with reflected edges; all of them come up."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 5, 7, 3), dtype=np.uint8)
    found = flip_and_crop(images, np.random.default_rng(1), pad=1)
    assert found.shape == images.shape and found.dtype == np.uint8
    seen = set()
    for image, result in zip(images, found):
        pieces = {}
        for flip in (1, -1):
            padded = np.pad(image[:, ::flip], ((1, 1), (1, 1), (0, 0)), mode="reflect")
            for top in range(3):
                for left in range(3):
                    pieces[padded[top:top + 5, left:left + 7].tobytes()] = (flip, top, left)
        seen.add(pieces[result.tobytes()])
    assert len(seen) == 18


@pytest.mark.parametrize("fill", [(9, 0, 255), 7])
def test_what_comes_in_at_the_edges_may_be_a_colour(fill):
    images = np.random.default_rng(0).integers(0, 256, (200, 5, 7, 3), dtype=np.uint8)
    found = flip_and_crop(images, np.random.default_rng(1), pad=1, fill=fill)
    assert found.shape == images.shape and found.dtype == np.uint8
    seen = set()
    for image, result in zip(images, found):
        pieces = {}
        for flip in (1, -1):
            framed = np.empty((7, 9, 3), np.uint8)
            framed[:, :] = fill
            framed[1:6, 1:8] = image[:, ::flip]
            for top in range(3):
                for left in range(3):
                    pieces[framed[top:top + 5, left:left + 7].tobytes()] = (flip, top, left)
        seen.add(pieces[result.tobytes()])
    assert len(seen) == 18


@pytest.mark.parametrize("fill", [None, 0])
def test_no_padding_is_mirroring_alone(fill):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 7, 3), dtype=np.uint8)
    found = flip_and_crop(images, np.random.default_rng(1), pad=0, fill=fill)
    mirrored = [np.array_equal(result, image[:, ::-1]) for image, result in zip(images, found)]
    assert all(flip or np.array_equal(result, image) for flip, image, result in zip(mirrored, images, found))
    assert 0 < sum(mirrored) < 40


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_and_crop_depends_on_its_generator_alone(channels):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, channels), dtype=np.uint8)
    before = images.copy()
    np.random.seed(0)
    first = flip_and_crop(images, np.random.default_rng(4))
    np.random.seed(1)
    np.testing.assert_array_equal(flip_and_crop(images, np.random.default_rng(4)), first)
    assert not np.array_equal(flip_and_crop(images, np.random.default_rng(5)), first)
    np.testing.assert_array_equal(images, before)
