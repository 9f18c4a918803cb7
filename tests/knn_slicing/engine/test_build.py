"""Engines built from few images: within their bytes, repeatable, and better than guessing."""
import dataclasses

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from mxelm.errors import InputError
from mxelm.knn_slicing import banks
from mxelm.knn_slicing.engine import build
from mxelm.knn_slicing.engine.classifier import Engine

CLASSES = ("bar", "dash", "cross")
SMALL = build.Plan(filters=(6, 8), bits=(8, 8, 8), n_dims=4, n_components=40, n_subclasses=2, rounds=1, polish=1)


def signs(n, seed):
    """Bars, dashes and crosses of random place, width and brightness, uint8 (n, 28, 28), and their labels."""
    rng = np.random.default_rng(seed)
    images, labels = rng.integers(0, 30, (n, 28, 28)).astype(np.uint8), np.arange(n) % 3
    for image, label in zip(images, labels):
        y, x = rng.integers(11, 16, 2)
        width, ink = rng.integers(1, 4), rng.integers(120, 256)
        if label != 1:
            image[5:23, x:x + width] = ink
        if label != 0:
            image[y:y + width, 5:23] = ink
    return images, labels


@pytest.fixture(scope="module", autouse=True)
def few_patches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banks, "PATCHES", 5000)
        yield


@pytest.fixture(scope="module")
def engine(few_patches):
    return build.build(*signs(300, 0), CLASSES, n_bytes=2000, plan=SMALL)


def test_it_tells_unseen_images_apart_within_its_bytes(engine, tmp_path):
    engine.save(tmp_path / "signs.engine")
    size = (tmp_path / "signs.engine").stat().st_size
    assert 2000 - 3 * SMALL.n_dims < size <= 2000  # three more prototypes would not fit
    images, labels = signs(90, 1)
    assert Engine.load(tmp_path / "signs.engine").score(images, labels) > 0.9
    assert engine.classes == CLASSES and len(set(engine.counts)) == 1


def test_a_seed_repeats_to_the_byte(engine, tmp_path):
    for seed in (0, 1):
        build.build(*signs(300, 0), CLASSES, n_bytes=2000, seed=seed, plan=SMALL).save(tmp_path / f"{seed}")
    engine.save(tmp_path / "first")
    assert (tmp_path / "0").read_bytes() == (tmp_path / "first").read_bytes() != (tmp_path / "1").read_bytes()


def test_a_seed_gives_the_same_bytes_with_any_number_of_threads(tmp_path):
    for threads in (1, 2):
        with threadpool_limits(threads):
            build.build(*signs(300, 0), CLASSES, n_bytes=2000, plan=SMALL).save(tmp_path / f"{threads}")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("n_bytes", [30_000, 75_264, 75_265, 100_000, 499_999, 500_000, 4_500_000])
@pytest.mark.parametrize("n_classes", [2, 7, 10])
def test_prototypes_fill_the_bytes(n_bytes, n_classes):
    classes = [str(i) for i in range(n_classes)]
    plan = dataclasses.replace(build.plan_for(n_bytes), filters=(8, 16), bits=(8, 7, 5))

    def size(per_class):
        return build.file.size(plan.bits, n_conv1=plan.filters[0], n_conv2=plan.filters[1], n_dims=plan.n_dims,
                               n_prototypes=per_class * n_classes, classes=classes)

    count = build.prototypes_per_class(n_bytes, plan, classes)
    assert size(count) <= n_bytes and (size(count + 1) > n_bytes or count == plan.most_prototypes)


def test_every_plan_fits_the_bytes_it_is_for():
    for least, plan in build.PLANS.items():
        assert build.prototypes_per_class(least, plan, [str(i) for i in range(10)]) >= 10
        assert build.plan_for(least) is plan
    assert build.plan_for(1) is build.PLANS[min(build.PLANS)]


def test_a_class_of_few_images_has_fewer_prototypes():
    images, labels = signs(120, 2)
    kept = np.flatnonzero((labels != 2) | (np.arange(120) < 30))
    made = build.build(images[kept], labels[kept], CLASSES, n_bytes=2000, plan=SMALL)
    assert made.counts[2] == 5 < made.counts[0]  # half of its ten


@pytest.mark.parametrize("change, said", [
    (lambda images, labels: (images, labels[:-1], CLASSES, 4000), "one for each image"),
    (lambda images, labels: (images, labels.astype(float), CLASSES, 4000), "integers"),
    (lambda images, labels: (images, labels * 0, CLASSES[:1], 4000), "two or more classes"),
    (lambda images, labels: (images, labels * 0, CLASSES, 4000), "two or more classes"),
    (lambda images, labels: (images, labels + 1, CLASSES, 4000), "two or more classes"),
    (lambda images, labels: (images[:, :20], labels, CLASSES, 4000), "uint8 images"),
    (lambda images, labels: (images / 255, labels, CLASSES, 4000), "uint8 images"),
    (lambda images, labels: (images, labels, CLASSES, 1000), "at least 1,[0-9]+ bytes"),
])
def test_what_does_not_fit_is_refused(change, said):
    *subject, n_bytes = change(*signs(60, 0))
    with pytest.raises(InputError, match=said):
        build.build(*subject, n_bytes=n_bytes, plan=SMALL)


@pytest.mark.data
def test_few_images_of_mnist_in_thirty_kilobytes(real_data):
    """2,000 training images, 30 KB in all, scored on other training images."""
    from mxelm import data
    training = data.load("mnist", root=real_data("mnist").parent, split="train")
    images, labels = training.source.images[:3000], training.targets[:3000]
    plan = dataclasses.replace(SMALL, filters=(16, 32), n_dims=16, n_components=256)
    made = build.build(images[:2000], labels[:2000], training.classes, n_bytes=30_000, plan=plan)
    assert made.bytes <= 30_000 and made.score(images[2000:], labels[2000:]) > 0.94
