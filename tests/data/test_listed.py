import numpy as np
import pytest
from image_files import encoded, picture

from mxelm.data import load
from mxelm.errors import FileError, InputError


def listed(folder, text, name="list.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_class_names(tmp_path):
    path = listed(tmp_path, "path,species\nb.png,dog\n\na.png, cat \nsub/c.png,dog\n")
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    data = load(path)
    assert (data.kind, data.classes, data.targets.tolist()) == ("classes", ["cat", "dog"], [1, 0, 1])
    assert data.ids == ["b.png", "a.png", "sub/c.png"]
    assert data.name == "list"
    assert np.array_equal(data.image(1), picture())
    with pytest.raises(FileError, match="b.png"):
        data.image(0)


def test_root_is_where_the_paths_start(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encoded(picture()))
    assert load(listed(tmp_path, "path,y\na.png,x\n"), root=tmp_path / "images").image(0).shape == (30, 40, 3)


@pytest.mark.parametrize("text, kind, classes, targets", [
    ("p,y\na,0\nb,2\n", "classes", ["0", "1", "2"], [0, 2]),
    ("p,age\na,1.0\nb,2.0\n", "regression", ["age"], [[1], [2]]),
    ("p,age\na,-1.5\nb,2\n", "regression", ["age"], [[-1.5], [2]]),
    ("p,u,v\na,0,1\nb,1,1\n", "multilabel", ["u", "v"], [[0, 1], [1, 1]]),
    ("p,u,v\na,0,1\nb,1,2\n", "regression", ["u", "v"], [[0, 1], [1, 2]]),
    ('p,y\n"a, b.png",x\nc,1\n', "classes", ["1", "x"], [1, 0])])
def test_what_targets_mean_is_told_from_their_columns(tmp_path, text, kind, classes, targets):
    data = load(listed(tmp_path, text))
    assert (data.kind, data.classes, data.targets.tolist()) == (kind, classes, targets)


def test_kind_can_be_said(tmp_path):
    assert load(listed(tmp_path, "p,y\na,0\nb,-2\n"), kind="regression").targets.tolist() == [[0], [-2]]
    assert load(listed(tmp_path, "p,y\na,0\nb,1\n"), kind="multilabel").kind == "multilabel"
    assert load(listed(tmp_path, "p,y\na,1.0\nb,0.0\n"), kind="classes").targets.tolist() == [1, 0]


@pytest.mark.parametrize("text, kind, message", [
    ("p,y\na,0\nb,-1\n", None, "line 3: -1"),
    ("p,y\na,0\nb,1.5\n", "classes", "line 3: 1.5"),
    ("p,y\na,0\n\nb,nan\n", None, "line 4: nan"),
    ("p,y\na,0.5\nb,inf\n", None, "line 3: inf"),
    ("p,y\na,0\nb,100000\n", None, "line 3"),
    ("p,u,v\na,0,1\nb,1\n", None, "line 3: 2 columns"),
    ("p,u,v\na,0,1\nb,1,x\n", None, "line 3: 'x'"),
    ("p,u,v\na,0,1\nb,1,2\n", "multilabel", "line 3: 1, 2"),
    ("p,y\na,x\n,y\n", None, "line 3: the image's path"),
    ("p,y\na,x\nb,\n", None, "line 3: the class"),
    ("p,y\na,1\nb,1\na,2\n", None, "line 4: a is listed again, after line 2"),
    ("p,y\n", None, "lists no images"),
    ("p\na\n", None, "header"),
    ("p,y\na,1\n", "ranking", "kind")])
def test_lines_that_cannot_be_used_are_named(tmp_path, text, kind, message):
    with pytest.raises(InputError, match=message):
        load(listed(tmp_path, text), kind=kind)


def test_a_list_without_header_is_recognised(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    with pytest.raises(InputError, match="no header"):
        load(listed(tmp_path, "a.png,cat\nb.png,dog\n"))


def test_im2recs_list(tmp_path):
    data = load(listed(tmp_path, "0\t1.000000\tx/a.jpg\n1\t0.000000\tb c.jpg\n", "x.lst"))
    assert (data.kind, data.targets.tolist(), data.ids) == ("classes", [1, 0], ["x/a.jpg", "b c.jpg"])
    data = load(listed(tmp_path, "0\t0.5\t2\ta.jpg\n1\t0\t1\tb.jpg\n", "x.lst"))
    assert (data.kind, data.targets.tolist()) == ("regression", [[0.5, 2], [0, 1]])


@pytest.mark.parametrize("text, message", [("0\t1\n", "line 1"), ("0\t1\ta\n1\t1\t2\tb\n", "line 2"),
                                           ("0\tcat\ta\n1\tdog\tb\n", None), ("0\t1\t \n", "line 1: the image's path")])
def test_lst_lines_that_cannot_be_used_are_named(tmp_path, text, message):
    path = listed(tmp_path, text, "x.lst")
    if message is None:
        assert load(path).classes == ["cat", "dog"]
    else:
        with pytest.raises(InputError, match=message):
            load(path)


def test_files_that_are_no_lists_are_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(encoded(picture()))
    (tmp_path / "x.lst").write_bytes(encoded(picture(), "JPEG"))
    for path in (tmp_path / "x.csv", tmp_path / "x.lst", tmp_path / "gone.csv", tmp_path / "gone.lst"):
        with pytest.raises(FileError, match=path.name):
            load(path)
