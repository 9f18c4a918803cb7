"""ELMState: sums, what it refuses to add, and the file it writes."""
import dataclasses

import numpy as np
import pytest

from mxelm.containers import load_container, save_container
from mxelm.errors import FileError, InputError, MxelmError
from mxelm.fused import ELMState, Projection
from mxelm.fused.state import KIND, Origin, merge, sorted_digests
from mxelm.preprocessing import Preprocessing

L, C = 9, 3
ORIGIN = Origin({"symbol": "a", "params": "b"}, "flatten_output", Preprocessing((16, 16)), Projection(L, 4, seed=1),
                "classes", ("x", "y", "z"))


def digests(names):
    return sorted_digests(np.array([list(name.encode().ljust(16, b"\0")) for name in names], np.uint8))


def state(seed, names, origin=ORIGIN):
    rng = np.random.default_rng(seed)
    H, Y = rng.normal(size=(len(names), L)), rng.normal(size=(len(names), C))
    return ELMState(H.T @ H, H.T @ Y, len(names), float((Y ** 2).sum()), origin, digests(names))


def test_sum_of_states():
    a, b = state(0, ["p", "q"]), state(1, ["r"])
    both = a + b
    np.testing.assert_allclose(both.HtH, a.HtH + b.HtH)
    np.testing.assert_allclose(both.HtY, a.HtY + b.HtY)
    assert both.n_samples == 3 and both.yty == a.yty + b.yty and len(both.samples) == 3


def test_order_of_a_sum_does_not_matter():
    parts = [state(i, [f"{i}a", f"{i}b"]) for i in range(4)]
    one = parts[0] + parts[1] + parts[2] + parts[3]
    other = (parts[3] + parts[1]) + (parts[2] + parts[0])
    np.testing.assert_allclose(one.HtH, other.HtH, rtol=1e-13)
    np.testing.assert_array_equal(one.samples, other.samples)


def test_shared_samples_are_refused():
    with pytest.raises(InputError, match="share 1 samples"):
        state(0, ["p", "q"]) + state(1, ["q", "r"])


@pytest.mark.parametrize("change, word", [
    ({"backbone": {"symbol": "a", "params": "other"}}, "backbone"),
    ({"cut": "fc1_output"}, "cut"),
    ({"preprocessing": Preprocessing((16, 16), mean=3.0)}, "preprocessing"),
    ({"projection": Projection(L, 4, seed=2)}, "projection"),
    ({"classes": ("x", "z", "y")}, "classes"),
    ({"kind": "multilabel"}, "kind"),
])
def test_states_that_do_not_belong_together(change, word):
    with pytest.raises(InputError, match=word):
        state(0, ["p"]) + state(1, ["q"], dataclasses.replace(ORIGIN, **change))


def test_sizes_that_do_not_fit():
    with pytest.raises(InputError, match="do not belong together"):
        ELMState(np.eye(3), np.ones((3, 1)), 1) + ELMState(np.eye(2), np.ones((2, 1)), 1)


def test_file_round_trip(tmp_path):
    made = state(3, ["p", "q", "r"])
    made.save(tmp_path / "a.state")
    read = ELMState.load(tmp_path / "a.state")
    np.testing.assert_array_equal(read.HtH, made.HtH)
    np.testing.assert_array_equal(read.HtY, made.HtY)
    np.testing.assert_array_equal(read.samples, made.samples)
    assert (read.n_samples, read.yty, read.origin) == (made.n_samples, made.yty, made.origin)
    assert [p.name for p in tmp_path.iterdir()] == ["a.state"]


def test_file_holds_one_triangle(tmp_path):
    state(3, ["p"]).save(tmp_path / "a.state")
    assert np.load(tmp_path / "a.state")["HtH_lower"].shape == (L * (L + 1) // 2,)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a.state"
    state(3, ["p", "q"]).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="a.state"):
            ELMState.load(path)


def test_a_flipped_bit_never_changes_what_is_read(tmp_path):
    path = tmp_path / "a.state"
    made = state(3, ["p", "q"])
    made.save(path)
    whole = bytearray(path.read_bytes())
    refused = 0
    for position in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            read = ELMState.load(path)
        except FileError:
            refused += 1
        else:  # a date or another field of the zip that carries nothing of ours
            np.testing.assert_array_equal(read.HtH, made.HtH)
            assert read.origin == made.origin
    assert refused > 20


