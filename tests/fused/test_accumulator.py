"""HtH and HtY against float64 NumPy on the features of the same backbone."""
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mxelm.errors import InputError
from mxelm.fused import FusedAccumulator, Projection, fuse
from mxelm.fused.gram import BLOCK
from mxelm.runtime import mx

N, C, L = 53, 4, 24


@pytest.fixture
def images(tiny_backbone):
    rng = np.random.default_rng(1)
    return rng.normal(size=(N, *tiny_backbone.preprocessing.shape)).astype(np.float32)


@pytest.fixture
def targets():
    return np.random.default_rng(2).normal(size=(N, C)).astype(np.float32)


def reference(backbone, projection, images, targets):
    H = np.tanh(backbone.extract(images).astype(np.float64) @ projection.W.T.astype(np.float64))
    return H.T @ H, H.T @ targets.astype(np.float64)


def accumulated(backbone, projection, images, targets, cuts, method="blas"):
    made = FusedAccumulator(backbone, projection, targets.shape[1], method=method, batch=8)
    for start, end in zip([0, *cuts], [*cuts, len(images)]):
        made.update(mx.nd.array(images[start:end]), mx.nd.array(targets[start:end]))
    return made


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("method", ["blas", "paper"])
@pytest.mark.parametrize("cuts", [[], [8, 16, 24, 32, 40, 48], [1, 2, 50], [20]])
def test_any_partition_gives_the_reference(tiny_backbone, images, targets, method, cuts):
    projection = Projection(L, 8, seed=3, scale=0.3)
    made = accumulated(tiny_backbone, projection, images, targets, cuts, method)
    HtH, HtY = reference(tiny_backbone, projection, images, targets)
    assert relative(made.HtH, HtH) < 1e-6
    assert relative(made.HtY, HtY) < 1e-6
    assert made.n_samples == N
    assert made.yty == pytest.approx(np.square(targets, dtype=np.float64).sum(), rel=1e-12)
    np.testing.assert_array_equal(made.HtH, made.HtH.T)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(N)), cut=st.integers(1, N - 1))
def test_order_does_not_matter(tiny_backbone, images, targets, order, cut):
    projection = Projection(L, 8, seed=3, scale=0.3)
    order = np.array(order)
    made = accumulated(tiny_backbone, projection, images[order], targets[order], [cut])
    HtH, HtY = reference(tiny_backbone, projection, images, targets)
    assert relative(made.HtH, HtH) < 1e-6 and relative(made.HtY, HtY) < 1e-6


def test_more_rows_than_a_block(tiny_backbone):
    rng = np.random.default_rng(4)
    images = rng.normal(size=(2 * BLOCK + 77, *tiny_backbone.preprocessing.shape)).astype(np.float32)
    targets = rng.normal(size=(len(images), C)).astype(np.float32)
    projection = Projection(L, 8, seed=3, scale=0.3)
    made = accumulated(tiny_backbone, projection, images, targets, list(range(100, len(images), 100)))
    HtH, HtY = reference(tiny_backbone, projection, images, targets)
    assert relative(made.HtH, HtH) < 1e-6 and relative(made.HtY, HtY) < 1e-6


def test_reading_between_batches_changes_nothing(tiny_backbone, images, targets):
    projection = Projection(L, 8, seed=3, scale=0.3)
    made = FusedAccumulator(tiny_backbone, projection, C)
    for start in range(0, N, 10):
        made.update(images[start:start + 10], targets[start:start + 10])
        HtH, HtY = reference(tiny_backbone, projection, images[:start + 10], targets[:start + 10])
        assert relative(made.HtH, HtH) < 1e-6 and relative(made.HtY, HtY) < 1e-6


def test_batchnorm_statistics_stay(tiny_backbone, images, targets):
    made = accumulated(tiny_backbone, Projection(L, 8), images, targets, [10, 20])
    _, aux = made._sums.model.get_params()
    for name, array in aux.items():
        np.testing.assert_array_equal(array.asnumpy(), tiny_backbone.aux_params[name].asnumpy())


def test_the_printed_graph(tiny_backbone):
    """Arcada, section 3: the operators, their order and parameters, and the names the paper gives."""
    import json
    graph = json.loads(fuse(tiny_backbone.features, L).tojson())
    ops = {node["op"]: node for node in graph["nodes"] if node["op"] != "null"}
    assert ops["FullyConnected"]["attrs"] == {"no_bias": "True", "num_hidden": str(L)}
    assert ops["_linalg_syrk"]["attrs"] == {"transpose": "True"} and ops["_linalg_syrk"]["name"] == "HtH"
    assert ops["dot"]["attrs"] == {"transpose_a": "True"}
    heads = [graph["nodes"][head[0]] for head in graph["heads"]]
    assert [head["op"] for head in heads] == ["_linalg_syrk", "dot"]
    tanh = graph["nodes"][heads[0]["inputs"][0][0]]
    assert tanh["op"] == "tanh"
    sources = [graph["nodes"][entry[0]] for entry in heads[1]["inputs"]]
    assert sources[0] is tanh and sources[1]["name"] == "Y"
    assert {"W", "Y", "data"} <= set(fuse(tiny_backbone.features, L).list_arguments())


def test_unusable_input(tiny_backbone, images, targets):
    made = FusedAccumulator(tiny_backbone, Projection(L, 8), C)
    with pytest.raises(InputError, match=r"data \(5, 3, 16, 15\)"):
        made.update(images[:5, :, :, :15], targets[:5])
    with pytest.raises(InputError, match=r"targets \(4, 4\)"):
        made.update(images[:5], targets[:4])
    broken = targets[:5].copy()
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        made.update(images[:5], broken)
    assert made.n_samples == 0 and not made.HtH.any()
    with pytest.raises(InputError, match="W takes 9 features"):
        FusedAccumulator(tiny_backbone, Projection(L, 9), C)
    with pytest.raises(InputError, match="method 'fast'"):
        FusedAccumulator(tiny_backbone, Projection(L, 8), C, method="fast")


def test_a_caller_may_refill_its_arrays(tiny_backbone, images, targets):
    projection, buffer = Projection(L, 8, seed=3, scale=0.3), np.empty((1, C), np.float32)
    made = FusedAccumulator(tiny_backbone, projection, C)
    for i in range(N):
        buffer[:] = targets[i]
        made.update(images[i:i + 1], buffer)
    assert relative(made.HtY, reference(tiny_backbone, projection, images, targets)[1]) < 1e-6


@pytest.mark.parametrize("weight", [[1.0] * 4, [1.0] * 4 + [-1.0], [1.0] * 4 + [float("nan")]])
def test_unusable_weights(tiny_backbone, images, targets, weight):
    made = FusedAccumulator(tiny_backbone, Projection(L, 8), C)
    with pytest.raises(InputError, match="weights must be 5"):
        made.update(images[:5], targets[:5], weight)
    assert made.n_samples == 0
