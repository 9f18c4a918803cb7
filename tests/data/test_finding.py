import hashlib
import io
import tarfile
import zipfile

import numpy as np
import pytest
from image_files import class_folders, encoded, picture
from test_idx import IMAGES, LABELS, idx_bytes, write_set

from mxelm.data import KNOWN, known, load
from mxelm.errors import FileError, InputError


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing to be found but under the test's own folder, and no mirrors but there."""
    monkeypatch.setenv("MXELM_DATA", f"{tmp_path / 'data1'}:{tmp_path / 'data2'}")
    monkeypatch.setenv("MXELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MXELM_MIRRORS", (tmp_path / "mirror").as_uri())
    (tmp_path / "mirror").mkdir()


def offer(monkeypatch, tmp_path, name, files, **changes):
    """Put files on the mirror, and their MD5 where the registry keeps the published ones."""
    downloads = []
    for item in KNOWN[name].downloads:
        (tmp_path / "mirror" / item.name).write_bytes(files[item.name])
        hashes = changes.get("hashes", {"md5": hashlib.md5(files[item.name]).hexdigest()})
        downloads.append(known.Download(item.name, item.urls, hashes, changes.get("inner")))
    changed = known.KnownSet(KNOWN[name].title, KNOWN[name].read, KNOWN[name].layouts, tuple(downloads))
    monkeypatch.setitem(KNOWN, name, changed)


def tar(members, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def mnist_files(tmp_path):
    write_set(tmp_path / "made", pack=True)
    write_set(tmp_path / "made", prefix="t10k", pack=True)
    return {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}


def test_looked_for_in_root_then_data_folders_then_cache(tmp_path):
    (tmp_path / "root").mkdir()
    for count, place in enumerate(("cache", "data2", "data1", "root"), 1):
        (tmp_path / place).mkdir(exist_ok=True)
        write_set(tmp_path / place / "mnist", IMAGES[:count], LABELS[:count])
        write_set(tmp_path / place / "mnist", prefix="t10k")
        assert len(load("mnist", root=tmp_path / "root")) == count
    assert len(load("mnist")) == 3
    assert len(load("mnist", root=tmp_path / "cache" / "mnist")) == 1


def test_a_set_that_is_nowhere_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    (tmp_path / "data1" / "mnist").mkdir(parents=True)
    with pytest.raises(FileError) as caught:
        load("mnist")
    message = str(caught.value)
    for part in ("data1", "data2", "cache", "lacks train-images-idx3-ubyte", "download=True", "--download"):
        assert part in message
    assert "\n" not in message


def test_a_named_folder_that_is_not_there_is_a_mistake_though_the_set_lies_elsewhere(tmp_path):
    (tmp_path / "data1").mkdir()
    write_set(tmp_path / "data1" / "mnist")
    write_set(tmp_path / "data1" / "mnist", prefix="t10k")
    assert len(load("mnist"))
    with pytest.raises(FileError, match="there is no folder .*typo, in which mnist should lie"):
        load("mnist", root=tmp_path / "typo")


def test_mnist_is_downloaded_checked_and_found_again(tmp_path, monkeypatch):
    offer(monkeypatch, tmp_path, "mnist", mnist_files(tmp_path))
    assert len(load("mnist", download=True)) == len(IMAGES)
    assert sorted(p.name for p in (tmp_path / "cache" / "mnist").iterdir()) == sorted(mnist_files(tmp_path))
    (tmp_path / "mirror" / "train-images-idx3-ubyte.gz").unlink()
    assert load("mnist", download=True, split="test").targets.tolist() == LABELS.tolist()


def test_a_set_on_the_mirror_is_not_taken_for_another_and_nothing_unchecked_is_kept(tmp_path, monkeypatch):
    offer(monkeypatch, tmp_path, "mnist", mnist_files(tmp_path))
    with pytest.raises(FileError, match="md5 is"):
        load("fashion_mnist", root=tmp_path / "root", download=True)
    assert not list((tmp_path / "root" / "fashion_mnist").iterdir())


def test_an_archive_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(known.cifar, "IMAGES_A_BATCH", 1)
    members = {f"cifar-10-batches-bin/{name}.bin": bytes([7]) + bytes(3072)
               for names in known.cifar.BATCHES.values() for name in names}
    offer(monkeypatch, tmp_path, "cifar10", {"cifar-10-binary.tar.gz": tar(members, "w:gz")[:-30]})
    with pytest.raises(FileError):
        load("cifar10", download=True)
    assert not list((tmp_path / "cache").iterdir())
    offer(monkeypatch, tmp_path, "cifar10", {"cifar-10-binary.tar.gz": tar(members, "w:gz")})
    assert load("cifar10", download=True).targets.tolist() == [7] * 5


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "cifar-10-batches-bin/../../../evil"])
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path, monkeypatch, name):
    offer(monkeypatch, tmp_path, "cifar10", {"cifar-10-binary.tar.gz": tar({name: b"x"}, "w:gz")})
    with pytest.raises(FileError, match="outside"):
        load("cifar10", download=True)
    assert not list(tmp_path.rglob("evil"))


