"""What is trained on: classes of a set, the published code's labels, and the original's augmentation."""
import numpy as np
import pytest

from mxelm.data import cifar
from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import InputError
from mxelm.gunn import tasks
from mxelm.training import flip_and_crop, require_one_hot

THREE = ["airplane", "automobile", "bird"]


def files(train=200, test=60):
    """The two files of a made-up set: ten classes in random order, an image tells its place."""
    rng = np.random.default_rng(0)

    def made(n, name):
        images = np.zeros((n, 4, 4, 3), np.uint8)
        images[..., 0], images[..., 1] = np.arange(n)[:, None, None], 200 if name == "test" else 100
        return Dataset(ArraySource(images, f"made-up/{name}"), rng.integers(0, 10, n), cifar.CLASSES, "made-up")
    return made(train, "train"), made(test, "test")


def published_rows(train_labels, part_labels, m):
    """The published code's rows: each image's row looked up among the training labels, one column off."""
    rows = []
    for place, label in enumerate(part_labels):
        if label >= m:
            continue
        one_hot = [0] * 10
        one_hot[train_labels[place]] = 1
        rows.append(one_hot[1:m + 1])
    return np.array(rows)


def places(dataset):
    return [int(dataset.image(i)[0, 0, 0]) for i in range(len(dataset))]


# real labels

def test_the_first_images_of_the_classes():
    train, test = files()
    found = tasks.task(train, test, ["bird", "airplane"], images=20, validation=5)
    members = [i for i, label in enumerate(train.targets) if label in (0, 2)]
    assert places(found.train) == members[:20] and places(found.validation) == members[20:25]
    assert places(found.test) == [i for i, label in enumerate(test.targets) if label in (0, 2)]
    assert found.train.targets.tolist() == [{2: 0, 0: 1}[train.targets[i]] for i in members[:20]]
    assert found.test.classes == found.train.classes == ["bird", "airplane"]
    assert all(found.test.image(i)[0, 0, 1] == 200 for i in range(len(found.test)))


def test_all_images_but_those_for_validation():
    train, test = files()
    n = int((train.targets < 3).sum())
    assert [part and len(part) for part in tasks.task(train, test, range(3))[:2]] == [n, None]
    assert [len(part) for part in tasks.task(train, test, range(3), validation=7)[:2]] == [n - 7, 7]
    assert [len(part) for part in tasks.task(train, test, range(3), images=n - 7, validation=7)[:2]] == [n - 7, 7]


# the published labels

@pytest.mark.parametrize("classes", [range(3), THREE, range(2), range(7)])
def test_published_labels(classes):
    train, test = files()
    m = len(classes)
    found = tasks.task(train, test, classes, images=20, validation=5, labels="as-published")
    expected = published_rows(train.targets, train.targets, m)
    np.testing.assert_array_equal(found.train.targets, expected[:20])
    np.testing.assert_array_equal(found.validation.targets, expected[20:25])
    np.testing.assert_array_equal(found.test.targets, published_rows(train.targets, test.targets, m))
    real = tasks.task(train, test, classes, images=20, validation=5)
    for part, real_part in zip(found, real):
        assert part.kind == "multilabel" and part.targets.dtype == np.float32 and part.targets.shape[1] == m
        assert places(part) == places(real_part) and part.ids == real_part.ids


def test_what_the_published_labels_say():
    """Class 0 has no label, the others' are one column off, and the test images' are unrelated to them."""
    train, test = files()
    rows, real = (tasks.task(train, test, range(3), labels=labels) for labels in ("as-published", "real"))
    for row, label in zip(rows.train.targets, real.train.targets):
        assert row.tolist() == {0: [0, 0, 0], 1: [1, 0, 0], 2: [0, 1, 0]}[label]
    assert rows.train.classes == ["automobile", "bird", "cat"]
    assert (rows.test.targets.sum(axis=1) == 0).sum() > (real.test.targets == 0).sum()
    with pytest.raises(InputError, match="label rows do not sum to 1"):
        require_one_hot(rows.train.targets)


@pytest.mark.parametrize("change, told", [
    ({"classes": ["airplane", "tiger"]}, "no class 'tiger'"), ({"classes": [0, 10]}, "classes 0..9, not 10"),
    ({"classes": [0, 0]}, "each once"), ({"classes": ["bird"]}, "two classes or more, got 1"),
    ({"labels": "repaired"}, "labels 'repaired' is not known: use real or as-published"),
    ({"images": 0}, "not 0 and 0 for validation"), ({"images": 1000}, "made-up has .* not 1000 and 0"),
    ({"images": 40, "validation": -5}, "not 40 and -5 for validation"),
    ({"images": 40, "validation": 150}, "not 40 and 150 for validation"), ({"validation": 199}, "199 for validation"),
    ({"classes": [1, 2], "labels": "as-published"}, r"0 to m-1, .* not for \[1, 2\]"),
    ({"classes": [1, 0], "labels": "as-published"}, "first classes"),
    ({"classes": ["automobile", "bird"], "labels": "as-published"}, "first classes"),
    ({"classes": range(10), "labels": "as-published"}, "first classes")])
