"""The networks: figure 6, totals, initial values, heads, refusals, checkpoints, and training that goes on."""
import functools

import numpy as np
import pytest
from numpy_gunn import parameters

from mxelm import backbones
from mxelm.backbones.gluon import count_parameters
from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import FileError, InputError
from mxelm.gunn import (
    FastGunn2D,
    FastOriginalGunn,
    Gunn2D,
    OriginalGunn,
    Sunn2D,
    gunn15,
    networks,
    original_gunn15,
    original_gunn18,
    save,
    summary,
)
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx
from mxelm.training import classify, fit, load_parameters, steps

FIGURE_6 = [
    ("input_1", (3, 32, 32), 0), ("z1", (64, 32, 32), 1792), ("bn1", (64, 32, 32), 256),
    ("activation", (64, 32, 32), 0), ("z2", (240, 32, 32), 15600), ("bn2", (240, 32, 32), 960),
    ("activation_1", (240, 32, 32), 0), ("gunn2d", (240, 32, 32), 48281), ("z3", (300, 32, 32), 72300),
    ("bn3", (300, 32, 32), 1200), ("activation_2", (300, 32, 32), 0), ("avg_pool1", (300, 16, 16), 0),
    ("gunn2d_1", (300, 16, 16), 60341), ("z4", (360, 16, 16), 108360), ("bn4", (360, 16, 16), 1440),
    ("activation_3", (360, 16, 16), 0), ("avg_pool2", (360, 8, 8), 0), ("gunn2d_2", (360, 8, 8), 72401),
    ("z5", (360, 8, 8), 129960), ("bn5", (360, 8, 8), 1440), ("activation_4", (360, 8, 8), 0),
    ("avg_pool3", (360, 1, 1), 0), ("flatten", (360,), 0), ("fc1", (360,), 129960), ("fc2", (360,), 129960),
    ("fc3", (3,), 1083)]
PREPROCESSING = Preprocessing((32, 32), "stretch", mean=120.0, scale=1 / 60)
TINY = Preprocessing((8, 8), "stretch", mean=120.0, scale=1 / 60)


@pytest.fixture(scope="module")
def report():
    return gunn15(3)


@pytest.fixture(scope="module")
def original():
    return original_gunn15(10)


def tiny(layer=FastGunn2D, seed=0, width=40, K=20):
    """A whole network in small: convolution, BatchNorm, a gradual layer, pooling, scores of 3 classes."""
    nn = mx.gluon.nn
    blocks = [("z1", nn.Conv2D(width, 3, 1, 1, prefix="z1_")), ("bn1", nn.BatchNorm(prefix="bn1_")),
              ("activation", nn.Activation("relu")), ("gunn", layer(width, K, prefix="gunn_")),
              ("pool", nn.AvgPool2D(8)), ("flatten", networks.Flatten()), ("fc", nn.Dense(3, prefix="fc_"))]
    return networks._initialised(networks.Network(blocks, (3, 8, 8)), mx.init.Xavier(), seed)


def original_tiny(layer=FastOriginalGunn, seed=0):
    return tiny(layer, seed, 24, 4)


def noise(n, shape=(3, 32, 32), seed=0):
    return mx.nd.array(np.random.default_rng(seed).normal(0, 1, (n, *shape)))


def step(network, x, y):
    """One step of training, which leaves no running statistics at their initial values."""
    trainer = mx.gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 1e-3}, kvstore=None)
    with mx.autograd.record():
        value = mx.gluon.loss.SoftmaxCrossEntropyLoss()(network(x), y)
    value.backward()
    trainer.step(len(x))


# figure 6, and the totals

@pytest.mark.parametrize("layer", ["fast", "step-by-step", "sunn"])
def test_every_row_of_figure_6(layer):
    network = gunn15(3, layer=layer)
    assert [tuple(row.values()) for row in summary(network)] == FIGURE_6
    assert count_parameters(network) == {"total": 775334, "trainable": 772686, "non_trainable": 2648}


def test_the_summary_is_the_same_for_a_hybridized_network(report):
    network = gunn15(3, head="plain")
    network.hybridize()
    assert summary(network) == summary(report)
    assert set(summary(network)[1]) == {"layer", "output", "parameters"}


@pytest.mark.parametrize("layer", ["fast", "step-by-step", "sunn"])
def test_totals_of_the_original(layer):
    assert count_parameters(original_gunn15(10, layer=layer))["trainable"] == 1585746


def test_total_of_the_original_for_100_classes():
    assert count_parameters(original_gunn15(100))["trainable"] == 1618236


