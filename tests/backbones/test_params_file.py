"""The strict reader against MXNet's own, on files of every version and on damaged ones."""
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mxelm.backbones.params_file import V1, V2, V3, read_params, write_params
from mxelm.errors import FileError
from mxelm.runtime import mx

FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4}
ARRAYS = {"arg:conv_weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2) / 7, "arg:b": np.array([1.5, -2], "f4"),
          "aux:bn_moving_mean": np.linspace(-1, 1, 3, dtype="f4")}


def encode(arrays, version, names=None):
    """A .params file made by hand; version None is the layout of 2015."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        if version is None:
            parts.append(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape))
        else:
            head = struct.pack("<I", version) if version == V1 else struct.pack("<Ii", version, 0)
            parts.append(head + struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape))
        parts.append(struct.pack("<iii", 1, 0, FLAGS[array.dtype.name]) + array.tobytes())
    names = list(arrays) if names is None else names
    parts.append(struct.pack("<Q", len(names)))
    parts += [struct.pack("<Q", len(name)) + name.encode() for name in names]
    return b"".join(parts)


def flat(read):
    return {**{f"arg:{n}": a for n, a in read[0].items()}, **{f"aux:{n}": a for n, a in read[1].items()}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net-0000.params"


@pytest.mark.parametrize("version", [None, V1, V2])
def test_every_version_reads_as_mxnet_reads_it(path, version):
    path.write_bytes(encode(ARRAYS, version))
    mine, theirs = flat(read_params(path)), mx.nd.load(str(path))
    assert set(mine) == set(theirs) == set(ARRAYS)
    for name, array in mine.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, theirs[name].asnumpy())
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_numpy_shape_files_with_scalars(path):
    path.write_bytes(encode({"arg:s": np.array(2.5, "f4"), "arg:v": np.ones(3, "f4")}, V3))
    arg_params, _ = read_params(path)
    assert arg_params["s"].shape == () and arg_params["s"] == 2.5 and arg_params["v"].shape == (3,)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abc_09", min_size=1, max_size=9), shapes, min_size=1, max_size=5), st.integers(0, 99))
def test_what_mxnet_writes_is_read_equal(path, named_shapes, seed):
    random = np.random.default_rng(seed)
    arrays = {name: random.standard_normal(shape).astype("f4") for name, shape in named_shapes.items()}
    write_params(path, {name: mx.nd.array(a) for name, a in arrays.items()}, {})
    arg_params, aux_params = read_params(path)
    assert set(arg_params) == set(arrays) and aux_params == {}
    for name, array in arrays.items():
        np.testing.assert_array_equal(arg_params[name], array)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions_are_cast_and_logged(path, dtype, caplog):
    path.write_bytes(encode({"arg:w": np.array([0.5, 3], dtype)}, V2))
    with caplog.at_level("INFO"):
        arg_params, _ = read_params(path)
    assert arg_params["w"].dtype == np.float32 and arg_params["w"].tolist() == [0.5, 3]
    assert "cast to float32" in caplog.text


@pytest.mark.parametrize("version", [None, V1, V2])
def test_truncated_anywhere_is_refused(path, version):
    whole = encode(ARRAYS, version)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match="net-0000.params"):
            read_params(path)


@pytest.mark.parametrize("version", [None, V1, V2])
def test_a_flipped_bit_is_refused_or_touches_one_number_or_name(path, version):
    whole = encode(ARRAYS, version)
    read_on = 0
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = flat(read_params(path))
        except FileError:
            continue
        read_on += 1
        assert sorted(a.shape for a in found.values()) == sorted(a.shape for a in ARRAYS.values())
        renamed = set(found) - set(ARRAYS)
        changed = sum(int((found[n] != ARRAYS[n]).sum()) for n in found if n in ARRAYS)
        assert len(renamed) + changed <= 1
    assert 0 < read_on < len(whole) * 8  # flips within numbers go unseen here: the sidecar's SHA-256 sees them


@pytest.mark.parametrize("content, said", [
    (b"", "truncated"),
    (b"not a params file, but long enough for a header", "not an MXNet"),
    (struct.pack("<QQQ", 0x112, 0, 2**60), "announces"),
    (struct.pack("<QQQIi", 0x112, 0, 1, V2, 0) + struct.pack("<i4q", 4, 2**31, 2**31, 2**31, 2**31)
     + struct.pack("<iii", 1, 0, 0) + bytes(64), "bytes"),
    (struct.pack("<QQQIi", 0x112, 0, 1, V2, 1) + bytes(64), "sparse"),
    (struct.pack("<QQQII", 0x112, 0, 1, 99, 1) + bytes(500), "99 axes"),
    (encode(ARRAYS, V2) + b"\0", "follow its end"),
    (encode(ARRAYS, V2, names=["arg:a", "arg:b"]), "another number of names"),
    (encode(ARRAYS, V2, names=["arg:a", "arg:b", "arg:b"]), "twice"),
    (encode(ARRAYS, V2, names=["arg:a", "arg:b", "aux:b"]), "twice"),
    (encode(ARRAYS, V2, names=["arg:a", "arg:b", "gamma"]), "neither arg: nor aux:"),
    (encode({"arg:w": np.array([1, np.nan], "f4")}, V2), "NaN"),
    (encode({"arg:w": np.array([np.inf], "f4")}, None), "infinite"),
    (encode({"arg:w": np.array([1, 2], "uint8")}, V2), "uint8"),
])
def test_refusals_name_the_file_and_the_reason(path, content, said):
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_params(path)
    assert said in str(caught.value) and "net-0000.params" in str(caught.value)


def test_a_write_that_comes_out_short_is_told_by_the_files_own_name(path, monkeypatch):
    def half(name, content):
        with open(name, "wb") as file:
            file.write(encode(ARRAYS, V2)[:50])
    monkeypatch.setattr(mx.nd, "save", half)
    with pytest.raises(FileError, match="cannot write net-0000.params: .* full disk; nothing was changed"):
        write_params(path, {"w": mx.nd.ones(2)}, {}, shown="net-0000.params")


@pytest.mark.parametrize("content, said", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "`git lfs pull`"),
    (b"<!DOCTYPE html><html>", "web page"), (b"PK\x03\x04" + bytes(40), "zip archive"),
    (b"\x1f\x8b" + bytes(40), "gzip"), (b"\x80\x02}q", "pickle"), (b'{"nodes": []}', "JSON"),
    (b"\x08\x07\x12\x07pytorch", "ONNX")])
def test_what_people_have_in_its_place_is_named(path, content, said):
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"net-0000.params is not an MXNet .params file: it is .*{said}"):
        read_params(path)


def test_missing_file(path):
    with pytest.raises(FileError, match="cannot read .*net-0000.params"):
        read_params(path)
