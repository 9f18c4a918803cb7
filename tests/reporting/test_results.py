"""Result files: what is written is read again, parts merge, and every fault is named."""
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxelm.errors import FileError, InputError
from mxelm.reporting import results


def row(id="fused.a.b", value=1.5, **rest):
    return results.row(id, value, "%", "higher", **rest)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.json"
    results.write(path, "experiment", [row(), row("fused.a.c", 2.0)])
    return path


def test_what_is_written_is_read_again(tmp_path):
    made = row(value=np.float32(92.5), std=np.float64(0.25), n=3, command="python x.py", seconds=7.5,
               conditions={"sizes": np.arange(3), "seed": np.int64(1)})
    results.write(tmp_path / "new" / "x.json", "x", [made])
    [read] = results.read(tmp_path / "new")
    assert {key: read[key] for key in results.ROW_KEYS} == made
    assert (read["value"], read["std"], read["n"], read["seconds"]) == (92.5, 0.25, 3, 7.5)
    assert read["conditions"] == {"sizes": [0, 1, 2], "seed": 1}
    assert read["experiment"] == "x" and set(read["machine"]) == {"cpu", "cores", "memory"}
    assert read["versions"]["numpy"] == np.__version__


def test_rows_of_the_same_id_are_replaced_and_others_stay(file):
    results.write(file, "experiment", [row("fused.a.c", 3.0), row("fused.a.d", 4.0)])
    assert [(r["id"], r["value"]) for r in results.read(file.parent)] == [
        ("fused.a.b", 1.5), ("fused.a.c", 3.0), ("fused.a.d", 4.0)]


values = st.dictionaries(st.sampled_from("abcde"), st.floats(-1e9, 1e9), max_size=5)


@settings(max_examples=25, deadline=None)
@given(first=values, second=values)
def test_merging_is_a_dict_update(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("merge") / "x.json"
    for part in (first, second):
        results.write(path, "x", [row(f"knn.{name}", value) for name, value in part.items()])
    expected = {f"knn.{name}": value for name, value in {**first, **second}.items()}
    assert {r["id"]: r["value"] for r in results.read(path.parent)} == expected


def test_a_row_that_stays_keeps_the_machine_and_versions_it_was_measured_with(file):
    def elsewhere(content):
        content["machine"]["cpu"] = "another"
        content["versions"]["numpy"] = "1.23.0"
    edit(file, elsewhere)
    for value in (3.0, 4.0):  # the second write must not take the first's stamp away
        results.write(file, "experiment", [row("fused.a.c", value)])
    stayed, new = results.read(file.parent)
    assert stayed["conditions"]["measured_on"]["machine"]["cpu"] == "another"
    assert stayed["conditions"]["measured_on"]["versions"] == {"numpy": "1.23.0"}
    assert "measured_on" not in new["conditions"] and new["machine"]["cpu"] != "another"


def test_writers_at_the_same_time_lose_no_row(tmp_path):
    rows = [row(f"gunn.run.{i}", i) for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda made: results.write(tmp_path / "x.json", "x", [made]), rows))
    assert sorted(r["value"] for r in results.read(tmp_path)) == list(range(20))
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("arguments, words", [
    ({"id": "single"}, "with dots"),
    ({"id": "a. b"}, "with dots"),
    ({"value": float("nan")}, "finite"),
    ({"value": np.inf}, "finite"),
    ({"value": True}, "finite"),
    ({"value": "98"}, "finite"),
    ({"value": None}, "reason"),
    ({"std": float("inf"), "n": 2}, "finite"),
    ({"std": -1.0, "n": 2}, "negative"),
    ({"std": 0.1}, "n of at least 2"),
    ({"n": 0}, "whole number"),
    ({"n": 2.5}, "whole number"),
    ({"seconds": -1}, "negative"),
    ({"command": None}, "command must be text"),
    ({"conditions": {"x": object()}}, "JSON"),
    ({"conditions": {"x": float("nan")}}, "JSON"),
])
def test_a_row_that_cannot_be_read_is_not_made(arguments, words):
    with pytest.raises(InputError, match=words):
        row(**arguments)


