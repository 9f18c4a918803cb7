import copy
import io
import json
import os
import zipfile

import numpy as np
import pytest
from faults import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mxelm import containers
from mxelm.errors import FileError

DTYPES = st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes(), hnp.unicode_string_dtypes())
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=12)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3))
META = {"n": 3, "names": ["ant", "bee"]}
CONTENT = {"HtH": np.arange(12.0).reshape(3, 4), "labels": np.array([1, 2, 3], np.int64)}



@pytest.fixture
def container(tmp_path):
    containers.save_container(tmp_path / "a.state", "test", META, CONTENT)
    return tmp_path / "a.state"


def same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


@settings(deadline=None, max_examples=20)
@given(meta=st.dictionaries(st.text(max_size=9), JSON, max_size=3), arrays=st.dictionaries(NAMES, ARRAYS, max_size=3))
def test_a_container_gives_back_what_went_in(tmp_path_factory, meta, arrays):
    path = tmp_path_factory.getbasetemp() / "any.state"
    containers.save_container(path, "test", meta, arrays)
    loaded, again = containers.load_container(path, "test")
    assert loaded == meta
    same(again, arrays)
    assert containers.container_kind(path) == "test"


@pytest.mark.parametrize("order", "CF")
def test_numpy_can_open_a_container(tmp_path, order):
    array = np.array(CONTENT["HtH"], order=order)
    containers.save_container(tmp_path / "a.state", "test", META, {"HtH": array})
    np.testing.assert_array_equal(np.load(tmp_path / "a.state")["HtH"], array)
    same(containers.load_container(tmp_path / "a.state", "test")[1], {"HtH": array})


def test_a_truncated_container_is_refused_at_every_length(container):
    content = container.read_bytes()
    for length in range(0, len(content), 7):
        container.write_bytes(content[:length])
        with pytest.raises(FileError, match=r"a\.state is damaged"):
            containers.load_container(container, "test")
        assert containers.container_kind(container) is None


def test_a_flipped_bit_is_told_or_harmless(container):
    """Harmless are the bytes of a zip that say nothing of its content, such as dates."""
    content = container.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    places = range(0, len(content), 3)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        container.write_bytes(damaged)
        containers.container_kind(container)
        try:
            meta, arrays = containers.load_container(container, "test")
        except FileError as error:
            assert "a.state" in str(error)
            refused += 1
        else:
            assert meta == META
            same(arrays, CONTENT)
    assert refused > len(places) / 2


def test_contents_that_were_exchanged_are_told(container, tmp_path):
    """Each member is a whole one with the right CRC: only the checksum over all of them tells."""
    containers.save_container(tmp_path / "b.state", "test", META, {**CONTENT, "labels": np.array([1, 2, 4], np.int64)})
    with zipfile.ZipFile(container) as a, zipfile.ZipFile(tmp_path / "b.state") as b, \
            zipfile.ZipFile(tmp_path / "c.state", "w") as c:
        for name in a.namelist():
            c.writestr(name, (b if name == "labels.npy" else a).read(name))
    with pytest.raises(FileError, match="checksum does not match"):
        containers.load_container(tmp_path / "c.state", "test")


def test_files_that_are_no_container(tmp_path):
    np.savez(tmp_path / "a.npz", **CONTENT)
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "list", "w") as file:
        file.writestr("mxelm.json", "[1]")
    for name, reason in (("a.npz", "not a file that mxelm wrote"), ("text", "not a file that mxelm wrote"),
                         ("empty", "not a file that mxelm wrote"), ("folder", "cannot read"),
                         ("list", "not a file that mxelm wrote"), ("none", "there is no file")):
        with pytest.raises(FileError, match=reason) as caught:
            containers.load_container(tmp_path / name, "test")
        assert name in str(caught.value)
        assert containers.container_kind(tmp_path / name) is None


def test_another_kind_is_named(container):
    with pytest.raises(FileError, match="holds a test, not a elm-state"):
        containers.load_container(container, "elm-state")


def test_a_newer_container_asks_for_an_update_whatever_else_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.state", "w") as file:
        file.writestr("mxelm.json", json.dumps({"kind": "test", "container": containers.CONTAINER_VERSION + 1}))
        file.writestr("HtH.unheard-of", b"x")
    with pytest.raises(FileError, match="newer mxelm"):
        containers.load_container(tmp_path / "a.state", "test")
    assert containers.container_kind(tmp_path / "a.state") == "test"


def test_no_pickle_goes_in_or_comes_out(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        containers.save_container(tmp_path / "a.state", "test", {}, {"o": np.array([object()])})
    assert not os.listdir(tmp_path)
    evil = io.BytesIO()
    np.save(evil, np.array([{}]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "b.state", "w") as file:
        file.writestr("mxelm.json", json.dumps({"kind": "test", "container": 1, "meta": {}}))
        file.writestr("sha256", "0")
        file.writestr("o.npy", evil.getvalue())
    with pytest.raises(FileError, match="damaged"):
        containers.load_container(tmp_path / "b.state", "test")


def test_a_full_disk_is_told_and_changes_nothing(tmp_path, container):
    before = container.read_bytes()
    with full_disk(1000), pytest.raises(FileError, match=r"cannot write .*a\.state: File too large"):
        containers.save_container(container, "test", META, {"big": np.zeros(100_000)})
    assert container.read_bytes() == before and os.listdir(tmp_path) == ["a.state"]


def test_array_digest_is_of_type_shape_bytes_and_order():
    a, b = np.arange(6.0), np.arange(6)
    variants = [(a,), (b,), (a.reshape(2, 3),), (a.astype(">f8"),), (a + 1,), (a, b), (b, a), (a[:0],), ()]
    assert len({containers.array_digest(*arrays) for arrays in variants}) == len(variants)
    assert containers.array_digest(np.asfortranarray(a.reshape(2, 3))) == containers.array_digest(a.reshape(2, 3))


def test_compressed_or_overlapping_members_are_not_read(tmp_path, container):
    """Zeros compress a thousand times; members over each other cost nothing at all."""
    with zipfile.ZipFile(tmp_path / "b.state", "w", zipfile.ZIP_DEFLATED) as b, zipfile.ZipFile(container) as a:
        for name in a.namelist():
            b.writestr(name, a.read(name))
    with zipfile.ZipFile(container, "a") as file:
        for i in range(40):
            twin = copy.copy(file.getinfo("HtH.npy"))
            twin.filename = f"{i}.npy"
            file.filelist.append(twin)
        file._didModify = True
    for path in (tmp_path / "b.state", container):
        with pytest.raises(FileError, match="members are compressed or longer"):
            containers.load_container(path, "test")
        assert containers.container_kind(path) is None


def test_nobody_waits_for_a_container_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.state")
    with pytest.raises(FileError, match=r"a\.state"):
        containers.load_container(tmp_path / "a.state", "test")
    assert containers.container_kind(tmp_path / "a.state") is None
