import os
import signal

import numpy as np
import pytest
from maps_network import LAYERS, backbone, images

from mxelm.backbones import Backbone
from mxelm.data import Dataset
from mxelm.errors import FileError, InputError
from mxelm.feature_maps import Cache, conv_layers, filters_of, maps_of, merge, write
from mxelm.feature_maps.cache import bytes_of
from mxelm.interrupts import Interrupted
from mxelm.preprocessing import Preprocessing
from mxelm.row_files import RowWriter


def same(a, b):
    assert a.ids == b.ids and a.descriptors.keys() == b.descriptors.keys()
    np.testing.assert_array_equal(a.labels, b.labels)
    for layer, rows in a.descriptors.items():
        np.testing.assert_allclose(rows, b.descriptors[layer], rtol=1e-5, atol=1e-6)


def by_hand(network, dataset, layer):
    """V as printed, in float64, from the graph cut at the layer and bound without fusion."""
    cut = Backbone("cut", network.symbol, network.arg_params, network.aux_params, network.preprocessing, cut=layer)
    F = np.abs(cut.extract([dataset.image(i) for i in range(len(dataset))]).astype(float))
    F = F.reshape(len(F), *maps_of(network, np.zeros((1, 1, 12, 12), np.float32), [layer])[layer].shape[1:])
    mu = F.sum(axis=(2, 3)) / F[0, 0].size
    sigma = np.sqrt(((F - mu[..., None, None]) ** 2).sum(axis=(2, 3)) / F[0, 0].size)
    return np.stack([mu, sigma], axis=2).reshape(len(F), -1)


def test_descriptors_are_those_of_the_paper():
    network, dataset = backbone(), images(20)
    cache = Cache.of(network, dataset, LAYERS, batch=7)
    assert cache.ids == dataset.ids and list(cache.descriptors) == LAYERS
    for layer in LAYERS:
        np.testing.assert_allclose(cache.descriptors[layer], by_hand(network, dataset, layer), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("content", ["descriptors", "maps"])
def test_a_file_gives_what_memory_does(tmp_path, content):
    network, dataset = backbone(), images(20)
    assert write(network, dataset, LAYERS[::-1], tmp_path / "a.maps", content=content, batch=8) == 20
    same(Cache.load(tmp_path / "a.maps"), Cache.of(network, dataset, LAYERS))
    said = bytes_of(network, dataset, LAYERS, content=content)
    assert said <= (tmp_path / "a.maps").stat().st_size <= said + 5000


def test_a_pass_that_was_killed_goes_on(tmp_path, monkeypatch):
    network, dataset = backbone(), images(20)
    write(network, dataset, LAYERS, tmp_path / "whole.maps", batch=6)

    class Killed(BaseException):
        pass

    def killed(writer, append=RowWriter.append, **columns):
        if writer.n_rows == 12:
            raise Killed
        append(writer, **columns)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RowWriter, "append", killed)
        write(network, dataset, LAYERS, tmp_path / "part.maps", batch=6)
    with pytest.raises(FileError, match="not finished"):
        Cache.load(tmp_path / "part.maps")
    with pytest.raises(FileError, match="exists: go on from it with resume"):
        write(network, dataset, LAYERS, tmp_path / "part.maps", batch=6)
    assert write(network, dataset, LAYERS, tmp_path / "part.maps", batch=6, resume=True) == 20
    assert (tmp_path / "part.maps").read_bytes() == (tmp_path / "whole.maps").read_bytes()
    assert write(network, dataset, LAYERS, tmp_path / "part.maps", batch=6, resume=True) == 20


def test_ctrl_c_ends_after_a_whole_batch(tmp_path, monkeypatch):
    network, dataset, path, append = backbone(), images(20), tmp_path / "a.maps", RowWriter.append

    def then_ctrl_c(writer, **columns):
        append(writer, **columns)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=r"keeps 6 of 20 images: go on with resume"):
        patch.setattr(RowWriter, "append", then_ctrl_c)
        write(network, dataset, LAYERS, path, batch=6)
    assert write(network, dataset, LAYERS, path, batch=6, resume=True) == 20


