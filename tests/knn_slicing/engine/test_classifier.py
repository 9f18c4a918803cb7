"""The small engine: its arithmetic, its file, and that nothing but NumPy and Pillow is needed to use it."""
import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mxelm.errors import FileError, InputError
from mxelm.knn_slicing.deskew import deskew
from mxelm.knn_slicing.engine import file
from mxelm.knn_slicing.engine.classifier import Bank, Engine, features, nearest_label, project
from mxelm.knn_slicing.engine.quantised import Quantised, packed_size, unpack


def random_engine(seed=0, filters=(3, 4), n_dims=5, counts=(2, 1, 3), bits=(8, 6, 5)):
    """An engine that knows nothing, of the given sizes."""
    rng = np.random.default_rng(seed)
    f1, f2 = filters
    conv1 = Bank.of(rng.normal(size=(f1, 1, 3, 3)), rng.normal(size=f1), bits[0])
    conv2 = Bank.of(rng.normal(size=(f2, f1, 3, 3)), rng.normal(size=f2), bits[0])
    return Engine(conv1, conv2, Quantised.of(rng.normal(size=(n_dims, 25 * f2)), bits[1]),
                  rng.normal(size=n_dims).astype(np.float32), Quantised.of(rng.normal(size=(n_dims, sum(counts))),
                                                                           bits[2]),
                  np.array(counts), tuple(f"class {i}" for i in range(len(counts))))


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (70, 28, 28), dtype=np.uint8)


# quantisation

@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_levels_survive_packing_and_err_by_half_a_level_at_most(bits, rows, columns, seed):
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    made = Quantised.of(values, bits)
    assert np.abs(made.levels).max() == 2 ** (bits - 1) - 1
    assert (np.abs(made.values - values) <= 0.5001 * made.scale[:, None]).all()
    content = made.pack()
    assert len(content) == packed_size(values.shape, bits)
    np.testing.assert_array_equal(unpack(content, values.shape, bits), made.levels)


def test_rows_of_zeros_stay_zeros():
    made = Quantised.of([[0, 0], [1e-44, 0], [3, -1]], 4)
    assert (made.scale > 0).all() and (made.values[0] == 0).all() and made.values[2, 0] == pytest.approx(3)


@pytest.mark.parametrize("values, bits, said", [
    ([[1.0]], 1, "bits must be a whole number from 2 to 8"), ([[1.0]], 9, "from 2 to 8"),
    ([[np.nan]], 8, "not finite")])
def test_what_cannot_be_quantised_is_refused(values, bits, said):
    with pytest.raises(InputError, match=said):
        Quantised.of(values, bits)


# arithmetic

def test_features_are_those_of_the_network(images):
    """Against MXNet's convolution, ReLU and pooling, in the network's own order."""
    kernels = pytest.importorskip("mxelm.knn_slicing.kernels")
    made = random_engine(filters=(5, 7))
    weights = [bank.weights.values.reshape(-1, 3, 3, bank.channels).transpose(0, 3, 1, 2)
               for bank in (made.conv1, made.conv2)]
    network = kernels.features(images, kernels.Kernels(weights[0], made.conv1.bias, weights[1], made.conv2.bias))
    expected = np.sqrt(network / network.sum(axis=1, keepdims=True)).reshape(-1, 7, 25).transpose(0, 2, 1)
    found = features(images, made.conv1, made.conv2)
    np.testing.assert_allclose(found, expected.reshape(len(images), -1), atol=1e-4)
    np.testing.assert_allclose((found ** 2).sum(axis=1), 1, rtol=1e-5)


def test_a_blank_image_has_no_feature_and_a_class_all_the_same():
    made = random_engine()
    dead = dataclasses.replace(made, conv1=dataclasses.replace(made.conv1, bias=np.full(3, -1, np.float32)),
                               conv2=dataclasses.replace(made.conv2, bias=np.full(4, -1, np.float32)))
    blank = np.zeros((1, 28, 28), np.uint8)
    assert not features(blank, dead.conv1, dead.conv2).any()
    assert dead.predict(blank)[0] in range(3)


