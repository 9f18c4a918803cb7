"""RESULTS.md: the status rule case by case, and a text that is the same for the same rows."""
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxelm.errors import InputError
from mxelm.reporting import tables
from mxelm.reporting.published import PUBLISHED, Published

ORIGIN = {"experiment": "script", "machine": {"cpu": "a CPU", "cores": 2, "memory": 8}, "versions": {"numpy": "1.26.4"}}


def row(value=98.0, id="knn.x", unit="%", better="higher", std=None, n=1, **conditions):
    return {"id": id, "value": value, "std": std, "n": n, "unit": unit, "better": better, "command": "python x.py",
            "git": "abc1234", "date": "2024-01-01", "seconds": None, "conditions": conditions, **ORIGIN}


def printed(value=97.5, comparable=True, tolerance=0.05, id="knn.x", images=None, unit="%"):
    return Published(id, value, unit, "table 1", "a note", comparable, tolerance, images)


@pytest.mark.parametrize("ours, theirs, expected", [
    (None, printed(), "not measured yet"),
    (None, printed(None), "not measured yet"),
    (None, printed(comparable=False), "not comparable"),
    (row(None, reason="gone"), printed(), "cannot be had"),
    (row(None, reason="gone"), None, "cannot be had"),
    (row(), None, "measured"),
    (row(), printed(None), "measured"),
    (row(), printed(comparable=False), "not comparable"),
    (row(97.5), printed(), "consistent with"),  # one seed tells no scatter
    (row(97.55, std=0.01, n=3), printed(), "reproduced"),  # the last printed digit could be rounded
    (row(97.45, std=0.01, n=3), printed(), "reproduced"),
    (row(97.45, std=0.01, n=2), printed(), "consistent with"),
    (row(17.0, unit="bytes"), printed(16.0, tolerance=1, unit="bytes"), "reproduced"),  # what no seed changes
    (row(18.0, unit="bytes"), printed(16.0, tolerance=1, unit="bytes"), "exceeds"),
    (row(97.56), printed(), "exceeds"),
    (row(97.44), printed(), "differs"),
    (row(97.44, better="lower"), printed(), "exceeds"),
    (row(97.56, better="lower"), printed(), "differs"),
    (row(97.56, better="none"), printed(), "differs"),
    (row(97.44, better="none"), printed(), "differs"),
    (row(99.0, std=0.3, n=3), printed(), "exceeds"),  # 4.303 * 0.3 * sqrt(4/3) = 1.4905
    (row(98.98, std=0.3, n=3), printed(), "consistent with"),
    (row(96.02, std=0.3, n=3), printed(), "consistent with"),
    (row(96.0, std=0.3, n=3), printed(), "differs"),
    (row(97.5, std=7.3, n=3), printed(), "consistent with"),  # no figure is reproduced by scattering
    # 1.96 * sqrt(97.5 * 2.5 / 1000) = 0.968 for the printed figure, and about as much for ours
    (row(98.7, std=0.1, n=3), printed(images=1000), "exceeds"),
    (row(98.3, std=0.1, n=3), printed(images=1000), "reproduced"),
    (row(98.6, std=0.1, n=3, test_images="test1000"), printed(images=1000), "reproduced"),
    (row(98.7, std=0.1, n=3, test_images=10000), printed(images=1000), "exceeds"),
    (row(97.5, std=0.0, n=3), printed(tolerance=0), "reproduced"),
    (row(97.6, std=0.0, n=3), printed(tolerance=0), "exceeds"),
])
def test_status(ours, theirs, expected):
    assert tables.status(ours, theirs) == expected


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 5), st.integers(2, 10))
def test_better_ends_mirror_each_other(ours, theirs, std, n):
    mirrored = {"exceeds": "differs", "differs": "exceeds"}
    high = tables.status(row(ours, std=std, n=n), printed(theirs))
    assert tables.status(row(ours, std=std, n=n, better="lower"), printed(theirs)) == mirrored.get(high, high)


def test_another_unit_is_refused():
    with pytest.raises(InputError, match="'knn.x' is in 'ratio', the paper prints '%'"):
        tables.build([row(0.98, unit="ratio")], [printed()])


def test_what_differs_must_say_why():
    with pytest.raises(InputError, match="knn.x, knn.y; give their rows"):
        tables.build([row(90.0), row(90.0, "knn.y")], [printed(), printed(id="knn.y")])
    text = tables.build([row(90.0, reason="fewer images")], [printed()])
    assert ("| `knn.x` | 97.5 % (table 1) | 90 % (n = 1) | −7.5 | differs | fewer images; the paper's figure: a note "
            "| `python x.py` (abc1234, 2024-01-01) |") in text


def test_text_does_not_depend_on_the_order_of_rows():
    rows = [row(float(i), f"{part}.{i}") for i in range(5) for part in ("fused", "models", "twins", "unheard_of")]
    texts = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        texts.add(tables.build(rows, PUBLISHED))
    assert len(texts) == 1


def test_every_figure_stands_once_under_its_paper():
    rows = [row(1.0, "fused.other"), row(1.0, "models.a"), row(1.0, "unheard_of.b")]
    text = tables.build(rows, PUBLISHED)
    for id in [*(figure.id for figure in PUBLISHED), *(r["id"] for r in rows)]:
        assert text.count(f"`{id}`") == 1
    sections = {part.splitlines()[0]: part for part in text.split("\n## ")[1:]}
    assert [title.split(":")[0] for title in sections] == ["Paper 1", "Paper 2", "Paper 3", "Paper 4",
                                                           "Models and weights", "Other measurements",
                                                           "Machines and versions"]
    assert "`models.a`" in sections["Models and weights"] and "`unheard_of.b`" in sections["Other measurements"]
    assert text.count("a CPU, 2 cores, 8 GB; numpy 1.26.4") == 1


def test_a_row_of_an_earlier_run_tells_where_it_was_measured():
    measured_on = {"machine": {"cpu": "old CPU", "cores": 1, "memory": 2}, "versions": {"numpy": "1.23.0"}}
    assert "measured on old CPU, 1 cores, 2 GB numpy 1.23.0" in tables.build([row(measured_on=measured_on)], [])


def test_a_bar_in_a_command_does_not_break_the_table():
    ours = row()
    ours["command"] = "a | b\nc"
    [line] = [line for line in tables.build([ours], []).splitlines() if line.startswith("| `knn.x`")]
    assert line.replace("\\|", "").count("|") == len(tables.COLUMNS) + 1


def test_counts_add_up():
    entries = tables.compare([row()], PUBLISHED)
    assert sum(tables.count(entries).values()) == len(entries) == len(PUBLISHED) + 1
