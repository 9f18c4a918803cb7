"""settle: nothing moves but BatchNorm's running statistics, and these reach the batch's own."""
import numpy as np

from mxelm.runtime import mx
from mxelm.training import settle


def test_only_running_statistics_move_and_they_catch_up():
    network = mx.gluon.nn.HybridSequential()
    network.add(mx.gluon.nn.Dense(3), mx.gluon.nn.BatchNorm(momentum=0.99), mx.gluon.nn.Dense(2))
    network.initialize(mx.init.Xavier())
    network.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.array(np.random.default_rng(0).normal(5, 2, (64, 4)))
    network(x)
    before = {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}
    settle(network, [(x, None)] * 60, momentum=0.5)
    after = {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"1.running_mean", "1.running_var"}
    rows = network[0](x).asnumpy()
    np.testing.assert_allclose(after["1.running_mean"], rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(after["1.running_var"], rows.var(axis=0), rtol=1e-2)