def test_prediction_is_the_nearest_prototype(images):
    made = random_engine()
    points = project(features(deskew(images), made.conv1, made.conv2), made.projection) - made.centre
    distances = ((points[:, None].astype(float) - made.prototypes.values.T[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(made.predict(images), np.array([0, 0, 1, 2, 2, 2])[distances.argmin(axis=1)])
    assert made.score(images, made.predict(images)) == 1


def test_ties_go_to_the_first_prototype():
    prototypes = np.array([[0, 1], [0, -1], [1, 0]], np.float32)
    found = nearest_label(np.zeros((1, 2), np.float32), prototypes, np.array([2, 0, 1]))
    assert found.tolist() == [2]


@pytest.mark.parametrize("images", [np.zeros((2, 28, 28), float), np.zeros((28, 28), np.uint8),
                                    np.zeros((2, 28, 27), np.uint8), np.zeros((2, 28, 28, 3), np.uint8)])
def test_images_of_another_form_are_refused(images):
    with pytest.raises(InputError, match="uint8 images"):
        random_engine().predict(images)


def test_labels_must_be_as_many_as_images(images):
    with pytest.raises(InputError, match="69 labels for 70"):
        random_engine().score(images, np.zeros(69, int))
    with pytest.raises(InputError, match="at least one"):
        random_engine().score(images[:0], [])


# the file

@pytest.mark.parametrize("bits", [(8, 8, 8), (4, 5, 6), (2, 7, 3)])
def test_a_file_holds_all_of_an_engine_and_nothing_else(tmp_path, images, bits):
    made = random_engine(bits=bits)
    made.save(tmp_path / "a.engine")
    read = Engine.load(tmp_path / "a.engine")
    np.testing.assert_array_equal(read.transform(images), made.transform(images))
    np.testing.assert_array_equal(read.predict(images), made.predict(images))
    assert read.classes == made.classes and read.labels.tolist() == [0, 0, 1, 2, 2, 2]
    size = (tmp_path / "a.engine").stat().st_size
    assert size == made.bytes == file.size(bits, n_conv1=3, n_conv2=4, n_dims=5, n_prototypes=6, classes=made.classes)
    read.save(tmp_path / "b.engine")
    assert (tmp_path / "b.engine").read_bytes() == (tmp_path / "a.engine").read_bytes()


@pytest.fixture(scope="module")
def content():
    return file.encode(random_engine())


def test_an_engine_too_large_for_its_header_is_not_written(tmp_path):
    with pytest.raises(InputError, match="at most 65,535 each, got 3, 4, 70,000 and 3"):
        random_engine(n_dims=70_000).save(tmp_path / "a.engine")
    assert not list(tmp_path.iterdir())


def test_every_cut_is_refused(content, tmp_path):
    path = tmp_path / "cut.engine"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileError, match="cut.engine"):
            Engine.load(path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_flipped_bit_is_refused(content, tmp_path_factory, data):
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.getbasetemp() / "flipped.engine"
    path.write_bytes(damaged)
    with pytest.raises(FileError, match="flipped.engine"):
        Engine.load(path)


def resigned(content):
    """The content with the checksum that belongs to it."""
    body = bytes(content[:-16])
    return body + hashlib.blake2b(body, digest_size=16).digest()


@pytest.mark.parametrize("offset, value, said", [
    (8, 2, "version 2"), (9, 1, "impossible"), (10, 9, "impossible"), (11, 0, "impossible"), (12, 0, "impossible"),
    (14, 0, "impossible"), (16, 0, "impossible"), (18, 1, "impossible"), (16, 6, "cut"), (18, 4, "cut|written wrongly"),
    (16, 4, "checksum")])
def test_a_header_of_other_sizes_is_refused_even_if_signed(content, tmp_path, offset, value, said):
    damaged = bytearray(content)
    damaged[offset] = value
    (tmp_path / "a.engine").write_bytes(resigned(damaged))
    with pytest.raises(FileError, match=said):
        Engine.load(tmp_path / "a.engine")


def test_numbers_that_no_engine_has_are_refused(tmp_path):
    made = random_engine()
    wrong = [dataclasses.replace(made, centre=np.full(5, np.nan, np.float32)),
             dataclasses.replace(made, projection=dataclasses.replace(made.projection,
                                                                      scale=np.zeros(5, np.float32)))]
    for engine in wrong:
        engine.save(tmp_path / "a.engine")
        with pytest.raises(FileError, match="written wrongly"):
            Engine.load(tmp_path / "a.engine")


def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "longer").write_bytes(content + b"\0")
    (tmp_path / "text").write_text("no engine at all")
    (tmp_path / "empty").write_bytes(b"")
    for name, said in (("longer", "damaged"), ("text", "not an engine"), ("empty", "not an engine"),
                       ("missing", "cannot read"), (".", "cannot read")):
        with pytest.raises(FileError, match=said):
            Engine.load(tmp_path / name)


@pytest.mark.parametrize("classes, counts, said", [
    (("a", "a"), (1, 1), "different names"), (("a",), (1,), "different names"), (("a", "b\nc"), (1, 1), "line breaks"),
    (("a", "b"), (0, 1), "prototypes"), (("a", "b"), (1, 70_000), "prototypes")])
def test_what_a_file_cannot_hold_is_refused(tmp_path, classes, counts, said):
    made = dataclasses.replace(random_engine(), classes=classes, counts=np.array(counts))
    with pytest.raises(InputError, match=said):
        made.save(tmp_path / "a.engine")
    assert not list(tmp_path.iterdir())


# nothing but NumPy and Pillow

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mxnet", "gluoncv", "scipy", "cv2", "sklearn", "deap", "tqdm", "matplotlib",
                                  "threadpoolctl"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""


def test_predicting_needs_numpy_and_pillow_alone(tmp_path, images):
    made = random_engine()
    made.save(tmp_path / "a.engine")
    image = np.pad(images[0, 1:-1, 1:-1], 1)  # on black, as MNIST's: taken as it is
    Image.fromarray(image).save(tmp_path / "0.png")
    code = (BLOCKED + "from mxelm.cli import main\n"
            f"sys.exit(main(['engine', 'predict', {str(tmp_path / 'a.engine')!r}, {str(tmp_path / '0.png')!r}]))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{made.classes[made.predict(image[None])[0]]}  {tmp_path / '0.png'}  (margin ")
