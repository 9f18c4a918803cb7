"""mxelm.backbones.torch_pickle: tensors as written, nothing run, nothing read beyond its bounds."""
import collections
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_files import KINDS, Storage, Tensor, legacy, whole, zipped

from mxelm.backbones import torch_pickle
from mxelm.errors import FileError
from mxelm.pickles import Names

FORMATS = pytest.mark.parametrize("write", [legacy, zipped])


@pytest.fixture
def read(tmp_path):
    def read_bytes(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return torch_pickle.read(path)
    return read_bytes


def example():
    numbers = np.arange(24, dtype=np.float32)
    return collections.OrderedDict(
        weight=whole("a", numbers.reshape(2, 3, 4)), scalar=whole("b", np.int64(7)), empty=whole("c", np.zeros((0, 3))))


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_was_written(read, write, protocol):
    state = example()
    state._metadata = collections.OrderedDict(version=1)  # as Module.state_dict() carries it
    found = read(write(state, protocol=protocol))
    assert list(found) == ["weight", "scalar", "empty"]
    np.testing.assert_array_equal(found["weight"], np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    assert found["weight"].dtype == np.float32 and found["weight"].flags.writeable
    assert found["scalar"].shape == () and found["scalar"] == 7 and found["scalar"].dtype == np.int64
    assert found["empty"].shape == (0, 3)


@FORMATS
@pytest.mark.parametrize("code", KINDS)
def test_every_kind_of_storage(read, write, code):
    numbers = np.array([[0, 1], [1, 0], [1, 1]]).astype(code)
    found = read(write({"x": whole("0", numbers)}))["x"]
    assert found.dtype == numbers.dtype
    np.testing.assert_array_equal(found, numbers)


@st.composite
def views(draw):
    """A flat array and a view of it: sliced, with steps, with axes exchanged."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    base = np.arange(np.prod(shape), dtype=np.float32)
    view = base.reshape(shape)[tuple(slice(draw(st.integers(0, n - 1)), None, draw(st.integers(1, 3))) for n in shape)]
    return base, view.transpose(draw(st.permutations(range(view.ndim))))


@given(views(), st.sampled_from([legacy, zipped]))
def test_offsets_and_strides(tmp_path_factory, base_and_view, write):
    base, view = base_and_view
    offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // base.itemsize
    stride = tuple(s // base.itemsize for s in view.strides)
    path = tmp_path_factory.getbasetemp() / "view.pth"
    path.write_bytes(write({"x": Tensor(Storage("0", base), offset, view.shape, stride)}))
    np.testing.assert_array_equal(torch_pickle.read(path)["x"], view)


@FORMATS
def test_tensors_share_a_storage(read, write):
    storage = Storage("0", np.arange(6.0))
    found = read(write({"rows": Tensor(storage, 0, (2, 3), (3, 1)), "tail": Tensor(storage, 4, (2,), (1,))}))
    np.testing.assert_array_equal(found["rows"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["tail"], [4, 5])


class Evil:
    """Runs a command when unpickled by pickle.load."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@FORMATS
@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_an_evil_pickle_is_refused_and_not_run(read, write, tmp_path, protocol):
    marker = tmp_path / "ran"
    evil = pickle.dumps(Evil(marker))
    pickle.loads(evil)
    assert marker.exists(), "the attack itself must work, else this test shows nothing"
    marker.unlink()
    content = write({"weight": whole("0", np.zeros(3)), "more": Evil(marker)}, protocol=protocol)
    with pytest.raises(FileError, match="posix.system"):
        read(content)
    with pytest.raises(FileError, match="posix.system"):
        read(evil)
    assert not marker.exists()


@pytest.mark.parametrize("module, name", [
    ("builtins", "eval"), ("torch.storage", "_load_from_bytes"), ("torch._utils", "_rebuild_parameter"),
    ("torch", "BFloat16Storage"), ("collections", "OrderedDict.fromkeys"), ("numpy.core.multiarray", "_reconstruct"),
    ("mxelm.backbones.torch_pickle", "read"), ("torch", "load"), ("torch", "FloatStorage.__init__"),
])
def test_other_globals_are_named(read, module, name):
    body = b"\x80\x04" + pickle.SHORT_BINUNICODE + bytes([len(module)]) + module.encode() \
        + pickle.SHORT_BINUNICODE + bytes([len(name)]) + name.encode() + pickle.STACK_GLOBAL + b"."
    with pytest.raises(FileError, match=f"{module}.{name}, which is no tensor"):
        read(body)


@pytest.mark.parametrize("allowed", [
    "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"])
@pytest.mark.parametrize("state", [b"}X\x03\0\0\0fooK\x01s", b"N}X\x03\0\0\0fooK\x01s\x86"])
def test_what_is_allowed_cannot_be_changed(read, allowed, state):
    # BUILD sets attributes on whatever lies on the stack: here on the stand-in itself
    body = b"\x80\x02c" + allowed.replace(" ", "\n").encode() + b"\n" + state + b"b."
    with pytest.raises(FileError):
        read(body)
    assert not any(hasattr(stand_in, "foo") for stand_in in (Names, torch_pickle._Tensor))


@pytest.mark.parametrize("offset, size, stride", [
    (0, (7,), (1,)), (1, (6,), (1,)), (6, (1,), (1,)), (0, (2, 3), (4, 1)), (0, (3,), (3,)), (0, (2,), (10**30,)),
    (0, (7,), (0,)), (0, (10**12,), (0,)), (0, (10**6, 10**6), (0, 0)),
    (-1, (2,), (1,)), (0, (-2,), (1,)), (5, (3,), (-1,)), (0, (2, 3), (1,)), (0, (2.0,), (1,)), (0, (True,), (1,)),
    (0, [2], [1]), (None, (2,), (1,)),
])
@FORMATS
def test_tensors_beyond_their_storage(read, write, offset, size, stride):
    with pytest.raises(FileError, match="weights.pth.*tensor 'x'"):
        read(write({"x": Tensor(Storage("0", np.zeros(6)), offset, size, stride)}))


@FORMATS
@pytest.mark.parametrize("said", [5, 7, 2**62, -1])
def test_storages_of_another_length_than_said(read, write, said):
    tensor = whole("0", np.zeros(6, np.float32))
    tensor.says[0].length = said
    with pytest.raises(FileError):
        read(write({"x": tensor}))


@FORMATS
@pytest.mark.parametrize("content", [
    {"epoch": 3}, {"state_dict": {"x": whole("0", np.zeros(2))}}, {3: whole("0", np.zeros(2))}, [1, 2], 5,
    {"x": whole("0", np.zeros(2)), "y": Storage("1", np.zeros(2))},
])
def test_only_a_dictionary_of_tensors(read, write, content):
    with pytest.raises(FileError, match="tensor"):
        read(write(content))


@FORMATS
def test_truncated_anywhere(read, write):
    content = write(example())
    for length in range(len(content) - 1, -1, -3):
        with pytest.raises(FileError):
            read(content[:length])


def test_bytes_after_the_end(read):
    with pytest.raises(FileError, match="follow its last storage"):
        read(legacy(example()) + b"\0")


@given(st.sampled_from([legacy, zipped]), st.data())
def test_damage_gives_tensors_or_a_file_error(tmp_path_factory, write, data):
    content = bytearray(write(example()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(content)
    try:
        found = torch_pickle.read(path)
    except FileError as error:
        assert "damaged.pth" in str(error)
    else:
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in found.values())


def test_a_flipped_bit_in_a_zip_member(read):
    content = bytearray(zipped(example()))
    content[content.index(np.arange(24, dtype=np.float32).tobytes()) + 50] ^= 1
    with pytest.raises(FileError, match="damaged"):
        read(bytes(content))


def test_a_member_that_inflates_beyond_its_storage(read):
    tensor = whole("0", np.zeros(10**6))
    tensor.says[0].length, tensor.says = 1, (tensor.says[0], 0, (1,), (1,))
    with pytest.raises(FileError, match="compressed or longer than they should be"):
        read(zipped({"x": tensor}, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("asking", [b"}" + pickle.LONG_BINPUT + struct.pack("<I", 2**26),
                                    pickle.BYTEARRAY8 + struct.pack("<Q", 2**26)])
def test_a_few_bytes_that_ask_for_much_memory_do_not_get_it(read, asking):
    tracemalloc.start()
    try:
        with pytest.raises(FileError):
            read(b"\x80\x05" + asking + b".")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


TWICE = b")" + b"".join(b"q\0h\0h\0\x86" for _ in range(45))  # a tuple of two of a tuple of two ...: 2^45 leaves


@pytest.mark.parametrize("body", [
    b"}" + TWICE + b"K\1s", b"}" + b")" + b"2\x86" * 45 + b"K\1s", TWICE + b"Q",
    b"(X\7\0\0\0storagectorch\nFloatStorage\n" + TWICE + b"X\3\0\0\0cpuK\1tQ",
    b"}X\1\0\0\0xctorch._utils\n_rebuild_tensor_v2\n(NK\0" + TWICE + b")\x89NtRs", b"}X\1\0\0\0x" + TWICE + b"s"])
def test_what_unfolds_without_end_is_never_unfolded(read, body):
    with pytest.raises(FileError):
        read(b"\x80\2" + body + b".")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/data.pkl", b"\x80\2" + body + b".")
    with pytest.raises(FileError):
        read(archive.getvalue())


def test_many_tensors_of_one_storage_take_its_memory_once(read):
    storage = Storage("0", np.arange(1 << 16, dtype=np.float32))
    content = zipped({f"w{i}": Tensor(storage, 0, (1 << 16,), (1,)) for i in range(400)})
    tracemalloc.start()
    try:
        found = read(content)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20  # copies would take 105 MB
    finally:
        tracemalloc.stop()
    assert len(found) == 400 and np.array_equal(found["w399"], storage.array)


@pytest.mark.parametrize("size, stride", [((1 << 62,) * 500, (1,) * 500), ((1,) * 100_000, (1,) * 100_000)])
def test_sizes_without_end_are_refused_before_they_are_multiplied(read, size, stride):
    with pytest.raises(FileError, match="tensor 'x' has an offset"):
        read(zipped({"x": Tensor(Storage("0", np.zeros(6)), 0, size, stride)}))


def test_big_endian_files(read):
    for content in (legacy(example(), little_endian=False), zipped(example(), byteorder=b"big")):
        with pytest.raises(FileError, match="big-endian"):
            read(content)


@pytest.mark.parametrize("content", [
    b"", b"not a pickle at all", pickle.dumps({"a": 1}), pickle.dumps([]), b"PK\x03\x04"])
def test_foreign_files(read, content):
    with pytest.raises(FileError, match="weights.pth"):
        read(content)


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match="nothing.pth: No such file"):
        torch_pickle.read(tmp_path / "nothing.pth")
