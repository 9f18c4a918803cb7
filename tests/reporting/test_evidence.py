"""Evidence: figures stand behind the ids that a script names, and a stale block is noticed."""
import argparse

import pytest

from mxelm.cli import report
from mxelm.errors import InputError
from mxelm.reporting import evidence, results

SCRIPT = '"""A lesson.\n\nEvidence:\n\n    toy.a.accuracy\n    toy.missing  3.00 %, typed by hand\n"""\nRUNS = {}\n'


@pytest.fixture
def run(tmp_path):
    """A function: `mxelm report` over a folder of one script and one result file."""
    experiments = tmp_path / "experiments"
    (experiments / "results").mkdir(parents=True)
    (experiments / "lesson.py").write_text(SCRIPT)
    (experiments / "other.py").write_text("# Evidence: none\n")

    def call(value, *options):
        row = results.over_seeds("toy.a.accuracy", [value, value + 2], "%", "higher")
        results.write(experiments / "results" / "toy.json", "toy", [{**row, "git": "abc, def+"}])
        parser = argparse.ArgumentParser()
        report.add_arguments(parser)
        report.run(parser.parse_args(["--results", str(experiments / "results"), "--out", str(tmp_path / "R.md"),
                                      *options]))
        return (experiments / "lesson.py").read_text()

    return call


def test_the_block_is_filled_and_nothing_else_changes(run):
    text = run(90.0)
    assert "    toy.a.accuracy  91.0 ± 1.4 % (n = 2), " in text and text.count("abc to def+\n") == 1
    assert "    toy.missing     not measured yet\n" in text and "typed by hand" not in text
    assert text.endswith('"""\nRUNS = {}\n') and run(90.0) == text


def test_a_stale_block_is_noticed(run):
    run(90.0)
    run(90.0, "--check")
    with pytest.raises(InputError, match="is not what the result files say"):
        run(50.0, "--check")


def test_a_row_without_a_value_says_so():
    row = {**results.row("toy.missing", None, "%", "higher", conditions={"reason": "no time"}), "machine": {}}
    assert "    toy.missing     no value: RESULTS.md says why\n" in evidence.filled(SCRIPT, [row])
