import numpy as np
import pytest
from image_files import encoded, picture

from mxelm.data import load
from mxelm.errors import FileError, InputError, MxelmError


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
    ("p,y\na,0\nb,2\n", "classes", ["0", "2"], [0, 1]),
    ("p,y\na,1\nb,3\nc,2\nd,1\n", "classes", ["1", "2", "3"], [0, 2, 1, 0]),
    ("p,y\na,1.0\nb,0.0\nc,10.0\n", "classes", ["0", "1", "10"], [1, 0, 2]),
    ("p,y\na,1.000000e+00\nb,0.000000e+00\n", "classes", ["0", "1"], [1, 0]),
    ("p,y\na,010\nb,001\nc,002\n", "classes", ["001", "002", "010"], [2, 0, 1]),
    ("p,y\na,99017\nb,1012\nc,2045\n", "classes", ["1012", "2045", "99017"], [2, 0, 1]),
    ("p,y\na,9007199254740993\nb,9007199254740992\n", "classes", ["9007199254740992", "9007199254740993"], [1, 0]),
    ("p,y\na,1\nb,-1\nc,+1\n", "classes", ["-1", "1"], [1, 0, 1]),
    ("p,y\na,1\nb,cat\nc,1.0\n", "classes", ["1", "1.0", "cat"], [0, 2, 1]),
    ("p,y\na,Caf\u00e9\nb,Cafe\u0301\n", "classes", ["Caf\u00e9"], [0, 0]),
    ("p,y\na,1_000\nb,2_000\n", "classes", ["1_000", "2_000"], [0, 1]),
    ("p,y\na,3.5\nb,4.0\n", "regression", ["y"], [[3.5], [4]]),
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
    ("p,y\na,0\nb,\n", None, "line 3: the class or number is missing"),
    ("p,y\na,cat\nb,NaN\n", None, "line 3: the class or number is missing"),
    ("p,y\na,0\nb,1.5\n", "classes", "line 3: 1.5"),
    ("p,y\na,0\n\nb,nan\n", None, r"line 4: .* missing \(nan\)"),
    ("p,y\na,0.5\nb,inf\n", None, "line 3: inf"),
    ("p,y\na,0\nb,inf\n", None, "line 3: inf is no finite number"),
    ("i,p,y,split\n0,a.png,cat,train\n", None, "line 2: 'cat' in the column 'y' is a word"),
    ("p,y\na,\"x\nb,y\n", None, "not CSV"),
    ("p,u,v\na,0,1\nb,1\n", None, "line 3: 2 columns"),
    ("p,u,v\na,0,1\nb,1,x\n", None, "line 3: 'x'"),
    ("p,u,v\na,0,1\nb,1,2\n", "multilabel", "line 3: 1, 2"),
    ("p,y\na,x\n,y\n", None, "line 3: the image's path"),
    ("p,y\na,x\nb,\n", None, "line 3: the class or number is missing"),
    ("p,y\na,1\nb,1\na,2\n", None, "line 4: a is listed again, after line 2"),
    ("p,y\n", None, "lists no images"),
    ("p\na\n", None, "header"),
    ("p,y\na,1\n", "ranking", "kind")])
def test_lines_that_cannot_be_used_are_named(tmp_path, text, kind, message):
    with pytest.raises(MxelmError, match=message):
        load(listed(tmp_path, text), kind=kind)


def test_a_list_without_header_is_recognised(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    with pytest.raises(InputError, match="no header"):
        load(listed(tmp_path, "a.png,cat\nb.png,dog\n"))


@pytest.mark.parametrize("text", [
    ",filename,label\n0,a/x.png,cat\n1,b.png,dog\n",  # pandas' index
    "Unnamed: 0,index,image,label\n0,7,a/x.png,cat\n1,3,b.png,dog\n",
    "label,path\ncat,a/x.png\ndog,b.png\n",
    "id,label,path\n12,cat,a/x.png\n7,dog,b.png\n",
    "path;label\na/x.png;cat\nb.png;dog\n",
    "path\tlabel\r\na/x.png\tcat\r\nb.png\tdog\r\n",
    "path,label\na\\x.png,cat\nb.png , dog\n"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_as_pandas_and_windows_write_them(tmp_path, text, coding):
    (tmp_path / "list.csv").write_bytes(text.encode(coding))
    data = load(tmp_path / "list.csv")
    assert (data.ids, data.classes, data.targets.tolist()) == (["a/x.png", "b.png"], ["cat", "dog"], [0, 1])


def test_columns_are_told_by_what_they_hold(tmp_path):
    data = load(listed(tmp_path, "id,path\n7,a.png\n7,b.png\n"))  # who is seen, and no count of lines
    assert (data.classes, data.targets.tolist()) == (["7"], [0, 0])
    data = load(listed(tmp_path, ",path,x,y\n0,a.png,3,0.5\n1,b.png,4,1\n"))
    assert (data.kind, data.classes, data.targets.tolist()) == ("regression", ["x", "y"], [[3, 0.5], [4, 1]])
    data = load(listed(tmp_path, "path;size\na.png;1,5\nb.png;2\n"))  # decimal commas
    assert (data.kind, data.targets.tolist()) == ("regression", [[1.5], [2]])


def test_a_name_with_a_backslash_that_is_there_stays(tmp_path):
    (tmp_path / "a\\b.png").write_bytes(encoded(picture()))
    data = load(listed(tmp_path, "path,label\na\\b.png,cat\nc\\d.png,dog\n"))
    assert data.ids == ["a\\b.png", "c/d.png"]


def test_zeros_in_a_list_are_told_with_their_line(tmp_path):
    for name, text in (("x.csv", "path,y\na,b\nc\0,d\n"), ("x.lst", "0\t1\ta\n1\t0\tb\n2\t0\t\0\0\n")):
        with pytest.raises(FileError, match=f"{name}, line 3, holds zeros"):
            load(listed(tmp_path, text, name))


@pytest.mark.parametrize("separator", [" ", "  ", ",", ", ", "\t"])
def test_lst_with_other_separators(tmp_path, separator):
    def lines(*rows):
        return "".join(separator.join(row) + "\n" for row in rows)

    data = load(listed(tmp_path, lines(("0", "1.000000", "x/a.jpg"), ("1", "0", "b c.jpg")), "x.lst"))
    assert (data.classes, data.targets.tolist(), data.ids) == (["0", "1"], [1, 0], ["x/a.jpg", "b c.jpg"])
    data = load(listed(tmp_path, lines(("0", "0.5", "2", "a.jpg"), ("1", "-1e-3", "1", "b.jpg")), "x.lst"))
    assert (data.kind, data.ids) == ("regression", ["a.jpg", "b.jpg"])
    data = load(listed(tmp_path, lines(("0", "cat", "1.jpg"), ("1", "dog", "2.jpg")), "x.lst"))
    assert (data.classes, data.ids) == (["cat", "dog"], ["1.jpg", "2.jpg"])


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