def test_total_of_gunn_18():
    network = original_gunn18()
    assert count_parameters(network)["trainable"] == 28909736
    assert [(row["layer"], row["output"]) for row in summary(network) if row["layer"].startswith(("gunn", "fc"))] == [
        ("gunn1", (400, 56, 56)), ("gunn2", (800, 28, 28)), ("gunn3", (1600, 14, 14)), ("gunn4", (2000, 7, 7)),
        ("fc", (1000,))]


def test_the_control_has_the_same_parameters(report, original):
    for network, control in ((report, gunn15(3, layer="sunn")), (original, original_gunn15(10, layer="sunn"))):
        assert {name: p.shape for name, p in parameters(network).items()} == {
            name: p.shape for name, p in parameters(control).items()}


def test_segments_of_the_original(original):
    assert [len(original._children[f"gunn{i}"].steps) for i in (1, 2, 3)] == [20, 25, 30]
    assert [gunn15(2)._children[name].m for name in ("gunn2d", "gunn2d_1", "gunn2d_2")] == [12, 15, 18]


# initial values

def same(network, other):
    found, expected = parameters(network), parameters(other)
    return found.keys() == expected.keys() and all(
        found[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.mark.parametrize("build", [lambda seed: gunn15(3, seed=seed), lambda seed: original_gunn15(3, seed=seed)])
def test_a_network_is_a_function_of_its_seed(build):
    first = build(5)
    gunn15(4, seed=1)  # another network, and layers with counted names
    for _ in range(11):
        mx.gluon.nn.Conv2D(4, 3)
    np.random.seed(1)
    mx.nd.random.normal(shape=3)
    assert same(build(5), first)
    assert not same(build(6), first)


def test_ways_to_compute_begin_with_the_same_values(report, original):
    """So that runs that differ in layer, head or momentum are pairs."""
    others = [gunn15(3, head=head, layer=layer, momentum=momentum) for head, layer, momentum in (
        ("plain", "fast", 0.99), ("as-published", "step-by-step", 0.9), ("as-published", "sunn", 0.99))]
    assert all(same(network, report) for network in others)
    assert all(same(original_gunn15(10, layer=layer), original) for layer in ("step-by-step", "sunn"))


def test_initial_values_of_the_report(report):
    values = parameters(report)
    for name in ("z1", "z3", "fc1"):  # Glorot, uniform
        weight = values[f"{name}.weight"]
        bound = np.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * np.prod(weight.shape[2:])))
        assert 0.97 * bound < np.abs(weight).max() <= bound * (1 + 1e-6)
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.05) and not values[f"{name}.bias"].any()
    assert values["gunn2d.W2"].std() == pytest.approx(0.05, rel=0.02)
    assert values["gunn2d_1.b2"].std() == pytest.approx(0.05, rel=0.5) and values["gunn2d_2.b3"].all()


def test_initial_values_of_the_original(original):
    values = parameters(original)
    for name in ("z1", "gunn1.steps.0.reduce", "gunn3.steps.29.conv"):  # He, normal, fan-out
        weight = values[f"{name}.weight"]
        expected = np.sqrt(2 / (weight.shape[0] * np.prod(weight.shape[2:])))
        assert weight.std() == pytest.approx(expected, rel=0.06)
    assert np.abs(values["fc.weight"]).max() == pytest.approx(360 ** -0.5, rel=0.01) and not values["fc.bias"].any()


# the parts

def relu(z):
    return np.maximum(z, 0)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("head, activation", [("plain", relu), ("as-published", softmax)])
def test_heads(head, activation):
    network = gunn15(3, head=head)
    features = np.random.default_rng(0).normal(0, 1, (2, 360)).astype(np.float32)
    found, expected = mx.nd.array(features), features.astype(np.float64)
    for name in ("fc1", "fc2", "fc3"):
        block = network._children[name]
        weight, bias = (p.data().asnumpy() for p in (block.weight, block.bias))
        found, expected = block(found), expected @ weight.T + bias
        expected = expected if name == "fc3" else activation(expected)
        np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("build, momentum, epsilon", [
    (lambda: gunn15(3), 0.99, 1e-3), (lambda: gunn15(3, momentum=0.9), 0.9, 1e-3),
    (lambda: original_gunn15(3), 0.9, 1e-5)])
