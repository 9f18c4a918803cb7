"""What the networks are trained on: classes of CIFAR-10, with the real labels or those of the report's code."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mxelm.data.dataset import Dataset
from mxelm.errors import InputError, require_choice
from mxelm.preprocessing import Preprocessing
from mxelm.runtime import mx
from mxelm.training import class_numbers, flip_and_crop

LABELS = ("real", "as-published")
MEAN, SCALE = (125.3, 123.0, 113.9), (1 / 63.0, 1 / 62.1, 1 / 66.7)  # the original's, a channel
PER_CHANNEL = Preprocessing((32, 32), resize="stretch", mean=MEAN, scale=SCALE)


class Task(NamedTuple):
    """The images that a network is trained on, watched with (None where none were asked for) and tested with."""

    train: Dataset
    validation: Dataset | None
    test: Dataset


def task(train: Dataset, test: Dataset, classes: Sequence[str] | Sequence[int], *, images: int | None = None,
         validation: int = 0, labels: Literal["real", "as-published"] = "real") -> Task:
    """The first `images` training images of some classes, the next `validation` ones, and the classes' test images.

    train, test: the two files of a set, Datasets. classes: list of names or numbers. labels: "real" or "as-published".
    Raises InputError for an unknown class, for fewer than two, and for more images than there are.
    """
    if len(classes) < 2:
        raise InputError(f"a task needs two classes or more, got {len(classes)}")
    require_choice("labels", labels, LABELS)
    chosen = train.only(classes)
    images = len(chosen) - validation if images is None else images
    if images < 1 or validation < 0 or images + validation > len(chosen):
        raise InputError(f"{train.name} has {len(chosen)} training images of these classes, not "
                         f"{images} and {validation} for validation")
    if labels == "as-published":
        chosen, held_out = published_labels(train, train, classes), published_labels(train, test, classes)
    else:
        held_out = test.only(classes)
    order = np.arange(images + validation)
    return Task(chosen.take(order[:images]), chosen.take(order[images:]) if validation else None, held_out)


def published_labels(train: Dataset, part: Dataset, classes: Sequence[str] | Sequence[int]) -> Dataset:
    """`part` of `train`'s set (train itself, or the test file) with the label rows that the report's code makes.

    Its two errors: of the one-hot columns of all classes it keeps 1 to m instead of 0 to m-1 for the m first classes,
    so that those of class 0 are all zero and the others one column off; and the test rows are looked up among the
    training labels, at the test images' positions. Targets are float32 (n, m). Source: the report's final
    program, with classes 0, 1 and 2.
    """
    numbers = [part.classes.index(c) if c in part.classes else c for c in classes]
    if numbers != list(range(len(numbers))) or len(numbers) == part.n_outputs:
        raise InputError(f"the published labels are defined for the first classes, 0 to m-1, and not for all "
                         f"{part.n_outputs}: not for {list(classes)}")
    if len(part) > len(train):
        raise InputError(f"the published labels of {len(part)} images are looked up among those of {len(train)} "
                         "training images: too few")
    kept = np.flatnonzero(part.targets < len(numbers))
    columns = slice(1, len(numbers) + 1)
    rows = np.eye(train.n_outputs, dtype=np.float32)[train.targets[kept], columns]
    return Dataset(part.source, rows, part.classes[columns], f"{part.name} as published", kind="multilabel",
                   positions=part.positions[kept])


def classify_published(network: mx.gluon.HybridBlock, x: mx.nd.NDArray,
                       y: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """`training.classify` for the published label rows, which it refuses: they do not sum to 1."""
    scores = network(x)
    return mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)(scores, y), scores


def constant_answer(targets: np.ndarray, classes: int) -> tuple[int, float]:
    """The class (its number) that is right most often when it is always answered, and the fraction it is right.

    targets: class numbers (n,) or rows (n, classes), of which the highest entry counts, the first of equal ones.
    """
    counts = np.bincount(class_numbers(targets), minlength=classes)
    return int(counts.argmax()), float(counts.max() / counts.sum())


def one_scalar(train: Dataset) -> Preprocessing:
    """The report's normalisation: one mean and one standard deviation over all pixels of the training images."""
    counts = sum(np.bincount(train.image(i).ravel(), minlength=256) for i in range(len(train)))  # of the 256 values
    mean = (counts @ np.arange(256)) / counts.sum()
    deviation = np.sqrt((counts @ (np.arange(256) - mean) ** 2) / counts.sum())
    return Preprocessing((32, 32), resize="stretch", mean=float(mean), scale=1 / float(deviation))


def flip_crop_and_cycle(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The original's augmentation: mirror, shift by up to 4 pixels (mean colour comes in), roll along one axis.

    images: uint8 (n, height, width, 3). Two thirds are rolled, half of these to the side, by any number of pixels.
    Source: Qiao et al., datasets/transforms.lua (Jigsaw).
    """
    images = flip_and_crop(images, rng, fill=np.round(MEAN).astype(np.uint8))
    n, height, width, _ = images.shape
    kind = rng.integers(0, 3, n)
    down = np.where(kind == 1, rng.integers(1, height + 1, n), 0)
    right = np.where(kind == 2, rng.integers(1, width + 1, n), 0)
    rows = (np.arange(height) + down[:, None]) % height
    columns = (np.arange(width) + right[:, None]) % width
    return images[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