def test_tasks_that_are_not(change, told):
    train, test = files()
    with pytest.raises(InputError, match=told):
        tasks.task(train, test, **{"classes": [0, 1, 2], **change})


def test_published_labels_of_an_unknown_class():
    train, test = files()
    with pytest.raises(InputError, match="first classes"):
        tasks.published_labels(train, test, ["airplane", "tiger"])


def test_published_labels_of_more_images_than_there_are_labels():
    train, test = files(train=30, test=60)
    with pytest.raises(InputError, match="60 images are looked up among those of 30 training images"):
        tasks.published_labels(train, test, range(3))


# what labels are worth

def test_constant_answer():
    assert tasks.constant_answer([2, 0, 2, 1], 3) == (2, 0.5)
    assert tasks.constant_answer(np.array([1, 0]), 3) == (0, 0.5)  # the first of equals
    rows = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)  # no class counts as class 0
    assert tasks.constant_answer(rows, 3) == (0, 0.5)
    assert tasks.constant_answer(np.eye(4)[[3, 3, 1]], 4) == (3, pytest.approx(2 / 3))


def test_rows_that_say_one_class():
    require_one_hot(np.eye(3)[[0, 2, 1]])
    require_one_hot(np.full((4, 3), 1 / 3, np.float32))


@pytest.mark.parametrize("row", [[0, 0, 0], [1, 1, 0], [0.5, 0.4, 0], [2, -1, 0], [np.nan, 1, 0]])
def test_rows_that_say_none_or_more(row):
    rows = np.eye(3)[[0, 1, 2, 0]]
    rows[2] = row
    with pytest.raises(InputError, match="1 of 4 label rows do not sum to 1 .the first: row 2"):
        require_one_hot(rows)


def test_one_scalar_for_all_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (20, 32, 32, 3)).astype(np.uint8)
    images[..., 1] //= 2
    train = Dataset(ArraySource(images, "noise"), np.zeros(20, int), ["a", "b"], "noise")
    found = tasks.one_scalar(train).normalise(images)
    assert found.shape == (20, 3, 32, 32) and abs(found.mean()) < 1e-4 and found.std() == pytest.approx(1, rel=1e-4)
    assert abs(found[:, 1].mean()) > 0.3  # one scalar, not one a channel


def test_one_scalar_is_that_of_the_training_images_alone():
    images = np.zeros((20, 32, 32, 3), np.uint8)
    images[10:], images[:10, 0] = 255, 60
    train = Dataset(ArraySource(images, "halves"), np.zeros(20, int), ["a", "b"], "halves").take(np.arange(10))
    found = tasks.one_scalar(train)
    assert found.mean[0] == pytest.approx(images[:10].mean()) and 1 / found.scale[0] == pytest.approx(images[:10].std())


def test_label_rows_have_two_axes():
    with pytest.raises(InputError, match="label rows are .n, classes., got shape .3,."):
        require_one_hot([0, 1, 2])


def test_the_original_s_scale_a_channel():
    image = np.full((1, 32, 32, 3), (125, 123, 114), np.uint8)
    expected = [(125 - 125.3) / 63.0, 0, (114 - 113.9) / 66.7]
    np.testing.assert_allclose(tasks.PER_CHANNEL.normalise(image)[0, :, 5, 5], expected, atol=1e-6)


# the original's augmentation

SIDE = 12


def coded_images(n):
    """Images whose pixels tell their places, 1 to 12: (row, column, 1), values that the mean colour does not have."""
    rows, columns = np.meshgrid(np.arange(1, SIDE + 1), np.arange(1, SIDE + 1), indexing="ij")
    image = np.stack([rows, columns, np.ones_like(rows)], axis=-1).astype(np.uint8)
    return np.repeat(image[None], n, axis=0)


def shifted(flip, down, right):
    """A coded image after mirroring and a shift, mean colour where nothing is."""
    image = coded_images(1)[0][:, ::flip]
    result = np.empty_like(image)
    result[:] = (125, 123, 114)
    inside = [(r, c) for r in range(SIDE) for c in range(SIDE) if 0 <= r + down < SIDE and 0 <= c + right < SIDE]
    for r, c in inside:
        result[r, c] = image[r + down, c + right]
    return result