def test_batch_normalisation(build, momentum, epsilon):
    network = build()
    bn, z = network._children["bn1"], 0.05 * noise(4, (64, 4, 4))
    np.testing.assert_allclose(bn(z).asnumpy(), z.asnumpy() / np.sqrt(1 + epsilon), rtol=1e-5)
    with mx.autograd.record():
        y = bn(z)
    y.backward()
    mean, var = z.asnumpy().mean(axis=(0, 2, 3)), z.asnumpy().var(axis=(0, 2, 3))
    np.testing.assert_allclose(bn.running_mean.data().asnumpy(), (1 - momentum) * mean, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(bn.running_var.data().asnumpy(), momentum + (1 - momentum) * var, rtol=1e-5)
    np.testing.assert_allclose(y.asnumpy(), ((z.asnumpy() - mean[:, None, None])
                                             / np.sqrt(var + epsilon)[:, None, None]), rtol=1e-3, atol=1e-4)


# what is refused

@pytest.mark.parametrize("build, told", [
    (lambda: gunn15(1), "classes must be a whole number of at least 2, got 1"),
    (lambda: original_gunn15(0), "classes must be a whole number of at least 2, got 0"),
    (lambda: original_gunn18(1), "classes must be a whole number of at least 2, got 1"),
    (lambda: gunn15(2.5), "classes must be a whole number of at least 2, got 2.5"),
    (lambda: original_gunn15("3"), "classes must be a whole number of at least 2, got '3'"),
    (lambda: gunn15(3, seed=-1), "seed must be a whole number from 0 to 4294967295, got -1"),
    (lambda: gunn15(3, head="softmax"), "head 'softmax' is not known: use as-published or plain"),
    (lambda: gunn15(3, layer="slow"), "layer 'slow' is not known: use step-by-step, fast or sunn"),
    (lambda: gunn15(3, momentum=2), "a share from 0 to less than 1, got 2"),
    (lambda: original_gunn15(3, layer="slow"), "layer 'slow' is not known"),
    (lambda: original_gunn18(3, layer="slow"), "layer 'slow' is not known")])
def test_networks_that_are_not(build, told):
    with pytest.raises(InputError, match=told):
        build()


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 8, 8), (3, 8, 8)])
def test_images_of_another_shape(hybrid, shape):
    network = tiny()
    network.hybridize(hybrid)
    with pytest.raises(InputError, match=r"takes images of shape \(3, 8, 8\) in batches, got"):
        network(mx.nd.zeros(shape))


@pytest.mark.slow
def test_sizes_may_change_in_a_compiled_network():
    def growing(network):
        seen = []
        for size in (16, 32, 16):
            with mx.autograd.record():
                scores = network(noise(4, (3, size, size)))
            scores.backward(noise(4, (3,)))
            seen += [scores.asnumpy(), *(network._collect_params_with_prefix()[name].grad().asnumpy()
                                         for name in ("z1.weight", "gunn2.steps.3.conv.weight", "fc.weight"))]
        return seen

    compiled = original_gunn15(3)
    compiled.hybridize(static_alloc=True, static_shape=True)
    for found, expected in zip(growing(compiled), growing(original_gunn15(3))):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_the_original_takes_smaller_images(original):
    whole = noise(2)
    small = whole[:, :, :16, :12]
    assert original(small).shape == (2, 10)
    symbol = backbones.from_block(original, PREPROCESSING, classes=list("abcdefghij"), name="original").symbol
    features = symbol.get_internals()["flatten_output"]
    assert features.infer_shape(data=small.shape)[1] == [(2, 360)]
    for shape in [(2, 3, 18, 16), (2, 1, 16, 16), (3, 16, 16)]:
        with pytest.raises(InputError, match=r"\(3, 32, 32\), or of multiples of 4 pixels, in batches, got"):
            original(mx.nd.zeros(shape))


# checkpoints

def scores_of_module(prefix, x):
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch=0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(arg_params, aux_params)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    return module.get_outputs()[0].asnumpy()


@pytest.mark.parametrize("build", [
    tiny, original_tiny, lambda: tiny(Gunn2D), lambda: original_tiny(OriginalGunn), lambda: tiny(Sunn2D),
    lambda: gunn15(3), lambda: gunn15(3, head="plain"), lambda: original_gunn15(3)])
