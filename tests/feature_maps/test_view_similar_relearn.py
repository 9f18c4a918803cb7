import numpy as np
import pytest
from maps_network import LAYERS, backbone, images

from mxelm.errors import FileError, InputError
from mxelm.feature_maps import Cache, dead, filters_figure, map_images, maps_figure, maps_of, similar
from mxelm.feature_maps.view import contact_sheet
from mxelm.reporting.plots import save


def test_maps_are_drawn_on_one_scale_and_dead_ones_crossed_out(tmp_path):
    maps = np.zeros((5, 4, 6))
    maps[0, 1, 2], maps[3] = 7, np.arange(24).reshape(4, 6)
    maps[4] = 2
    assert dead(maps).tolist() == [False, True, True, False, True]
    figure = maps_figure(maps, "conv1")
    axes = figure.axes[0]
    assert axes.get_title() == "conv1: 5 maps of 4x6, 0 to 23, 3 dead"
    assert len(axes.lines) == 6  # two strokes a cross
    canvas = np.asarray(axes.images[0].get_array().filled(np.nan))
    assert canvas.shape == (9, 20) and canvas[1, 2] == 7
    np.testing.assert_array_equal(canvas[5:9, 0:6], maps[3])
    assert axes.images[0].get_clim() == (0, 23)
    assert maps_figure(-maps, "conv1").axes[0].images[0].get_clim() == (-23, 23)
    save(figure, tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (maps[0], np.full((1, 2, 2), np.nan)):
        with pytest.raises(InputError, match="the maps of conv1 must be finite numbers"):
            maps_figure(wrong, "conv1")


def test_filters_are_drawn_by_output_and_input():
    weights = np.arange(2 * 3 * 4, dtype=float).reshape(2, 3, 2, 2) - 5
    axes = filters_figure(weights, "conv2").axes[0]
    canvas = np.asarray(axes.images[0].get_array().filled(np.nan))
    np.testing.assert_array_equal(canvas[3:5, 6:8], weights[1, 2])
    assert "the first 64 and 2 are shown" in filters_figure(np.ones((70, 2, 1, 1)), "c").axes[0].get_title()
    with pytest.raises(InputError, match="the filters of conv2"):
        filters_figure(weights[0], "conv2")


def test_a_contact_sheet_has_every_image():
    figure = contact_sheet([np.zeros((4, 6), np.uint8), np.zeros((9, 3, 3), np.uint8)] * 4, list("abcdefgh"))
    assert [axes.get_xlabel() for axes in figure.axes] == list("abcdefgh")


def test_the_most_similar_image_is_the_image_itself():
    network, dataset = backbone(), images(30)
    cache = Cache.of(network, dataset, LAYERS)
    found = similar(cache, network, dataset.image(7), k=3)
    assert found[0].id == "noise0/7" and found[0].label == dataset.classes[dataset.targets[7]]
    assert found[0].distance == pytest.approx(0, abs=1e-6) and found[1].distance <= found[2].distance
    assert similar(cache, network, dataset.image(7), layer=LAYERS[0], k=99)[0].id == "noise0/7"
    with pytest.raises(InputError, match="no layer 'conv9'"):
        similar(cache, network, dataset.image(7), layer="conv9")
    with pytest.raises(InputError, match="like nothing in the cache"):
        similar(cache, network, np.zeros((12, 12), np.uint8))
    with pytest.raises(FileError, match="another run"):
        similar(cache, backbone(seed=1), dataset.image(7))


def test_maps_become_images_of_a_new_network():
    network, dataset = backbone(), images(12)
    every = map_images(network, dataset, LAYERS, per_image=None, size=(8, 8))
    found = maps_of(network, network.preprocessing.normalise(dataset.source.images[..., None]), LAYERS)
    alive = sum(int((~dead(maps[i])).sum()) for maps in found.values() for i in range(12))
    assert len(every) == alive and every.image(0).shape == (8, 8) and every.classes == dataset.classes
    own = map_images(network, dataset, LAYERS[:1], per_image=None, size=(12, 12))
    assert all(own.image(i).max() == 255 for i in range(len(own)))
    few = map_images(network, dataset, LAYERS, per_image=2, seed=3)
    assert len(few) == 24 and few.targets.tolist() == np.repeat(dataset.targets, 2).tolist()
    again = map_images(network, dataset, LAYERS, per_image=2, seed=3)
    np.testing.assert_array_equal(few.source.images, again.source.images)
    unscaled = map_images(network, dataset, LAYERS[:1], per_image=None, scaled=False)
    assert np.mean([unscaled.image(i).max() for i in range(len(unscaled))]) < 200
    with pytest.raises(InputError, match="all maps of relu1_fwd_output are dead"):
        black = images(3)
        black.source.images[:] = 0
        map_images(network, black, LAYERS[:1])
