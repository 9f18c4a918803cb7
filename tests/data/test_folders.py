import os
import subprocess

import numpy as np
import pytest
from image_files import class_folders, encoded, picture

from mxelm.data import load
from mxelm.data.folders import natural
from mxelm.errors import FileError, InputError


def test_class_folders_in_natural_order_with_nested_and_without_hidden_files(tmp_path):
    class_folders(tmp_path, {"class10": 1, "class2": 11})
    (tmp_path / "class10" / "more").mkdir()
    (tmp_path / "class10" / "more" / "x.png").write_bytes(encoded(picture()))
    for hidden in (".DS_Store", "class2/.DS_Store", "class2/Thumbs.db", "README.txt"):
        (tmp_path / hidden).write_bytes(b"no image")
    (tmp_path / ".git").mkdir()
    data = load(tmp_path)
    assert data.classes == ["class2", "class10"]
    assert data.ids[:3] == ["class2/image_0.png", "class2/image_1.png", "class2/image_2.png"]
    assert data.ids[9:] == ["class2/image_9.png", "class2/image_10.png", "class10/image_0.png", "class10/more/x.png"]
    assert data.targets.tolist() == [0] * 11 + [1, 1]
    assert np.array_equal(data.image(12), picture())
    assert data.name == tmp_path.name


def test_natural_order_compares_numbers_as_numbers():
    names = ["a10b2", "a2", "10", "9", "a10b10", "a", "B1", "01", "1"]
    assert sorted(names, key=natural) == ["01", "1", "9", "10", "B1", "a", "a2", "a10b2", "a10b10"]


def test_a_non_image_among_the_images_is_an_error_that_names_it_when_it_is_read(tmp_path):
    class_folders(tmp_path, {"a": 1})
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    data = load(tmp_path)
    with pytest.raises(FileError, match=r"notes\.txt is not an image"):
        data.image(1)


def test_folders_that_are_no_set_are_refused(tmp_path):
    with pytest.raises(InputError, match="no class folders"):
        load(tmp_path)
    (tmp_path / "x.png").write_bytes(encoded(picture()))
    with pytest.raises(InputError, match="no class folders"):
        load(tmp_path)
    class_folders(tmp_path, {"full": 1})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image"):
        load(tmp_path)


@pytest.mark.parametrize("odd", [b"a\xff", b"a/\xff.png"])
def test_names_that_no_state_or_checkpoint_could_hold_are_refused(tmp_path, odd):
    class_folders(tmp_path, {"a": 1})
    os.mkdir(os.fsencode(tmp_path / "b"))
    os.rename(tmp_path / "b" if b"/" not in odd else tmp_path / "a" / "image_0.png",
              os.path.join(os.fsencode(tmp_path), odd))
    with pytest.raises(InputError, match="not UTF-8.*xff"):
        load(tmp_path)


def test_parts_are_not_taken_for_classes(tmp_path):
    for part in ("train", "Val", "test"):
        class_folders(tmp_path / part, {"cat": 1, "dog": 2})
    with pytest.raises(InputError, match="in parts, Val and test and train, (?s:.)* name one"):
        load(tmp_path)
    assert load(tmp_path / "train").classes == ["cat", "dog"]
    (tmp_path / "test" / "0.png").write_bytes(encoded(picture()))
    assert load(tmp_path).classes == ["Val", "test", "train"]


def test_linked_folders_count_at_any_depth_once_and_never_where_they_lead_back(tmp_path):
    class_folders(tmp_path / "far", {"b": 2, "more": 1, "deep": 1})
    class_folders(tmp_path / "set", {"a": 1, "c": 1})
    (tmp_path / "set" / "b").symlink_to(tmp_path / "far" / "b")
    (tmp_path / "set" / "a" / "disk").symlink_to(tmp_path / "far" / "more")
    (tmp_path / "far" / "more" / "on").symlink_to("../deep")
    (tmp_path / "set" / "a" / "zwice").symlink_to(tmp_path / "far" / "more")
    for name, target in (("loop", tmp_path / "set"), ("above", "/"), ("self", "."), ("other", "../c")):
        (tmp_path / "set" / "a" / name).symlink_to(target)
    (tmp_path / "far" / "deep" / "back").symlink_to(tmp_path / "far" / "more")
    assert load(tmp_path / "set").ids == ["a/disk/image_0.png", "a/disk/on/image_0.png", "a/image_0.png",
                                          "b/image_0.png", "b/image_1.png", "c/image_0.png"]