def test_a_checkpoint_is_the_network_to_all_that_reads_one(tmp_path, build):
    network = build()
    x = noise(2, network.shape)
    step(network, x, mx.nd.array([0, 2]))
    preprocessing = TINY if network.shape == TINY.shape else PREPROCESSING
    prefix = str(tmp_path / "gunn")
    save(network, prefix, preprocessing, ["a", "b", "c"], trained_on="noise")
    expected = network(x).asnumpy()

    def agrees(found, expected):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    agrees(scores_of_module(prefix, x), expected)
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    agrees(block(x).asnumpy(), expected)
    whole = backbones.load(prefix, cut=None)
    agrees(whole.extract(x.asnumpy()), expected)
    assert whole.classes == ["a", "b", "c"] and whole.source["trained_on"] == "noise"
    assert whole.preprocessing == preprocessing

    features = backbones.load(prefix)
    before = x
    for child in network._children.values():
        before = child(before)
        if isinstance(child, networks.Flatten):
            break
    agrees(features.extract(x.asnumpy()), before.asnumpy())
    assert np.ptp(before.asnumpy(), axis=0).max() > 0.01  # the images differ; with the published head not their scores


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="missing"):
        save(tiny(), str(tmp_path / "missing" / "gunn"), TINY, ["a", "b", "c"])
    with pytest.raises(InputError, match="4 names of classes do not fit a network of 3 scores"):
        save(tiny(), str(tmp_path / "gunn"), TINY, ["a", "b", "c", "d"])


@pytest.mark.parametrize("slow, fast", [(lambda: tiny(Gunn2D, 1), tiny), (lambda: original_tiny(OriginalGunn, 1),
                                                                         original_tiny)])
def test_either_way_to_compute_takes_the_other_s_parameters(tmp_path, slow, fast):
    network, other = fast(), slow()
    x = noise(4, (3, 8, 8))
    step(network, x, mx.nd.array([0, 1, 2, 0]))
    network.save_parameters(str(tmp_path / "gunn.params"))
    assert not np.allclose(other(x).asnumpy(), network(x).asnumpy(), atol=1e-3)
    other.load_parameters(str(tmp_path / "gunn.params"))
    np.testing.assert_allclose(other(x).asnumpy(), network(x).asnumpy(), rtol=1e-4, atol=1e-5)


# training goes on

class Stop(Exception):
    """What ends a run in the middle."""


def stopping_after(calls):
    """`classify`, which raises in its n-th call."""
    left = iter(range(calls - 1))

    @functools.wraps(classify)
    def watched(network, x, y):
        if next(left, None) is None:
            raise Stop
        return classify(network, x, y)
    return watched


def loader():
    rng = np.random.default_rng(0)
    labels = np.arange(18) % 3
    images = rng.integers(0, 160, (18, 8, 8, 3))
    images[np.arange(18), :, :, labels] += 95
    source = ArraySource(images.astype(np.uint8), "noise")
    return Dataset(source, labels, ["red", "green", "blue"], "noise").gluon_loader(6, TINY, shuffle=1)


def trained(network, checkpoint=None, resume=False, forward=classify):
    network.hybridize(static_alloc=True, static_shape=True)
    history = fit(network, loader(), 4, steps(0.01), optimizer="adam", settings={"epsilon": 1e-7}, forward=forward,
                  checkpoint=checkpoint, resume=resume, seed=2)
    return [entry["loss"] for entry in history]


@pytest.mark.parametrize("build", [tiny, original_tiny])
def test_a_run_that_was_stopped_ends_as_if_nothing_had_happened(tmp_path, build):
    whole, begun, resumed = build(), build(), build(seed=9)
    losses = trained(whole)
    with pytest.raises(Stop):
        trained(begun, tmp_path / "run.state", forward=stopping_after(8))  # in the third epoch
    assert trained(resumed, tmp_path / "run.state", resume=True) == losses
    assert same(resumed, whole) and losses[-1] < losses[0]


@pytest.mark.parametrize("wrong, told", [
    (lambda: tiny(width=20), r"z1\.weight of shape"), (original_tiny, r"z1\.weight of shape"),
    (lambda: tiny(K=10), r"gunn\.W1 of shape \(10, 40, 1, 1\) is wanted, it holds shape \(20, 40, 1, 1\)"),
    (lambda: tiny(lambda width, K, prefix: FastOriginalGunn(width, K, prefix=prefix)),
     r"gunn\.steps\.0\.\S+ of shape .* it holds nothing")])
def test_a_training_checkpoint_of_another_architecture_is_refused(tmp_path, wrong, told):
    trained(tiny(), tmp_path / "run.state")
    network = wrong()
    before = parameters(network)
    with pytest.raises(FileError, match=f"run.state is of another network: .*{told}"):
        load_parameters(network, tmp_path / "run.state")
    assert all((parameters(network)[name] == value).all() for name, value in before.items())


def test_a_training_checkpoint_goes_into_either_way_to_compute(tmp_path):
    network, other, x = tiny(), tiny(Gunn2D, seed=4), noise(3, (3, 8, 8))
    trained(network, tmp_path / "run.state")
    load_parameters(other, tmp_path / "run.state")
    assert same(other, network)
    np.testing.assert_allclose(other(x).asnumpy(), network(x).asnumpy(), rtol=1e-4, atol=1e-5)
