"""`mxelm report`: it writes, it notices a stale file, and it starts without MXNet and matplotlib."""
import argparse
import json
import subprocess
import sys

import pytest

from mxelm.cli import report
from mxelm.errors import FileError, InputError
from mxelm.reporting import results


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "results"
    results.write(folder / "x.json", "x", [results.row("fused.caltech101.elm", 92.5, "%", "higher")])

    def run(*options):
        parser = argparse.ArgumentParser()
        report.add_arguments(parser)
        defaults = ["--results", str(folder), "--out", str(tmp_path / "RESULTS.md")]
        return report.run(parser.parse_args([*defaults, *options]))
    return run


def test_what_was_written_is_up_to_date(run, tmp_path, capsys):
    result = run()
    assert "`fused.caltech101.elm`" in (tmp_path / "RESULTS.md").read_text()
    assert result["written"] and result["rows"] == 1 and result["statuses"]["measured"] == 1
    json.dumps(result)
    checked = run("--check")
    assert not checked["written"]
    report.show(checked)
    assert "is up to date" in capsys.readouterr().out


def test_check_fails_when_missing_edited_or_older_than_the_results(run, tmp_path):
    out = tmp_path / "RESULTS.md"
    with pytest.raises(InputError, match="run `mxelm report`"):
        run("--check")
    assert not out.exists()
    run()
    for stale in (out.read_bytes() + b"\n", b"\xff", b""):
        out.write_bytes(stale)
        with pytest.raises(InputError, match="RESULTS.md is not what the result files say"):
            run("--check")
        assert out.read_bytes() == stale
    run()
    results.write(tmp_path / "results" / "x.json", "x", [results.row("fused.caltech101.elm", 93.0, "%", "higher")])
    with pytest.raises(InputError, match="commit it"):
        run("--check")


def test_a_missing_folder_is_named_and_nothing_is_written(run, tmp_path):
    with pytest.raises(FileError, match="no folder"):
        run("--results", str(tmp_path / "none"))
    assert not (tmp_path / "RESULTS.md").exists()


def test_a_report_loads_neither_mxnet_nor_matplotlib():
    code = "import sys, mxelm.cli.report; print({'mxnet', 'gluoncv', 'matplotlib', 'cv2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