def test_a_file_of_another_network_preprocessing_or_set_is_refused(tmp_path):
    network, dataset = backbone(), images(20)
    path = tmp_path / "a.maps"
    write(network, dataset, LAYERS, path)
    brighter = Backbone("b", network.symbol, network.arg_params, network.aux_params,
                        Preprocessing((12, 12), "stretch", scale=1 / 128, channel_order="GREY"), cut=None)
    for told, other, data, layers in (("network", backbone(seed=1), dataset, LAYERS),
                                      ("preprocessing", brighter, dataset, LAYERS),
                                      ("network", network, dataset, LAYERS[:1]),
                                      ("samples", network, images(21), LAYERS)):
        with pytest.raises(FileError, match=rf"a\.maps is of another run: its {told} (is|differs)"):
            write(other, data, layers, path, resume=True)


def test_shards_make_up_the_whole(tmp_path):
    network, dataset = backbone(), images(20)
    parts = [tmp_path / f"{i}.maps" for i in (1, 2, 3)]
    for i, path in enumerate(parts, 1):
        write(network, dataset.shard(i, 3), LAYERS, path)
    assert merge(parts, tmp_path / "all.maps") == 20
    merged, whole = Cache.load(tmp_path / "all.maps"), Cache.of(network, dataset, LAYERS)
    place = {name: i for i, name in enumerate(merged.ids)}
    order = [place[name] for name in whole.ids]
    np.testing.assert_array_equal(merged.labels[order], whole.labels)
    np.testing.assert_allclose(merged.descriptors[LAYERS[1]][order], whole.descriptors[LAYERS[1]], rtol=1e-5, atol=1e-6)
    with pytest.raises(FileError, match=r"1\.maps exists: name another file for the joined cache"):
        merge(parts, parts[0])
    with pytest.raises(InputError, match=r"2\.maps shares samples"):
        merge([parts[1], parts[0], parts[1]], tmp_path / "twice.maps")
    write(backbone(seed=1), dataset.shard(1, 3), LAYERS, tmp_path / "foreign.maps")
    with pytest.raises(FileError, match=r"foreign\.maps is of another run: its network"):
        merge([parts[0], tmp_path / "foreign.maps"], tmp_path / "twice.maps")
    assert not (tmp_path / "twice.maps").exists()
    with pytest.raises(FileError, match=r"all\.maps exists"):
        merge(parts, tmp_path / "all.maps")


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "a.maps"
    write(backbone(), images(20), LAYERS, path)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:900], content[:2000] + b"x" + content[2001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(FileError, match=r"a\.maps"):
            Cache.load(path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_layers_that_do_not_exist_and_maps_that_are_not_finite(tmp_path):
    network, dataset = backbone(), images(20)
    with pytest.raises(InputError, match="no output 'relu3'; the nearest are relu"):
        write(network, dataset, ["relu3"], tmp_path / "a.maps")
    broken = {**network.arg_params, "conv2_weight": network.arg_params["conv2_weight"] * 1e38}
    with pytest.raises(InputError, match="the maps of relu2_fwd_output are not finite for noise0/0"):
        write(Backbone("broken", network.symbol, broken, network.aux_params, network.preprocessing, cut=None), dataset,
              LAYERS, tmp_path / "a.maps")
    with pytest.raises(InputError, match="a cache keeps a class with every image"):
        write(network, Dataset(dataset.source, np.zeros((60, 1))[:20], ["y"], "numbers", kind="regression"), LAYERS,
              tmp_path / "b.maps")


def test_convolutions_and_their_filters():
    network = backbone()
    assert conv_layers(network.features) == ["conv1_fwd_output", "conv2_fwd_output"]
    found = maps_of(network, np.ones((2, 1, 12, 12), np.float32))
    assert {layer: maps.shape for layer, maps in found.items()} == {
        "conv1_fwd_output": (2, 4, 12, 12), "conv2_fwd_output": (2, 6, 6, 6)}
    np.testing.assert_array_equal(filters_of(network, "conv2_fwd_output"), network.arg_params["conv2_weight"].asnumpy())
    assert filters_of(network, "relu1_fwd_output") is None