def test_foreign_files(tmp_path):
    (tmp_path / "a.state").write_bytes(b"not a zip")
    with pytest.raises(FileError, match="a.state"):
        ELMState.load(tmp_path / "a.state")
    np.savez(tmp_path / "b.npz", HtH=np.eye(3))
    with pytest.raises(FileError, match="not a file that mxelm wrote"):
        ELMState.load(tmp_path / "b.npz")
    with pytest.raises(FileError, match="there is no file"):
        ELMState.load(tmp_path / "c.state")


def test_bytes_do_not_depend_on_samples():
    assert state(0, ["p"]).nbytes == state(0, list("pqrstuv")).nbytes == 8 * (L * (L + 1) // 2 + L * C)


def test_subtraction_takes_a_shard_out_again():
    a, b = state(0, ["p", "q"]), state(1, ["r"])
    rest = (a + b) - b
    np.testing.assert_allclose(rest.HtH, a.HtH, atol=1e-12)
    np.testing.assert_array_equal(rest.samples, a.samples)
    assert rest.n_samples == 2
    with pytest.raises(InputError, match="1 of the 1 samples"):
        a - b


def test_union_of_classes_adds_columns_without_images():
    a = state(0, ["p", "q"])
    b = state(1, ["r"], dataclasses.replace(ORIGIN, classes=("z", "w", "x")))
    with pytest.raises(InputError, match="classes"):
        merge([a, b])
    both = merge([a, b], union_classes=True)
    assert both.origin.classes == ("x", "y", "z", "w")
    expected = np.column_stack([a.HtY[:, 0] + b.HtY[:, 2], a.HtY[:, 1], a.HtY[:, 2] + b.HtY[:, 0], b.HtY[:, 1]])
    np.testing.assert_allclose(both.HtY, expected)
    np.testing.assert_allclose(both.HtH, a.HtH + b.HtH)


def test_the_same_sample_twice_in_one_state_is_refused():
    with pytest.raises(InputError, match="occur twice"):
        digests(["p", "q", "p"])


@pytest.mark.parametrize("change, said", [
    (lambda meta, arrays: arrays.pop("samples"), "no array samples"),
    (lambda meta, arrays: arrays.update(HtH_lower=arrays["HtH_lower"][:-1]), "HtH_lower is float64"),
    (lambda meta, arrays: arrays.update(HtY=arrays["HtY"][:, :1]), "HtY is float64"),
    (lambda meta, arrays: arrays.update(HtY=arrays["HtY"] * np.nan), "not finite"),
    (lambda meta, arrays: arrays.update(samples=arrays["samples"].astype("i4")), "names"),
    (lambda meta, arrays: meta.update(n_samples=99), "counts 99 samples and names"),
    (lambda meta, arrays: meta.update(n_samples=-1), "n_samples: -1 is less than"),
    (lambda meta, arrays: meta["origin"].pop("kind"), "'kind' is a required property"),
    (lambda meta, arrays: meta["origin"]["projection"].update(n_neurons="many"), "n_neurons: 'many' is not"),
    (lambda meta, arrays: meta["origin"]["projection"].update(n_neurons=10 ** 10), r"of shape \(10000000000, 3\)"),
    (lambda meta, arrays: meta["origin"].update(classes=["a", "b", "a"]), "names a class twice"),
    (lambda meta, arrays: meta["origin"].update(classes=["a", 3]), "origin.classes"),
    (lambda meta, arrays: meta["origin"].update(place={"prefix": 5, "epoch": 0}), "origin.place"),
    (lambda meta, arrays: meta["origin"].update(intercept="yes"), "origin.intercept"),
    (lambda meta, arrays: arrays.update(waiting_H=np.zeros((3, len(arrays["HtY"]))), waiting_Y=np.zeros((5, 2))),
     "waiting_Y is float64"),
    (lambda meta, arrays: meta["origin"].update(preprocessing={}), "input_shape")])
def test_odd_content_under_a_right_checksum_is_refused(tmp_path, change, said):
    path = tmp_path / "a.state"
    state(0, ["a", "b"]).save(path)
    meta, arrays = load_container(path, KIND)
    change(meta, arrays)
    save_container(path, KIND, meta, arrays)
    with pytest.raises(MxelmError, match=said):
        ELMState.load(path)
