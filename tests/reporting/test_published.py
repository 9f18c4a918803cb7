"""The printed figures: ids that rows can have, sums that the papers' own tables must give."""
from mxelm.reporting import results
from mxelm.reporting.published import PUBLISHED

BY_ID = {figure.id: figure for figure in PUBLISHED}


def test_ids_are_unique_and_rows_can_have_them():
    assert len(BY_ID) == len(PUBLISHED)
    for figure in PUBLISHED:
        results.row(figure.id, 1.0, figure.unit, "none")


def test_every_figure_has_a_place_and_what_does_not_compare_says_why():
    assert all(figure.place for figure in PUBLISHED)
    assert all(figure.note for figure in PUBLISHED if not figure.comparable or figure.value is None)


def test_figure_6_adds_up_to_its_own_total():
    rows = {id.split(".")[2]: figure.value for id, figure in BY_ID.items() if id.startswith("gunn.params.")}
    totals = [rows.pop(name) for name in ("total", "trainable", "non_trainable")]
    assert sum(rows.values()) == totals[0] == totals[1] + totals[2]
    assert sum(count for name, count in rows.items() if name.startswith("bn")) == 2 * totals[2]


def test_the_talks_rounded_counts_hold_the_true_ones():
    convolutions = 320 + 18496
    true = {"knn": convolutions, "128": convolutions + 9216 * 128 + 128 + 1290}
    true.update({str(n): convolutions + 1600 * n + n + n * 10 + 10 for n in (64, 32, 16, 8)})
    for name, count in true.items():
        figure = BY_ID[f"knn.params.{name}"]
        assert abs(count - figure.value) <= figure.tolerance


def test_tolerance_is_half_of_the_last_printed_digit():
    assert BY_ID["knn.cma.60000.test10000"].tolerance == 0.005
    assert BY_ID["knn.accuracy.128.4000_5"].tolerance == 0.05
    assert BY_ID["knn.accuracy.64.4000_5"].tolerance == 0.5