def test_every_result_is_a_rolled_shifted_mirrored_image():
    """In the original's proportions: a third not rolled, a third down, a third to the right, by up to a whole round."""
    n = 1500
    shifts = {shifted(flip, down, right).tobytes(): (flip, down, right)
              for flip in (1, -1) for down in range(-4, 5) for right in range(-4, 5)}
    rolls = [(0, 0)] + [(k, axis) for axis in (0, 1) for k in range(1, SIDE)]
    found = tasks.flip_crop_and_cycle(coded_images(n), np.random.default_rng(1))
    assert found.shape == (n, SIDE, SIDE, 3) and found.dtype == np.uint8
    seen, kinds = [], []
    for image in found:
        ways = [(roll, shifts[back]) for roll in rolls
                for back in [np.roll(image, *roll).tobytes()] if back in shifts]
        assert len(ways) == 1
        kinds.append("none" if ways[0][0] == (0, 0) else ways[0][0][1])
        seen.append(ways[0])
    assert {roll for roll, _ in seen} == set(rolls)
    assert {shift for _, shift in seen} == set(shifts.values())
    share = {kind: kinds.count(kind) / n for kind in ("none", 0, 1)}
    assert share["none"] == pytest.approx(1 / 3 + 2 / 3 / SIDE, abs=0.05)
    assert share[0] == pytest.approx(1 / 3 * (1 - 1 / SIDE), abs=0.05)
    assert np.mean([shift[0] == 1 for _, shift in seen]) == pytest.approx(0.5, abs=0.05)


def test_a_roll_loses_no_pixel(monkeypatch):
    """With nothing shifted in, the pixels are only moved about."""
    monkeypatch.setattr(tasks, "flip_and_crop", lambda images, rng, fill: images)
    images = np.random.default_rng(0).integers(0, 256, (90, 6, 9, 3)).astype(np.uint8)
    found = tasks.flip_crop_and_cycle(images, np.random.default_rng(1))

    def pixels(image):
        return sorted(map(tuple, image.reshape(-1, 3).tolist()))
    assert [pixels(image) for image in found] == [pixels(image) for image in images]
    moved = [not np.array_equal(*pair) for pair in zip(found, images)]
    assert 0.4 < np.mean(moved) < 0.8


def test_augmentation_depends_on_its_generator_alone():
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3)).astype(np.uint8)
    before = images.copy()
    np.random.seed(0)
    first = tasks.flip_crop_and_cycle(images, np.random.default_rng(4))
    np.random.seed(1)
    np.testing.assert_array_equal(tasks.flip_crop_and_cycle(images, np.random.default_rng(4)), first)
    assert not np.array_equal(tasks.flip_crop_and_cycle(images, np.random.default_rng(5)), first)
    assert not np.array_equal(first, flip_and_crop(images, np.random.default_rng(4), fill=(125, 123, 114)))
    np.testing.assert_array_equal(images, before)


# CIFAR-10

@pytest.fixture(scope="module")
def cifar10(request):
    found = request.getfixturevalue("real_data")("cifar-10-batches-bin")
    return [cifar.read(found, split) for split in ("train", "test")]


@pytest.mark.data
def test_counts_of_the_published_labels(cifar10):
    task = tasks.task(*cifar10, THREE, images=5000, validation=500, labels="as-published")
    counts = np.bincount(task.train.targets.argmax(axis=1), minlength=3)
    assert len(task.train) == 5000 and len(task.validation) == 500 and len(task.test) == 3000
    np.testing.assert_allclose(counts / 5000, [0.6598, 0.3402, 0], atol=1e-9)
    few = task.test.targets[:100]
    assert np.bincount(few.argmax(axis=1), minlength=3).tolist() == [83, 7, 10]
    assert (few.sum(axis=1) == 0).sum() == 69
    assert tasks.constant_answer(few, 3) == (0, 0.83)
    real = tasks.task(*cifar10, THREE).test.targets[:100]
    perfect = [np.mean(np.array([airplane, 0, 1])[real] == few.argmax(axis=1)) for airplane in range(3)]
    assert perfect[0] == 0.59 == max(perfect)  # whatever the column that airplanes, which have no row, are given


@pytest.mark.data
def test_counts_of_the_real_labels(cifar10):
    task = tasks.task(*cifar10, range(3), images=5000)
    np.testing.assert_allclose(np.bincount(task.train.targets) / 5000, [0.331, 0.329, 0.340], atol=5e-4)
    assert np.bincount(task.test.targets[:100]).tolist() == [39, 29, 32]
    assert tasks.constant_answer(task.test.targets[:100], 3) == (0, 0.39)
    assert np.bincount(task.test.targets).tolist() == [1000] * 3 and task.validation is None
    require_one_hot(task.train.target_matrix())
    assert len(tasks.task(*cifar10, range(3)).train) == 15000


@pytest.mark.data
def test_the_original_s_scale_is_that_of_the_training_file(cifar10):
    few = cifar10[0].source.images.reshape(-1, 3)[::97]
    np.testing.assert_allclose(few.mean(axis=0), tasks.MEAN, atol=0.2)
    np.testing.assert_allclose(1 / few.std(axis=0), tasks.PER_CHANNEL.scale, rtol=0.01)