def caltech_zip(inner):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("caltech-101/101_ObjectCategories.tar.gz", inner)
    return buffer.getvalue()


def test_caltech101_is_unpacked_from_the_archive_in_its_archive(tmp_path, monkeypatch):
    inner = tar({"101_ObjectCategories/ant/image_0001.jpg": encoded(picture(), "JPEG")}, "w:gz")
    path = "caltech-101/101_ObjectCategories.tar.gz"
    offer(monkeypatch, tmp_path, "caltech101", {"caltech-101.zip": caltech_zip(inner)}, inner=(path, {"md5": "0"}))
    with pytest.raises(FileError, match="not the published one"):
        load("caltech101", download=True)
    offer(monkeypatch, tmp_path, "caltech101", {"caltech-101.zip": caltech_zip(inner)},
          inner=(path, {"md5": hashlib.md5(inner).hexdigest()}))
    assert load("caltech101", download=True).image(0).shape == (30, 40, 3)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["101_ObjectCategories"]


def test_a_failed_download_names_the_final_place_and_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("MXELM_MIRRORS", (tmp_path / "nowhere").as_uri())
    place = rf"{tmp_path}/cache/cifar-10-batches-bin \(data_batch_1.bin, "
    with pytest.raises(FileError, match=f"unpack it by hand to {place}.*md5 c32a1d4ab5d03f1284b67883e8d87530"):
        load("cifar10", download=True)


def test_a_set_without_published_hash_leaves_one_on_record(tmp_path, monkeypatch):
    content = tar({"Images/n02085620-Chihuahua/a.jpg": encoded(picture(), "JPEG")})
    offer(monkeypatch, tmp_path, "stanford_dogs", {"images.tar": content}, hashes={})
    assert load("stanford_dogs", download=True).classes == ["Chihuahua"]
    record = (tmp_path / "cache" / "stanford_dogs" / "images.tar.sha256").read_text()
    assert record.split() == [hashlib.sha256(content).hexdigest(), "images.tar"]


def test_published_hashes_have_their_length():
    hashes = [pair for entry in KNOWN.values() for item in entry.downloads
              for pair in [*item.hashes.items(), *(item.inner[1].items() if item.inner else ())]]
    assert len(hashes) == 13
    assert all(len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size for algorithm, digest in hashes)


@pytest.mark.parametrize("name, options, message", [
    ("mnits", {}, "did you mean mnist"), ("digits", {"split": "test"}, "takes no option 'split'"),
    ("digits", {"shuffle": 1}, "takes no option 'shuffle'"), ("gone/folder", {}, "neither a file nor a folder")])
def test_unknown_names_and_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        load(name, **options)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"neither a folder nor a \.rec, \.csv or \.lst file"):
        load(tmp_path / "x.zip")


def test_a_path_may_start_from_root(tmp_path):
    class_folders(tmp_path / "pets", {"cat": 2})
    assert np.array_equal(load("pets", root=tmp_path).image(1), load(tmp_path / "pets").image(1))


def test_what_an_idx_file_is_made_of():
    assert idx_bytes(LABELS)[:8] == b"\0\0\x08\x01\0\0\0\x07"  # the published format, that the tests' writer follows