def test_a_line_tells_a_figure_or_why_there_is_none():
    assert results.line(row(id="fused.a", value=92.518, std=0.59, n=3)).split(maxsplit=1) == [
        "fused.a", "92.52 ± 0.59 % (n = 3)"]
    assert results.line(row(id="fused.a", value=None, conditions={"reason": "no network"})).split(maxsplit=1) == [
        "fused.a", "no network"]


def test_better_is_one_of_three():
    with pytest.raises(InputError, match="better is 'more'"):
        results.row("fused.a", 1.0, "%", "more")


@pytest.mark.parametrize("change, words", [
    (lambda c: c.update(schema=2), "schema 1"),
    (lambda c: c.update(extra=1), "unknown keys: extra"),
    (lambda c: c.pop("machine"), "missing keys: machine"),
    (lambda c: c.update(rows={}), "'rows' must be a list"),
    (lambda c: c.update(machine={"cpu": "x"}), "machine must have"),
    (lambda c: c["rows"].append(3), "not an object"),
    (lambda c: c["rows"][1].update(note="x"), "'fused.a.c': unknown keys: note"),
    (lambda c: c["rows"][1].pop("date"), "'fused.a.c': missing keys: date"),
    (lambda c: c["rows"][1].update(value=float("nan")), "it holds NaN, which is no number in JSON"),
    (lambda c: c["rows"][1].update(std=float("inf")), "it holds Infinity, which is no number"),
    (lambda c: c["rows"][1].update(id="fused.a.b"), "'fused.a.b' occurs twice"),
    (lambda c: c["rows"][1].update(conditions={"measured_on": "there"}), "measured_on"),
    (lambda c: c["rows"][1].update(conditions={"measured_on": None}), "measured_on"),
    (lambda c: c["rows"][1].update(conditions=None), "conditions must be a dict"),
])
def test_a_file_that_was_tampered_with_is_refused_by_name(file, change, words):
    edit(file, change)
    with pytest.raises(FileError, match=words) as caught:
        results.read(file.parent)
    assert str(file) in str(caught.value)


def test_a_truncated_file_is_refused_by_name_and_left_alone(file):
    whole = file.read_bytes()
    for length in range(0, len(whole) - 2, 97):  # the last byte is a newline
        file.write_bytes(whole[:length])
        with pytest.raises(FileError, match="experiment.json"):
            results.read(file.parent)
    left = file.read_bytes()
    with pytest.raises(FileError):
        results.write(file, "experiment", [row()])
    assert file.read_bytes() == left


def test_an_id_stands_in_one_file_only(file):
    results.write(file.parent / "other.json", "other", [row()])
    with pytest.raises(FileError, match="other.json: row 'fused.a.b' occurs in another"):
        results.read(file.parent)


def test_refusals_of_write(file, tmp_path):
    with pytest.raises(FileError, match="occurs twice"):
        results.write(file, "experiment", [row(), row()])
    with pytest.raises(FileError, match="holds results of 'experiment'"):
        results.write(file, "another", [row()])
    with pytest.raises(FileError, match="holds results of 'experiment'"):
        results.require_writable(file, "another")
    with pytest.raises(FileError, match="it is a folder"):
        results.require_writable(tmp_path, "another")
    results.require_writable(tmp_path / "new" / "rows.json", "another")
    assert (tmp_path / "new").is_dir() and not list((tmp_path / "new").iterdir())
    with pytest.raises(FileError, match="cannot make the folder"):
        results.write(file / "below" / "x.json", "x", [row()])
    with pytest.raises(FileError, match="no folder"):
        results.read(tmp_path / "missing")


def test_the_commit_tells_a_changed_checkout(tmp_path, monkeypatch):
    module = tmp_path / "mxelm" / "reporting" / "results.py"
    module.parent.mkdir(parents=True)
    module.write_text("")

    def commit():
        results.commit.cache_clear()
        return row()["git"]
    monkeypatch.setattr(results, "__file__", str(module))
    assert commit() is None

    def git(*arguments):
        subprocess.run(("git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments), cwd=tmp_path, check=True,
                       capture_output=True)
    git("init")
    assert commit() is None  # nothing committed yet
    git("add", ".")
    git("commit", "-m", "first")
    clean = commit()
    assert clean and not clean.endswith("+")
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "results" / "x.json").write_text("{}")
    assert commit() == clean
    module.write_text("changed")
    assert commit() == clean + "+"
    results.commit.cache_clear()
