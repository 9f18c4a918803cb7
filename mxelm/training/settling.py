"""BatchNorm's running statistics brought up to date with weights that stay as they are."""
from __future__ import annotations

from collections.abc import Iterable

from mxelm.runtime import mx


def settle(network: mx.gluon.HybridBlock, loader: Iterable, *, momentum: float = 0.9) -> None:
    """One epoch of `loader` in which nothing is learnt but BatchNorm's running statistics.

    network: trained HybridBlock. momentum: the share of the old statistics that a step keeps; Keras's 0.99 leaves them
    lagging behind weights that have just moved. MXNet moves them in backward alone: a forward pass mends nothing.
    """
    def forget(block):
        if isinstance(block, mx.gluon.nn.BatchNorm):
            block._kwargs["momentum"] = momentum

    network.apply(forget)
    network.hybridize(network._active, **dict(network._flags))  # the compiled graph holds the old momentum
    for x, _ in loader:
        with mx.autograd.record():
            scores = network(x)
        scores.backward()
    mx.nd.waitall()
