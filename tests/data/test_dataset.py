import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mxelm.data.dataset import Dataset
from mxelm.data.sources import ArraySource
from mxelm.errors import InputError

CLASSES = ["ant", "bee", "cat", "dog"]


def dataset(labels, classes=CLASSES):
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    return Dataset(ArraySource(images, "toy/all"), np.asarray(labels, np.int64), classes, "toy")


labels_of_any_balance = st.lists(st.integers(0, 3), min_size=2, max_size=60)


@given(labels_of_any_balance, st.floats(0.01, 0.99), st.integers(0, 5))
def test_split_partitions_keeps_order_and_is_stratified(labels, fraction, seed):
    assume(np.bincount(labels).max() >= 2)
    data = dataset(labels)
    rest, part = data.split(fraction, seed)
    assert sorted(rest.ids + part.ids) == sorted(data.ids)
    for half in (rest, part):
        assert (np.diff(half.positions) > 0).all()
        assert all(half.image(i)[0, 0] == half.positions[i] for i in range(len(half)))
    for c, count in enumerate(np.bincount(labels, minlength=4)):
        in_part = np.sum(part.targets == c)
        if count >= 2:
            assert 1 <= in_part <= count - 1
            assert abs(in_part - fraction * count) <= 1
        else:
            assert in_part == 0


def test_a_split_that_could_hold_nothing_is_refused():
    with pytest.raises(InputError, match="two samples"):
        dataset([0, 1, 2, 3]).split(0.5)


def test_split_is_seeded():
    data = dataset(np.arange(40) % 4)
    assert data.split(0.3, 1)[1].ids == data.split(0.3, 1)[1].ids
    assert data.split(0.3, 1)[1].ids != data.split(0.3, 2)[1].ids


@given(labels_of_any_balance, st.integers(1, 4), st.integers(0, 5))
def test_per_class_gives_n_and_up_to_rest_of_the_others(labels, n, rest):
    data = dataset(labels, CLASSES[:max(labels) + 1])
    counts = np.bincount(labels)
    if counts.min() < n:
        with pytest.raises(InputError, match=CLASSES[int(np.argmax(counts < n))]):
            data.per_class(n)
        return
    chosen, others = data.per_class(n, seed=3, rest=rest)
    assert (np.bincount(chosen.targets) == n).all()
    assert (np.bincount(others.targets, minlength=len(counts)) == np.minimum(counts - n, rest)).all()
    assert not set(chosen.ids) & set(others.ids)
    assert len(data.per_class(n, seed=3)[1]) == len(data) - len(chosen)


def test_only_relabels_in_the_order_given():
    data = dataset([0, 1, 2, 3, 2, 0])
    chosen = data.only(["cat", 0])
    assert chosen.classes == ["cat", "ant"]
    assert chosen.ids == [f"toy/all/{i}" for i in (0, 2, 4, 5)]
    assert chosen.targets.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("wanted", [["eel"], [4], [-1], [0.5], [0, "ant"], []])
def test_only_refuses_what_is_no_class_or_named_twice(wanted):
    with pytest.raises(InputError):
        dataset([0, 1, 2, 3]).only(wanted)


def test_take_keeps_the_order_given_and_repeats():
    data = dataset([0, 1, 2, 3]).take([3, 1, 3])
    assert data.ids == ["toy/all/3", "toy/all/1", "toy/all/3"]
    assert data.take(np.array([1])).targets.tolist() == [1]
    assert len(data.take([])) == 0


@pytest.mark.parametrize("indices", [[4], [-1], [0.5], [[0]], [True, False, True, False]])
def test_take_refuses_what_is_no_index(indices):
    with pytest.raises(InputError, match="indices"):
        dataset([0, 1, 2, 3]).take(indices)


def test_target_matrix_is_one_hot_for_classes_and_the_targets_otherwise():
    matrix = dataset([2, 0]).target_matrix()
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    source = ArraySource(np.zeros((2, 3, 3), np.uint8), "x")
    values = Dataset(source, [[0.5, 2], [1, -1]], ["u", "v"], "x", kind="regression")
    assert values.target_matrix().tolist() == [[0.5, 2], [1, -1]]
    assert values.n_outputs == 2
    assert len(values.split(0.5)[1]) == 1
    with pytest.raises(InputError, match="regression"):
        values.only(["u"])


@pytest.mark.parametrize("targets, kind", [
    ([0, 4], "classes"), ([0, -1], "classes"), ([0, 0.5], "classes"), ([0], "classes"), ([[0], [1]], "classes"),
    ([[0, 1, 0, np.nan]] * 2, "regression"), ([0.5, 1.5], "regression"), ([0, 1], "ranking")])
def test_targets_that_do_not_fit_are_refused(targets, kind):
    with pytest.raises(InputError):
        Dataset(ArraySource(np.zeros((2, 3, 3), np.uint8), "x"), targets, CLASSES, "x", kind=kind)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 20])
def test_split_refuses_a_fraction_that_is_none(fraction):
    with pytest.raises(InputError, match="fraction"):
        dataset([0, 1, 2, 3]).split(fraction)
