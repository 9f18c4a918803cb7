"""Heads on all exits: trained together, taken up again, and the backbone that they leave behind."""
import numpy as np

from mxelm import backbones, data, early_exit
from mxelm.chain import Chain
from mxelm.graphs import cut
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet
from mxelm.training import fit, warmup_linear

EXITS = ["ch_concat_2c_chconcat"]


def trained(backbone, images, checkpoint):
    seed_mxnet(3)
    np.random.seed(3)
    network = early_exit.HeadsOnAllExits(backbone, EXITS, 10)
    fit(network, images.gluon_loader(8, backbone.preprocessing, shuffle=3), 1, warmup_linear(0.05, 0.1),
        optimizer="nag", forward=early_exit.all_heads, checkpoint=str(checkpoint), resume=True, seed=3)
    return network.trained()


def test_a_finished_training_is_taken_up_by_another_network(tmp_path):
    backbone, images = backbones.load("inception_small"), data.load("digits").take(np.arange(16))
    first = trained(backbone, images, tmp_path / "run.state")
    again = trained(backbone, images, tmp_path / "run.state")  # from the checkpoint: no epoch is left
    x = mx.nd.array(backbone.preprocessing(images.image(0))[np.newaxis])
    (_, ours), (_, its), (_, before) = (list(Chain(b, EXITS).run(x))[-1] for b in (first, again, backbone))
    np.testing.assert_array_equal(ours.asnumpy(), its.asnumpy())
    assert not np.allclose(ours.asnumpy(), before.asnumpy())


def test_what_is_frozen_gets_no_gradient():
    network = early_exit.HeadsOnAllExits(backbones.load("inception_small"), EXITS, 10)
    network.freeze(EXITS[0])
    parameters = network.body.collect_params()
    before = set(cut(network.backbone.features, EXITS[0]).list_arguments())
    assert {name for name, p in parameters.items() if p.grad_req == "null"} >= before - {"data"}
    assert any(p.grad_req == "write" for name, p in parameters.items() if name not in before)