def test_folders_nested_deeper_than_python_calls(tmp_path):
    class_folders(tmp_path / "set", {"a": 1})
    place = os.open(tmp_path / "set" / "a", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("x", dir_fd=place)
        deeper = os.open("x", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(os.open("y.png", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    assert load(tmp_path / "set").ids == ["a/image_0.png", "a/" + "x/" * 1100 + "y.png"]
    subprocess.run(["rm", "-rf", tmp_path / "set"], check=True)  # pytest's own way recurses


@pytest.mark.parametrize("leftover", ["__MACOSX", "lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", ".thumbnails",
                                      "System Volume Information", "a/@eaDir/image_0.png", "a/__MACOSX", "found.000"])
def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path, leftover):
    class_folders(tmp_path, {"a": 1})
    (tmp_path / leftover).mkdir(parents=True)
    (tmp_path / leftover / "SYNOFILE_THUMB_M.jpg").write_bytes(encoded(picture()))
    data = load(tmp_path)
    assert (data.classes, data.ids) == (["a"], ["a/image_0.png"])


def test_what_is_no_file_is_left_out_with_a_word_and_a_broken_link_is_an_error_by_name(tmp_path, caplog):
    class_folders(tmp_path, {"a": 1})
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "zero").symlink_to("/dev/zero")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = load(tmp_path)
    assert data.ids == ["a/gone.png", "a/image_0.png"]
    assert "a/pipe is a pipe, a socket or a device" in caplog.text and "a/zero" in caplog.text
    with pytest.raises(FileError, match=r"a/gone\.png: No such file"):
        data.image(0)


def test_names_that_look_the_same_are_one_class(tmp_path):
    class_folders(tmp_path, {"Caf\u00e9": 1, "Cafe\u0301": 2, "Tee": 1})
    data = load(tmp_path)
    assert (data.classes, data.targets.tolist()) == (["Caf\u00e9", "Tee"], [0, 0, 0, 1])
    assert len(data.only(["Cafe\u0301"])) == 3


def test_known_sets_of_class_folders(tmp_path):
    class_folders(tmp_path / "101_ObjectCategories", {"BACKGROUND_Google": 1, "ant": 2, "yin_yang": 1}, "JPEG")
    class_folders(tmp_path / "256_ObjectCategories", {"001.ak47": 1, "010.beer-mug": 2, "257.clutter": 1}, "JPEG")
    class_folders(tmp_path / "Images", {"n02085620-Chihuahua": 2, "n02085782-Japanese_spaniel": 1}, "JPEG")
    for path in tmp_path.rglob("*.jpeg"):
        path.rename(path.with_suffix(".jpg"))
    (tmp_path / "101_ObjectCategories" / "BACKGROUND_Google" / "tmp").write_bytes(b"stray")
    data = load("caltech101", root=tmp_path)
    assert data.classes == ["BACKGROUND_Google", "ant", "yin_yang"]
    assert len(data) == 4
    data = load("caltech101", root=tmp_path, background=False)
    assert data.classes == ["ant", "yin_yang"]
    assert data.ids[0] == "ant/image_0.jpg"
    assert load("caltech256", root=tmp_path).classes == ["ak47", "beer-mug", "clutter"]
    assert load("caltech256", root=tmp_path, background=False).targets.tolist() == [0, 1, 1]
    assert load("stanford_dogs", root=tmp_path).classes == ["Chihuahua", "Japanese_spaniel"]


@pytest.mark.data
def test_caltech101_is_whole(real_data):
    real_data("101_ObjectCategories")
    assert len(load("caltech101")) == 9144
    data = load("caltech101", background=False)
    assert (len(data), data.n_outputs) == (8677, 101)
    chosen, others = data.per_class(30, rest=50)
    assert len(chosen) == 3030
    assert np.bincount(others.targets).max() == 50
