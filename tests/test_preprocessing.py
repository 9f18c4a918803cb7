import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mxelm.errors import InputError
from mxelm.preprocessing import CHANNEL_ORDERS, INTERPOLATIONS, RESIZE_RULES, Preprocessing

COLOUR = {"mean": (10.0, 20.0, 30.0), "scale": (0.5, 0.25, 0.125)}


def picture(height, width, channels=3, seed=0):
    """Noise over a gradient: uint8 (height, width, 3), or (height, width) for one channel."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 150, height)[:, None, None] + np.linspace(0, 50, width)[None, :, None]
    image = (slope + rng.integers(0, 55, (height, width, channels))).astype(np.uint8)
    return image if channels == 3 else image[..., 0]


# the arithmetic of the last step

@pytest.mark.parametrize("order", CHANNEL_ORDERS)
def test_pixels_become_numbers(order):
    channels = CHANNEL_ORDERS[order]
    mean, scale = np.array(COLOUR["mean"][:channels]), np.array(COLOUR["scale"][:channels])
    preprocessing = Preprocessing((5, 7), "none", mean=mean, scale=scale, channel_order=order)
    images = np.stack([picture(5, 7, seed=i) for i in range(3)])
    expected = []
    for image in images:
        if order == "GREY":  # ITU-R BT.601
            image = np.rint(image @ np.array([0.299, 0.587, 0.114]))[..., None]
        if order == "BGR":
            image = image[..., ::-1]
        expected.append(((image.astype(np.float64) - mean) * scale).transpose(2, 0, 1))
    batch = preprocessing.normalise(np.stack([preprocessing.prepare(image) for image in images]))
    assert batch.dtype == np.float32 and batch.shape == (3, *preprocessing.shape) and batch.flags.c_contiguous
    tolerance = 1.01 * scale[0] if order == "GREY" else 1e-4  # OpenCV rounds a grey value in fixed point
    np.testing.assert_allclose(batch, expected, atol=tolerance)
    for image, row in zip(images, batch):
        np.testing.assert_array_equal(preprocessing(image), row)


def test_grey_agrees_with_pillow():
    image = picture(40, 50)
    grey = Preprocessing((40, 50), "none", channel_order="GREY").prepare(image)
    assert grey.shape == (40, 50, 1)
    assert np.abs(grey[..., 0].astype(int) - np.asarray(Image.fromarray(image).convert("L"))).max() <= 1


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_grey_image_gives_three_equal_channels(order):
    image = picture(6, 6, 1)
    x = Preprocessing((6, 6), "none", channel_order=order)(image)
    for channel in x:
        np.testing.assert_array_equal(channel, image)


def test_a_grey_image_stays_grey():
    image = picture(6, 6, 1)
    np.testing.assert_array_equal(Preprocessing((6, 6), "none", channel_order="GREY")(image), image[None])


def test_one_number_serves_every_channel():
    preprocessing = Preprocessing((4, 4), mean=127.5, scale=[1 / 127.5])
    assert preprocessing.mean == (127.5,) * 3 and preprocessing.scale == (1 / 127.5,) * 3
    assert preprocessing.shape == (3, 4, 4)


def test_no_image_is_a_batch_too():
    assert Preprocessing((4, 6)).normalise(np.empty((0, 4, 6, 3), np.uint8)).shape == (0, 3, 4, 6)


# resizing

def bilinear(image, height, width):
    """Bilinear interpolation between pixel centres, edges repeated, float64 (height, width, channels)."""
    def axis(old, new):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.minimum(at.astype(int), max(old - 2, 0))
        return low, np.minimum(low + 1, old - 1), at - low

    top, bottom, y = axis(image.shape[0], height)
    left, right, x = axis(image.shape[1], width)
    image = image.astype(np.float64)
    rows = image[top] * (1 - y)[:, None, None] + image[bottom] * y[:, None, None]
    return rows[:, left] * (1 - x)[None, :, None] + rows[:, right] * x[None, :, None]


@pytest.mark.parametrize("height, width", [(20, 30), (30, 20), (8, 8), (3, 5), (64, 11)])
def test_stretching_is_bilinear_interpolation(height, width):
    image = picture(height, width)
    fitted = Preprocessing((12, 16), "stretch").prepare(image)
    assert fitted.dtype == np.uint8
    assert np.abs(fitted - bilinear(image, 12, 16)).max() <= 1


@pytest.mark.parametrize("height, width, resized", [(20, 30, (16, 24)), (30, 20, (24, 16)), (8, 8, (16, 16)),
                                                    (40, 41, (16, 16)), (31, 20, (25, 16))])
def test_the_short_side_is_resized_then_the_centre_is_cut_out(height, width, resized):
    image = picture(height, width)
    whole = bilinear(image, *resized)
    top, left = (resized[0] - 12) // 2, (resized[1] - 10) // 2
    fitted = Preprocessing((12, 10), short_side=16).prepare(image)
    assert np.abs(fitted - whole[top:top + 12, left:left + 10]).max() <= 1


@pytest.mark.parametrize("size", [(8, 8), (8, 4), (4, 8)])
def test_an_image_of_the_right_size_is_resized_unless_its_short_side_is_right_too(size):
    """An 8x4 image under short side 8 becomes 16x8, of which the centre is taken."""
    image = picture(*size)
    fitted = Preprocessing(size, short_side=8).prepare(image)
    factor = 8 // min(size)
    height, width = size[0] * factor, size[1] * factor
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    expected = bilinear(image, height, width)[top:top + size[0], left:left + size[1]]
    assert np.abs(fitted - expected).max() <= 1


@pytest.mark.parametrize("name, flag", [("nearest", cv2.INTER_NEAREST), ("bilinear", cv2.INTER_LINEAR),
                                        ("bicubic", cv2.INTER_CUBIC), ("area", cv2.INTER_AREA),
                                        ("lanczos", cv2.INTER_LANCZOS4)])
def test_interpolations_are_opencvs(name, flag):
    image = picture(30, 40)
    fitted = Preprocessing((11, 13), "stretch", interpolation=name).prepare(image)
    np.testing.assert_array_equal(fitted, cv2.resize(image, (13, 11), interpolation=flag))
    assert name in INTERPOLATIONS


def test_areas_are_means_as_pillow_has_them():
    image = picture(24, 32)
    fitted = Preprocessing((12, 16), "stretch", interpolation="area").prepare(image)
    reference = np.asarray(Image.fromarray(image).resize((16, 12), Image.BOX))
    assert np.abs(fitted.astype(int) - reference).max() <= 1


def test_short_side_by_custom():
    assert Preprocessing((224, 224)).short_side == 256
    assert Preprocessing((299, 299)).short_side == 342
    assert Preprocessing((224, 224)).replace(size=(112, 112)).short_side == 128
    assert Preprocessing((224, 224), short_side=224).replace(size=(112, 112), short_side=112).short_side == 112


def test_without_resizing_only_the_right_size_will_do():
    for preprocessing in (Preprocessing((8, 6), "none"), Preprocessing((8, 6)).replace(resize="none"),
                          Preprocessing((8, 6), "none", short_side=9)):
        np.testing.assert_array_equal(preprocessing.prepare(picture(8, 6)), picture(8, 6))
        with pytest.raises(InputError, match="an image of 6x8 pixels meets a network that takes 8x6"):
            preprocessing.prepare(picture(6, 8))


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
       rule=st.sampled_from(["short_side", "stretch"]), extra=st.integers(0, 9),
       order=st.sampled_from(sorted(CHANNEL_ORDERS)), colours=st.sampled_from([1, 3]))
def test_any_image_comes_out_in_the_right_shape(height, width, size, rule, extra, order, colours):
    preprocessing = Preprocessing(size, rule, short_side=max(size) + extra, channel_order=order)
    image = picture(height, width, colours)
    if rule == "short_side" and preprocessing.short_side * max(height, width) > 63 * max(size) * min(height, width):
        return  # so narrow that it is refused
    fitted = preprocessing.prepare(image)
    assert fitted.shape == (*size, preprocessing.channels) and fitted.dtype == np.uint8
    assert int(image.min()) - 1 <= fitted.min() and fitted.max() <= int(image.max()) + 1
    assert preprocessing(image).shape == preprocessing.shape


def test_the_input_is_not_written_to_and_may_be_any_view():
    image = picture(30, 40)
    image.flags.writeable = False
    for order in CHANNEL_ORDERS:
        preprocessing = Preprocessing((10, 10), channel_order=order)
        for view in (image, image[::-1], image[:, ::2], image[..., ::-1]):
            np.testing.assert_array_equal(preprocessing(view), preprocessing(view.copy()))
    np.testing.assert_array_equal(image, picture(30, 40))


# to and from JSON

@st.composite
def preprocessings(draw):
    order = draw(st.sampled_from(sorted(CHANNEL_ORDERS)))
    numbers = st.lists(st.floats(-300, 300), min_size=CHANNEL_ORDERS[order], max_size=CHANNEL_ORDERS[order])
    size = draw(st.tuples(st.integers(1, 600), st.integers(1, 600)))
    short_side = draw(st.none() | st.integers(max(size), 1000))
    return Preprocessing(size, draw(st.sampled_from(RESIZE_RULES)), short_side,
                         draw(st.sampled_from(sorted(INTERPOLATIONS))), draw(numbers), draw(numbers), order)


@settings(deadline=None)
@given(preprocessings())
def test_json_gives_back_what_went_in(preprocessing):
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing


def test_short_json_means_the_customary():
    assert Preprocessing.from_json({"input_shape": [3, 224, 224]}) == Preprocessing((224, 224), "short_side", 256)
    assert Preprocessing.from_json({"input_shape": [1, 28, 28], "mean": 3, "scale": 0.5, "resize": {"rule": "none"}}) \
        == Preprocessing((28, 28), "none", mean=(3.0,), scale=(0.5,), channel_order="GREY")


IMAGENET = Preprocessing((224, 224), mean=np.array([0.485, 0.456, 0.406]) * 255,
                         scale=1 / (np.array([0.229, 0.224, 0.225]) * 255))
UNIT = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
LEVELS = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


@pytest.mark.parametrize("content, expected", [
    ({"input_shape": [3, 224, 224], **UNIT}, IMAGENET), ({"input_shape": [3, 224, 224], **LEVELS}, IMAGENET),
    ({"input_size": [3, 224, 224], **UNIT, "crop_pct": 0.875, "interpolation": "bilinear"}, IMAGENET),
    ({"input_size": [3, 224, 224], **UNIT, "crop_pct": 0.95, "interpolation": "bicubic"},
     IMAGENET.replace(short_side=235, interpolation="bicubic")),
    ({"input_shape": [3, 224, 224], "image_mean": UNIT["mean"], "image_std": UNIT["std"], "rescale_factor": 1 / 255},
     IMAGENET),
    ({"data_shape": [3, 224, 224], **{f"{k}_{'rgb'[i]}": LEVELS[k][i] for k in LEVELS for i in range(3)}}, IMAGENET),
    ({"input_shape": [3, 224, 224], "channel_order": "BGR", "mean_r": 1.5, "mean_g": 2, "mean_b": 3},
     Preprocessing((224, 224), mean=(3, 2, 1.5), channel_order="BGR")),
    ({"input_shape": [3, 8, 8], "mean": 0.5, "std": 0.5}, Preprocessing((8, 8), mean=127.5, scale=1 / 127.5)),
    ({"input_shape": [3, 8, 8], "mean": 127.5, "std": 128}, Preprocessing((8, 8), mean=127.5, scale=1 / 128)),
    ({"input_shape": [3, 8, 8], "std": 255}, Preprocessing((8, 8), scale=1 / 255)),
    ({"input_shape": [3, 8, 8], "rescale_factor": 1 / 255}, Preprocessing((8, 8), scale=1 / 255))])
def test_mean_and_std_as_everybody_writes_them(content, expected):
    made = Preprocessing.from_json(content)
    for name in ("mean", "scale"):
        np.testing.assert_allclose(getattr(made, name), getattr(expected, name), rtol=1e-9)
    assert made.replace(mean=expected.mean, scale=expected.scale) == expected


@pytest.mark.parametrize("more, message", [
    ({"stdev": [1, 1, 1]}, "'stdev', which is not known: write std"), ({"Mean": 3}, "'Mean', .*: write mean"),
    ({"swapRB": True}, "'swapRB', which is not known: use"), ({"mean": 0, "std": 1}, "do not tell whether"),
    ({"mean": [0.485, 0.456, 0.406]}, "write std beside it"), ({"mean": 0.485, "std": 58.0}, "do not tell"),
    ({"mean": 123.0, "std": 0.229}, "do not tell"), ({"mean": 0.5, "std": 0}, "std above 0"),
    ({"std": 58.0, "scale": 2}, "scale beside std"), ({"mean": 3, "image_mean": 3}, "says mean twice"),
    ({"mean": 3, "mean_r": 3}, "says mean twice"), ({"resize": {"rule": "none", "crop": 3}}, "must be an object"),
    ({"crop_pct": 0}, "preprocessing JSON needs")])
def test_keys_that_are_not_understood_are_refused(tmp_path, more, message):
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"input_shape": [3, 8, 8], **more}))
    with pytest.raises(InputError, match=rf"net\.json: .*{message}"):
        Preprocessing.read(path)


def test_a_checkpoints_other_keys_do_not_matter_but_slips_do():
    content = {"input_shape": [3, 8, 8], "classes": ["a"], "author": "me", "elm": {}}
    assert Preprocessing.from_json(content) == Preprocessing((8, 8))
    assert Preprocessing.from_json({"input_shape": [3, 8, 8], "author": "me"}, strict=False) == Preprocessing((8, 8))
    for strict in (True, False):
        with pytest.raises(InputError, match="'stds', which is not known: write std"):
            Preprocessing.from_json({**content, "stds": 3}, strict)


@pytest.mark.parametrize("content", [
    {}, [], None, {"input_shape": 3}, {"input_shape": [3, 224]}, {"input_shape": [3, "a", 5]},
    {"input_shape": [3, 8.5, 8]}, {"input_shape": [2, 8, 8]}, {"input_shape": [1, 8, 8], "channel_order": "RGB"},
    {"input_shape": [3, 0, 8]}, {"input_shape": [3, 8, 8], "mean": [1, 2]}, {"input_shape": [3, 8, 8], "mean": "x"},
    {"input_shape": [3, 8, 8], "mean": None}, {"input_shape": [3, 8, 8], "scale": float("nan")},
    {"input_shape": [3, 8, 8], "resize": "stretch"}, {"input_shape": [3, 8, 8], "resize": {"rule": "crop"}},
    {"input_shape": [3, 8, 8], "resize": {"rule": ["none"]}}, {"input_shape": [3, 8, 8], "resize": {"short_side": 4}},
    {"input_shape": [3, 8, 8], "resize": {"short_side": "many"}}, {"input_shape": [3, 8, 8], "channel_order": "HSV"},
])
def test_json_that_cannot_be(content):
    with pytest.raises(InputError):
        Preprocessing.from_json(content)


# refusals

@pytest.mark.parametrize("arguments, message", [
    ({"size": 224}, "size must be"), ({"size": (4,)}, "size must be"), ({"size": (4, -1)}, "size must be"),
    ({"size": (4, 4.5)}, "size must be"), ({"resize": "fill"}, "resize rule 'fill' is not known: use short_"),
    ({"interpolation": "cubic"}, "interpolation 'cubic' is not known"), ({"channel_order": "rgb"}, "channel order"),
    ({"short_side": 7}, r"not below the crop \(8, 8\), got 7"), ({"short_side": 8.5}, "got 8.5"),
    ({"mean": (1, 2)}, "mean needs 3 finite numbers"), ({"scale": float("inf")}, "scale needs 3 finite numbers"),
    ({"mean": "grey"}, "mean needs 3 finite"), ({"mean": np.zeros((3, 3))}, "mean needs 3 finite"),
    ({"mean": (1, 2, 3), "channel_order": "GREY"}, "mean needs 1 finite"),
])
def test_values_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**{"size": (8, 8), **arguments})


@pytest.mark.parametrize("image", [
    np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 1), np.uint8),
    np.zeros(8, np.uint8), np.zeros((2, 8, 8, 3), np.uint8), np.zeros((0, 8, 3), np.uint8), np.zeros((8, 0), np.uint8)])
def test_arrays_that_are_no_image(image):
    for rule in RESIZE_RULES:
        with pytest.raises(InputError, match="an image must be uint8"):
            Preprocessing((8, 8), rule).prepare(image)


def test_a_stripe_is_refused_rather_than_blown_up():
    with pytest.raises(InputError, match="an image of 1x900 pixels is too narrow"):
        Preprocessing((8, 8)).prepare(picture(1, 900))
